"""The canonical form of a directory index, and what is refused in one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import InvalidIndex
from hashserver.workspace.index import (
    check_path,
    index_bytes,
    is_executable,
    parent_folders,
    parse_index,
    safe_join,
)

GOLDEN = "1e6a002da99e98f4fa594efdd821fcc8948e89ef92ecee4ab5654f39416d1d87"
SUM = hash_bytes(b"")

# Everything that Linux takes as the name of a file and that is UTF-8: new lines and quotes too.
names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))
checksums = st.binary(min_size=32, max_size=32).map(Checksum.from_digest)


@st.composite
def indices(draw: st.DrawFn) -> dict[str, Checksum]:
    paths = draw(st.lists(st.lists(names, min_size=1, max_size=3).map("/".join), unique=True, max_size=8))
    folders = parent_folders(paths)
    return {path: draw(checksums) for path in paths if path not in folders}


def test_golden_deep_checksum() -> None:
    index = {"sub/b.bin": hash_bytes(b"x"), "a.txt": hash_bytes(b"hello\n")}
    assert hash_bytes(index_bytes(index)) == GOLDEN


def test_an_empty_index() -> None:
    assert index_bytes({}) == b"{}\n"
    assert parse_index(b"{}\n") == {}


@given(indices())
def test_the_form_is_that_of_seamless_1(index: dict[str, Checksum]) -> None:
    reference = json.dumps(index, sort_keys=True, indent=2, ensure_ascii=False) + "\n"
    assert index_bytes(index) == reference.encode()


@given(indices())
def test_an_index_comes_back_from_its_bytes(index: dict[str, Checksum]) -> None:
    found = parse_index(index_bytes(index))
    assert found == index
    assert all(type(checksum) is Checksum for checksum in found.values())


@given(indices())
def test_layout_does_not_matter_when_reading(index: dict[str, Checksum]) -> None:
    assert parse_index(json.dumps(index).encode()) == index


@given(st.binary(max_size=200))
def test_any_bytes_are_an_index_or_are_refused(data: bytes) -> None:
    try:
        index = parse_index(data)
    except InvalidIndex:
        return
    assert parse_index(index_bytes(index)) == index


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b\n", "é"]), min_size=1, max_size=4), st.booleans())
def test_no_path_leads_out(parts: list[str], absolute: bool) -> None:
    path = "/" * absolute + "/".join(parts)
    safe = not absolute and not {"..", ".", ""} & set(parts)
    if safe:
        assert safe_join("/root", path) == "/root/" + path
    else:
        for call in (
            check_path,
            lambda path: safe_join("/root", path),
            lambda path: parse_index(index_bytes({path: SUM})),
        ):
            with pytest.raises(InvalidIndex):
                call(path)


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../x",
        "a/../b",
        "/etc/passwd",
        "",
        "a//b",
        "a/",
        "./a",
        ".",
        "a/.",
        "a\0b",
        "\ud800",
        "a/\udcff",
    ],
)
def test_unsafe_paths_are_refused(path: str) -> None:
    with pytest.raises(InvalidIndex) as caught:
        parse_index(json.dumps({path: SUM}).encode())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["a\nb", "\n", "...", ".a", "..a", "a..", "-rf", "\u00e9", "e\u0301", '"', "\\", "\x01\x7f", "a b"],
)
def test_odd_but_legal_names_are_taken(path: str) -> None:
    assert list(parse_index(index_bytes({path: SUM}))) == [path]


def test_no_unicode_normalisation() -> None:
    assert len(parse_index(index_bytes({"\u00e9": SUM, "e\u0301": SUM}))) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"{",
        b"{} x",
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"a": 1}',
        b'{"a": null}',
        b'{"a": {}}',
        b'{"a": ["b"]}',
        b'{"a": "' + b"g" * 64 + b'"}',
        b'{"a": "' + b"A" * 64 + b'"}',
        b'{"a": "abc"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        f'{{"a": "{SUM}", "a": "{SUM}"}}'.encode(),
        f'{{"a": "{SUM}", "a/b": "{SUM}"}}'.encode(),
        f'{{"a/b/c": "{SUM}", "a": "{SUM}"}}'.encode(),
    ],
)
def test_what_is_no_index_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(InvalidIndex) as caught:
        parse_index(data)
    assert "\n" not in str(caught.value)


def test_parent_folders() -> None:
    assert parent_folders(["a/b/c", "a/d", "e"]) == {"a", "a/b"}


@pytest.mark.parametrize(
    ("head", "executable"),
    [(b"#!/bin/sh", True), (b"\x7fELF\x02", True), (b"ELF", False), (b"", False), (b" #!", False)],
)
def test_what_is_made_executable(head: bytes, executable: bool) -> None:
    assert is_executable(head) is executable
