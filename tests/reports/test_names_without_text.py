"""Names that are no text in any encoding that we write.

https://github.com/kopia/kopia/issues/1764: in a UTF-8 locale two files called ``\\xfe`` and ``\\xff`` both
became the replacement character in a backup, without a word; their names are lost.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ..cli.conftest import Cli, cli, work

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["cli", "work"]


@pytest.fixture
def odd(work: Path) -> Path:
    """A directory with two such files."""
    (work / "set").mkdir()
    for name in (b"\xfe", b"\xff"):
        with open(os.fsencode(work / "set") + b"/" + name, "wb") as file:
            file.write(name)
    return work / "set"


@pytest.mark.parametrize(
    "words",
    [
        ("seamless-upload", "set"),
        ("seamless-upload", "--move", "set"),
        ("seamless-checksum", "set"),
        ("seamless-run", "ls -R set/"),
    ],
    ids=" ".join,
)
def test_they_are_told_and_nothing_is_lost(cli: Cli, odd: Path, words: tuple[str, ...]) -> None:
    error = cli(*words, status=1).error
    assert "is not UTF-8" in error
    assert "set/" in error
    assert sorted(os.listdir(os.fsencode(odd))) == [b"\xfe", b"\xff"]
    assert os.listdir(odd.parent) == ["set"]


@pytest.mark.parametrize("isolation", ["auto", "none"])
def test_a_result_with_such_names_is_none(cli: Cli, work: Path, isolation: str) -> None:
    text = 'mkdir out; for n in 376 377; do echo $n > "out/$(printf "\\\\$n")"; done'
    error = cli("seamless-run", "--capture", "out", text, status=1, SEAMLESS_ISOLATION=isolation).stderr
    assert "is not UTF-8" in error
    assert not (work / "out").exists()
