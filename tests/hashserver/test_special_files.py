"""What is no regular file under a name of ours is not followed, not served, and not waited for."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hashserver.auth import read_token_file
from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import AuthenticationFailed, BufferMissing, DatabaseError, ServiceUnavailable
from hashserver.regular_file import open_regular, read_regular
from hashserver.results.database import Database
from hashserver.storage.directory import LocalStore

from .server.conftest import Running, own  # noqa: F401 - a fixture

pytestmark = pytest.mark.timeout(60)
DATA = b"data that a link leads to"
SUM = hash_bytes(DATA)
KINDS = ["link", "dangling", "pipe", "socket", "device", "directory"]


def make(kind: str, path: Path) -> None:
    """Put something that is no regular file at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "link":
        target = path.parent.parent / "secret"
        target.write_bytes(DATA)
        path.symlink_to(target)
    elif kind == "dangling":
        path.symlink_to("/nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as sock:
            os.chdir(path.parent)  # its path may be longer than that of a socket
            sock.bind(path.name)
    elif kind == "device":
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero, which has no end
        except PermissionError:
            pytest.skip("only root can make devices")
    else:
        path.mkdir()


REFUSED = "Not a regular file|Is a directory|No such|symbolic link"


@pytest.fixture
def there(kind: str) -> str:
    """Each kind that is there when links are followed."""
    return "link" if kind == "dangling" else kind


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.chdir(tmp_path)
    name: str = request.param
    return name


def test_a_store_does_not_have_it(kind: str, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    make(kind, Path(store.root, SUM[:2], SUM))
    assert store.has([SUM]) == [-1]
    assert store.local_path(SUM) is None
    for read in (store.get, store.read, store.open, store.descriptor, store.verify):
        with pytest.raises(BufferMissing):
            read(SUM)
    with pytest.raises(BufferMissing):
        store.get_file(SUM, tmp_path / "out")


def test_a_store_puts_the_buffer_in_its_place(kind: str, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    place = Path(store.root, SUM[:2], SUM)
    make(kind, place)
    if kind == "directory":
        with pytest.raises(ServiceUnavailable, match="cannot be written"):
            store.put(DATA)
        return
    store.put(DATA)
    assert not place.is_symlink()
    assert store.get(SUM) == DATA


def test_a_server_says_that_there_is_none(kind: str, own: Running) -> None:  # noqa: F811
    make(kind, own.store / SUM[:2] / SUM)
    other = own.put(b"other")
    assert own.ask("GET", f"/{SUM}").status == 404
    assert own.ask("HEAD", f"/{SUM}").status == 404
    assert own.ask("POST", "/has", f'["{SUM}", "{other}"]'.encode()).json == [-1, 5]
    assert own.ask("POST", f"/verify/{SUM}", b"").status == 404
    pack = own.ask("POST", "/pack", f'["{SUM}", "{other}"]'.encode()).body
    assert DATA not in pack
    assert b"other" in pack


def test_a_record_of_a_users_file_is_not_one(kind: str, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    make(kind, Path(store.root, ".references", SUM[:2], SUM))
    assert store.has([SUM]) == [-1]
    with pytest.raises(BufferMissing):
        store.get(SUM)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_database_is_refused_in_one_line(there: str, read_only: bool, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "theirs.db"
    make(there, path)
    with Database(path, read_only=read_only) as database, pytest.raises(DatabaseError) as caught:
        database.counts()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_what_lies_beside_a_database_must_be_a_file_too(kind: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with Database(path) as database:
        database.counts()
    make(kind, tmp_path / f"theirs.db{suffix}")
    with Database(path, read_only=True) as database, pytest.raises(DatabaseError, match=suffix):
        database.counts()


def test_a_colleagues_database_that_is_none_is_left_out(kind: str, tmp_path: Path) -> None:
    make(kind, tmp_path / "folder" / "theirs.db")
    with Database(tmp_path / "own.db", others=[tmp_path / "folder" / "theirs.db"]) as database:
        assert database.get(SUM) is None
        (line,) = database.warnings
    assert "theirs.db" in line


def test_a_token_file_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    make(kind, tmp_path / "folder" / "token")
    with pytest.raises(AuthenticationFailed):
        read_token_file(str(tmp_path / "folder" / "token"))


def test_only_a_link_to_a_file_can_be_followed(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "entry"
    make(kind, path)
    with pytest.raises(OSError, match=REFUSED):
        open_regular(path, follow=False)
    if kind == "link":
        assert read_regular(path) == DATA
        assert read_regular(path, limit=4) == DATA[:4]
    else:
        with pytest.raises(OSError, match=REFUSED):
            read_regular(path)


@pytest.mark.parametrize(
    "words",
    [
        ["--store", "store", "--database", "special"],
        ["--store", "store", "--database", "ok.db", "--token-file", "special"],
    ],
)
def test_the_command_ends_with_one_line(there: str, words: list[str], tmp_path: Path) -> None:
    make(there, tmp_path / "folder" / "special")
    words = [f"folder/{word}" if word == "special" else word for word in words]
    done = subprocess.run(
        [sys.executable, "-m", "hashserver", "--port", "0", *words],
        capture_output=True, text=True, check=False, timeout=50,
    )  # fmt: skip
    assert done.returncode in (1, 2)
    lines = [line for line in done.stderr.splitlines() if "new tokens" not in line]
    assert len(lines) == 1, done.stderr


def test_a_link_in_place_of_a_prefix_is_the_administrators(tmp_path: Path) -> None:
    """A full disk is relieved by moving a prefix elsewhere: those who own the directory may do that."""
    store = LocalStore(tmp_path / "store")
    store.put(DATA)
    Path(store.root, SUM[:2]).rename(tmp_path / "elsewhere")
    Path(store.root, SUM[:2]).symlink_to(tmp_path / "elsewhere")
    assert store.get(Checksum(SUM)) == DATA
