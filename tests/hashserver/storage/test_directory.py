"""Buffers in a directory: what dies when, what is left, and users' own files."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hashserver.atomic import NewFile, write_all
from hashserver.checksum import hash_bytes
from hashserver.errors import (
    BufferCorrupt,
    BufferMissing,
    FileChanged,
    InvalidRequest,
    LinkRefused,
    NoSpace,
    OriginalChanged,
    ReadOnly,
)
from hashserver.storage import files
from hashserver.storage.directory import PREFIX_MARKER, LocalStore
from hashserver.storage.files import Download

DATA = b"data of a user\n"
SUM = hash_bytes(DATA)
OTHER = b"DATA of a user\n"  # of the same length


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def original(tmp_path: Path) -> Path:
    path = tmp_path / "original.txt"
    path.write_bytes(DATA)
    path.chmod(0o640)
    return path


def everything(root: Path) -> list[str]:
    found = (str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
    return sorted(name for name in found if not name.endswith(PREFIX_MARKER))


@contextlib.contextmanager
def no_anonymous_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make the file system look like NFS: 0 as O_TMPFILE opens the directory itself, which fails."""
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "O_TMPFILE", 0)
        yield


class TestLayout:
    def test_buffers_cannot_be_written_and_the_root_is_private(self, store: LocalStore) -> None:
        store.put(DATA)
        assert os.stat(store.local_path(SUM) or "").st_mode & 0o777 == 0o444
        assert os.stat(store.root).st_mode & 0o777 == 0o700

    def test_nothing_is_made_before_the_first_buffer(self, store: LocalStore) -> None:
        assert store.has([SUM]) == [-1]
        assert store.writable
        assert not os.path.exists(store.root)

    def test_an_empty_file_left_by_a_crash_is_no_buffer(self, store: LocalStore) -> None:
        Path(store.root, SUM.prefix).mkdir(parents=True)
        Path(store.root, SUM.prefix, SUM).touch()
        assert store.has([SUM]) == [-1]
        assert store.local_path(SUM) is None
        store.put(DATA)
        assert store.get(SUM) == DATA

    def test_quarantine_keeps_the_bytes_for_inspection(self, store: LocalStore) -> None:
        Path(store.root, SUM.prefix).mkdir(parents=True)
        Path(store.root, SUM.prefix, SUM).write_bytes(OTHER)
        assert not store.verify(SUM)
        assert Path(store.root, ".quarantine", SUM).read_bytes() == OTHER


class TestWithoutAnonymousFiles:
    """As on NFS, where a file has a name while it is written."""

    def test_it_stores_and_leaves_nothing(
        self, store: LocalStore, original: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with no_anonymous_files(monkeypatch):
            store.put_stream([DATA], SUM)
            with pytest.raises(BufferCorrupt):
                store.put_stream([OTHER], SUM)
            store.get_file(SUM, original)
        assert everything(Path(store.root)) == [f"{SUM.prefix}/{SUM}"]
        assert [path.name for path in original.parent.iterdir() if path.is_file()] == ["original.txt"]

    def test_a_live_writer_is_left_alone(self, store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
        with no_anonymous_files(monkeypatch), store.writer() as writer:
            writer.write(DATA)
            (name,) = os.listdir(f"{store.root}/.tmp")
            os.utime(f"{store.root}/.tmp/{name}", (0, 0))
            assert store.clean() == 0
            writer.commit(SUM)
        assert store.get(SUM) == DATA

    def test_a_download_takes_over_what_a_dead_one_left(
        self, original: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with no_anonymous_files(monkeypatch), Download(original) as dead:
            stray = Path(dead._temporary)
        stray.write_bytes(b"left behind, and longer than what follows")
        with no_anonymous_files(monkeypatch), Download(original) as new:
            write_all(new.fd, OTHER)
            new.finish(executable=False)
        assert original.read_bytes() == OTHER
        assert not stray.exists()

    def test_two_at_once_do_not_meet(self, original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with no_anonymous_files(monkeypatch), Download(original) as one, Download(original) as two:
            write_all(one.fd, b"one")
            write_all(two.fd, b"two")
            one.finish(executable=False)
            two.finish(executable=False)
        assert original.read_bytes() == b"two"


KILLED = """
import os, signal, sys
from hashserver.storage import files
from hashserver.storage.directory import LocalStore
if sys.argv[2] == "named":
    files.os.O_TMPFILE = 0
writer = LocalStore(sys.argv[1]).writer()
writer.write(bytes(3 << 20))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["anonymous", "named"])
@pytest.mark.parametrize("cleaner", ["a server", "the next writer"])
def test_a_killed_writer_leaves_nothing_after_the_next_start(
    store: LocalStore, how: str, cleaner: str
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, store.root, how], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(everything(Path(store.root))) == (how == "named")
    if cleaner == "a server":
        assert store.clean() == (how == "named")
    else:
        store.writer().close()
    assert everything(Path(store.root)) == []


def test_what_another_host_is_writing_is_left_alone_for_a_day(store: LocalStore) -> None:
    store.put(b"")
    for number, age in enumerate((3600, 90_000)):
        path = Path(store.root, ".tmp", f"other-host-1-a-{number}")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    assert store.clean() == 1
    assert os.listdir(f"{store.root}/.tmp") == ["other-host-1-a-0"]


class Watched(LocalStore):
    """Is asked for a buffer when that has its writer's bytes, and a directory is made for its name."""

    answers: list[list[int]]

    def _make_directory(self, path: str) -> None:
        if path != self.root:
            self.answers.append(self.has([SUM]))
        super()._make_directory(path)


def test_a_buffer_is_asked_for_while_its_directory_is_made(tmp_path: Path) -> None:
    store = Watched(tmp_path / "store")
    store.answers = []
    with store.writer() as writer:
        writer.write(DATA)
        writer.commit()
    assert store.answers.count([-1]) == len(store.answers) > 0
    assert store.has([SUM]) == [len(DATA)]


class TestRefusals:
    def test_a_full_disk_keeps_nothing(self, tmp_path: Path) -> None:
        if os.getuid() != 0:
            pytest.skip("mounting a small file system needs root; the size limit is tested below")
        with small_disk(tmp_path / "disk"):
            store = LocalStore(tmp_path / "disk/store")
            (tmp_path / "big").write_bytes(bytes(4 << 20))
            for attempt in (
                lambda: store.put_file(tmp_path / "big"),
                lambda: store.put(bytes(4 << 20)),
                lambda: store.put_stream([bytes(1 << 20)] * 4),
            ):
                with pytest.raises(NoSpace, match="no room left"):
                    attempt()
            assert everything(Path(store.root)) == []
            big = LocalStore(tmp_path / "elsewhere").put_file(tmp_path / "big")[0]
            with pytest.raises(NoSpace, match="disk"):
                LocalStore(tmp_path / "elsewhere").get_file(big, tmp_path / "disk/out")
            assert everything(tmp_path / "disk") == []

    def test_a_file_over_the_limit_keeps_nothing(self, store: LocalStore) -> None:
        store.put(DATA)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
        try:
            with pytest.raises(NoSpace):
                store.put(bytes(2 << 20))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert everything(Path(store.root)) == [f"{SUM.prefix}/{SUM}"]

    def test_a_read_only_store_says_so(self, store: LocalStore) -> None:
        store.put(DATA)
        with read_only(Path(store.root)):
            assert not store.writable
            with pytest.raises(ReadOnly, match=store.root):
                store.put(OTHER)
            assert store.get(SUM) == DATA

    def test_an_unreadable_file_is_named(self, store: LocalStore, tmp_path: Path) -> None:
        with pytest.raises(OSError, match="/proc/self/mem"):
            store.put_file("/proc/self/mem", SUM)

    def test_a_file_that_grows_while_it_is_read_is_refused(self, store: LocalStore, tmp_path: Path) -> None:
        path = tmp_path / "growing"
        path.write_bytes(bytes(3 << 20))
        read = os.readv

        def read_and_grow(fd: int, buffers: list[bytearray]) -> int:
            with path.open("ab") as file:
                file.write(b"more")
            files.os.readv = read
            return read(fd, buffers)

        files.os.readv = read_and_grow
        try:
            with pytest.raises(FileChanged, match="growing"):
                store.put_file(path)
        finally:
            files.os.readv = read
        assert everything(Path(store.root)) == []


class TestReferences:
    def test_no_byte_is_copied_and_the_mode_stays(self, store: LocalStore, original: Path) -> None:
        store.reference(original, SUM)
        assert store.has([SUM]) == [len(DATA)]
        assert store.get(SUM) == DATA
        assert store.local_path(SUM) == str(original)
        assert original.stat().st_mode & 0o777 == 0o640
        assert everything(Path(store.root)) == [f".references/{SUM.prefix}/{SUM}"]

    @pytest.mark.parametrize("change", ["written", "touched", "replaced", "removed"])
    def test_a_changed_original_is_an_error_that_names_it(
        self, store: LocalStore, original: Path, change: str
    ) -> None:
        store.reference(original, SUM)
        alter(original, change)
        assert store.has([SUM]) == [-1]
        for access in (store.get, store.local_path, store.read, store.open):
            with pytest.raises(OriginalChanged, match=str(original)):
                access(SUM)
        with pytest.raises(OriginalChanged):
            store.get_file(SUM, original.with_name("out"))

    def test_a_copy_takes_its_place(self, store: LocalStore, original: Path) -> None:
        store.reference(original, SUM)
        store.put_file(original)
        alter(original, "removed")
        assert store.get(SUM) == DATA

    def test_symbolic_links_are_resolved(self, store: LocalStore, original: Path) -> None:
        original.with_name("link").symlink_to(original)
        store.reference(original.with_name("link"), SUM)
        original.with_name("link").unlink()
        assert store.local_path(SUM) == str(original)

    def test_a_file_that_is_another_is_refused(self, store: LocalStore, original: Path) -> None:
        with pytest.raises(FileChanged, match=str(original)):
            store.reference(original, hash_bytes(OTHER))
        state = original.stat()
        alter(original, "written")
        with pytest.raises(FileChanged, match=str(original)):
            store.reference(original, SUM, state)

    def test_a_directory_is_refused(self, store: LocalStore, tmp_path: Path) -> None:
        with pytest.raises(InvalidRequest, match="regular file"):
            store.reference(tmp_path, SUM, tmp_path.stat())

    def test_verify_forgets_a_changed_one_and_leaves_the_file(
        self, store: LocalStore, original: Path
    ) -> None:
        store.reference(original, SUM)
        alter(original, "written")
        assert not store.verify(SUM)
        with pytest.raises(BufferMissing):
            store.get(SUM)
        assert original.read_bytes() == OTHER

    def test_delete_leaves_the_file(self, store: LocalStore, original: Path) -> None:
        store.reference(original, SUM)
        store.delete(SUM)
        assert store.has([SUM]) == [-1]
        assert original.read_bytes() == DATA


class TestHardLinks:
    def test_it_is_the_same_file_with_the_users_mode(self, store: LocalStore, original: Path) -> None:
        store.link_file(original, SUM)
        assert os.path.samefile(store.local_path(SUM) or "", original)
        assert store.get(SUM) == DATA
        assert original.stat().st_mode & 0o777 == 0o640

    def test_it_survives_the_original(self, store: LocalStore, original: Path) -> None:
        store.link_file(original, SUM)
        original.unlink()
        assert store.get(SUM) == DATA

    @pytest.mark.parametrize("removed", [False, True])
    def test_writing_to_the_original_is_noticed(
        self, store: LocalStore, original: Path, removed: bool
    ) -> None:
        store.link_file(original, SUM)
        with original.open("r+b") as file:
            file.write(OTHER)
        os.utime(original, ns=(0, 1))
        if removed:
            original.unlink()
        assert store.has([SUM]) == [-1]
        for access in (store.get, store.local_path, store.open):
            with pytest.raises(OriginalChanged, match=str(original)):
                access(SUM)

    def test_a_copy_mends_a_changed_one(self, store: LocalStore, original: Path) -> None:
        store.link_file(original, SUM)
        with original.open("r+b") as file:
            file.write(OTHER)
        os.utime(original, ns=(0, 1))
        store.put(DATA)
        assert store.get(SUM) == DATA
        assert original.read_bytes() == OTHER

    @pytest.mark.parametrize("finds", ["get", "verify"])
    def test_what_is_found_corrupt_goes_and_the_users_file_stays(
        self, store: LocalStore, original: Path, finds: str
    ) -> None:
        store.link_file(original, SUM)
        state = original.stat()
        with original.open("r+b") as file:
            file.write(OTHER)
        os.utime(original, ns=(state.st_atime_ns, state.st_mtime_ns))  # unseen but by reading
        assert store.has([SUM]) == [len(DATA)]
        if finds == "get":
            with pytest.raises(BufferCorrupt):
                store.get(SUM)
        else:
            assert not store.verify(SUM)
        assert store.has([SUM]) == [-1]
        assert original.read_bytes() == OTHER

    def test_symbolic_links_are_resolved(self, store: LocalStore, original: Path) -> None:
        link = original.with_name("link")
        link.symlink_to(original)
        store.link_file(link, SUM)
        assert not os.path.islink(store.local_path(SUM) or "")

    def test_another_file_system_is_refused_with_advice(self, store: LocalStore) -> None:
        other = Path("/dev/shm") / f"seamless-{os.getpid()}"
        other.write_bytes(DATA)
        try:
            if other.stat().st_dev == os.stat(os.path.dirname(store.root)).st_dev:
                pytest.skip("/dev/shm is no file system of its own here")
            with pytest.raises(LinkRefused, match="--in-place"):
                store.link_file(other, SUM)
        finally:
            other.unlink()
        assert store.has([SUM]) == [-1]
        assert everything(Path(store.root)) == []

    def test_a_file_of_another_user_is_refused_with_advice(self, tmp_path: Path) -> None:
        if os.getuid() != 0:
            pytest.skip("only root can make a file of another user")
        if Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "1":
            pytest.skip("this system permits such links")
        script = "import hashserver.storage.directory, os, sys\n"
        script += "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        script += (
            "from hashserver.storage.directory import LocalStore; from hashserver.errors import LinkRefused\n"
        )
        script += "try: LocalStore('store').link_file('theirs', sys.argv[1])\n"
        script += "except LinkRefused as error: print(error)\n"
        place = Path("/dev/shm") / f"seamless-links-{os.getpid()}"
        place.mkdir(mode=0o777)
        try:
            place.chmod(0o777)
            (place / "theirs").write_bytes(DATA)
            (place / "theirs").chmod(0o644)
            command = [
                sys.executable,
                "-c",
                "import hashserver.storage.directory, hashserver.storage.store, json\n" + script,
                SUM,
            ]
            done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        finally:
            subprocess.run(["rm", "-rf", place], check=True)
        assert "not your own to write" in done.stdout, done.stderr
        assert "--in-place" in done.stdout


def test_a_new_file_without_a_name_leaves_none(tmp_path: Path) -> None:
    with NewFile(str(tmp_path), str(tmp_path / "temporary")) as file:
        write_all(file.fd, DATA)
    assert everything(tmp_path) == []


def alter(path: Path, how: str) -> None:
    if how == "removed":
        path.unlink()
    elif how == "touched":
        os.utime(path, ns=(0, 1))
    elif how == "replaced":
        state = path.stat()
        path.rename(path.with_name("old"))
        path.write_bytes(DATA)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    else:
        path.write_bytes(OTHER)
        os.utime(path, ns=(0, 1))


@contextlib.contextmanager
def small_disk(path: Path) -> Iterator[None]:
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(path)], check=False)
    if done.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Take away the permission to write; root has it anyway, and gets a read-only mount."""
    if os.getuid() != 0:
        modes = {directory: directory.stat().st_mode for directory in [path, *path.iterdir()]}
        for directory in modes:
            directory.chmod(0o500)
        try:
            yield
        finally:
            for directory, mode in modes.items():
                directory.chmod(mode)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    target = os.fsencode(path)
    bind, remount_read_only = 4096, 4096 | 32 | 1
    if libc.mount(target, target, None, bind, None) or libc.mount(
        None, target, None, remount_read_only, None
    ):
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        libc.umount2(target, 2)
