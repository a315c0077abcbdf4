"""The second call: whether all that was reached is still the same, without reading source."""

from __future__ import annotations

import builtins
import dis
import linecache
from collections.abc import Callable
from typing import Any

import pytest

from seamless_dask.code.guards import snapshot
from seamless_dask.code.identity import identify
from seamless_dask.code.items import Buffer

from .conftest import Make, text_of


def test_it_holds_while_nothing_changes(make: Make) -> None:
    module = make("K = [1]\ndef g(x, n=2): return x + n\ndef f(x): return g(x) + K[0]")
    code = identify(module.f)
    assert code.guard()
    module.f(1)
    assert code.guard()


def test_it_reads_no_source(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    module = make("def g(x): return x\ndef f(x): return g(x)")
    guard = identify(module.f).guard

    def refuse(*arguments: Any) -> Any:
        raise AssertionError("it reads source")

    monkeypatch.setattr(linecache, "getlines", refuse)
    monkeypatch.setattr(linecache, "checkcache", refuse)
    monkeypatch.setattr(builtins, "open", refuse)
    assert guard()


CHANGES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "another constant": ("K = 1\ndef f(): return K", lambda m: setattr(m, "K", 1000)),
    "a mutated table": ("K = {'a': [1]}\ndef f(): return K", lambda m: m.K["a"].append(2)),
    "an equal value of another type": ("K = [1]\ndef f(): return K", lambda m: m.K.__setitem__(0, True)),
    "another order of keys": (
        "K = {'a': 1, 'b': 2}\ndef f(): return K",
        lambda m: m.K.update(a=m.K.pop("a")),
    ),
    "another argument of a partial": (
        "from functools import partial\nK = partial(dict, a=1)\ndef f(): return K()",
        lambda m: m.K.keywords.update(a=2),
    ),
    "another argument of a partial in a table": (
        "from functools import partial\nK = [partial(dict, [])]\ndef f(): return K[0]()",
        lambda m: m.K[0].args[0].append((1, 2)),
    ),
    "another answer of a module": (
        "import sys\nanalysis = sys.modules[__name__]\nK = 1000\n"
        "def __getattr__(name): return K\ndef f(): return analysis.answer",
        lambda m: setattr(m, "K", 1001),
    ),
    "another function in a table": (
        "def g(): pass\ndef h(): pass\nK = {'a': g}\ndef f(): return K",
        lambda m: m.K.update(a=m.h),
    ),
    "another helper": ("def g(): pass\ndef f(): return g()", lambda m: setattr(m, "g", len)),
    "other code": (
        "def g(): return 1\ndef h(): return 2\ndef f(): return g()",
        lambda m: setattr(m.g, "__code__", m.h.__code__),
    ),
    "other defaults": (
        "def g(x=1): return x\ndef f(): return g()",
        lambda m: setattr(m.g, "__defaults__", (2,)),
    ),
    "other defaults by name": (
        "def g(*, x=1): return x\ndef f(): return g()",
        lambda m: m.g.__kwdefaults__.update(x=2),
    ),
    "all defaults by name": (
        "def g(*, x=1): return x\ndef f(): return g()",
        lambda m: setattr(m.g, "__kwdefaults__", {"x": 2}),
    ),
    "first defaults by name": (
        "def g(*, x): return x\ndef f(): return g()",
        lambda m: setattr(m.g, "__kwdefaults__", {"x": 2}),
    ),
    "a mutated default": (
        "def g(x=[1]): return x\ndef f(): return g()",
        lambda m: m.g.__defaults__[0].append(2),
    ),
    "a first attribute of a function": (
        "def g(): return getattr(g, 'n', 0)\ndef f(): return g()",
        lambda m: setattr(m.g, "n", 2),
    ),
    "an attribute of a function": (
        "def g(): return g.n\ng.n = 1\ndef f(): return g()",
        lambda m: setattr(m.g, "n", 2),
    ),
    "a builtin hidden": ("def f(x): return len(x)", lambda m: setattr(m, "len", abs)),
    "a name deleted": ("K = 1\ndef f(): return K", lambda m: delattr(m, "K")),
    "a class value": ("class A:\n    k = 1\ndef f(): return A.k", lambda m: setattr(m.A, "k", 2)),
    "a mutated class value": ("class A:\n    k = [1]\ndef f(): return A.k", lambda m: m.A.k.append(2)),
    "a method": (
        "class A:\n    def g(self): pass\ndef f(): return A().g()",
        lambda m: setattr(m.A, "g", len),
    ),
    "a method's code": (
        "class A:\n    @property\n    def g(self): return 1\ndef h(self): return 2\ndef f(): return A().g",
        lambda m: setattr(m.A.__dict__["g"].fget, "__code__", m.h.__code__),
    ),
    "a class attribute added": ("class A: pass\ndef f(): return A().x", lambda m: setattr(m.A, "x", 2)),
    "bases": (
        "class X: pass\nclass Y: pass\nclass A(X): pass\ndef f(): return A()",
        lambda m: setattr(m.A, "__bases__", (m.Y,)),
    ),
    "a cell": (
        "def make():\n    n = 1\n    def f(): return n\n"
        "    def change():\n        nonlocal n\n        n = 2\n    return f, change\n"
        "f, change = make()",
        lambda m: m.change(),
    ),
    "a function of a module": (
        "import helpers\ndef f(): return helpers.g()",
        lambda m: setattr(m.helpers, "g", len),
    ),
    "something added to a whole module": (
        "import helpers\ndef f(n): return getattr(helpers, n)",
        lambda m: setattr(m.helpers, "new", 3),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_it_sees(make: Make, change: str) -> None:
    make("def g(): return 1", "helpers")
    source, act = CHANGES[change]
    module = make(source)
    code = identify(module.f)
    assert code.guard()
    act(module)
    assert not code.guard()


def test_defaults_of_the_called_function_do_not_count(make: Make) -> None:
    module = make("def f(x, n=1): return x + n")
    code = identify(module.f)
    module.f.__defaults__ = (2,)
    assert code.guard()
    assert text_of(module.f) == code.text


def test_they_count_where_it_calls_itself(make: Make) -> None:
    module = make("def f(x, n=1): return x if x > 3 else f(x + n)")
    code = identify(module.f)
    module.f.__defaults__ = (2,)
    assert not code.guard()
    assert text_of(module.f) != code.text


def test_described_values_are_looked_at_again(make: Make) -> None:
    module = make("class V: data = b'1'\nv = V()\ndef f(): return v")
    code = identify(module.f, describe=lambda value: Buffer("raw", value.data))
    assert code.guard()
    module.v.data = b"2"
    assert not code.guard()


def test_it_is_one_expression(make: Make) -> None:
    module = make("def g(): pass\ndef f(): return g()")
    guard: Any = identify(module.f).guard
    assert not [each for each in dis.get_instructions(guard) if each.opname == "FOR_ITER"]


def test_snapshots_of_equal_texts_are_equal() -> None:
    text = "".join(["some", "thing"])
    before = snapshot([text])
    assert snapshot(["something"]) == before
