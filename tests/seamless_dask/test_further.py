"""A colleague's database beside a server's."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hashserver.checksum import hash_bytes
from hashserver.results.database import Database
from seamless_dask.config import load
from seamless_dask.context import Context
from seamless_dask.further import ServerAndFiles

TF, OTHER, A = hash_bytes(b"tf"), hash_bytes(b"other"), hash_bytes(b"a")


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    token, ready = tmp_path / "token", tmp_path / "ready"
    token.touch(mode=0o600)
    token.write_text("read-write secret-of-this-test-0123456789\n")
    words = [sys.executable, "-m", "hashserver", "--store", str(tmp_path / "store")]
    words += ["--database", str(tmp_path / "server.db"), "--port", "0", "--token-file", str(token)]
    server = subprocess.Popen([*words, "--ready-file", str(ready)], stderr=subprocess.DEVNULL)
    try:
        while not ready.exists():
            assert server.poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                server.wait(0.05)
        url = json.loads(ready.read_text())["url"]
        with Database(tmp_path / "theirs.db") as theirs:
            theirs.put(TF, "file", A, {"wall": 1})
        options = {"hashserver": url, "token_file": str(token), "databases": ["theirs.db"]}
        with Context(load(options, str(tmp_path))) as context:
            yield context
    finally:
        server.terminate()
        server.wait()


def test_what_the_server_does_not_know_is_looked_up_there(context: Context, tmp_path: Path) -> None:
    database = context.database
    assert isinstance(database, ServerAndFiles)
    for found in (
        database.get(TF),
        database.lookup(TF)[1],
        database.get_many([TF])[TF],
        database.lookup_many([TF])[TF][1],
        database.get_inline(TF, 10).result,
    ):
        assert (found.format, found.checksum, found.source) == ("file", A, str(tmp_path / "theirs.db"))
    assert database.producers(A) == [TF]
    assert database.get(OTHER) is None
    assert database.lookup_many([OTHER]) == {}


def test_the_server_goes_first_and_what_is_contested_there_stays_so(context: Context) -> None:
    database = context.database
    database.put(TF, "file", OTHER)
    assert database.get(TF).checksum == OTHER
    database.contest(TF)
    assert database.get(TF) is None
    assert database.lookup(TF) is None
