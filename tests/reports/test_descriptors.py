"""Too few descriptors: what cannot be opened now is not said to be missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from hashserver.checksum import hash_bytes
from hashserver.results.database import Database
from hashserver.storage.directory import LocalStore

EXHAUSTED = """
import os, resource, sys
import hashserver.storage.compressed
from hashserver.checksum import hash_bytes
from hashserver.errors import ServiceUnavailable
from hashserver.storage.directory import LocalStore

store, checksum = LocalStore(sys.argv[1]), hash_bytes(b"here")
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
found = [store.has([checksum])]
for read in (store.get, store.open, store.local_path):
    try:
        read(checksum)
    except Exception as error:
        found.append(type(error).__name__)
    else:
        found.append("read")
os.close(held.pop())
print(*found, store.get(checksum))
"""


def test_a_store_without_descriptors_is_unavailable_and_misses_nothing(tmp_path: Path) -> None:
    """buchgr/bazel-remote#174: with a low ``ulimit -n`` a cache answered 404 for what it had."""
    LocalStore(tmp_path / "store").put(b"here")
    command = [sys.executable, "-c", EXHAUSTED, tmp_path / "store"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[4] ServiceUnavailable ServiceUnavailable ServiceUnavailable b'here'\n"


ASKED = """
import os, resource, sys
import hashserver.results.sources, hashserver.results.foreign
from hashserver.checksum import hash_bytes
from hashserver.errors import HashserverError
from hashserver.results.database import Database

database = Database(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
try:
    print("answered", database.get(hash_bytes(b"tf")))
except HashserverError as error:
    print(type(error).__name__)
for fd in held:
    os.close(fd)
print(database.get(hash_bytes(b"tf")).format)
"""


def test_a_database_without_descriptors_does_not_say_that_nothing_is_known(tmp_path: Path) -> None:
    """buchgr/bazel-remote#174, for results: no answer is no miss."""
    with Database(tmp_path / "seamless.db") as database:
        database.put(hash_bytes(b"tf"), "text", hash_bytes(b"here"))
    command = [sys.executable, "-c", ASKED, tmp_path / "seamless.db"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    first, second = done.stdout.splitlines()
    assert "answered" not in first
    assert second == "text"
