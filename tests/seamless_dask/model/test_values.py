"""Several results as one value, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import BufferMissing
from hashserver.storage.directory import LocalStore
from hashserver.workspace.index import index_bytes
from seamless_dask.errors import UsageError
from seamless_dask.model.transformation import ResultSpec, Value
from seamless_dask.model.values import NamedValues, members, missing, parse_results, select

A, B = hash_bytes(b"a"), hash_bytes(b"b")


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def directory(store: LocalStore) -> Value:
    store.put(b"a")
    store.put(b"b")
    return Value("directory", store.put(index_bytes({"x": A, "sub/y": B})))


def test_results_come_back(store: LocalStore) -> None:
    results = NamedValues(Value("file", A), {"out": Value("directory", B)}, {"*.é": Value("directory", A)})
    assert parse_results(results.to_bytes()) == results
    assert results.only() is None
    assert NamedValues(paths={"x": Value("file", A)}).only() == Value("file", A)


@pytest.mark.parametrize("data", [b"", b"[]", b'{"stdout":1}', b'{"paths":{"a":["file","x"]}}'])
def test_other_bytes_are_no_results(data: bytes) -> None:
    with pytest.raises(UsageError):
        parse_results(data)


def test_one_of_several_is_picked(store: LocalStore, directory: Value) -> None:
    spec = ResultSpec(True, ("out",), ("*.log",))
    results = NamedValues(Value("file", A), {"out": directory}, {"*.log": Value("directory", B)})
    value = Value("results", store.put(results.to_bytes()))
    assert select(spec, value, None, store.get, store.put) == Value("file", A)
    assert select(spec, value, "out", store.get, store.put) == directory
    assert select(spec, value, "*.log", store.get, store.put) == Value("directory", B)
    assert select(spec, value, "out/x", store.get, store.put) == Value("file", A)
    sub = select(spec, value, "out/sub", store.get, store.put)
    assert store.get(sub.checksum) == index_bytes({"y": B})


def test_the_only_one_needs_no_name(store: LocalStore, directory: Value) -> None:
    spec = ResultSpec(paths=("out",))
    assert select(spec, directory, None, store.get, store.put) == directory
    assert select(spec, directory, "out", store.get, store.put) == directory
    assert select(spec, directory, "out/sub/y", store.get, store.put) == Value("file", B)


@pytest.mark.parametrize("path", ["other", "out/none", None])
def test_what_is_not_there_is_an_error(store: LocalStore, directory: Value, path: str | None) -> None:
    results = NamedValues(paths={"out": directory, "b": Value("file", A)})
    value = Value("results", store.put(results.to_bytes()))
    with pytest.raises(UsageError):
        select(ResultSpec(paths=("b", "out")), value, path, store.get, store.put)


def test_what_is_missing_inside_is_told(store: LocalStore, directory: Value) -> None:
    assert missing(store, [directory]) == []
    assert members(directory, store.get) == [B, A]
    store.delete(B)
    assert missing(store, [directory, Value("file", A)]) == [B]
    results = Value("results", store.put(NamedValues(Value("file", A), {"out": directory}).to_bytes()))
    assert missing(store, [results]) == [B]
    store.delete(directory.checksum)
    assert missing(store, [directory]) == [directory.checksum]
    assert missing(store, [results]) == [directory.checksum]
    with pytest.raises(BufferMissing):
        members(directory, store.get)
    assert missing(store, [Value("file", Checksum("0" * 64))]) == [Checksum("0" * 64)]
