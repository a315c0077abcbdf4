"""What a hashserver says of itself, as all read it who look for one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hashserver.ready_file import ReadyFile, parse_ready, read_ready, write_ready

READY = ReadyFile("http://h:1", 7, os.uname().nodename, "/token", "/store")


@pytest.mark.parametrize("ready", [READY, READY._replace(store=None)])
def test_it_is_read_as_it_was_written_and_by_nobody_else(tmp_path: Path, ready: ReadyFile) -> None:
    path = tmp_path / "hashserver.json"
    write_ready(str(path), ready)
    assert read_ready(str(path)) == ready
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_not_said_may_be_missing() -> None:
    assert parse_ready(b'{"url": "http://h:1", "pid": 7}') == ReadyFile("http://h:1", 7)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"\xff", b"[]", b"[" * 100_000, b"{}", b'{"url": "u"}', b'{"pid": 7}', b'{"url": 1, "pid": 7}',
        b'{"url": "u", "pid": "x"}', b'{"url": "u", "pid": 0}', b'{"url": "u", "pid": 1e999}',
        b'{"url": "u", "pid": 4294967296}', b'{"url": "u", "pid": 7, "host": []}',
        b'{"url": "u", "pid": 7, "store": 1}',
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_none(text: bytes) -> None:
    assert parse_ready(text) is None


def test_no_file_is_none(tmp_path: Path) -> None:
    assert read_ready(str(tmp_path / "hashserver.json")) is None
