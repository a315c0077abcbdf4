"""A copy that is changed in place is not what was recorded, and takes nothing along.

https://github.com/treeverse/dvc/issues/9641: the state is said to be up to date although the cache holds
other bytes; a maintainer suspects files that are hard links into it and were changed in place.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ..cli.conftest import Cli, cli, store, work

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["cli", "store", "work"]

LARGE = "head -c 6000000 /dev/zero"


def change(path: Path) -> None:
    """Write into a file in place, and give it its times and its mode back."""
    status = path.stat()
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(b"changed")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    path.chmod(status.st_mode)


@pytest.mark.parametrize("line", ["echo original", LARGE], ids=["small", "large"])
def test_a_result_that_was_delivered(cli: Cli, work: Path, line: str) -> None:
    cli("seamless-run", "--capture", ":out", line)
    original = (work / "out").read_bytes()
    change(work / "out")
    checksum = (work / "out.CHECKSUM").read_text().strip()
    assert cli("seamless-resolve", checksum).stdout == original
    cli("seamless-run", "--overwrite", "--capture", ":again", line)
    assert (work / "again").read_bytes() == original


@pytest.mark.parametrize("manner", [[], ["--hardlink"]])
def test_an_original_that_was_uploaded(cli: Cli, work: Path, manner: list[str]) -> None:
    (work / "data").write_bytes(b"original" * 100_000)
    original = (work / "data").read_bytes()
    cli("seamless-upload", *manner, "data")
    checksum = (work / "data.CHECKSUM").read_text().strip()
    if manner:
        os.unlink(work / "data")
        cli("seamless-download", "data")
    change(work / "data")
    assert cli("seamless-resolve", checksum).stdout == original


def test_a_buffer_that_was_changed_in_the_store_is_told(cli: Cli, work: Path, store: Path) -> None:
    (work / "data").write_bytes(b"original" * 100_000)
    cli("seamless-upload", "--move", "data")
    checksum = (work / "data.CHECKSUM").read_text().strip()
    change(store / checksum[:2] / checksum)
    done = cli("seamless-resolve", checksum, status=1)
    assert done.stdout == b""
    assert "corrupt" in done.error
    assert "are in none of the stores" in cli("seamless-download", "data", status=1).error
    assert not (work / "data").exists()
