"""What others wrote is read or refused in one line: files beside data, in stores, bodies of requests."""

from __future__ import annotations

import gzip
import http.client
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hashserver.auth import read_token_file
from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import (
    AuthenticationFailed,
    BufferMissing,
    HashserverError,
    InvalidPack,
    ServiceUnavailable,
    TooLarge,
)
from hashserver.protocol import PackReader, pack
from hashserver.storage.directory import LocalStore
from hashserver.workspace.index import parse_index
from hashserver.workspace.pending import Future, parse_future
from hashserver.workspace.sidecar import find_sidecar, member_stand_in, read_index

from .server.conftest import Running, server  # noqa: F401 - a fixture

DATA = b"data"
SUM = hash_bytes(DATA)
OTHER = hash_bytes(b"other")

checksums = st.sampled_from([SUM, OTHER]) | st.binary(max_size=8).map(hash_bytes)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | checksums
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)


def refusal(error: Exception) -> str:
    """Return what is said to the user, which is one line."""
    text = str(error)
    assert text
    assert "\n" not in text
    return text


def mutated(document: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return documents like `document`: one member missing, another one changed, one too many."""
    if not document:
        return st.just(document)
    change = st.dictionaries(st.sampled_from([*document, "extra"]), values, max_size=2)
    missing = st.sets(st.sampled_from([*document]), max_size=1)
    return st.tuples(change, missing).map(
        lambda pair: {name: value for name, value in (document | pair[0]).items() if name not in pair[1]}
    )


def bodies(document: dict[str, Any] | list[Any]) -> st.SearchStrategy[bytes]:
    """Return bodies: bytes, JSON, and what nearly is the `document` that is expected."""
    near = mutated(document) if isinstance(document, dict) else st.lists(checksums | values, max_size=5)
    as_bytes = (values | near).map(lambda found: json.dumps(found).encode())
    whole = json.dumps(document).encode()
    cut = st.integers(0, len(whole)).map(lambda stop: whole[:stop])
    deep = st.integers(1, 3000).map(lambda depth: b"[" * depth + b"]" * depth)
    return st.binary(max_size=60) | as_bytes | cut | deep


# ---------------------------------------------------------------------- beside data

contents = st.binary(max_size=80) | st.sampled_from(
    [
        SUM.encode(), SUM.encode() + b"\n", SUM.upper().encode(), b"\xff\xfe" + SUM.encode(),
        b"{}\n", b"null", b"[]",
        json.dumps({"a": SUM}).encode(), json.dumps({"../a": SUM}).encode(), b'{"a": "\\ud800"}',
    ]
)  # fmt: skip
names = st.sampled_from(
    [
        "x.CHECKSUM",
        "x.INDEX",
        "x.FUTURE",
        "x/.CHECKSUM",
        "x/.INDEX",
        "x/.FUTURE",
        "x/y.CHECKSUM",
        "x/y.FUTURE",
    ]
)


@given(st.dictionaries(names, contents, max_size=5), st.booleans())
def test_any_sidecars_are_read_or_refused_in_one_line(files: dict[str, bytes], directory: bool) -> None:
    with tempfile.TemporaryDirectory() as base:
        stem = Path(base, "x")
        if directory or any("/" in name for name in files):
            stem.mkdir()
        for name, data in files.items():
            Path(base, name).write_bytes(data)
        try:
            found = find_sidecar(stem)
            if found is not None:
                assert Checksum(found.checksum) == found.checksum
                data = read_index(found)
                assert data is None or hash_bytes(data) == found.checksum
            for name in files:
                member_stand_in(f"{base}/{name}")
        except HashserverError as error:
            refusal(error)


FUTURE = {"seamless-future": 1, "key": SUM, "result": None, "server": None, "host": "h", "process": 1}


@given(bodies(FUTURE))
def test_any_future_is_one_of_ours_or_ordinary_data(data: bytes) -> None:
    found = parse_future(data)
    if found is not None:
        assert isinstance(found, Future)
        assert Checksum(found.key) == found.key
        assert isinstance(found.host, str)
        assert type(found.process) is int
        assert all(text is None or isinstance(text, str) for text in (found.result, found.server))


@given(bodies({"a": SUM, "b/c": OTHER}))
def test_any_index_names_files_below_its_directory(data: bytes) -> None:
    try:
        index = parse_index(data)
    except HashserverError as error:
        refusal(error)
        return
    for path, checksum in index.items():
        assert not path.startswith("/")
        assert ".." not in path.split("/")
        assert Checksum(checksum) == checksum


@given(st.text(max_size=60).map(str.encode) | st.binary(max_size=60), st.booleans())
def test_any_token_file_is_read_or_refused(data: bytes, valid: bool) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"read-write 0123456789abcdef\n" * valid + data)
        file.flush()
        try:
            tokens = read_token_file(file.name)
        except AuthenticationFailed as error:
            said = refusal(error)
        else:
            said = ""
            assert all(len(token.secret) >= 16 for token in tokens)
        assert "0123456789abcdef" not in said


# ---------------------------------------------------------------------- in a store


@given(
    bodies({"path": "/etc/hostname", "size": 4, "inode": 1, "mtime_ns": 1}),
    st.sampled_from([".references", ".links"]),
)
def test_any_record_of_a_users_file_is_checked_or_none(data: bytes, where: str) -> None:
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base, where, SUM[:2])
        folder.mkdir(parents=True)
        (folder / SUM).write_bytes(data)
        store = LocalStore(base)
        assert store.has([SUM]) == [-1]
        with pytest.raises(HashserverError) as caught:
            store.get(SUM)
        refusal(caught.value)


@given(
    st.binary(max_size=80) | st.integers(0, 40).map(lambda stop: gzip.compress(DATA)[:stop]),
    st.none() | st.binary(max_size=40) | st.integers(-1, 10**30).map(lambda number: str(number).encode()),
    st.sampled_from([".gz", ".zst"]),
)
def test_any_compressed_file_holds_its_bytes_or_is_missing(
    data: bytes, length: bytes | None, suffix: str
) -> None:
    with tempfile.TemporaryDirectory() as base:
        path = Path(base, SUM[:2], SUM + suffix)
        path.parent.mkdir()
        path.write_bytes(data)
        if length is not None:
            path.with_name(f"{SUM}.BUFFERLENGTH").write_bytes(length)
        store = LocalStore(base)
        (said,) = store.has([SUM])
        assert isinstance(said, int)
        try:
            assert store.get(SUM) == DATA
        except BufferMissing:
            assert store.has([SUM]) == [-1]
        except ServiceUnavailable as error:  # without a library for zstd
            refusal(error)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=4))
def test_any_stream_is_a_pack_or_is_refused(data: bytes, places: list[int]) -> None:
    whole = b"".join(pack([(SUM, DATA), (OTHER, None)]))
    for place in places:
        whole = whole[: place % len(whole)] + data + whole[place % len(whole) :]
    reader = PackReader(max_member=1000)
    try:
        for _, member in reader.feed(whole):
            assert member is None or len(member) <= 1000
        reader.finish()
    except (InvalidPack, TooLarge) as error:
        refusal(error)


# ---------------------------------------------------------------------- every route of the server

KEY = hash_bytes(b"transformation")
RESULT = {
    "format": "text", "checksum": SUM, "record": {"a": 1}, "members": [OTHER], "buffers": {SUM: "ZGF0YQ=="},
    "provenance": {"code": SUM, "inputs": [OTHER], "wholes": [], "names": ["sort"]},
}  # fmt: skip
DEFERRED = {"transformation": KEY, "upstream": [[KEY, "text", SUM]]}
ROUTES: list[tuple[str, str, Any]] = [
    ("POST", "/has", [SUM]),
    ("GET", "/has", [SUM]),
    ("POST", "/pack", [SUM]),
    ("PUT", "/pack", [SUM]),
    ("POST", "/results", [KEY]),
    ("POST", "/results?documents=100&objects=100", [KEY]),
    ("PUT", f"/result/{KEY}", RESULT),
    ("GET", f"/result/{KEY}?inline=100", {}),
    ("POST", f"/result/{KEY}/contest", {}),
    ("PUT", f"/deferred/{OTHER}", DEFERRED),
    ("PUT", f"/failure/{KEY}", {"a": 1}),
    ("PUT", f"/{SUM}", {}),
    ("POST", "/buffers", {}),
    ("POST", f"/verify/{SUM}", {}),
    ("GET", f"/producers/{SUM}", {}),
    ("GET", f"/irreproducible/{KEY}", {}),
    ("GET", "/runs?limit=10", {}),
    ("POST", "/runs", [KEY]),
    ("POST", "/uses?limit=10", [SUM]),
    ("POST", "/producers?limit=10", [SUM]),
    ("POST", "/similar?limit=10", {"code": SUM, "names": ["sort"]}),
    ("GET", f"/failure/{KEY}", {}),
]


@pytest.fixture
def client(server: Running) -> Iterator[http.client.HTTPConnection]:  # noqa: F811
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    yield connection
    connection.close()


ROUTE_SETTINGS = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize(("method", "path", "document"), ROUTES, ids=lambda value: str(value)[:20])
@ROUTE_SETTINGS
@given(data=st.data())
def test_any_body_is_answered_without_a_failure_of_the_server(
    server: Running,  # noqa: F811
    client: http.client.HTTPConnection,
    method: str,
    path: str,
    document: Any,
    data: st.DataObject,
) -> None:
    body = data.draw(bodies(document))
    client.request(method, path, body, {"Authorization": f"Bearer {server.writing}"})
    answer = client.getresponse()
    text = answer.read()
    assert answer.status in (200, 201, 204, 400, 404, 409, 413), (body, text)
    if answer.status >= 400:
        error = json.loads(text)["error"]
        assert error
        assert "\n" not in error


@ROUTE_SETTINGS
@given(
    st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"]),
    st.lists(
        st.sampled_from(
            [
                "has",
                "result",
                "results",
                "*",
                "..",
                "%2e%2e",
                "export",
                "verify",
                "contest",
                "",
                SUM,
                "x" * 300,
            ]
        ),
        max_size=4,
    ),
    st.text("abcdeinlou=&?0123456789-%", max_size=20),
)
def test_any_address_is_answered_without_a_failure_of_the_server(
    server: Running,  # noqa: F811
    client: http.client.HTTPConnection,
    method: str,
    parts: list[str],
    query: str,
) -> None:
    client.request(
        method, "/" + "/".join(parts) + "?" + query, b"{}", {"Authorization": f"Bearer {server.writing}"}
    )
    answer = client.getresponse()
    answer.read()
    assert answer.status < 500
