"""A class counts by what it has by now: whatever was put into it after its statement, and by whatever way."""

from __future__ import annotations

import linecache
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seamless_dask.code.identity import Code, CodeWarning, identify
from seamless_dask.code.loading import load as load_text
from seamless_dask.definitions import DefinitionsByCode, describe
from seamless_dask.values.loading import load
from seamless_dask.values.names import definitions_within

from .conftest import Make, again, text_of
from .test_sources import unpickled

START = """
import enum, functools
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol
def one(self): return 1
def two(self): return 2
def three(cls): return 3
def timed(function):
    @functools.wraps(function)
    def timing(*given): return function(*given) + 100
    return timing
"""
CLASSES = {
    "plain": "class A:\n    def go(self): return 0\n    k = 0\n",
    "dataclass": "@dataclass\nclass A:\n    x: int = 0\n    k = 0\n    def go(self): return self.x\n",
    "ordered": (
        "@functools.total_ordering\nclass A:\n    k = 0\n    def go(self): return 0\n"
        "    def __lt__(self, other): return True\n"
    ),
    "abstract": (
        "class Base(ABC):\n    @abstractmethod\n    def go(self): pass\n"
        "class A(Base):\n    k = 0\n    def go(self): return 0\n"
    ),
    "protocol": (
        "class Base(Protocol):\n    def go(self): return 0\nclass A(Base):\n    k = 0\n"
        "    def go(self): return super().go()\n"
    ),
    "enumeration": (
        "class Kind(enum.Enum):\n    ONE = 0\n    def go(self): return 0\ndef A(): return Kind.ONE\n"
    ),
    "named tuple": "class A(NamedTuple):\n    k: int = 0\n    def go(self): return self.k\n",
    "metaclass": (
        "class Meta(type):\n    def __new__(mcls, name, bases, space, *, k):\n"
        "        return super().__new__(mcls, name, bases, {**space, 'k': k})\n"
        "class A(metaclass=Meta, k=0):\n    def go(self): return 0\n"
    ),
    "subclass that its base knows": (
        "class Base:\n    def __init_subclass__(cls, k): cls.k = k\n"
        "class A(Base, k=0):\n    def go(self): return 0\n"
    ),
}
CLASS = {name: "Kind" if name == "enumeration" else "A" for name in CLASSES}


def cell(module: ModuleType, source: str) -> None:
    """Run what was written later, as a cell of a notebook is."""
    name = f"<ipython-input-{len(linecache.cache)}>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    exec(compile(source, name, "exec"), vars(module))


def loaded(code: Code) -> Any:
    """Return the function of a text, with the values that it asks for."""

    def give(name: str, namespace: Mapping[str, Any]) -> Any:
        with definitions_within(DefinitionsByCode(namespace)):
            return load(code.inputs[name].format, code.inputs[name].data, trusted=True)

    return load_text(code.text, code.lines, give)


def check(module: ModuleType, change: str, before: object, after: object) -> str:
    """Check that a function follows a change, and so does its text; return the later text."""
    assert module.f() == before  # a protocol changes its class when it is first called
    code = identify(module.f, describe=describe)
    assert loaded(code)() == before
    assert code.guard()
    cell(module, change)
    assert not code.guard()
    later = identify(module.f, describe=describe)
    assert loaded(later)() == module.f() == after
    assert (later.text, later.inputs) != (code.text, code.inputs)
    return later.text


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize(
    ("change", "after"),
    [
        ("{}.go = two", 2),
        ("{}.go = lambda self: 2", 2),
        ("{}.go = timed({}.go)", 100),
        ("{}.go = timed(timed({}.go))", 200),
        ("{}.go = staticmethod(lambda: 2)", 2),
        ("{}.go = classmethod(three)", 3),
    ],
)
def test_a_method_that_is_replaced(make: Make, kind: str, change: str, after: int) -> None:
    if kind == "protocol" and "timed" in change:
        pytest.skip("its method asks for its class by super()")
    module = make(START + CLASSES[kind] + "def f(): return A().go()")
    check(module, change.replace("{}", CLASS[kind]), 0, after)


@pytest.mark.parametrize("kind", [each for each in CLASSES if each not in ("enumeration", "named tuple")])
def test_a_value_that_is_replaced(make: Make, kind: str) -> None:
    module = make(START + CLASSES[kind] + "def f(): return A.k")
    check(module, "A.k = 2", 0, 2)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("put", ["two", "property(two)", "staticmethod(lambda: 2)", "timed(one)", "2"])
def test_what_is_put_there_later(make: Make, kind: str, put: str) -> None:
    module = make(START + CLASSES[kind] + "def f(): return hasattr(A(), 'later')")
    check(module, f"{CLASS[kind]}.later = {put}", False, True)


METHODS = """
class A:
    @staticmethod
    def s(): return 0
    @classmethod
    def c(cls): return 0
    @property
    def p(self): return 0
    @p.setter
    def p(self, value): self.q = value
    @functools.cached_property
    def once(self): return 0
    lazy = property(lambda self: 0)
    of = property(one)
    def go(self):
        later = 0
        return later
def f():
    a = A()
    a.p = 5
    return A.s(), A.c(), a.p, a.q, a.once, a.lazy, a.of
"""
BEFORE = (0, 0, 0, 5, 0, 0, 1)


@pytest.mark.parametrize(
    ("change", "place", "after"),
    [
        ("A.s = staticmethod(lambda: 2)", 0, 2),
        ("A.s = lambda: 2", 0, 2),
        ("A.c = classmethod(three)", 1, 3),
        ("A.p = A.p.getter(two)", 2, 2),
        ("A.p = A.p.setter(lambda self, value: setattr(self, 'q', 2))", 3, 2),
        ("A.once = 2", 4, 2),
        ("A.lazy = property(lambda self: 2)", 5, 2),
        ("A.of = property(two)", 6, 2),
    ],
)
def test_a_descriptor_that_is_replaced(make: Make, change: str, place: int, after: int) -> None:
    module = make(START + METHODS)
    check(module, change, BEFORE, (*BEFORE[:place], after, *BEFORE[place + 1 :]))


DESCRIPTORS = """
class Typed:
    def __init__(self, k): self.k = k
    def __set_name__(self, owner, name): self.name = name
    def __get__(self, instance, owner): return self.k
class Adding:
    def __init__(self, k): self.k = k
    def __call__(self, x): return x + self.k
class Knowing(Typed):
    def __set_name__(self, owner, name): self.owner = owner
class A:
    k = Typed(1)
    add = Adding(1)
    knowing = Knowing(1)
    def go(self, x): return x
    part = functools.partialmethod(go, 1)
@dataclass
class B: pass
"""


@pytest.mark.parametrize(
    ("place", "change", "before", "after"),
    [
        ("A().k", "A.k = Typed(2)", 1, 2),
        ("A().k", "vars(A)['k'].k = 2", 1, 2),
        ("A.add(1)", "A.add = Adding(2)", 2, 3),
        ("A().knowing", "A.knowing = Typed(2)", 1, 2),
        ("A().part()", "A.part = functools.partialmethod(A.go, 2)", 1, 2),
        ("A().part()", "A.part = functools.partialmethod(two)", 1, 2),
        ("getattr(A(), 'later', 0)", "A.later = Typed(2)", 0, 2),
        ("getattr(A(), 'later', int)()", "A.later = functools.partialmethod(two)", 0, 2),
        ("getattr(B(), 'later', 0)", "B.later = Typed(2)", 0, 2),
    ],
)
def test_an_object_in_the_place_of_a_method(
    make: Make, place: str, change: str, before: object, after: object
) -> None:
    check(make(START + DESCRIPTORS + f"def f(): return {place}"), change, before, after)


MADE = """
from collections import namedtuple
from dataclasses import make_dataclass
P = namedtuple("P", "a b")
P.__new__.__defaults__ = (1, 2)
class Q(NamedTuple):
    a: int = 1
    def go(self): return self.a
@dataclass
class R:
    a: int = 1
    b: list = field(default_factory=list)
    c: int = field(default=1, kw_only=True)
S = make_dataclass("S", [("a", int, 1)], namespace={"go": one, "me": lambda self: 1})
T = type("T", (), {"a": 1})
class C(enum.Enum):
    ONE = 1
    TWO = enum.auto()
    def __init__(self, value): self.own = value
class D:
    @functools.singledispatchmethod
    def go(self, x): return 1
    @go.register
    def _(self, x: str): return "text"
class I(ABC): pass
@I.register
class J: pass
class K: pass
"""


@pytest.mark.filterwarnings("ignore:. counts by its pickle")
@pytest.mark.parametrize(
    ("place", "change", "before", "after"),
    [
        ("tuple(P())", "P.__new__.__defaults__ = (1, 3)", (1, 2), (1, 3)),
        ("getattr(P(), 'go', int)()", "P.go = two", 0, 2),
        ("Q().go()", "Q.__new__.__defaults__ = (2,)", 1, 2),
        ("R().a", "R.__init__.__defaults__ = (2, *R.__init__.__defaults__[1:])", 1, 2),
        ("R().c", "R.__init__.__kwdefaults__['c'] = 2", 1, 2),
        ("S().go()", "S.go = two", 1, 2),
        ("S().me()", "S.me = lambda self: 2", 1, 2),
        ("T.a", "T.a = 2", 1, 2),
        ("T().a", "T.a = property(two)", 1, 2),
        ("C.TWO.value", "C.TWO._value_ = 5", 2, 5),
        ("getattr(C.ONE, 'put', 0)", "C.ONE.put = 2", 0, 2),
        (
            "(D().go(1), D().go(''))",
            "vars(D)['go'].register(int, lambda self, x: 2)",
            (1, "text"),
            (2, "text"),
        ),
        ("(isinstance(J(), I), isinstance(K(), I))", "I.register(K)", (True, False), (True, True)),
    ],
)
def test_what_is_done_to_what_a_library_made(
    make: Make, place: str, change: str, before: object, after: object
) -> None:
    check(make(START + MADE + f"def f(): return {place}"), change, before, after)


def test_a_named_tuple_with_methods_is_not_taken_for_one_without(make: Make) -> None:
    module = make(START + MADE + "def f(): return Q().go()")
    path = Path(str(module.__file__))
    path.write_text(path.read_text().replace("def go(self): return self.a", "def go(self): return 7"))
    linecache.clearcache()
    with pytest.warns(CodeWarning, match="Q counts by its pickle"):
        assert unpickled(identify(module.f))() == 1


STEPS = """
def counting(function):
    @functools.wraps(function)
    def counted(*given):
        counted.calls += 1
        return function(*given)
    counted.calls = 0
    return counted
@counting
def counts(): return counts.step
counts.step = 1
@functools.lru_cache
def cached(): return getattr(cached, "step", 0)
def f(): return counts(), cached()
"""


def test_a_value_that_is_put_on_a_decorated_function(make: Make) -> None:
    module = make(START + STEPS)
    text = check(module, "counts.step = 2", (1, 0), (2, 0))
    assert "calls = 3" not in text  # that is what its decorator remembers
    check(module, "cached.cache_clear()\ncached.step = 3", (2, 0), (2, 3))


DEFAULTS = """
K = 1
class A:
    n = 2
    def go(self, k=K, of=n, *, z=[n], by=len):
        "Documented."
        return k, of, z, by(z)
    @property
    def p(self): return 0
def f(): return A().go()
"""


@pytest.mark.parametrize(
    ("change", "after"),
    [
        ("A.go.__defaults__ = (5, 6)", (5, 6, [2], 1)),
        ("A.go.__kwdefaults__['z'].append(3)", (1, 2, [2, 3], 2)),
        ("A.go.__kwdefaults__ = {'z': [4], 'by': sum}", (1, 2, [4], 4)),
    ],
)
def test_defaults_of_methods(make: Make, change: str, after: object) -> None:
    check(make(START + DEFAULTS), change, (1, 2, [2], 1), after)


def test_a_default_of_a_method_that_is_a_method(make: Make) -> None:
    module = make(
        "class A:\n    def one(self): return 1\n    def go(self, by=one): return by(self)\n"
        "def f(): return A().go()"
    )
    check(module, "A.one = lambda self: 2\ndef f(): return A().go(), A().one()", 1, (1, 2))


def test_what_a_default_of_a_method_was_made_from_does_not_count_any_more(make: Make) -> None:
    module = make(START + DEFAULTS)
    cell(module, "K = A.n = 7")
    assert again(identify(module.f))() == module.f() == (1, 2, [2], 1)


def test_a_value_by_the_name_of_a_variable_of_a_method(make: Make) -> None:
    module = make(START + METHODS + "def f(): return getattr(A, 'later', 0)")
    check(module, "A.later = 2", 0, 2)


def test_what_is_taken_out_of_a_class(make: Make) -> None:
    for change, name in (("del A.k", "k"), ("del A.go", "go")):
        module = make(START + CLASSES["plain"] + "def f(): return A")
        cell(module, change)
        with pytest.warns(CodeWarning, match=f"A counts by its pickle, because {name} was taken out of it"):
            assert "class A" not in text_of(module.f)


def test_values_in_conditions_and_loops_of_a_class_body(make: Make) -> None:
    module = make(
        "N = 3\nclass A:\n    for last in range(N): pass\n    if N > 2: big = True\n    else: big = False\n"
        "    a, b = 1, 2\n    if N:\n        def go(self): return N\n"
        "def f(): return A.last, A.big, A.a, A().go()"
    )
    check(module, "A.last, A.big, A.a = 7, 8, 9", (2, True, 1, 3), (7, 8, 9, 3))
    check(module, "N = 1", (7, 8, 9, 3), (7, 8, 9, 1))


def test_what_a_field_of_a_dataclass_says_besides_its_default(make: Make) -> None:
    source = (
        START + "K = 4\n@dataclass\nclass A:\n    x: int = field(default=4, repr=False, compare=False)\n"
        "    y: int = K\n    z: list = field(default_factory=list, init=False)\n"
        "def f(): return repr(A()), A(3) == A(4), A.x, A.y"
    )
    module = make(source)
    text = text_of(module.f)
    assert again(identify(module.f))() == module.f() == ("A(y=4, z=[])", True, 4, 4)
    for old, new in (
        ("repr=False", "repr=True"),
        ("compare=False", "compare=True"),
        ("init=False", "init=True"),
    ):
        assert text_of(make(source.replace(old, new)).f) != text
    cell(module, "K = 5")  # the class keeps what it was given
    assert again(identify(module.f))() == module.f() == ("A(y=4, z=[])", True, 4, 4)
    check(module, "A.y = 6", ("A(y=4, z=[])", True, 4, 4), ("A(y=4, z=[])", True, 4, 6))


def test_a_method_of_the_class_that_is_another_one_by_now(make: Make) -> None:
    module = make(START + METHODS + "kept = A.c\ndef f(): return kept()")
    check(module, "A.c = classmethod(three)\ndef f(): return kept(), A.c()", 0, (0, 3))


def test_a_class_of_which_a_decorator_has_made_another(make: Make) -> None:
    module = make(
        "def deco(kind):\n    class Made(kind):\n        def go(self): return 1 + super().go()\n"
        "    return Made\n"
        "@deco\nclass A:\n    def go(self): return 1\ndef f(): return A().go()"
    )
    with pytest.warns(
        CodeWarning, match="A counts by its pickle, because a decorator has made another class"
    ):
        code = identify(module.f)
    assert unpickled(code)() == module.f() == 2


NESTED = """
class A:
    class Meta:
        k = 0
        table = [0]
        def go(self, by=0): return by
        class Inner:
            k = 0
    @dataclass
    class Row:
        x: int = 0
    class Kind(enum.Enum):
        ONE = 1
Meta = A.Meta
def f(): return Meta.k, A.Meta.table[-1], Meta().go(), A.Meta.Inner.k, A.Row().x, getattr(A.Kind.ONE, 'k', 0)
"""


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ("A.Meta.k = 2", 0),
        ("A.Meta.table.append(2)", 1),
        ("A.Meta.go = two", 2),
        ("A.Meta.go.__defaults__ = (2,)", 2),
        ("Meta.Inner.k = 2", 3),
        ("A.Row.__init__ = lambda self: setattr(self, 'x', 2)", 4),
        ("A.Kind.k = 2", 5),
    ],
)
def test_a_class_in_a_class(make: Make, change: str, place: int) -> None:
    check(make(START + NESTED), change, (0,) * 6, (*(0,) * place, 2, *(0,) * (5 - place)))


def test_a_class_in_a_class_that_is_another_one_by_now(make: Make) -> None:
    module = make(START + "class A:\n    class Meta: k = 0\nkept = A\ndef f(): return kept.Meta.k")
    cell(module, "class A:\n    class Meta:\n        k = 1\n        def go(self): return 1")
    check(module, "kept.Meta = A.Meta", 0, 1)
    check(module, "A.Meta.go.__defaults__ = (2,)\nA.Meta.k = 2", 1, 2)
    cell(module, "class Other: k = 3\nkept.Meta = Other")
    with pytest.warns(
        CodeWarning, match="A counts by its pickle, because its class Meta is another one by now"
    ):
        assert "k = 0" not in text_of(module.f)
