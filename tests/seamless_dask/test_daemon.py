"""Detached processes, and their logs, which do not grow for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seamless_dask import daemon


def test_a_long_log_is_put_aside_and_its_writers_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "LONGEST", 10)
    path = tmp_path / "log"
    with open(path, "a") as writer:
        writer.write("short\n")
        writer.flush()
        assert not daemon.rotate(str(path))
        writer.write("longer\n")
        writer.flush()
        assert daemon.rotate(str(path))
        writer.write("afterwards\n")
    assert path.read_text() == "afterwards\n"
    aside = tmp_path / "log.1"
    assert aside.read_text() == "short\nlonger\n"
    assert aside.stat().st_mode & 0o777 == 0o600


def test_a_log_is_cut_although_there_is_no_room_to_put_it_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "LONGEST", 10)
    (tmp_path / "log").write_text("a" * 20)
    os.symlink("/dev/full", tmp_path / "log.1")
    assert daemon.rotate(str(tmp_path / "log"))
    assert (tmp_path / "log").read_text() == ""


def test_the_words_of_a_process_that_was_there_before_are_nobody_elses(tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    for said in (b"the disk is full\n", b""):
        log = daemon.begin(path)
        os.write(log, said)
        os.close(log)
    assert daemon.last_line(path) == f"it said nothing in {path}"


def test_a_log_that_is_not_there_yet_is_no_problem(tmp_path: Path) -> None:
    assert not daemon.rotate(str(tmp_path / "log"))
    assert "said nothing" in daemon.last_line(str(tmp_path / "log"))


def status(process: daemon.Daemon) -> int | None:
    """Wait for the end of a process."""
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process.poll()


SLEEPS = [sys.executable, "-c", "import time; time.sleep(100)"]


def test_a_daemon_holds_nothing_that_its_callers_have_left_open(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)  # what `exec 9> file` does to all that a shell starts
    process = daemon.spawn(SLEEPS, str(tmp_path / "log"))
    os.close(writing)
    try:
        assert os.read(reading, 1) == b""  # for as long as anybody had the other end nothing would come
        assert process.poll() is None
    finally:
        os.kill(process.pid, signal.SIGKILL)
        assert status(process) == -signal.SIGKILL
        os.close(reading)


def test_a_daemon_has_the_descriptor_that_it_shall_have(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    words = [sys.executable, "-c", f"import os; os.write({writing}, b'here')"]
    process = daemon.spawn(words, str(tmp_path / "log"), keep=[writing])
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        assert file.read() == b"here"
    assert status(process) == 0


def test_a_daemon_is_in_no_directory_and_of_no_session_of_its_starters(tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.getsid(0) == os.getpid(), flush=True)"
    process = daemon.spawn([sys.executable, "-c", code], str(tmp_path / "log"))
    assert status(process) == 0
    assert daemon.last_line(str(tmp_path / "log")) == "/ True"


def test_one_that_ends_before_it_serves_is_quoted(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "import sys; print('no room'); sys.exit(7)"]
    with pytest.raises(daemon.DaemonFailed, match="it did not start: no room") as caught:
        daemon.start("it", words, str(tmp_path / "log"), lambda _: None, 60)
    assert (caught.value.said, caught.value.status) == ("no room", 7)


def test_what_one_that_has_ended_has_written_counts(tmp_path: Path) -> None:
    words = [sys.executable, "-c", f"open({str(tmp_path / 'ready')!r}, 'w')"]
    with subprocess.Popen(words) as process:
        pass  # it has ended before anybody looks

    def serves() -> bool | None:
        return (tmp_path / "ready").exists() or None

    assert daemon.wait("it", str(tmp_path / "log"), serves, lambda: process.poll() is not None, 60)


def test_one_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    pids: set[int] = set()
    with pytest.raises(daemon.DaemonFailed, match="was not ready within 0 s; see"):
        daemon.start("it", SLEEPS, str(tmp_path / "log"), pids.add, 0.0)
    (pid,) = pids
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -15


def test_one_that_is_tied_ends_with_its_input(tmp_path: Path) -> None:
    words = [sys.executable, "-c", "import sys; sys.stdin.read(); print('alone'); sys.exit(3)"]
    process = daemon.spawn(words, str(tmp_path / "log"), tied=True)
    assert process.stdin
    assert process.poll() is None
    process.stdin.close()
    assert status(process) == 3
