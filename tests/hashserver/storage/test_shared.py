"""A store and a database in a directory that a group shares: two users, whatever their umasks."""

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
from hashserver.storage.directory import PREFIX_MARKER, LocalStore

GROUP, ANNE, BEN, STRANGER = 61000, 61001, 61002, 61003

# What is imported is imported as root: an interpreter in root's home is none that others can read.
PRELUDE = """
import os, sys
import fcntl, json, sqlite3
import hashserver.results.database, hashserver.results.writes, hashserver.results.export
import hashserver.storage.directory, hashserver.storage.files, hashserver.storage.references
import hashserver.storage.modes, hashserver.storage.compressed
from hashserver.checksum import Checksum, hash_bytes
from hashserver.results.database import Database
from hashserver.storage.directory import LocalStore
user, group, umask, root = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3], 8), sys.argv[4]
os.setgroups([group]); os.setgid(user); os.setuid(user); os.umask(umask)
if sys.argv[5] == "NFS":
    os.O_TMPFILE = 0
store = LocalStore(root + "/buffers")
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that a group shares, where both may go."""
    if os.geteuid() != 0:
        pytest.skip("only root can be two other users")
    base = Path(tempfile.mkdtemp(prefix="shared-"))
    base.chmod(0o755)
    directory = base / "shared"
    directory.mkdir()
    os.chown(directory, 0, GROUP)
    directory.chmod(0o2775)
    yield directory
    shutil.rmtree(base)


def run(
    user: int, directory: Path, code: str, umask: str = "022", group: int = GROUP, system: str = ""
) -> str:
    """Run code as a user; return what it prints."""
    words = [sys.executable, "-c", PRELUDE + code, str(user), str(group), umask, str(directory), system]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("system", ["", "NFS"])
@pytest.mark.parametrize("umask", ["022", "077", "002"])
def test_two_users_store_and_read_under_the_same_prefixes(shared: Path, umask: str, system: str) -> None:
    put = "print(*(store.put(b'%d' % n) for n in range({0}, {0} + 200)))"
    first = run(ANNE, shared, put.format(0), umask, system=system).split()
    second = run(BEN, shared, put.format(100), umask, system=system).split()
    code = f"print([store.get(Checksum(name)) for name in {[*first, *second]!r}] and 'all')"
    assert run(ANNE, shared, code, umask) == "all\n"
    for folder in (shared / "buffers", *(path for path in shared.glob("buffers/*") if path.is_dir())):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o2775, folder
        assert folder.stat().st_gid == GROUP, folder


def test_prefixes_of_an_existing_directory_follow_its_own_mode(shared: Path) -> None:
    """A buffer directory of Seamless 1.x."""
    root = shared / "buffers"
    root.mkdir()
    os.chown(root, ANNE, GROUP)
    root.chmod(0o2770)
    (root / PREFIX_MARKER).touch()
    run(ANNE, shared, "store.put(b'one')", "077")
    code = "one = hash_bytes(b'one'); store.delete(one); store.put(b'one')"
    code += "; print(os.stat(store.local_path(one)).st_uid)"
    assert run(BEN, shared, code) == f"{BEN}\n"


def test_a_prefix_that_was_made_too_narrow_is_opened_by_its_owner(shared: Path) -> None:
    prefix = shared / "buffers" / hash_bytes(b"one")[:2]
    prefix.mkdir(parents=True)
    (shared / "buffers").chmod(0o2775)
    os.chown(shared / "buffers", 0, GROUP)
    os.chown(prefix, ANNE, GROUP)
    prefix.chmod(0o700)
    run(ANNE, shared, "store.put(b'another')")
    run(BEN, shared, "store.put(b'one')")
    assert stat.S_IMODE(prefix.stat().st_mode) == 0o2775


def test_what_one_finds_corrupt_another_mends(shared: Path) -> None:
    run(ANNE, shared, "store.put(b'one'); store.put(b'two')", "077")
    for data in (b"one", b"two"):
        path = shared / "buffers" / hash_bytes(data)[:2] / hash_bytes(data)
        path.chmod(0o644)
        path.write_bytes(b"xxx")
        path.chmod(0o444)
    run(ANNE, shared, "assert not store.verify(hash_bytes(b'one'))", "077")
    run(BEN, shared, "assert not store.verify(hash_bytes(b'two'))", "077")
    run(BEN, shared, "store.put(b'two'); store.put(b'one')", "077")
    assert (
        run(ANNE, shared, "print(*(store.get(hash_bytes(d)) for d in (b'one', b'two')))") == "b'one' b'two'\n"
    )


@pytest.mark.parametrize("how", ["reference", "link_file"])
def test_a_users_file_that_one_records_is_known_to_the_other(shared: Path, how: str) -> None:
    original = shared / "data.txt"
    original.write_bytes(b"data")
    os.chown(original, ANNE, GROUP)
    run(ANNE, shared, f"store.{how}(root + '/data.txt', hash_bytes(b'data'))", "077")
    assert run(BEN, shared, "print(store.get(hash_bytes(b'data')))") == "b'data'\n"
    run(BEN, shared, "store.delete(hash_bytes(b'data'))")
    assert run(ANNE, shared, "print(store.has([hash_bytes(b'data')]))") == "[-1]\n"


@pytest.mark.parametrize("umask", ["022", "077"])
def test_a_database_is_read_and_written_by_both_while_both_have_it_open(shared: Path, umask: str) -> None:
    code = """
database = Database(root + "/seamless.db")
database.put(hash_bytes(b"{0}"), "text", hash_bytes(b"result"))
print(database.counts()["results"])
for name in sorted(os.listdir(root)):
    print(name, oct(os.stat(root + "/" + name).st_mode & 0o777))
sys.stdout.flush()
os._exit(0)  # as if killed: the write-ahead log stays
"""
    modes = "".join(f"seamless.db{suffix} 0o664\n" for suffix in ("", "-shm", "-wal"))
    assert run(ANNE, shared, code.format("a"), umask) == "1\n" + modes
    assert run(BEN, shared, code.format("b"), umask) == "2\n" + modes
    assert run(ANNE, shared, code.format("c"), umask) == "3\n" + modes


def test_a_group_that_its_user_is_not_in_gets_no_more_than_everybody(shared: Path) -> None:
    """Whoever may write there by another right, in a directory that does not hand on its group."""
    root = shared / "buffers"
    root.mkdir()
    os.chown(root, STRANGER, GROUP)
    root.chmod(0o775)
    run(STRANGER, shared, "store.put(b'one')", group=STRANGER)
    prefix = root / hash_bytes(b"one")[:2]
    assert stat.S_IMODE(prefix.stat().st_mode) == 0o755
    assert prefix.stat().st_gid == STRANGER


def test_a_store_that_nobody_shares_is_its_users_alone(tmp_path: Path) -> None:
    root = tmp_path / "store"
    root.mkdir(mode=0o700)
    store = LocalStore(root)
    store.put(b"one")
    assert all(path.stat().st_mode & 0o077 == 0 for path in (root, *root.iterdir()))


def test_a_dead_maker_of_a_directory_leaves_nothing(shared: Path) -> None:
    root = shared / "buffers"
    (root / ".tmp-host-1-0").mkdir(parents=True)
    store = LocalStore(root)
    store.put(b"one")
    assert not list(root.glob(".tmp-*"))
