"""In Python, too, nothing that others named or wrote moves the cursor of who reads a message."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import hashserver.errors
import seamless_dask.errors
from seamless_dask import Directory, File, bash, connect

EVIL = "\x1b]0;x\x07\x08\x7f\x9b2J\u202e\u2066\u2069\u2028\u2029e"


def kinds(root: type[Exception]) -> Iterator[type[Exception]]:
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


@pytest.mark.parametrize("root", [hashserver.errors.HashserverError, seamless_dask.errors.SeamlessError])
def test_an_error_is_one_line_that_can_be_shown(root: type[Exception]) -> None:
    for kind in kinds(root):
        for arguments in ((EVIL,), (EVIL, EVIL), (EVIL, EVIL, EVIL), ([EVIL],)):
            with suppress(TypeError):  # it takes another number
                assert str(kind(*arguments)).isprintable(), kind


def local(path: Path, make: Any) -> str:
    with pytest.raises((seamless_dask.errors.SeamlessError, hashserver.errors.HashserverError)) as told:
        make(path).checksum  # noqa: B018 - looked for when it is looked at
    return str(told.value)


def test_files_of_others(home: Path, tmp_path: Path) -> None:
    (tmp_path / f"{EVIL}.CHECKSUM").write_text(EVIL)
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / EVIL).symlink_to(f"nowhere{EVIL}")
    for told in (local(tmp_path / EVIL, File), local(tmp_path / "d", Directory)):
        assert told.isprintable()
        assert "\\x1b" in told
    with pytest.raises(seamless_dask.errors.UsageError) as error:
        connect(os.path.join(".", EVIL))
    assert str(error.value).isprintable()


def test_a_transformation_as_it_is_shown(home: Path) -> None:
    step = bash(f"echo '{EVIL}'\n\techo", variables={"x": EVIL}, label=EVIL)
    assert repr(step).isprintable()
    shown = step._repr_html_()
    assert [c for c in shown if not c.isprintable() and c not in "\n\t"] == []
    assert "\n\techo" in shown
