from __future__ import annotations

import hashlib
import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Cli

BINARY = bytes(range(256)) * 3


def stored(cli: Cli, work: Path, data: bytes) -> str:
    (work / "data").write_bytes(data)
    cli("seamless-upload", "data")
    return hashlib.sha256(data).hexdigest()


def test_prints_bytes_as_they_are(cli: Cli, work: Path) -> None:
    checksum = stored(cli, work, BINARY)
    assert cli("seamless-resolve", checksum).stdout == BINARY
    assert cli("seamless", "resolve", checksum).stdout == BINARY


def test_prints_large_buffers(cli: Cli, work: Path) -> None:
    data = os.urandom(1 << 20) * 6
    assert cli("seamless-resolve", stored(cli, work, data)).stdout == data


def test_writes_a_file(cli: Cli, work: Path) -> None:
    checksum = stored(cli, work, BINARY)
    assert cli("seamless-resolve", checksum, "-o", "out").stdout == b""
    assert (work / "out").read_bytes() == BINARY


def test_does_not_replace_a_file_of_the_users(cli: Cli, work: Path) -> None:
    checksum = stored(cli, work, BINARY)
    (work / "out").write_text("mine")
    assert "--overwrite" in cli("seamless-resolve", checksum, "-o", "out", status=1).error
    assert (work / "out").read_text() == "mine"
    cli("seamless-resolve", checksum, "-o", "out", "--overwrite")
    assert (work / "out").read_bytes() == BINARY


def test_an_unknown_checksum(cli: Cli) -> None:
    done = cli("seamless-resolve", "0" * 64, status=1)
    assert "0" * 64 in done.error
    assert done.stdout == b""


def test_not_a_checksum_is_a_usage_error(cli: Cli) -> None:
    assert "not a checksum" in cli("seamless-resolve", "ABC", status=2).error


def test_a_corrupt_buffer_shows_nothing(cli: Cli, work: Path, store: Path) -> None:
    for data in (BINARY, os.urandom(1 << 20) * 5):
        checksum = stored(cli, work, data)
        buffer = store / checksum[:2] / checksum
        buffer.chmod(0o600)
        buffer.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        done = cli("seamless-resolve", checksum, status=1)
        assert done.stdout == b""
        assert checksum in done.error


def test_a_reader_that_leaves_is_no_error(cli: Cli, work: Path) -> None:
    checksum = stored(cli, work, os.urandom(1 << 20) * 5)
    command = f"{cli.path('seamless-resolve')} {checksum} | head -c 10 | wc -c"
    done = subprocess.run(["bash", "-c", command], capture_output=True, cwd=work, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (b"10", b"")


def test_a_full_disk_behind_standard_output(cli: Cli, work: Path) -> None:
    checksum = stored(cli, work, BINARY)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [cli.path("seamless-resolve"), checksum],
            stdout=full,
            stderr=subprocess.PIPE,
            cwd=work,
            timeout=60,
        )
    assert done.returncode == 1
    assert done.stderr == b"seamless-resolve: standard output: No space left on device\n"
