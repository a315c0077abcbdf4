"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hashserver import atomic
from hashserver.atomic import NewFile, write_atomic


@pytest.fixture(params=["unnamed", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of writing: file systems without O_TMPFILE need names."""
    if request.param == "named":
        monkeypatch.setattr(atomic.os, "O_TMPFILE", 0)
    return str(request.param)


@pytest.mark.usefixtures("way")
class TestWriting:
    def test_new_and_replaced(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        for data in (b"one", b"", b"three" * 100_000):
            write_atomic(path, data)
            assert path.read_bytes() == data
        assert os.listdir(tmp_path) == ["file"]

    def test_a_relative_path(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for data in (b"one", b"two"):
            write_atomic("file", data)
            assert Path("file").read_bytes() == data

    @pytest.mark.parametrize(("mode", "umask", "expected"), [(0o666, 0o027, 0o640), (0o600, 0o022, 0o600)])
    def test_permissions_follow_the_umask(self, tmp_path: Path, mode: int, umask: int, expected: int) -> None:
        old = os.umask(umask)
        try:
            write_atomic(tmp_path / "file", b"", mode)
        finally:
            os.umask(old)
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == expected

    def test_a_failure_leaves_nothing_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_bytes(b"old")

        def full(fd: int, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(atomic.os, "write", full)
        with pytest.raises(OSError, match="No space"):
            write_atomic(tmp_path / "file", b"new")
        assert os.listdir(tmp_path) == ["file"]
        assert (tmp_path / "file").read_bytes() == b"old"

    def test_a_directory_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "file").mkdir()
        with pytest.raises(OSError, match="irectory"):
            write_atomic(tmp_path / "file", b"new")
        assert os.listdir(tmp_path) == ["file"]

    def test_no_directory(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            write_atomic(tmp_path / "none" / "file", b"new")

    def test_readers_see_all_or_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        contents = {bytes([65 + number]) * 50_000 for number in range(4)}
        write_atomic(path, min(contents))
        threads = [
            threading.Thread(target=lambda data=data: [write_atomic(path, data) for _ in range(25)])
            for data in contents
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert path.read_bytes() in contents
        for thread in threads:
            thread.join()
        assert os.listdir(tmp_path) == ["file"]


class TestRivals:
    """Two who write one path: downloads of one file, records of one original."""

    def test_both_succeed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The second begins and ends between the two calls of the first."""
        (tmp_path / "file").write_bytes(b"old")
        target, shared = str(tmp_path / "file"), str(tmp_path / "shared")
        with NewFile(str(tmp_path), shared) as first, NewFile(str(tmp_path), shared) as second:
            real, waiting = os.rename, [second]

            def rename(source: str, name: str) -> None:
                if waiting:
                    waiting.pop().publish(target)
                    assert (tmp_path / "file").read_bytes() == b"second"
                real(source, name)

            monkeypatch.setattr(atomic.os, "rename", rename)
            atomic.write_all(first.fd, b"first")
            atomic.write_all(second.fd, b"second")
            assert first.publish(target)
        assert (tmp_path / "file").read_bytes() == b"first"
        assert os.listdir(tmp_path) == ["file"]

    def test_what_one_left_that_died_between_goes_with_the_next(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"old")
        (tmp_path / "shared").write_bytes(b"of a dead one")
        with NewFile(str(tmp_path), str(tmp_path / "shared")) as new:
            atomic.write_all(new.fd, b"new")
            assert new.publish(str(tmp_path / "file"))
        assert (tmp_path / "file").read_bytes() == b"new"
        assert os.listdir(tmp_path) == ["file"]


def test_a_killed_writer_leaves_nothing(tmp_path: Path) -> None:
    try:
        os.close(os.open(tmp_path, os.O_TMPFILE | os.O_RDWR))
    except OSError:
        pytest.skip("this file system knows no files without a name")
    code = """
import os, signal, sys
from hashserver import atomic
def die(fd, data):
    os.write(1, b"x")
    signal.pause()
atomic.write_all = die
atomic.write_atomic(sys.argv[1], b"new")
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "file")], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.read(1) == b"x"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert os.listdir(tmp_path) == []
