"""Fifty helpers in five modules: each edit that can change a result changes the text, no other does."""

from __future__ import annotations

import importlib
import linecache
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seamless_dask.code.identity import Code, identify

from .conftest import again

MODULES, HELPERS = 5, 10
ENDS = (0, MODULES - 1)
"""The module next to the function, and the one that it reaches through all others: each kind of edit is made
there. In those between one of each helper shows that it is reached.
"""

HEAD = '''"""Module {m}."""
import functools
import math
from dataclasses import dataclass{next_import}

SCALE = {m} + 2
TABLE = {{"a": 1, "b": [1, 2, 3]}}


@dataclass
class Settings{m}:
    """What is set."""
    rate: float = 0.5
    limits: tuple = (1, 2)

    def limit(self, x):
        return min(x, self.limits[1] * 1000)


def counted(by):
    def deco(function):
        @functools.wraps(function)
        def wrapper(*args):
            return function(*args) + by
        return wrapper
    return deco

'''
HELPER = '''
{decorator}def h{m}_{n}(x: float, k={n}) -> float:
    """Helper {n}."""
    # adds up
    total = 0
    for j in range(k):
        if j % 2:
            total += j * x
        else:
            total -= TABLE["a"]
    return total + {rest}

'''
Edit = tuple[str, str]


def module_source(m: int) -> str:
    text = HEAD.format(m=m, next_import=f"\nimport m{m + 1}" if m + 1 < MODULES else "")
    for n in range(HELPERS):
        if n + 1 < HELPERS:
            rest = f"h{m}_{n + 1}(x + SCALE)"
        elif m + 1 < MODULES:
            rest = f"m{m + 1}.h{m + 1}_0(x) + Settings{m}().limit(x)"
        else:
            rest = f"math.sqrt(abs(x)) + Settings{m}().rate"
        text += HELPER.format(m=m, n=n, rest=rest, decorator="@counted(7)\n" if n == 4 else "")
    return text


@pytest.fixture
def write(project: Path) -> Callable[..., ModuleType]:
    """Write the project with edits and import it anew, as another session would."""

    def written(edits: dict[int, Edit] | None = None) -> ModuleType:
        for m in range(MODULES):
            text = module_source(m)
            if edits and m in edits:
                old, new = edits[m]
                assert text.count(old) >= 1, old
                text = text.replace(old, new, 1)
            (project / f"m{m}.py").write_text(text)
        (project / "main.py").write_text(
            "import m0\ndef analyse(x, threshold=0.5): return m0.h0_0(x) + threshold\n"
        )
        for name in ["main", *(f"m{m}" for m in range(MODULES))]:
            sys.modules.pop(name, None)
        linecache.clearcache()
        importlib.invalidate_caches()
        return importlib.import_module("main")

    return written


def semantic(m: int) -> list[Edit]:
    edits = [(f"def h{m}_{n}(x: float, k={n})", f"def h{m}_{n}(x: float, k={n + 1})") for n in range(HELPERS)]
    edits += [
        (f"SCALE = {m} + 2", f"SCALE = {m} + 3"),
    ]
    if m not in ENDS:
        return edits
    edits += [
        ('"b": [1, 2, 3]', '"b": [1, 2, 4]'),
        ('"b": [1, 2, 3]', '"b": [1, 2, 3.0]'),
        ('{"a": 1, "b": [1, 2, 3]}', '{"b": [1, 2, 3], "a": 1}'),
        ("rate: float = 0.5", "rate: float = 0.25"),
        ("limits: tuple = (1, 2)", "limits: tuple = (1, 3)"),
        ("self.limits[1] * 1000", "self.limits[1] * 1001"),
        ("@dataclass\n", "@dataclass(order=True)\n"),
        ("@counted(7)\n", "@counted(8)\n"),
        ("@counted(7)\n", ""),
        ("function(*args) + by", "function(*args) - by"),
        ("total = 0", "total = 0.0"),
        ("if j % 2:", "if not j % 2:"),
        ("total += j * x", "total += x * j"),
    ]
    return edits


def cosmetic(m: int) -> list[Edit]:
    return [
        ("# adds up", "# adds something up\n\n    # in two lines"),
        ('"""Helper 3."""', '"""Helper three,\n\n    of ten."""'),
        ('    """Helper 3."""\n', ""),
        (f'"""Module {m}."""', ""),
        ("x: float, k=3) -> float:", "x, k=3):"),
        ('total -= TABLE["a"]', "total -= (\n                TABLE['a'] )"),
        ("total = 0\n", "total: int = 0  # none yet\n"),
        ("\n\ndef counted", "\n\ndef unused(): return 1\n\n\ndef counted"),
        ("import math\n", "import math\nimport json\n"),
        (f"SCALE = {m} + 2", f"SCALE = {m + 2}"),
        ('"""What is set."""', '"""What can be set."""'),
    ]


@pytest.mark.parametrize("m", range(MODULES))
def test_each_semantic_edit_changes_the_text(write: Callable[..., ModuleType], m: int) -> None:
    texts = {identify(write().analyse).text}
    for number, edit in enumerate(semantic(m), 2):
        texts.add(identify(write({m: edit}).analyse).text)
        assert len(texts) == number, edit


@pytest.mark.parametrize("m", range(MODULES))
def test_no_cosmetic_edit_changes_the_text(write: Callable[..., ModuleType], m: int) -> None:
    text = identify(write().analyse).text
    for edit in cosmetic(m) if m in ENDS else cosmetic(m)[:3]:
        assert identify(write({m: edit}).analyse).text == text, edit


def redefine(module: Any, name: str) -> None:
    """Give a helper other code in the running process, as a reloaded file or a debugger does."""
    function = getattr(module, name)
    function = getattr(function, "__wrapped__", function)
    replacement: dict[str, Any] = {}
    exec("def other(x, k=0): return 0", replacement)
    function.__code__ = replacement["other"].__code__


Change = Callable[[], Any]


def changes(m: int) -> Iterator[tuple[Change, Change]]:
    """Yield edits of a module that is loaded, each with what undoes it."""
    module: Any = sys.modules[f"m{m}"]
    table, settings = module.TABLE, getattr(module, f"Settings{m}")

    def attribute(owner: Any, name: str, value: Any) -> tuple[Change, Change]:
        before = getattr(owner, name)
        return lambda: setattr(owner, name, value), lambda: setattr(owner, name, before)

    yield attribute(module, "SCALE", 99)
    yield lambda: table.update(c=1), lambda: table.pop("c")
    yield lambda: table["b"].append(4), lambda: table["b"].pop()
    yield lambda: table.update(a=True), lambda: table.update(a=1)
    yield attribute(settings, "rate", 9)
    yield attribute(settings, "limit", module.counted)
    for n in range(HELPERS):
        function = getattr(module, f"h{m}_{n}")
        if m in ENDS or n % 2:
            yield attribute(module, f"h{m}_{n}", abs)
        if m in ENDS or not n % 2:
            yield attribute(getattr(function, "__wrapped__", function), "__defaults__", (77,))


@pytest.mark.parametrize("m", range(MODULES))
def test_each_semantic_edit_in_the_running_process_is_seen(write: Callable[..., ModuleType], m: int) -> None:
    main = write()
    code = identify(main.analyse)
    for number, (change, undo) in enumerate(changes(m)):
        assert code.guard()
        change()
        assert not code.guard(), number
        assert identify(main.analyse).text != code.text, number
        undo()
    assert code.guard()


@pytest.mark.filterwarnings("ignore::seamless_dask.code.identity.CodeWarning")
def test_other_code_in_the_same_function_is_seen(write: Callable[..., ModuleType]) -> None:
    main = write()
    code = identify(main.analyse)
    for m in range(MODULES):
        for n in range(HELPERS):
            function = getattr(sys.modules[f"m{m}"], f"h{m}_{n}")
            function = getattr(function, "__wrapped__", function)
            before = function.__code__
            redefine(sys.modules[f"m{m}"], f"h{m}_{n}")
            assert not code.guard()
            if n in (0, 4, HELPERS - 1):  # the first, a decorated one, and one that reaches out of the module
                assert identify(main.analyse).inputs  # taken by value: there is no source of that code
            function.__code__ = before
            assert code.guard()


def test_the_text_computes_the_same(write: Callable[..., ModuleType]) -> None:
    main = write()
    code: Code = identify(main.analyse)
    assert not code.warnings
    assert again(code)(2.0, 0.5) == main.analyse(2.0)
