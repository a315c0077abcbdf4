"""The index of runs: entered with a result, read later for files of an earlier version."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import Irreproducible
from hashserver.opening import open_store
from hashserver.results import schema
from hashserver.results.database import Database, Provenance, Put
from hashserver.results.runs import provenance_of
from hashserver.storage.store import Store


def c(text: str) -> Checksum:
    return hash_bytes(text.encode())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "buffers"))


def document(code: str, **inputs: str) -> bytes:
    form = {"code": c(code), "inputs": {name: ["file", c(text)] for name, text in inputs.items()}}
    return json.dumps(form | {"result": {"paths": ["out.csv"]}}).encode()


def earlier_version(path: Path, *puts: Put) -> None:
    """Make a file as a version has made it that knew no index."""
    with sqlite3.connect(path) as connection:
        for statement in schema.TABLES:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")
    connection.close()
    put_as_earlier_version(path, *puts)


def put_as_earlier_version(path: Path, *puts: Put) -> None:
    with sqlite3.connect(path) as connection:
        for put in puts:
            values = (put.tf.digest, put.format, put.checksum.digest)
            connection.execute("INSERT OR IGNORE INTO results VALUES (?, ?, ?)", values)
            connection.execute(
                "INSERT INTO records VALUES (?, ?)", (put.tf.digest, json.dumps(put.record or {}))
            )
    connection.close()


def test_a_result_is_found_by_its_inputs_its_code_and_its_names(tmp_path: Path) -> None:
    with Database(tmp_path / "seamless.db") as database:
        provenance = Provenance(c("code"), [c("a"), c("b")], [c("set")], ["sort", "out.csv"])
        database.put(c("tf"), "file", c("r"), provenance=provenance)
        for given in ("a", "b", "set", "code"):
            assert database.uses([c(given)], 10) == [c("tf")]
        assert database.uses([c("r")], 10) == []
        assert database.similar(c("code"), [], 10) == [c("tf")]
        assert database.similar(c("other"), ["out.csv"], 10) == [c("tf")]
        assert database.similar(c("other"), ["sor"], 10) == []


def test_what_lies_in_a_result_is_used_with_it(tmp_path: Path) -> None:
    with Database(tmp_path / "seamless.db") as database:
        database.put(c("maker"), "directory", c("set"), members=[c("a")])
        database.put(c("user"), "file", c("r"), provenance=Provenance(c("code"), [], [c("set")]))
        assert database.uses([c("a")], 10) == [c("user")]


def test_recording_again_enters_nothing_twice(tmp_path: Path) -> None:
    with Database(tmp_path / "seamless.db") as database:
        for _ in range(3):
            database.put(
                c("tf"), "file", c("r"), {"started": "now"}, provenance=Provenance(c("code"), [c("a")])
            )
        assert database.uses([c("a")], 10) == [c("tf")]
        assert [run.tf for run in database.recent(10)] == [c("tf")]


def test_another_result_of_it_is_entered_all_the_same(tmp_path: Path) -> None:
    with Database(tmp_path / "seamless.db") as database:
        database.put(c("tf"), "file", c("r"))
        with pytest.raises(Irreproducible):
            database.put(c("tf"), "file", c("other"), provenance=Provenance(c("code"), [c("a")]))
        assert database.uses([c("a")], 10) == [c("tf")]


def test_the_last_runs_are_told_newest_first_and_failed_ones_too(tmp_path: Path) -> None:
    with Database(tmp_path / "seamless.db") as database:
        for number in range(3):
            record = {"started": f"2026-01-0{2 * number + 1}T00:00:00Z", "stderr": "much"}
            database.put(c(f"tf{number}"), "file", c("r"), record)
        database.put_failure(c("bad"), {"started": "2026-01-02T00:00:00Z", "stderr": "much"})
        found = database.recent(3)
        assert [(run.tf, run.result is None) for run in found] == [
            (c("tf2"), False),
            (c("tf1"), False),
            (c("bad"), True),
        ]
        assert all(run.record is not None and "stderr" not in run.record for run in found)


def test_a_file_of_an_earlier_version_is_read_from_documents(tmp_path: Path, store: Store) -> None:
    path, data = tmp_path / "seamless.db", document("code", x="a")
    record = {"label": "sort", "started": "2026-01-01T00:00:00Z", "wall": 60.0}
    earlier_version(path, Put(store.put(data), "file", c("r"), record), Put(c("gone"), "file", c("q")))
    with Database(path) as database:
        assert database.uses([c("a")], 10) == []
        assert database.get(hash_bytes(data)) is not None
        assert database.catch_up(store, 60)
        assert database.uses([c("a")], 10) == [hash_bytes(data)]
        assert database.similar(c("other"), ["sort"], 10) == [hash_bytes(data)]
        assert database.runs([hash_bytes(data)])[hash_bytes(data)].time == 1767225660
        assert {run.tf for run in database.recent(10)} == {hash_bytes(data), c("gone")}


def test_catching_up_goes_on_where_it_stopped(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "seamless.db"
    documents = [document(f"code {number}", x="a") for number in range(1200)]
    store.put_many(documents)
    earlier_version(path, *(Put(hash_bytes(data), "file", c("r")) for data in documents))
    with Database(path) as database:
        assert not database.catch_up(store, -1)
        assert database.catch_up(store, 60)
        assert len(database.uses([c("a")], 5000)) == 1200


def test_what_an_earlier_version_records_afterwards_is_read_too(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "seamless.db"
    with Database(path) as database:
        database.put(c("tf"), "file", c("r"), provenance=Provenance(c("code"), [c("a")]))
        tf = store.put(document("code", x="a"))
        put_as_earlier_version(path, Put(tf, "file", c("r")))
        assert database.uses([c("a")], 10) == [c("tf")]
        assert database.catch_up(store, 60)
        assert set(database.uses([c("a")], 10)) == {c("tf"), tf}


def test_further_databases_are_asked_too_with_an_index_or_without(tmp_path: Path) -> None:
    with Database(tmp_path / "other.db") as other:
        other.put(
            c("theirs"),
            "file",
            c("r"),
            {"host": "n1"},
            provenance=Provenance(c("code"), [c("a")], [], ["sort"]),
        )
    earlier_version(tmp_path / "older.db", Put(c("older"), "file", c("q")))
    further = [tmp_path / "other.db", tmp_path / "older.db"]
    with Database(tmp_path / "seamless.db", others=further) as database:
        assert database.uses([c("a")], 10) == [c("theirs")]
        assert database.similar(c("code"), ["sort"], 10) == [c("theirs")]
        found = database.runs([c("theirs"), c("older"), c("unknown")])
        assert {tf: run.result and run.result.source for tf, run in found.items()} == {
            c("theirs"): str(tmp_path / "other.db"),
            c("older"): str(tmp_path / "older.db"),
        }
        assert database.warnings == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"code": 1, "result": {}}',
        b'{"code": "x", "result": {}}',
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_what_is_no_document_has_no_origin(data: bytes) -> None:
    assert provenance_of(data, "label") is None


def test_a_document_with_half_a_character_stops_nobody(tmp_path: Path, store: Store) -> None:
    strange = {"code": c("code"), "result": {"paths": ["\ud800"]}}
    tf, good = store.put(json.dumps(strange).encode()), store.put(document("code", x="a"))
    with Database(tmp_path / "seamless.db") as database:
        database.put_many([Put(tf, "file", c("r")), Put(good, "file", c("r"))])
        assert database.catch_up(store, 60)
        assert database.uses([c("a")], 10) == [good]
