"""What is this user's alone: directories and databases, whatever their mode was and whatever the umask is."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hashserver.checksum import hash_bytes
from hashserver.errors import DatabaseError
from hashserver.results.database import Database
from seamless_dask import connection
from seamless_dask.config import load
from seamless_dask.errors import UsageError
from seamless_dask.private import private_directory

ONE = hash_bytes(b"one")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("before", "able"), [(0o777, "write to"), (0o770, "write to"), (0o755, "read")])
def test_a_directory_of_ours_is_tightened_and_that_is_said_once(
    before: int, able: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "ours").touch()
    cache.chmod(before)
    for _ in range(2):
        assert private_directory(str(cache)) == str(cache)
    assert mode(cache) == 0o700
    assert capfd.readouterr().err == f"seamless: others could {able} {cache}: its mode is 0700 now\n"


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter, as pytest's own is not."""
    directory = Path(tempfile.mkdtemp(prefix="private-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


CLAIM = """
import os, sys
from seamless_dask.private import private_directory
os.setgid(65533)
os.setuid(65533)
try:
    private_directory(sys.argv[1])
except Exception as error:
    print(type(error).__name__, error)
"""


def test_one_that_holds_what_somebody_else_put_there_is_refused(open_directory: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make files of other users")
    cache = open_directory / "cache"
    cache.mkdir()
    (cache / "seamless.db").touch()
    os.chown(cache / "seamless.db", 65534, 65534)
    os.chown(cache, 65533, 65533)
    cache.chmod(0o777)
    for _ in range(2):
        command = [sys.executable, "-c", CLAIM, cache]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stderr == ""
        assert done.stdout.startswith("UsageError others could write to ")
        assert "'seamless.db' in it is not yours" in done.stdout


@pytest.mark.parametrize("umask", ["000", "022", "077"])
def test_a_bare_hashserver_makes_a_database_that_nobody_else_can_read(umask: str, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    code = (
        "import os, sys\n"
        f"os.umask(0o{umask})\n"
        "from hashserver.results.database import Database\n"
        "from hashserver.checksum import hash_bytes\n"
        "database = Database(sys.argv[1]); database.put(hash_bytes(b'a'), 'text', hash_bytes(b'b'))\n"
        "os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "seamless.db"], check=True)
    assert {path.name: mode(path) for path in tmp_path.glob("seamless.db*")} == {
        "seamless.db": 0o600,
        "seamless.db-wal": 0o600,
        "seamless.db-shm": 0o600,
    }


def test_a_database_of_ours_that_others_could_change_is_tightened(tmp_path: Path) -> None:
    path = tmp_path / "seamless.db"
    with Database(path) as database:
        database.put(ONE, "text", ONE)
    path.chmod(0o666)
    with Database(path) as database:
        database.counts()
        assert database.warnings == [f"{path} could be written by others: its mode has been tightened"]
    assert mode(path) == 0o644


def test_one_that_a_group_shares_is_left_to_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    path = tmp_path / "seamless.db"
    with Database(path) as database:
        database.put(ONE, "text", ONE)
        assert database.warnings == []
    assert mode(path) == 0o660


def test_somebody_elses_database_that_everybody_could_change_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make files of other users")
    path = tmp_path / "seamless.db"
    with Database(path) as database:
        database.put(ONE, "text", ONE)
    os.chown(path, 65534, 65534)
    path.chmod(0o666)
    with Database(path) as database, pytest.raises(DatabaseError, match="belongs to another user"):
        database.counts()


def test_a_pipe_in_place_of_a_settings_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "seamless.toml")
    with pytest.raises(UsageError, match=r"cannot read .*: Not a regular file"):
        load(directory=str(tmp_path))


def test_a_pipe_in_place_of_a_connection_file_is_an_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "connection.json")
    with pytest.raises(UsageError, match="cannot be read: Not a regular file"):
        connection.read(str(tmp_path / "connection.json"))


@pytest.mark.parametrize(("mode", "warned"), [(0o777, True), (0o1777, False), (0o775, False)])
def test_a_parent_in_which_everybody_can_replace_it_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int, warned: bool
) -> None:
    parent = tmp_path / "open"
    parent.mkdir()
    parent.chmod(mode)
    for _ in range(2):
        private_directory(str(parent / "cache"))
    said = capsys.readouterr().err.splitlines()
    expected = f"everybody can replace what lies in {parent}, cache too: chmod o-w {parent}, or name another"
    assert [expected in line for line in said] == [True] * warned
