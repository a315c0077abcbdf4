"""A colleague's database beside a server's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hashserver.checksum import hash_bytes
from hashserver.client.chain import DatabaseChain
from hashserver.results.database import Database
from seamless_dask.config import load
from seamless_dask.context import Context

TF, OTHER, A = hash_bytes(b"tf"), hash_bytes(b"other"), hash_bytes(b"a")


@pytest.fixture
def context(hashserver: dict[str, object], tmp_path: Path) -> Iterator[Context]:
    with Database(tmp_path / "theirs.db") as theirs:
        theirs.put(TF, "file", A, {"wall": 1})
    with Context(load(hashserver | {"databases": ["theirs.db"]}, str(tmp_path))) as context:
        yield context


def test_what_the_server_does_not_know_is_looked_up_there(context: Context, tmp_path: Path) -> None:
    database = context.database
    assert isinstance(database, DatabaseChain)
    for found in (
        database.get(TF),
        database.lookup(TF)[1],
        database.find(TF),
        database.get_many([TF])[TF],
        database.lookup_many([TF])[TF][1],
        database.get_inline(TF, 10).result,
    ):
        assert (found.format, found.checksum, found.source) == ("file", A, str(tmp_path / "theirs.db"))
    assert database.values_of([TF, OTHER], 10) == ({TF: ("file", A)}, {})
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
    assert database.find(TF) is None
