from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Cli


def test_bytes_that_are_there_are_printed(cli: Cli, work: Path) -> None:
    (work / "a.bin").write_bytes(b"\0\1")
    cli("seamless-upload", "a.bin")
    checksum = (work / "a.bin.CHECKSUM").read_text().strip()
    assert cli("seamless-fingertip", checksum).stdout == b"\0\1"


def test_bytes_that_are_gone_are_computed_again_to_any_depth(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    cli("seamless-run", "--scratch", "-cp", "b.txt", "tr a-z A-Z < a.txt > b.txt")
    cli("seamless-run", "--scratch", "-cp", "c.txt", "rev b.txt > c.txt")
    checksum = (work / "c.txt.CHECKSUM").read_text().strip()
    cli("seamless-resolve", checksum, status=1)
    assert cli("seamless", "fingertip", checksum).stdout == b"OLLEH\n"


def test_bytes_that_nobody_made(cli: Cli) -> None:
    assert "no transformation is known" in cli("seamless-fingertip", "0" * 64, status=1).error


def test_other_bytes_this_time_is_an_error_that_says_so(cli: Cli, work: Path) -> None:
    cli("seamless-run", "--scratch", "-cp", ":out", "date +%s%N")
    checksum = (work / "out.CHECKSUM").read_text().strip()
    assert "not reproducible" in cli("seamless-fingertip", checksum, status=1).error


def test_to_a_file(cli: Cli, work: Path) -> None:
    cli("seamless-run", "--scratch", "-cp", ":out", "echo hi")
    cli("seamless-fingertip", (work / "out.CHECKSUM").read_text().strip(), "-o", "file")
    assert (work / "file").read_text() == "hi\n"
