"""What people are told when they name a thing in another way, or bytes are gone."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import contents

if TYPE_CHECKING:
    from .conftest import Cli

HELLO = hashlib.sha256(b"hello\n").hexdigest()
FAILING = Path("/sys/devices/virtual/net/lo/speed")
"""A regular file that the system opens, but does not read."""


@pytest.fixture
def uploaded(cli: Cli, work: Path) -> Path:
    path = work / "a.txt"
    path.write_text("hello\n")
    cli("seamless-upload", "--move", "a.txt")
    return path


def forget(store: Path, checksum: str) -> None:
    (store / checksum[:2] / checksum).unlink()


@pytest.mark.parametrize("command", ["seamless-resolve", "seamless-fingertip"])
def test_a_sidecar_names_what_it_holds(cli: Cli, uploaded: Path, command: str) -> None:
    assert cli(command, "a.txt.CHECKSUM").stdout == b"hello\n"
    assert "a.txt.CHECKSUM" in cli(command, "a.txt", status=2).stderr
    uploaded.with_name("a.txt.CHECKSUM").write_text("no checksum")
    assert "does not hold a checksum" in cli(command, "a.txt.CHECKSUM", status=2).stderr
    assert "no such file" in cli(command, "b.txt.CHECKSUM", status=2).stderr


def test_a_download_takes_sidecars(cli: Cli, uploaded: Path, tree: Path) -> None:
    before = contents(tree)
    cli("seamless-upload", "--move", "set")
    cli("seamless-download", "a.txt.CHECKSUM", "set/.INDEX")
    assert uploaded.read_text() == "hello\n"
    assert contents(tree) == before


def test_data_that_is_called_like_a_sidecar_is_itself(cli: Cli, work: Path) -> None:
    (work / "odd.CHECKSUM").write_text("data\n")
    cli("seamless-upload", "--move", "odd.CHECKSUM")
    cli("seamless-download", "odd.CHECKSUM")
    assert (work / "odd.CHECKSUM").read_text() == "data\n"


def test_a_download_takes_a_checksum_and_a_place(cli: Cli, work: Path, tree: Path, uploaded: Path) -> None:
    before = contents(tree)
    cli("seamless-upload", "set")
    checksum = (tree / ".CHECKSUM").read_text().strip()
    cli("seamless-download", checksum, "-o", "copy")
    assert contents(work / "copy") == before
    cli("seamless-download", HELLO, "-o", "sub/b.txt")
    assert (work / "sub" / "b.txt").read_text() == "hello\n"
    assert cli("seamless-download", HELLO, "--stdout").stdout == b"hello\n"
    assert "-o PATH" in cli("seamless-download", HELLO, status=1).error


def test_a_directory_that_holds_sidecars_only(cli: Cli, work: Path) -> None:
    folder = work / "mixed"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.txt", "sub/b.txt"):
        (folder / name).write_text(name)
        cli("seamless-upload", "--move", f"mixed/{name}")
    cli("seamless-download", "mixed")
    assert (folder / "a.txt").read_text() == "a.txt"
    assert (folder / "sub" / "b.txt").read_text() == "sub/b.txt"


def test_cancel_takes_the_sidecars_of_a_job(cli: Cli, work: Path) -> None:
    go = work / "go"
    line = f"until test -e {go}; do sleep 0.05; done; echo done"
    cli("seamless-run", "-y", "--detach", "--capture", ":out.csv", line)
    (work / "out.csv.CHECKSUM").write_text(HELLO + "\n")  # of an older run
    cli("seamless-cancel", "out.csv.CHECKSUM")
    assert not (work / "out.csv.FUTURE").exists()


def test_bytes_that_are_gone_and_can_be_made(cli: Cli, work: Path, store: Path) -> None:
    cli("seamless-run", "--capture", "out.csv", "echo hello > out.csv")
    (work / "out.csv").unlink()
    forget(store, HELLO)
    for words in (("seamless-download", "out.csv"), ("seamless-resolve", "out.csv.CHECKSUM")):
        error = cli(*words, status=1).error
        assert "out.csv" in error
        assert f"seamless-fingertip {HELLO}" in error
    cli("seamless-fingertip", HELLO)
    cli("seamless-download", "out.csv")


def test_bytes_that_are_gone_for_good(cli: Cli, uploaded: Path, store: Path) -> None:
    forget(store, HELLO)
    lines = [
        ("seamless-download", "a.txt"),
        ("seamless-resolve", "a.txt.CHECKSUM"),
        ("seamless-run", "cat a.txt"),
        ("seamless-run", "cat", "--stdin", "a.txt"),
    ]
    for words in lines:
        error = cli(*words, status=1).error
        assert "a.txt" in error or "standard input" in error
        assert "seamless-upload" in error


def test_a_member_whose_bytes_are_gone(cli: Cli, tree: Path, store: Path) -> None:
    checksum = hashlib.sha256((tree / "a.txt").read_bytes()).hexdigest()
    cli("seamless-upload", "--move", "set")
    forget(store, checksum)
    for words in (("seamless-run", "ls -R set/"), ("seamless-download", "set")):
        error = cli(*words, status=1).error
        assert "set/a.txt" in error
        assert "seamless-upload" in error


def test_a_result_whose_bytes_are_gone_is_not_unknown(cli: Cli, store: Path) -> None:
    assert "no result is known" in cli("seamless-run", "-v", "echo hello").stderr
    forget(store, HELLO)
    done = cli("seamless-run", "-v", "echo hello")
    assert done.stdout == b"hello\n"
    assert "no result is known" not in done.stderr
    assert "made again" in done.stderr


def test_a_failed_command_that_complains_on_standard_output(cli: Cli) -> None:
    """Many a program prints its error on standard output."""
    done = cli("seamless-run", "echo 'ERROR: no such gene'; exit 3", status=3)
    assert "ERROR: no such gene" in done.stderr
    assert "standard output" in done.stderr
    assert done.stdout == b""


def test_standard_error_goes_first(cli: Cli) -> None:
    done = cli("seamless-run", "echo on stdout; echo on stderr >&2; exit 3", status=3)
    assert "on stderr" in done.stderr
    assert "on stdout" not in done.stderr


def test_a_result_that_was_not_written_in_the_words_of_the_command_line(cli: Cli) -> None:
    assert "use --capture :out.csv" in cli("seamless-run", "--capture", "out.csv", "true", status=1).stderr


def test_a_transformation_by_the_sidecar_of_its_document(cli: Cli, work: Path) -> None:
    import json

    job = json.loads(cli("seamless-run", "--dry-run", "--json", "-q", "echo hello").stdout)
    (work / "job.CHECKSUM").write_text(job["key"] + "\n")
    cli("seamless-run", "echo hello")
    assert cli("seamless-run-transformation", "job.CHECKSUM").text.strip() == HELLO


@pytest.mark.skipif(not FAILING.exists(), reason="no loopback device in /sys")
@pytest.mark.parametrize(
    "line",
    [
        ("seamless-run", "cat sick.txt"),
        ("seamless-run", "--stdin", "sick.txt", "cat"),
        ("seamless-upload", "sick.txt"),
        ("seamless-upload", "--in-place", "sick.txt"),
        ("seamless-checksum", "sick.txt"),
        ("seamless-run-transformation", "sick.txt"),
    ],
)
def test_a_file_that_the_disk_does_not_give_is_named(cli: Cli, work: Path, line: tuple[str, ...]) -> None:
    (work / "sick.txt").symlink_to(FAILING)
    assert cli(*line, status=1).error == "sick.txt: Invalid argument"


def test_a_document_is_not_waited_for(cli: Cli, work: Path) -> None:
    os.mkfifo(work / "pipe")
    assert cli("seamless-run-transformation", "pipe", status=1).error == "pipe: Not a regular file"
