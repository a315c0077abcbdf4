"""Logs do not grow for ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from seamless_dask.services import logfile


def test_a_long_log_is_put_aside_and_its_writers_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "LONGEST", 10)
    path = tmp_path / "log"
    with open(path, "a") as writer:
        writer.write("short\n")
        writer.flush()
        assert not logfile.rotate(str(path))
        writer.write("longer\n")
        writer.flush()
        assert logfile.rotate(str(path))
        writer.write("afterwards\n")
    assert path.read_text() == "afterwards\n"
    aside = tmp_path / "log.1"
    assert aside.read_text() == "short\nlonger\n"
    assert aside.stat().st_mode & 0o777 == 0o600


def test_a_log_is_cut_although_there_is_no_room_to_put_it_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logfile, "LONGEST", 10)
    (tmp_path / "log").write_text("a" * 20)
    os.symlink("/dev/full", tmp_path / "log.1")
    assert logfile.rotate(str(tmp_path / "log"))
    assert (tmp_path / "log").read_text() == ""


def test_the_words_of_a_process_that_was_there_before_are_nobody_elses(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    for said in (b"the disk is full\n", b""):
        log = logfile.begin(path)
        os.write(log, said)
        os.close(log)
    assert logfile.last_line(path) == f"it said nothing in {path}"


def test_a_log_that_is_not_there_yet_is_no_problem(tmp_path: Path) -> None:
    assert not logfile.rotate(str(tmp_path / "log"))
    assert "said nothing" in logfile.last_line(str(tmp_path / "log"))
