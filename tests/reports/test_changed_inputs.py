"""An input that has changed is read again, whatever its times say; one that has the same bytes is known.

https://github.com/snakemake/snakemake/issues/2011: an input is made anew, and its product is said to be up to
date; in the report both are empty, so that their checksums are equal and only the times differ.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ..cli.conftest import Cli, cli, work

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["cli", "work"]

LINE = ("seamless-run", "-v", "cat in.txt > out.txt")
PAST = 1_000_000_000_000_000_000


def in_place(path: Path) -> None:
    """Write to it, and give it its times back."""
    path.write_text("two\n")
    os.utime(path, ns=(PAST, PAST))


def by_another(path: Path) -> None:
    """Put another file in its place that is as long and as old."""
    other = path.with_name("other")
    other.write_text("two\n")
    os.utime(other, ns=(PAST, PAST))
    other.rename(path)


@pytest.mark.parametrize("change", [in_place, by_another])
def test_other_bytes_of_the_same_length_and_age_give_another_result(
    cli: Cli, work: Path, change: Callable[[Path], None]
) -> None:
    (work / "in.txt").write_text("one\n")
    os.utime(work / "in.txt", ns=(PAST, PAST))
    for _ in range(2):  # at the second time it need not be read
        cli(*LINE)
    change(work / "in.txt")
    cli(*LINE)
    assert (work / "out.txt").read_text() == "two\n"


@pytest.mark.parametrize("text", ["", "one\n"])
def test_the_same_bytes_made_anew_are_known(cli: Cli, work: Path, text: str) -> None:
    (work / "in.txt").write_text(text)
    cli(*LINE)
    (work / "in.txt").unlink()
    (work / "in.txt").write_text(text)
    assert "the result was known" in cli(*LINE).stderr
