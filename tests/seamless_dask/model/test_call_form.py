"""Keys without a canonical form of each call: those of their descriptions, or none."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashserver.checksum import hash_bytes
from seamless_dask.model.call_form import CallForm
from seamless_dask.model.transformation import Deferred, Description, ResultSpec, Value
from seamless_dask.values.writing import identify

COMMON = Description("python", hash_bytes(b"code"), ResultSpec(value=True))
GLOBAL = {"@TABLE": Value("json/1", hash_bytes(b"{}"))}
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",)))
    | st.binary()
)


def called(a: Any, /, b: Any = 2, größe: Any = "c", *, last: Any = None) -> None: ...


def form_of(function: Callable[..., Any], call: Description = COMMON, *ignored: str) -> CallForm:
    found = CallForm.of(call, inspect.signature(function), ignored)
    assert found is not None
    return found


def described(call: Description, arguments: dict[str, Any]) -> str:
    values = {name: Value(*identify(value)) for name, value in arguments.items()}
    return call._replace(inputs={**call.inputs, **values}).key


@given(
    st.lists(PLAIN, min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(["b", "größe", "last"]), PLAIN),
    st.dictionaries(st.from_regex("[A-Za-z_]{1,3}", fullmatch=True), st.text("é%s\n\"'{}", max_size=4)),
    st.sampled_from([{}, GLOBAL]),
)
def test_the_key_is_that_of_the_description(
    args: list[Any], named: dict[str, Any], variables: dict[str, str], inputs: dict[str, Value]
) -> None:
    call = COMMON._replace(variables=variables or None, inputs=inputs)
    named = {name: value for name, value in named.items() if name not in ["a", "b", "größe"][: len(args)]}
    bound = inspect.signature(called).bind(*args, **named)
    bound.apply_defaults()
    form = form_of(called, call)
    key = form.plain_key(tuple(args), named)
    assert key == described(call, bound.arguments)
    assert form.bound(tuple(args), named) == bound.arguments
    values: dict[str, Any] = {name: Value(*identify(value)) for name, value in bound.arguments.items()}
    assert form.key(inputs | values) == key


def test_inputs_that_are_not_known_or_stand_inside_of_arguments_have_none() -> None:
    form = form_of(lambda x: None)
    value = Value("json/1", hash_bytes(b"1"))
    assert form.key({"x": value}) == described(COMMON, {"x": 1})
    assert form.key({"x": Deferred(COMMON.key)}) is None
    assert form.key({"x": value, "x/0": value}) is None
    assert form.key({}) is None


def test_a_function_without_parameters_has_one_key() -> None:
    assert form_of(lambda: None).plain_key((), {}) == COMMON.key


def test_what_is_ignored_has_to_be_given_and_does_not_count() -> None:
    form = form_of(lambda x, jobs: None, COMMON, "jobs")
    assert form.plain_key((1, 2), {}) == form.plain_key((1,), {"jobs": 3}) == described(COMMON, {"x": 1})
    assert form.plain_key((1,), {}) is None


@pytest.mark.parametrize(
    ("args", "named"),
    [
        pytest.param((), {}, id="lacking"),
        pytest.param((1, 2, 3, 4), {}, id="too many"),
        pytest.param((1, 2), {"b": 3}, id="twice"),
        pytest.param((1,), {"c": 3}, id="unknown"),
        pytest.param((), {"a": 3}, id="by a name that it has not"),
        pytest.param(([],), {}, id="a list"),
        pytest.param((math.nan,), {}, id="no number"),
        pytest.param((1 << 1024,), {}, id="a large number"),
        pytest.param((type("Text", (str,), {})("x"),), {}, id="a kind of text"),
        pytest.param(("\ud800",), {}, id="text that is no UTF-8"),
        pytest.param(("x" * 5000,), {}, id="a long text"),
        pytest.param((1,), {"last": b"x" * 5000}, id="long bytes"),
    ],
)
def test_others_have_none(args: tuple[Any, ...], named: dict[str, Any]) -> None:
    assert form_of(called).plain_key(args, named) is None
    try:
        bound = inspect.signature(called).bind(*args, **named)
    except TypeError:
        assert form_of(called).bound(args, named) is None
    else:
        bound.apply_defaults()
        assert form_of(called).bound(args, named) == bound.arguments


def test_a_default_that_is_not_plain_has_to_be_given() -> None:
    form = form_of(lambda x, among=(): None)
    assert form.plain_key((1,), {}) is form.bound((1,), {}) is None
    assert form.plain_key((1, 2), {}) == described(COMMON, {"x": 1, "among": 2})
    assert form.bound((1, [2]), {}) == {"x": 1, "among": [2]}


def test_what_takes_any_number_of_arguments_has_none() -> None:
    assert CallForm.of(COMMON, inspect.signature(lambda *args: None), ()) is None
    assert CallForm.of(COMMON, inspect.signature(lambda **named: None), ()) is None
