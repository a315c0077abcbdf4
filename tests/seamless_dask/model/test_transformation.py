"""The canonical form: one spelling, one checksum; what is not meant is refused."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashserver.checksum import Checksum, hash_bytes
from seamless_dask.errors import InvalidTransformation
from seamless_dask.model.transformation import (
    Deferred,
    Description,
    Input,
    ResultSpec,
    Value,
    check_name,
    parse,
)

A, B, C = (hash_bytes(letter) for letter in (b"a", b"b", b"c"))
MINIMAL = Description("bash", A, ResultSpec(stdout=True))
GOLDEN = Description(
    "bash",
    hash_bytes(b"sort data/input.txt params/* > out.csv; cat ../reference.fa"),
    ResultSpec(stdout=True, paths=("out.csv", "logs"), globs=("*.log",)),
    inputs={
        "params": Value(
            "directory", Checksum("1e6a002da99e98f4fa594efdd821fcc8948e89ef92ecee4ab5654f39416d1d87")
        ),
        "data/input.txt": Value("file", hash_bytes(b"hello\n")),
        "../reference.fa": Value("file", hash_bytes(b"x")),
    },
    stdin=Value("file", hash_bytes(b"")),
    variables={"threshold": "0.5", "name": "é"},
    shell_flags="-e",
)
GOLDEN_CHECKSUM = "ee18de09a4cfa211d165c4459dbf52f57e8147c637323b8f89ab305b7c5ecfbb"
DEFERRED = Description(
    "bash",
    hash_bytes(b"wc -l out.csv"),
    ResultSpec(stdout=True),
    {"out.csv": Deferred(GOLDEN.key, "out.csv")},
)
DEFERRED_KEY = "90bcdbbaa3c8812e433a7805a18c727c8940e0fcfcb47923b1ead30acf73c83c"
FUNCTION = Description(
    "python",
    hash_bytes(b"def add(a, b):\n    return a + sum(b)\n\n\n__function__ = add\n"),
    ResultSpec(value=True),
    {
        "a": Value("json/1", hash_bytes(b"1")),
        "b": Value("json/1", hash_bytes(b'[{"@":["hole",0]},2]')),
        "b/0": Deferred(GOLDEN.key, "out.csv"),
        "0": Value("text", hash_bytes(b"further")),
        "**much more": Value("npy", hash_bytes(b"")),
        "@table": Value("arrow", hash_bytes(b"")),
    },
)
FUNCTION_KEY = "deff06d5414ee60d87985f2f4d0374b340377f10c298c5c6e0cab4e47fcee8d8"
DOCS = Path(__file__).parents[3] / "docs" / "transformations.md"


def documents() -> list[str]:
    return re.findall(r"```json\n(.*?)\n```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def test_the_golden_document_has_its_checksum() -> None:
    assert GOLDEN.key == GOLDEN_CHECKSUM
    assert parse(GOLDEN.canonical()).canonical() == GOLDEN.canonical()


def test_the_golden_documents_stand_in_the_docs() -> None:
    assert documents() == [each.canonical().decode() for each in (GOLDEN, FUNCTION, DEFERRED)]
    assert GOLDEN_CHECKSUM in DOCS.read_text(encoding="utf-8")
    assert FUNCTION_KEY in DOCS.read_text(encoding="utf-8")
    assert DEFERRED_KEY in DOCS.read_text(encoding="utf-8")


def test_the_key_of_a_deferred_one_is_that_of_its_references() -> None:
    assert DEFERRED.deferred
    assert DEFERRED.key == DEFERRED_KEY


def test_the_golden_function_has_its_key() -> None:
    assert FUNCTION.key == FUNCTION_KEY
    assert parse(FUNCTION.canonical()) == FUNCTION


VALUE = Value("json/1", A)
PYTHON = Description("python", A, ResultSpec(value=True), {"x": VALUE})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (PYTHON._replace(result=ResultSpec(stdout=True)), "a value for its result"),
        (PYTHON._replace(result=ResultSpec(value=True, paths=("a",))), "a value for its result"),
        (PYTHON._replace(stdin=VALUE), "no standard input"),
        (PYTHON._replace(shell_flags="-e"), "no shell flags"),
        (PYTHON._replace(inputs={"a b": VALUE}), "'a b' cannot be an argument"),
        (PYTHON._replace(inputs={"01": VALUE}), "'01' cannot be an argument"),
        (PYTHON._replace(inputs={"x/y": VALUE}), "'x/y' cannot be an argument"),
        (PYTHON._replace(inputs={"@x/0": VALUE}), "'@x/0' cannot be an argument"),
        (PYTHON._replace(inputs={"x/0": VALUE}), "'x/0' is in no argument"),
        (PYTHON._replace(inputs={"x": Deferred(B), "x/0": VALUE}), "'x/0' is in no argument"),
        (PYTHON._replace(inputs={"x": VALUE, "x/1": VALUE}), "not numbered from 0"),
        (PYTHON._replace(result=ResultSpec(value=True, format="a b")), "bad format 'a b' of the result"),
        (MINIMAL._replace(result=ResultSpec(value=True)), "a command gives no value"),
        (MINIMAL._replace(result=ResultSpec(stdout=True, format="text")), "a command gives no value"),
    ],
)
def test_what_no_function_or_command_is(given: Description, message: str) -> None:
    with pytest.raises(InvalidTransformation, match=message):
        given.canonical()


def test_a_format_of_the_result_stands_beside_it() -> None:
    asked = PYTHON._replace(result=ResultSpec(value=True, format="npy"))
    assert b'"result":{"format":"npy","value":true}' in asked.canonical()
    assert parse(asked.canonical()) == asked
    with pytest.raises(InvalidTransformation, match="format of 'result' is not text"):
        parse(asked.canonical().replace(b'"npy"', b"null"))


def test_the_minimal_form_has_nothing_that_was_not_given() -> None:
    expected = f'{{"code":"{A}","language":"bash","result":{{"stdout":true}},"seamless":1}}'
    assert MINIMAL.canonical() == expected.encode()


@pytest.mark.parametrize(
    "given",
    [
        MINIMAL._replace(shell_flags="-eo pipefail"),
        MINIMAL._replace(shell_flags=""),
        MINIMAL._replace(stdin=Value("file", hash_bytes(b""))),
        MINIMAL._replace(variables={"A": ""}),
        MINIMAL._replace(result=ResultSpec(stdout=True, paths=("a",))),
    ],
)
def test_what_is_absent_differs_from_what_equals_a_default(given: Description) -> None:
    assert given.key != MINIMAL.key


def test_nothing_given_in_two_ways_is_the_same() -> None:
    assert MINIMAL._replace(variables={}, inputs={}).key == MINIMAL.key


def test_the_order_in_which_things_are_named_does_not_matter() -> None:
    one = MINIMAL._replace(
        result=ResultSpec(paths=("a", "b")), inputs={"x": Value("file", A), "y": Value("file", B)}
    )
    other = MINIMAL._replace(
        result=ResultSpec(paths=("b", "a")), inputs={"y": Value("file", B), "x": Value("file", A)}
    )
    assert one.key == other.key


def test_resolving_puts_values_in_the_place_of_references() -> None:
    deferred = MINIMAL._replace(inputs={"x": Deferred(A, "x"), "y": Value("file", B)}, stdin=Deferred(A))
    assert deferred.references == [Deferred(A, "x"), Deferred(A)]
    resolved = deferred.resolve({Deferred(A, "x"): Value("file", C), Deferred(A): Value("file", A)})
    assert resolved == MINIMAL._replace(
        inputs={"x": Value("file", C), "y": Value("file", B)}, stdin=Value("file", A)
    )
    assert not resolved.deferred
    with pytest.raises(KeyError):
        deferred.resolve({})


def changed(**members: Any) -> bytes:
    document = json.loads(GOLDEN.canonical()) | members
    document = {name: value for name, value in document.items() if value != "absent"}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


BAD = {
    "not JSON": (b"{", "not a transformation"),
    "not UTF-8": (b'{"seamless":1,"\xff":1}', "not a transformation"),
    "a list": (b"[]", "no JSON object"),
    "no version": (changed(seamless="absent"), "version"),
    "a newer version": (changed(seamless=2), "newer seamless-dask"),
    "a version that is true": (changed(seamless=True), "version"),
    "a version that is a float": (changed(seamless=1.0), "canonical form"),
    "spaces": (json.dumps(json.loads(GOLDEN.canonical()), sort_keys=True).encode(), "canonical form"),
    "a newline": (GOLDEN.canonical() + b"\n", "canonical form"),
    "unsorted": (b'{"seamless":1,' + GOLDEN.canonical()[1:].replace(b',"seamless":1', b""), "canonical form"),
    "escaped": (
        json.dumps(json.loads(GOLDEN.canonical()), sort_keys=True, separators=(",", ":")).encode(),
        "canon",
    ),
    "UTF-16": (GOLDEN.canonical().decode().encode("utf-16"), "canonical form"),
    "a repeated member": (b'{"code":"%s",' % A.encode() + GOLDEN.canonical()[1:], "canonical form"),
    "a surrogate": (changed(shell_flags="S").replace(b'"S"', b'"\\ud800"'), "UTF-8"),
    "an unknown member": (changed(extra=1), "unknown member extra"),
    "another language": (changed(language="fish"), "unknown language"),
    "a language that is a list": (changed(language=[]), "unknown language"),
    "no language": (changed(language="absent"), "'language' is missing"),
    "no code": (changed(code="absent"), "'code' is missing"),
    "no result": (changed(result="absent"), "'result' is missing"),
    "code that is no checksum": (changed(code="abc"), "not a checksum"),
    "code in upper case": (changed(code=A.upper()), "not a checksum"),
    "code that is a number": (changed(code=1), "not a checksum"),
    "an empty result": (changed(result={}), "no result is declared"),
    "stdout false": (changed(result={"stdout": False}), "can only be true"),
    "empty paths": (changed(result={"stdout": True, "paths": []}), "canonical form"),
    "unsorted paths": (changed(result={"paths": ["b", "a"]}), "canonical form"),
    "a path twice": (changed(result={"paths": ["a", "a"]}), "twice"),
    "a glob twice": (changed(result={"globs": ["*", "*"]}), "twice"),
    "paths that are text": (changed(result={"paths": "a"}), "list of texts"),
    "an unknown result": (changed(result={"stdin": True}), "unknown member stdin"),
    "a result that is the directory": (changed(result={"paths": ["."]}), "cannot be a result"),
    "an absolute result": (changed(result={"paths": ["/a"]}), "absolute"),
    "null inputs": (changed(inputs=None), "not an object"),
    "empty inputs": (changed(inputs={}), "canonical form"),
    "null stdin": (changed(stdin=None), "canonical form"),
    "a directory as stdin": (changed(stdin=["directory", A]), "stdin cannot be"),
    "null flags": (changed(shell_flags=None), "canonical form"),
    "flags that are a list": (changed(shell_flags=["-e"]), "shell_flags"),
    "empty variables": (changed(variables={}), "canonical form"),
    "a variable that is a number": (changed(variables={"A": 1}), "not text"),
    "a variable with a NUL": (changed(variables={"A": "a\0"}), "NUL"),
    "a bad variable name": (changed(variables={"A B": "1"}), "name of a variable"),
    "an absolute input": (changed(inputs={"/etc/passwd": ["file", A]}), "absolute"),
    "an input with a NUL": (changed(inputs={"a\0b": ["file", A]}), "NUL"),
    "an empty input": (changed(inputs={"": ["file", A]}), "empty"),
    "dots inside": (changed(inputs={"a/../b": ["file", A]}), "not normalised"),
    "a slash at the end": (changed(inputs={"a/": ["file", A]}), "not normalised"),
    "an input below a file": (changed(inputs={"a": ["file", A], "a/b": ["file", A]}), "which is a file"),
    "a bad format": (changed(inputs={"a": ["File!", A]}), "bad format"),
    "a format that is null": (changed(inputs={"a": [None, A]}), "not text"),
    "a triple": (changed(inputs={"a": ["file", A, A]}), r"not \[format, checksum\]"),
    "a reference to nothing": (changed(inputs={"a": {"path": "x"}}), "no 'of'"),
    "a reference with more": (changed(inputs={"a": {"of": A, "x": 1}}), "unknown member x"),
    "a null path": (changed(inputs={"a": {"of": A, "path": None}}), "canonical form"),
    "an absolute upstream": (changed(inputs={"a": {"of": A, "path": "/x"}}), "absolute"),
    "deep": (b"[" * 100_000, "not a transformation"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line(case: str) -> None:
    data, message = BAD[case]
    with pytest.raises(InvalidTransformation, match=message) as caught:
        parse(data)
    assert "\n" not in str(caught.value)


def test_what_would_not_be_read_is_not_written() -> None:
    for bad in (
        MINIMAL._replace(inputs={"/a": Value("file", A)}),
        MINIMAL._replace(inputs={"\ud800": Value("file", A)}),
        MINIMAL._replace(result=ResultSpec()),
        MINIMAL._replace(language="fish"),
    ):
        with pytest.raises(InvalidTransformation):
            bad.canonical()


@pytest.mark.parametrize("name", [".", "..", "../../x", "a/b", "a b\n", "é"])
def test_names_that_are_normalised_and_relative_are_taken(name: str) -> None:
    check_name(name)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
parts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=6
).filter(lambda part: part not in (".", ".."))
names = st.builds(
    lambda up, rest: "/".join([".."] * up + rest), st.integers(0, 2), st.lists(parts, min_size=1, max_size=3)
)
checksums = st.binary(max_size=4).map(hash_bytes)
values: st.SearchStrategy[Input] = st.one_of(
    st.builds(Value, st.sampled_from(["file", "directory", "json/1"]), checksums),
    st.builds(Deferred, checksums, st.none() | names),
)
transformations = st.builds(
    Description,
    language=st.just("bash"),
    code=checksums,
    result=st.builds(
        ResultSpec,
        stdout=st.just(True),
        paths=st.lists(names, unique=True, max_size=3).map(tuple),
        globs=st.lists(names, unique=True, max_size=2).map(tuple),
        value=st.just(False),
        format=st.none(),
    ),
    inputs=st.dictionaries(names.map(lambda name: name.replace("/", "-")), values, max_size=3).filter(
        lambda inputs: ".." not in inputs
    ),
    stdin=st.none()
    | st.builds(Value, st.just("file"), checksums)
    | st.builds(Deferred, checksums, st.none()),
    variables=st.none()
    | st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True), texts, max_size=3),
    shell_flags=st.none() | texts,
)


@given(transformations)
def test_what_is_written_is_read_again(transformation: Description) -> None:
    data = transformation.canonical()
    again = parse(data)
    assert again.canonical() == data
    assert again.key == transformation.key == hash_bytes(data)
    assert again.inputs == transformation.inputs
    assert again.stdin == transformation.stdin


@given(transformations, transformations)
def test_two_that_differ_have_different_keys(one: Description, other: Description) -> None:
    def meaning(t: Description) -> Any:
        result = (t.result.stdout, sorted(t.result.paths), sorted(t.result.globs))
        return t._replace(result=ResultSpec(), variables=t.variables or None), result

    assert (one.key == other.key) == (meaning(one) == meaning(other))


@given(st.binary(max_size=40))
def test_no_bytes_make_the_parser_fail_in_another_way(data: bytes) -> None:
    with contextlib.suppress(InvalidTransformation):
        parse(data)
