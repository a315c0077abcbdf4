"""Objects of any class: by the class's name and their state; what can run something must be trusted."""

from __future__ import annotations

import functools
import importlib
import random
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seamless_dask.errors import InvalidValue, NotAValue, UntrustedValue, UsageError, WeakIdentity
from seamless_dask.values import names
from seamless_dask.values.loading import load
from seamless_dask.values.names import set_definitions
from seamless_dask.values.registry import _registered, register
from seamless_dask.values.writing import to_bytes

Back = Callable[..., Any]
Ask = Callable[[int, Path, Any], list[tuple[str, bytes]]]

MADE = """
import shapes
from shapes import *
words = ["delta", "alpha", "charlie", "bravo", "echo", "foxtrot"]
slotted = Slotted(); slotted.b = {*words}
kept = Kept({*words}); node = [Stack(words), Table(x=1, y={*words})]
lazy = Lazy(3); lazy.square
values = [
    Colour.RED, Colour.GREEN, Level.LOW, Rights.READ | Rights.WRITE, Point(1, {*words}),
    Fit(0.5, {*words}, {"a": ()}),
    Frozen(frozenset(words)), slotted, Number(5), Text("x"), Tags(words), node, lazy, kept, helper, Fit,
    ValueError("x", 1), {"set": {*words, *map(Number, range(9))}},
    __import__("functools").partial(helper, x={*words}),
]
"""


def _made() -> list[Any]:
    found: dict[str, Any] = {}
    exec(MADE, found)
    values: list[Any] = found["values"]
    return values


def test_equal_states_have_equal_bytes_in_any_process(shapes: Any, tmp_path: Path, in_process: Ask) -> None:
    here = [to_bytes(value) for value in _made()]
    assert {name for name, _ in here} == {"json/1"}
    assert in_process(1, tmp_path, ("write", MADE)) == here
    assert in_process(2, tmp_path, ("write", MADE)) == here


def test_objects_come_back_in_another_process(shapes: Any, tmp_path: Path, in_process: Ask) -> None:
    here = [to_bytes(value) for value in _made()]
    assert in_process(3, tmp_path, ("read", here)) == here


def test_objects_come_back_with_their_very_class(shapes: Any, there_and_back: Back) -> None:
    for value in _made():
        there_and_back(value)
    assert there_and_back(shapes.Colour.RED) is shapes.Colour.RED
    assert there_and_back(shapes.helper) is shapes.helper
    assert there_and_back(shapes.Point(1, [2])) == shapes.Point(1, [2])
    assert there_and_back(shapes.Fit(1.0, {2})) == shapes.Fit(1.0, {2})
    assert there_and_back(shapes.Number(7)) == 7


@pytest.mark.parametrize("name", ["object", "registered", "standard", "numpy_values"])
def test_modules_may_be_called_as_ours_are(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_and_back: Back
) -> None:
    (tmp_path / f"{name}.py").write_text("class Thing:\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    thing = importlib.import_module(name).Thing()
    thing.a = 1
    try:
        assert there_and_back(thing).a == 1
    finally:
        del sys.modules[name]


def test_other_objects_of_libraries(there_and_back: Back) -> None:
    assert there_and_back(re.compile("a+", re.IGNORECASE)).flags & re.IGNORECASE
    assert there_and_back(functools.partial(int, base=2))("11") == 3
    assert there_and_back(types.SimpleNamespace(a=(1,))) == types.SimpleNamespace(a=(1,))
    generator = random.Random(5)
    assert there_and_back(generator).random() == generator.random()
    assert there_and_back([len, dict.fromkeys, "a".upper, list[int]])[2]() == "A"


def test_golden_bytes(shapes: Any) -> None:
    assert to_bytes(shapes.Point(1, 2)) == (
        "json/1",
        b'{"@":["object:new",{"@":["object:name","shapes:Point"]},[1,2],{}]}',
    )
    assert to_bytes(shapes.Fit(0.5, set())) == (
        "json/1",
        b'{"@":["object:new",{"@":["object:name","shapes:Fit"]},[],{},'
        b'{"names":{},"slope":0.5,"tags":{"@":["set",[]]}}]}',
    )
    assert to_bytes(shapes.Level.LOW) == (
        "json/1",
        b'{"@":["object:enum",{"@":["object:name","shapes:Level"]},"LOW",1]}',
    )


def test_the_order_in_which_attributes_were_set_does_not_count(shapes: Any) -> None:
    one, other = shapes.Lazy(1), shapes.Lazy(1)
    one.a, one.b = 1, 2
    other.b, other.a = 2, 1
    assert to_bytes(one) == to_bytes(other)


def test_what_a_property_has_remembered_does_not_count(shapes: Any) -> None:
    fresh, used = shapes.Lazy(3), shapes.Lazy(3)
    assert used.square == 9
    assert to_bytes(fresh) == to_bytes(used)


def test_subclasses_are_no_plain_data(shapes: Any) -> None:
    values = [
        1,
        shapes.Number(1),
        shapes.Level.LOW,
        True,
        "1",
        shapes.Text("1"),
        {},
        shapes.Table(),
        [],
        shapes.Stack(),
    ]
    assert len({to_bytes(value) for value in values}) == len(values)


def _names_what_it_imports() -> list[Any]:
    return [
        re.compile("a"),
        functools.partial(int),
        ValueError(),
        len,
        types.SimpleNamespace(),
        [random.Random(1)],
    ]


@pytest.mark.parametrize("value", _names_what_it_imports(), ids=lambda one: type(one).__name__)
def test_what_imports_what_it_names_is_loaded_only_when_trusted(value: Any) -> None:
    stored = to_bytes(value)
    with pytest.raises(UntrustedValue, match="does not come from a place that is trusted"):
        load(*stored)
    load(*stored, trusted=True)


def test_enums_and_data_classes_are_trusted_too(shapes: Any) -> None:
    for value in _made():
        with pytest.raises(UntrustedValue):
            load(*to_bytes(value))


def test_nothing_is_imported_for_those_who_are_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for text in (
        '{"@":["object:name","trap:x"]}',
        '{"@":["object:enum",{"@":["object:name","trap:x"]},"a",1]}',
        '{"@":["object:new",{"@":["object:name","trap:x"]},[],{}]}',
        '{"@":["object:call",{"@":["object:name","trap:x"]},[]]}',
        '{"@":["registered:",{"@":["object:name","trap:x"]},1,1]}',
        '{"@":["object:call",{"@":["object:name","collections:deque"]},[],null,null,null,{"@":["object:name","trap:x"]}]}',
    ):
        with pytest.raises(UntrustedValue):
            load("json/1", text.encode())


def test_no_built_in_is_called_for_those_who_are_not_trusted() -> None:
    for text in (
        '{"@":["object:call",{"@":["object:name","builtins:bytes"]},[1000000000000]]}',
        '{"@":["object:call",{"@":["object:name","builtins:list"]},[{"@":["range",0,1000000000000,1]}]]}',
        '{"@":["object:call",{"@":["object:name","collections:deque"]},[{"@":["range",0,1000000000000,1]}]]}',
        '{"@":["object:call",{"@":["object:name","collections:Counter"]},[{"@":["set",[1]]}]]}',
        '{"@":["object:new",{"@":["object:name","builtins:bytes"]},[1000000000000],{}]}',
        '{"@":["object:name","builtins:eval"]}',
        '{"@":["object:name","os:system"]}',
    ):
        with pytest.raises(UntrustedValue):
            load("json/1", text.encode())


def test_a_pickle_is_loaded_only_when_trusted(tmp_path: Path) -> None:
    with pytest.warns(WeakIdentity):
        stored = to_bytes(lambda: 5)
    with pytest.warns(WeakIdentity):
        inside = to_bytes([1, lambda: 5])
    assert stored[0] == "pickle"
    assert load(*stored, trusted=True)() == 5
    assert load(*inside, trusted=True)[1]() == 5
    for one in (stored, inside):
        with pytest.raises(UntrustedValue, match="is a pickle"):
            load(*one)


def test_what_cannot_be_walked_is_pickled_with_a_warning(there_and_back: Back) -> None:
    class Local:
        def __init__(self) -> None:
            self.a = [1]

    with pytest.warns(
        WeakIdentity, match=r"a .*Local is pickled: it is of a class .* Equal ones may count as different"
    ):
        loaded = load(*to_bytes(Local()), trusted=True)
    assert type(loaded) is Local
    assert loaded.a == [1]


def test_only_the_part_that_cannot_be_walked_is_pickled(shapes: Any) -> None:
    with pytest.warns(WeakIdentity) as warned:
        kind, data = to_bytes(shapes.Fit(0.5, set(), {"f": lambda: 1}))
    assert len(warned) == 1
    assert kind == "parts/1"
    assert b'"slope":0.5' in data


def test_an_object_that_contains_itself_is_pickled_as_a_whole(shapes: Any) -> None:
    with pytest.warns(WeakIdentity, match="contains itself"):
        kind, data = to_bytes({"node": shapes.Node()})
    loaded = load(kind, data, trusted=True)["node"]
    assert loaded.other is loaded


def test_a_class_that_is_gone_is_told_in_one_line(shapes: Any) -> None:
    stored = to_bytes(shapes.Point(1, 2))
    gone = (stored[0], stored[1].replace(b"shapes:Point", b"shapes:Gone"))
    with pytest.raises(InvalidValue, match=r"needs shapes:Gone, which cannot be imported here"):
        load(*gone, trusted=True)


@pytest.fixture
def registered(shapes: Any) -> Any:
    register(shapes.Celsius, lambda value: value.degrees, shapes.Celsius)
    yield shapes.Celsius
    _registered.pop(shapes.Celsius, None)


def test_a_registered_type(registered: Any, there_and_back: Back) -> None:
    assert to_bytes(registered(20)) == (
        "json/1",
        b'{"@":["registered:",{"@":["object:name","shapes:Celsius"]},1,20]}',
    )
    assert there_and_back([registered((1, 2))]) == [registered((1, 2))]


def test_a_registered_version_counts(registered: Any) -> None:
    first = to_bytes(registered(20))
    register(registered, lambda value: value.degrees, registered, version=2)
    assert to_bytes(registered(20)) != first
    with pytest.raises(InvalidValue, match=r"written by version 1 .* here it is version 2"):
        load(*first, trusted=True)


def test_what_is_registered_no_more_is_told(registered: Any) -> None:
    stored = to_bytes(registered(20))
    del _registered[registered]
    with pytest.raises(InvalidValue, match=r"is not registered here: import what calls register\(\)"):
        load(*stored, trusted=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((5, str, str), "wants a type"),
        ((Path, str, 5), "wants two functions"),
        ((Path, str, str, 0), "a version of 1 or more"),
        ((Path, str, str, True), "a version of 1 or more"),
        ((int, str, int), "int is Python's own"),
    ],
)
def test_what_cannot_be_registered(arguments: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        register(*arguments)


class ByCode:
    """What the code of functions will do: classes by their text."""

    def __init__(self, kinds: dict[type, str]) -> None:
        self._kinds = kinds

    def text(self, definition: Any) -> str | None:
        return self._kinds.get(definition) if isinstance(definition, type) else None

    def find(self, text: str) -> Any:
        return next(kind for kind, known in self._kinds.items() if known == text)


def test_classes_may_count_by_their_code(there_and_back: Back) -> None:
    class Local:
        pass

    set_definitions(ByCode({Local: "class Local: ..."}))
    try:
        value = Local()
        value.a = 1  # type: ignore[attr-defined]
        assert there_and_back(value).a == 1
        stored = to_bytes(value)
        with pytest.raises(UntrustedValue, match="code that it carries"):
            load(*stored)
        set_definitions(ByCode({Local: "class Local: pass"}))
        assert to_bytes(value) != stored
    finally:
        set_definitions(None)
    assert names._by_code is None


def test_errors_name_the_way_to_what_is_no_value(shapes: Any) -> None:
    value = {"fits": [shapes.Fit(1.0, set(), {"x": (1, (n for n in ()))})]}
    with pytest.raises(
        NotAValue, match=r"^argument 'x'\['fits'\]\[0\]\.names\['x'\]\[1\] is a generator, which"
    ):
        to_bytes(value, "argument 'x'")
