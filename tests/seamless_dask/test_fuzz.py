"""What others wrote is read or refused in one line: connection files, transformations, results, requests."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashserver.checksum import hash_bytes
from hashserver.errors import HashserverError
from seamless_dask import connection
from seamless_dask.errors import SeamlessError
from seamless_dask.jobs.request import requests_in
from seamless_dask.model import transformation, values
from seamless_dask.model.options import Options
from seamless_dask.protocol.jobs import PROTOCOL

SUM = str(hash_bytes(b"data"))
CONNECTION = connection.ConnectionFile(
    "default", "host", 7, 1.5, "https://h:1", "tls://h:2", "https://h:3", "/store", "/token", "/token"
)
REQUEST = {"protocol": PROTOCOL, "jobs": [{"key": SUM, "asker": "host-1-2-3", "options": {"cpus": 2}}]}
TRANSFORMATION = {
    "seamless": 1,
    "language": "bash",
    "code": SUM,
    "inputs": {"a": ["file", SUM], "b": {"of": SUM, "path": "out"}},
    "result": {"stdout": True, "paths": ["out"]},
    "variables": {"name": "value"},
    "shell_flags": "-e",
}
RESULTS = {"stdout": ["file", SUM], "paths": {"a": ["file", SUM]}, "globs": {}}
VALID: tuple[dict[str, Any], ...] = (
    {"version": connection.VERSION} | CONNECTION._asdict(),
    REQUEST,
    TRANSFORMATION,
    RESULTS,
)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.just(SUM)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
)


@st.composite
def changed(draw: st.DrawFn, valid: tuple[Any, ...] = VALID) -> bytes:
    """Draw documents that are nearly right: at some depth a member is another one, missing or too many."""
    document = json.loads(json.dumps(draw(st.sampled_from(valid))))
    inner = document
    while True:
        deeper = [value for value in inner.values() if isinstance(value, dict) and value]
        if isinstance(inner.get("jobs"), list):
            deeper.append(inner["jobs"][0])
        if not deeper or draw(st.booleans()):
            break
        inner = draw(st.sampled_from(deeper))
    name = draw(st.sampled_from([*inner, "extra"]))
    if draw(st.booleans()):
        inner.pop(name, None)
    else:
        inner[name] = draw(documents)
    return compact(document)


def compact(document: Any) -> bytes:
    """Return it as a transformation is written."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode(
        "utf-8", "surrogatepass"
    )


bodies = st.binary(max_size=40) | documents.map(compact) | changed()
deep = st.just(b"[" * 3000)


def line(error: Exception) -> None:
    text = str(error)
    assert text
    assert "\n" not in text


@given(bodies | deep)
def test_any_connection_file_is_one_or_is_refused(data: bytes) -> None:
    try:
        facts = connection.parse("connection.json", data)
    except SeamlessError as error:
        line(error)
    else:
        assert all(isinstance(getattr(facts, name), str) for name in ("jobserver", "scheduler", "token_file"))


@given(bodies | deep)
def test_any_document_is_a_transformation_or_is_refused(data: bytes) -> None:
    try:
        found = transformation.parse(data)
    except SeamlessError as error:
        line(error)
    else:
        assert transformation.parse(found.canonical()) == found


@given(bodies | deep)
def test_any_buffer_is_results_or_is_refused(data: bytes) -> None:
    try:
        found = values.parse_results(data)
    except SeamlessError as error:
        line(error)
    else:
        assert values.parse_results(found.to_bytes()) == found


@given(bodies | deep)
def test_any_options_are_understood_or_refused(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        found = Options.from_json(text)
    except SeamlessError as error:
        line(error)
    else:
        assert Options.from_json(found.to_json()) == found


@given(bodies | deep)
def test_any_body_asks_for_jobs_or_is_refused(data: bytes) -> None:
    try:
        found = requests_in(data)
    except (SeamlessError, HashserverError) as error:
        line(error)
    else:
        assert all(asked.options == Options.from_json(asked.options.to_json()) for asked in found)


@pytest.mark.parametrize("valid", VALID, ids=["connection", "request", "transformation", "results"])
def test_what_the_others_are_made_from_is_right(valid: dict[str, Any]) -> None:
    data = compact(valid)
    readers = (
        partial(connection.parse, "x"),
        requests_in,
        transformation.parse,
        values.parse_results,
    )
    assert readers[VALID.index(valid)](data)
