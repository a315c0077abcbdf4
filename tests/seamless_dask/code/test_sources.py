"""The source that is taken is that of the code that is loaded; without one, a value and a warning."""

from __future__ import annotations

import ast
import importlib
import linecache
import os
import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seamless_dask.code.identity import CodeWarning, identify
from seamless_dask.code.loading import load
from seamless_dask.errors import NoIdentity

from .conftest import Make, again, text_of


def unpickled(code: Any) -> Any:
    return load(code.text, code.lines, lambda name, namespace: pickle.loads(code.inputs[name].data))


def edit(module: Any, old: str, new: str) -> None:
    path = Path(module.__file__)
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, (1, 1))  # as after a checkout: the time says nothing


def test_a_function_edited_after_import_is_taken_by_value(make: Make) -> None:
    module = make("def f(x): return x + 1")
    edit(module, "+ 1", "+ 2")
    with pytest.warns(CodeWarning, match=r"f counts by its pickle, because .*analysis.py has been edited"):
        code = identify(module.f)
    assert "+ 2" not in code.text
    assert code.inputs["f"].format == "pickle"
    assert unpickled(code)(1) == 2


def test_a_helper_edited_after_import_is_taken_by_value_alone(make: Make) -> None:
    module = make("def g(x): return x + 1\ndef f(x): return g(x) * 2")
    edit(module, "+ 1", "+ 2")
    with pytest.warns(CodeWarning, match="g counts by its pickle"):
        code = identify(module.f)
    assert list(code.inputs) == ["g"]
    assert "return g(x) * 2" in code.text
    assert unpickled(code)(1) == 4


def test_a_file_edited_above_a_function_changes_nothing(make: Make) -> None:
    module = make("def f(x): return x + 1")
    before = text_of(module.f)
    edit(module, "def f", "# comment\n\nK = 3\ndef f")
    assert text_of(module.f) == before


def test_a_method_edited_after_import_is_taken_by_value(make: Make) -> None:
    module = make("class A:\n    def go(self): return 1\ndef f(): return A().go()")
    edit(module, "return 1", "return 2")
    with pytest.warns(CodeWarning, match="A counts by its pickle"):
        code = identify(module.f)
    assert unpickled(code)() == 1


def test_a_field_edited_after_import_is_taken_by_value(make: Make) -> None:
    module = make(
        "import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int = 1\ndef f(): return A().x"
    )
    edit(module, "x: int", "y: int")
    with pytest.warns(CodeWarning, match="A counts by its pickle"):
        code = identify(module.f)
    assert unpickled(code)() == 1


def test_a_file_that_is_gone(make: Make) -> None:
    module = make("def f(x): return x + 1")
    Path(module.__file__).unlink()
    linecache.clearcache()
    with pytest.warns(CodeWarning, match="there is no source"):
        assert unpickled(identify(module.f))(1) == 2


def test_a_file_that_is_no_python_any_more(make: Make) -> None:
    module = make("def f(x): return x + 1")
    edit(module, "def f", "def def")
    with pytest.warns(CodeWarning, match="no Python any more"):
        assert unpickled(identify(module.f))(1) == 2


def test_exec_without_source() -> None:
    namespace: dict[str, Any] = {"K": 3}
    exec("def f(x): return x + K", namespace)
    with pytest.warns(CodeWarning, match="identity is weaker"):
        code = identify(namespace["f"])
    assert unpickled(code)(1) == 4
    assert not code.guard()  # what a pickle took in is not known


def test_what_has_no_source_and_cannot_be_pickled() -> None:
    namespace: dict[str, Any] = {"numbers": (n for n in [1])}
    exec("def f(): return numbers", namespace)
    with pytest.raises(
        NoIdentity, match="f has no identity: there is no source of it, and it cannot be pickled"
    ):
        identify(namespace["f"])


def test_functions_of_libraries_count_by_name() -> None:
    assert text_of(len) == "__function__ = len\n"
    assert text_of(textwrap.dedent) == "from textwrap import dedent\n\n__function__ = dedent\n"


def test_redefined_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """As IPython does it: each cell has a file name of its own, and an old function may live on."""
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    namespace = vars(sys.modules["__main__"])

    def cell(source: str, number: int) -> None:
        name = f"<ipython-input-{number}>"
        linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
        exec(compile(source, name, "exec"), namespace)

    cell("def g(x): return x + 1\n", 1)
    cell("def f(x): return g(x)\n", 2)
    old, first = namespace["g"], text_of(namespace["f"])
    cell("\n# again, below a new line\ndef g(x): return x + 1\n", 3)
    assert text_of(namespace["f"]) == first
    cell("def g(x): return x + 2\n", 4)
    assert text_of(namespace["f"]) != first
    assert "x + 1" in text_of(old)
    cell("class A:\n    k = 1\nclass B(A): pass\ndef h(): return B.k\n", 5)
    assert again(identify(namespace["h"]))() == 1


def test_a_cell_that_imports_what_its_function_calls(make: Make) -> None:
    cell = """\
import math
def f(x): return math.sin(x) + C().cos(x)
class C:
    def cos(self, x): return math.cos(x)
"""
    name = "/tmp/ipykernel_1/2.py"
    linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
    namespace = {"__name__": "analysis"}
    for statement in ast.parse(cell).body:  # as IPython does: the compiler sees one statement at a time
        exec(compile(ast.Module([statement], []), name, "exec"), namespace)
    assert text_of(namespace["f"]) == text_of(make(cell).f)


def test_a_base_class_whose_cell_was_run_again(make: Make) -> None:
    module = make("class A:\n    def go(self): return 1\nclass B(A): pass\ndef f(): return B().go()")
    exec("class A:\n    def go(self): return 2\n", vars(module))
    assert again(identify(module.f))() == module.f() == 1


def test_a_reloaded_module(make: Make, project: Path) -> None:
    helpers = make("def g(x): return x + 1", "helpers")
    module = make(
        "import helpers\nfrom helpers import g\ndef f(x): return g(x)\ndef h(x): return helpers.g(x)"
    )
    edit(helpers, "+ 1", "+ 22")
    linecache.clearcache()
    importlib.reload(helpers)
    with pytest.warns(CodeWarning, match="edited"):
        assert unpickled(identify(module.f))(1) == 2  # the old one, which was imported by name
    assert again(identify(module.h))(1) == 23


def test_a_helper_that_is_replaced(make: Make) -> None:
    module = make("def g(x): return x + 1\ndef other(x): return x + 5\ndef f(x): return g(x)")
    module.g = module.other
    assert again(identify(module.f))(1) == 6


def test_a_method_that_is_replaced(make: Make) -> None:
    module = make(
        "class A:\n    k = 1\n    def go(self): return self.k\n"
        "def other(self): return self.k + 10\ndef f(): return A().go(), getattr(A, 'extra', None)"
    )
    before = text_of(module.f)
    module.A.go, module.A.k, module.A.extra = module.other, 2, [3]
    code = identify(module.f)
    assert code.text != before
    assert again(code)() == module.f() == (12, [3])


def test_a_method_that_was_added_to_a_class_with_a_decorator_that_a_module_passes_on(make: Make) -> None:
    make("from dataclasses import dataclass", "helpers")
    module = make(
        """
        import helpers
        def add(owner):
            def extra(self): return self.k + 1
            owner.extra = extra
        @helpers.dataclass
        class A:
            k: int = 1
        add(A)
        def f(): return A().extra()
        """
    )
    assert again(identify(module.f))() == module.f() == 2


def test_a_function_that_is_a_class_value_is_replaced(make: Make) -> None:
    module = make(
        "def g(self): return 1\ndef h(self): return 2\nclass A:\n    one = g\n    two = lambda self: 1\n"
        "def f(): return A().one(), A().two()"
    )
    module.A.one = module.A.two = module.h
    assert again(identify(module.f))() == module.f() == (2, 2)


def test_a_class_of_a_function_that_is_over(make: Make) -> None:
    source = (
        "def make(n):\n    class A:\n        k = {}\n    return A\nA, B = make(len), 0\ndef f(): return A.k"
    )
    assert again(identify(make(source.format("str(n)")).f))() == str(len)  # by its value
    module = make(source.format("property(n)"))
    with pytest.warns(CodeWarning, match="it reads n of a function around it, which is over"):
        identify(module.f)


GLOBALS = """
import functools
class Plus:
    def __init__(self, function, n):
        functools.update_wrapper(self, function)
        self.function, self.n = function, n
    def __call__(self): return self.function() + self.n
class Meta(type): k = 1
class OtherMeta(type): k = 2
def deco(function): return Plus(function, 1)
def other(function): return Plus(function, 2)
def first(self): return 1
def second(self): return 2
"""
HIDDEN = {
    "a decorator of a method": (
        "def make(deco):\n    class A:\n        @staticmethod\n        @deco\n        def k(): return 0\n"
        "    return A\nA = make(other)\ndef f(): return A.k()"
    ),
    "a builtin that is one": (
        "def make(property):\n    class A:\n        @property\n        def k(self): return 0\n    return A\n"
        "A = make(lambda function: 2)\ndef f(): return A.k"
    ),
    "a descriptor": (
        "def make(first):\n    class A:\n        k = property(first)\n    return A\n"
        "A = make(second)\ndef f(): return A().k"
    ),
    "a default of a method": (
        "def make(first):\n    class A:\n        def k(self, g=first): return g(self)\n    return A\n"
        "A = make(second)\ndef f(): return A().k()"
    ),
    "a metaclass": (
        "def make(Meta):\n    class A(metaclass=Meta): pass\n    return A\n"
        "A = make(OtherMeta)\ndef f(): return A.k"
    ),
    "a decorator of a function": (
        "def make(deco):\n    @deco\n    def g(): return 0\n    return g\n"
        "g = make(other)\ndef f(): return g()"
    ),
    "a name of the class": (
        "class A:\n    def deco(function): return Plus(function, 2)\n    @deco\n    def k(): return 0\n"
        "k = A.k\ndef f(): return k()"
    ),
}


@pytest.mark.filterwarnings("ignore::seamless_dask.code.identity.CodeWarning")
@pytest.mark.parametrize("case", HIDDEN)
def test_a_variable_of_a_function_that_is_over_hides_a_global(make: Make, case: str) -> None:
    module = make(GLOBALS + HIDDEN[case])
    assert unpickled(identify(module.f))() == module.f() == 2


def test_what_a_function_declares_global_is_no_variable_of_its_own(make: Make) -> None:
    module = make(
        "from functools import cached_property\n"
        "def make():\n    global cached_property\n    class A:\n        @cached_property\n"
        "        def k(self): return 2\n    return A\nA = make()\ndef f(): return A().k"
    )
    code = identify(module.f)
    assert "class A:\n    @cached_property\n" in code.text
    assert again(code)() == 2


def test_a_class_that_only_its_call_makes_reads_nothing_else(make: Make) -> None:
    module = make(
        "def make(n):\n    class A:\n        @n\n        def k(self): return 2\n"
        "        def go(self): return A, self.k\n    return A\n"
        "A = make(property)\ndef f(): return A().go()[1]"
    )
    code = identify(module.f)
    assert "A = make(property)" in code.text
    assert again(code)() == 2


TWICE = """
import sys
from contextlib import nullcontext
from functools import lru_cache
from types import SimpleNamespace
def one(): return 1
def two(): return 2
fast = lru_cache(one)
"""


@pytest.mark.parametrize(
    "again",
    [
        "if one: fast = lru_cache(two)",
        "try: fast = lru_cache(two)\nexcept ImportError: pass",
        "fast, slow = lru_cache(two), two",
        "slow = [fast := lru_cache(two)]",
        "for fast in [lru_cache(two)]: pass",
        "with nullcontext(lru_cache(two)) as fast: pass",
        "match lru_cache(two):\n    case fast: pass",
        "made = lru_cache(two)\nsys.modules['made'] = SimpleNamespace(fast=made)\nfrom made import *",
        "del fast\nif two: fast = lru_cache(two)",
        "class A:\n    global fast\n    fast = lru_cache(two)",
        "def change():\n    global fast\n    fast = lru_cache(two)\nchange()",
    ],
)
def test_a_global_of_which_it_is_not_known_what_was_assigned_last(make: Make, again: str) -> None:
    module = make(TWICE + again + "\ndef f(): return fast()")
    sys.modules.pop("made", None)
    assert module.f() == 2
    with pytest.raises(NoIdentity, match=r"fast .* is no value"):
        identify(module.f)


@pytest.mark.parametrize(
    "last",
    [
        "fast: object = lru_cache(two)",
        "fast = slow = lru_cache(two)\nfast: object",
        "made = lru_cache(two)\nsys.modules['made'] = SimpleNamespace(fast=made)\nfrom made import fast",
    ],
)
def test_a_global_that_was_assigned_in_another_way(make: Make, last: str) -> None:
    module = make(TWICE + last + "\ndef f(): return fast()")
    sys.modules.pop("made", None)
    assert again(identify(module.f))() == module.f() == 2


@pytest.mark.parametrize("made", ["lru_cache(two)", "lru_cache(maxsize=1)(lambda: 2)"])
def test_a_global_that_another_module_has_replaced(make: Make, made: str) -> None:
    module = make(TWICE + "def f(): return fast()")
    exec(f"fast = {made}", vars(module))
    with pytest.raises(NoIdentity, match=r"fast .* is no value"):
        identify(module.f)


@pytest.mark.parametrize(
    "made",
    [
        "lru_cache(lambda: 2)",
        "lru_cache(A.two)",
        "lru_cache(TABLE['two'])",
        "lru_cache(chosen(2))",
        "lru_cache(made_elsewhere(2))",
    ],
)
def test_what_a_wrapper_was_made_of_stands_in_its_expression(make: Make, made: str) -> None:
    module = make(
        TWICE
        + "class A:\n    @staticmethod\n    def two(): return 2\nTABLE = {'two': two}\n"
        + "def chosen(n):\n    def two(): return n\n    return two\ndef made_elsewhere(n): return chosen(n)\n"
        + f"fast = {made}\ndef f(): return fast()"
    )
    assert again(identify(module.f))() == module.f() == 2


def test_what_a_call_made_in_another_module(make: Make) -> None:
    make(TWICE, "helpers")
    module = make(
        "import helpers\nfrom helpers import fast as quick\ndef f(): return quick(), helpers.fast()"
    )
    assert again(identify(module.f))() == module.f() == (1, 1)


@pytest.mark.parametrize(("old", "new"), [("list[int]", "list[str]"), ("int | str", "int | bytes")])
def test_an_alias_of_a_type_that_was_replaced(make: Make, old: str, new: str) -> None:
    module = make(f"Kind = {old}\ndef f(): return str(Kind)")
    assert again(identify(module.f))() == old
    exec(f"Kind = {new}", vars(module))
    with pytest.raises(NoIdentity, match=r"Kind .* is no value"):
        identify(module.f)


def test_a_cell_that_ran_again_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file has the place that it had; what ran last is in the history of IPython."""
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    namespace = vars(sys.modules["__main__"])
    namespace["_ih"] = [""]
    start = "import enum\nfrom functools import lru_cache\ndef slow(): return 5\n"
    cells = [
        start + "class Kind(enum.Enum): ONE = 1\nfast = lru_cache(maxsize=1)(slow)\n",
        start + "class Kind(enum.Enum): ONE = 2\nfast = lru_cache(maxsize=2)(slow)\n",
        "def f(): return Kind.ONE.value, fast.cache_info().maxsize\n",
    ]
    for number in (0, 1, 0, 2):
        name = f"/tmp/ipykernel_1/{number}.py"
        linecache.cache[name] = len(cells[number]), None, cells[number].splitlines(keepends=True), name
        namespace["_ih"].append(cells[number].rstrip())
        exec(compile(cells[number], name, "exec"), namespace)
    code = identify(namespace["f"])
    linecache.clearcache()
    assert again(code)() == (1, 1)


EDITED = """
from functools import lru_cache
class A: pass
class B: pass
class C(A): pass
@lru_cache(maxsize=1)
def g(x): return x
def slow(x): return x
fast = lru_cache(maxsize=None)(slow)
def f(x): return C, x
def decorated(x): return g(x)
def called(x): return fast(x)
"""


@pytest.fixture
def compiled(make: Make, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of which the import wrote the bytecode, as it does."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    return make(EDITED)


def test_a_base_class_edited_after_import(compiled: Any) -> None:
    assert "class C(A)" in text_of(compiled.f)
    edit(compiled, "(A)", "(B)")
    with pytest.warns(CodeWarning, match="C counts by its pickle, because .* edited since"):
        code = identify(compiled.f)
    assert "class C" not in code.text


def test_an_edit_in_the_second_of_the_import_that_leaves_the_size(compiled: Any) -> None:
    second = int(os.stat(compiled.__file__).st_mtime) * 1_000_000_000
    edit(compiled, "(A)", "(B)")
    os.utime(compiled.__cached__, ns=(second, second))
    os.utime(compiled.__file__, ns=(second + 1, second + 1))
    with pytest.warns(CodeWarning, match="C counts by its pickle, because .* edited since"):
        assert "class C" not in text_of(compiled.f)


@pytest.mark.parametrize(("name", "old", "new"), [("decorated", "=1", "=2"), ("called", "=None", "=2")])
def test_arguments_of_decorators_edited_after_import(compiled: Any, name: str, old: str, new: str) -> None:
    function = getattr(compiled, name)
    assert f"lru_cache(maxsize{old})" in text_of(function)
    edit(compiled, old, new)
    with pytest.raises(NoIdentity, match="edited since it was loaded: reload the module"):
        identify(function)


def test_code_that_is_too_deep(make: Make) -> None:
    module = make("def f(x): return " + " + ".join(["x"] * 800))
    with pytest.warns(CodeWarning, match="f counts by its pickle, because it is too deeply nested"):
        assert unpickled(identify(module.f))(1) == 800


def test_wrappers_of_an_older_decorator(make: Make) -> None:
    module = make(
        "import functools\n"
        "def deco(g):\n    @functools.wraps(g)\n    def wrapper(x): return g(x) + 1\n    return wrapper\n"
        "def other(g):\n    @functools.wraps(g)\n    def wrapper(x): return g(x) + 2\n    return wrapper\n"
        "@deco\ndef g(x): return x\ndef f(x): return g(x)"
    )
    module.deco = module.other
    assert again(identify(module.f))(1) == module.f(1) == 2


@pytest.mark.parametrize("given", ["K", "by=K"])
def test_what_a_decorator_was_given_is_another_by_now(make: Make, given: str) -> None:
    module = make(
        "import functools\n"
        "def scaled(by):\n    def deco(g):\n        @functools.wraps(g)\n"
        "        def wrapper(x): return g(x) * by\n        return wrapper\n    return deco\n"
        f"K = 3\n@scaled({given})\ndef g(x): return x\ndef f(x): return g(x)"
    )
    assert f"@scaled({given})" in text_of(module.f)
    for later in (5, 3.0, [3]):
        module.K = later
        assert again(identify(module.f))(1) == module.f(1) == 3
        assert type(again(identify(module.f))(1)) is int


def test_defaults_that_were_changed(make: Make) -> None:
    module = make("def g(x, n=1): return x + n\ndef f(x): return g(x)")
    module.g.__defaults__ = (5,)
    assert again(identify(module.f))(1) == 6


ONE_LINERS = """
import sys
from seamless_dask.code.identity import identify
def g(x): return x * 3
def f(x): return g(x) + 1
if __name__ == "__main__":
    sys.stdout.write(identify(f).text)
"""


def test_a_script_and_a_module_agree_in_another_process(project: Path) -> None:
    (project / "script.py").write_text(ONE_LINERS)
    texts = []
    for seed, arguments in (
        ("1", ["script.py"]),
        ("2", ["-m", "script"]),
        ("3", ["-c", "import script, sys; sys.stdout.write(script.identify(script.f).text)"]),
    ):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=project,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        texts.append(done.stdout)
    assert "def g(x):" in texts[0]
    assert texts[0] == texts[1] == texts[2]


def test_optimised_code_and_assertions(make: Make) -> None:
    module = make("def f(x):\n    assert x > 0, 'small'\n    return x")
    assert re.search(r"assert x > 0, 'small'", text_of(module.f))
