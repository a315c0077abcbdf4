"""What a function reaches becomes part of its text, and the text does what the function does."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType

import pytest

from seamless_dask.code.border import Border
from seamless_dask.code.identity import identify
from seamless_dask.errors import NoIdentity

from .cases import DIGEST, RUNS
from .conftest import Make, again, text_of


@pytest.mark.filterwarnings("ignore::seamless_dask.code.identity.CodeWarning")
@pytest.mark.parametrize("case", RUNS)
def test_the_text_does_what_the_function_does(make: Make, case: str) -> None:
    source, arguments = RUNS[case]
    function = make(source).f
    code = identify(function)
    assert not code.inputs, code.warnings
    loaded = again(code)
    assert loaded(*arguments) == function(*arguments)


@pytest.mark.filterwarnings("ignore::seamless_dask.code.identity.CodeWarning")
@pytest.mark.parametrize("case", RUNS)
def test_the_function_of_a_text_has_the_same_text(make: Make, case: str) -> None:
    code = identify(make(RUNS[case][0]).f)
    assert text_of(again(code)) == code.text


@pytest.mark.filterwarnings("ignore::seamless_dask.code.identity.CodeWarning")
def test_the_texts_have_a_golden_digest(make: Make) -> None:
    texts = [text_of(make(source).f) for source, _ in RUNS.values()]
    assert hashlib.sha256("".join(texts).encode()).hexdigest() == DIGEST


def test_the_whole_text(make: Make) -> None:
    make("RATE = 2\ndef scale(x): return x * RATE", "helpers")
    module = make(
        '''
        import math
        import helpers
        from helpers import scale as times

        LIMITS = {"low": 0, "high": [1, 2]}

        def clean(x: float) -> float:
            """Clean."""
            # the comment
            return min(max(x, LIMITS["low"]), math.inf)

        def fit(x, alpha=0.1):
            return times(clean(x)) * alpha + helpers.RATE
        '''
    )
    assert text_of(module.fit) == (
        "import math\n"
        "\n"
        "RATE = 2\n"
        "LIMITS = {'low': 0, 'high': [1, 2]}\n"
        "\n"
        "\n"
        "def clean(x):\n"
        "    return min(max(x, LIMITS['low']), math.inf)\n"
        "\n"
        "\n"
        "def scale(x):\n"
        "    return x * RATE\n"
        "\n"
        "\n"
        "def fit(x, alpha):\n"
        "    return scale(clean(x)) * alpha + RATE\n"
        "\n"
        "\n"
        "__function__ = fit\n"
    )


def test_the_whole_text_of_classes(make: Make) -> None:
    module = make(
        """
        import dataclasses

        @dataclasses.dataclass(order=True)
        class Item:
            size: int
            tags: list = dataclasses.field(default_factory=list)

            def big(self):
                return self.size > self.LIMIT

            LIMIT = 10

        class Box:
            __slots__ = ("items",)

        def fit(n):
            return Item(n).big(), Box()
        """
    )
    assert text_of(module.fit) == (
        "import dataclasses\n"
        "\n"
        "\n"
        "class Box:\n"
        "    __slots__ = ('items',)\n"
        "\n"
        "\n"
        "@dataclasses.dataclass(order=True)\n"
        "class Item:\n"
        "    size: int\n"
        "    tags: list = dataclasses.field(default_factory=list)\n"
        "\n"
        "    def big(self):\n"
        "        return self.size > self.LIMIT\n"
        "\n"
        "    LIMIT = 10\n"
        "\n"
        "\n"
        "def fit(n):\n"
        "    return Item(n).big(), Box()\n"
        "\n"
        "\n"
        "__function__ = fit\n"
    )


def test_two_helpers_of_one_name_stay_apart(make: Make) -> None:
    make("K = 1\ndef scale(x): return x + K", "one")
    make("K = 10\ndef scale(x): return x * K", "two")
    module = make("import one, two\ndef f(x): return one.scale(x), two.scale(x)")
    code = identify(module.f)
    assert again(code)(3) == (4, 30)
    assert "scale_2.__name__ = scale_2.__qualname__ = 'scale'" in code.text


def test_two_classes_of_one_name_keep_their_private_names(make: Make) -> None:
    source = "class A:\n    __k = {}\n    def go(self): return self.__k, type(self).__name__, self._A__k"
    make(source.format(1), "one")
    make(source.format(2), "two")
    module = make("import one, two\ndef f(): return one.A().go(), two.A().go()")
    assert again(identify(module.f))() == ((1, "A", 1), (2, "A", 2))


def test_a_local_name_does_not_hide_what_a_module_has(make: Make) -> None:
    make("def scale(x): return x * 2", "helpers")
    module = make("import helpers\ndef f(scale): return helpers.scale(scale)")
    assert again(identify(module.f))(3) == 6


def test_a_method_and_a_global_of_one_name_have_nothing_to_do_with_each_other(make: Make) -> None:
    module = make(
        """
        import threading
        from functools import singledispatchmethod as table

        lock = threading.Lock()

        class A:
            @property
            def lock(self): return self._lock

            @lock.setter
            def lock(self, value): self._lock = value

            from operator import neg as table
            value = table(-2)

        def f():
            a = A()
            a.lock = 3
            return a.lock, a.value
        """
    )
    code = identify(module.f)
    assert again(code)() == module.f() == (3, 2)
    assert "singledispatchmethod" not in code.text


def test_a_name_of_one_module_does_not_catch_the_builtin_of_another(make: Make) -> None:
    make("def max(*a): return 'mine'\ndef g(): return max(1, 2)", "helpers")
    module = make("from helpers import g\ndef f(): return g(), max(1, 2)")
    assert again(identify(module.f))() == ("mine", 2)


def test_circular_imports(make: Make, project: Path) -> None:
    (project / "left.py").write_text("import right\ndef a(n): return n if n < 1 else right.b(n - 1)\n")
    (project / "right.py").write_text("import left\ndef b(n): return n if n < 1 else left.a(n - 1) + 1\n")
    module = make("import left\ndef f(n): return left.a(n)")
    assert again(identify(module.f))(5) == module.f(5)


def test_star_imports(make: Make) -> None:
    make("K = 4\ndef g(x): return x + K", "helpers")
    module = make("from helpers import *\ndef f(x): return g(x) + K")
    assert again(identify(module.f))(1) == 9


REGISTER = (
    "def register(name):\n    def enter(kind):\n        TABLE[name] = kind\n        return kind\n"
    "    return enter\n"
)
ROUND = {
    "a decorator of classes": (
        "TABLE = {}\n" + REGISTER + "@register('b')\nclass A:\n    def go(self): return 1\n"
        "@register('a')\nclass B(A):\n    def go(self): return 1 + super().go()\n"
        "def f(): return [(name, kind().go()) for name, kind in TABLE.items()]"
    ),
    "one of them is gone": (
        "TABLE = {}\n" + REGISTER + "@register('b')\nclass A:\n    def go(self): return 1\n"
        "@register('a')\nclass B(A): pass\ndel TABLE['b']\n"
        "def f(): return [(name, kind().go()) for name, kind in TABLE.items()]"
    ),
    "a decorator of functions": (
        "import functools\nTABLE = {}\n"
        "def register(function):\n    @functools.wraps(function)\n"
        "    def entered(*given): return function(*given) + 1\n"
        "    TABLE[function.__name__] = entered\n    return entered\n"
        "@register\ndef two(x): return x * 2\n@register\ndef three(x): return x * 3\n"
        "def f(): return [(name, function(1)) for name, function in TABLE.items()]"
    ),
    "what a base class knows of others": (
        "class Base:\n    known = []\n    def __init_subclass__(cls, **named):\n"
        "        super().__init_subclass__(**named)\n        Base.known.append(cls)\n"
        "class A(Base):\n    def go(self): return 1\nclass B(Base):\n    def go(self): return 2\n"
        "def f(): return [kind().go() for kind in Base.known]"
    ),
    "a metaclass": (
        "KNOWN = set()\nclass Meta(type):\n    def __init__(cls, *given):\n        super().__init__(*given)\n"
        "        KNOWN.add(cls)\n"
        "class A(metaclass=Meta): pass\nclass B(A): pass\n"
        "def f(): return sorted(kind.__name__ for kind in KNOWN), A in KNOWN"
    ),
    "a class that names itself": (
        "class A:\n    def go(self): return [kind.name for kind in self.all]\nA.all = (A,)\nA.name = 'A'\n"
        "def f(): return A().go()"
    ),
}


@pytest.mark.parametrize("case", ROUND)
def test_a_table_that_definitions_enter_themselves_in(make: Make, case: str) -> None:
    module = make(ROUND[case])
    code = identify(module.f)
    assert not code.inputs
    assert again(code)() == module.f()
    assert text_of(again(code)) == code.text


def test_one_function_of_a_module_counts_and_the_others_do_not(make: Make) -> None:
    make("def a(x): return x\ndef b(x): return 'other'", "helpers")
    module = make("import helpers\ndef f(x): return helpers.a(x)")
    assert "other" not in text_of(module.f)


def test_a_module_that_is_passed_on_counts_whole(make: Make) -> None:
    make("K = 2\ndef a(x): return x + K\ndef b(x): return 'other'", "helpers")
    module = make("import helpers\ndef f(name): return getattr(helpers, name)(1)")
    code = identify(module.f)
    assert "other" in code.text
    assert again(code)("a") == 3
    assert text_of(again(code)) == code.text


def test_what_of_a_whole_module_is_no_value_is_left_out_and_told(make: Make) -> None:
    make("import threading\nLOCK = threading.Lock()\ndef a(x): return x", "helpers")
    module = make("import helpers\ndef f(name): return getattr(helpers, name)(1)")
    with pytest.warns(UserWarning, match="LOCK of the module helpers"):
        code = identify(module.f)
    assert again(code)("a") == 1


ANSWERS = (
    "def __getattr__(name):\n    if name != 'answer': raise AttributeError(name)\n    return 41 + ADDED\n"
    "ADDED = 1"
)


@pytest.mark.parametrize(
    "source",
    [
        "import helpers\ndef f(): return helpers.answer",
        "def f():\n    from helpers import answer\n    return answer",
        "import helpers\ndef f(): return getattr(helpers, 'an' + 'swer')",
    ],
)
def test_what_a_module_gives_when_it_is_asked(make: Make, source: str) -> None:
    helpers = make(ANSWERS, "helpers")
    module = make(source)
    code = identify(module.f)
    assert again(code)() == module.f() == 42
    helpers.ADDED = 1000
    assert not code.guard()
    assert again(identify(module.f))() == module.f() == 1041


def test_counters_of_one_name_in_two_modules(make: Make) -> None:
    source = "N = 0\ndef count():\n    global N\n    N += 1\n    return N"
    make(source, "one")
    make(source, "two")
    module = make("import one, two\ndef f(): return one.count(), two.count(), one.N, two.N")
    with pytest.warns(UserWarning, match="assigns to N"):
        code = identify(module.f)
    assert again(code)() == (1, 1, 1, 1)


def test_our_own_decorators_are_gone(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ModuleType("seamless_dask.decorating")
    source = (
        "import functools\n"
        "class Decorated:\n"
        "    def __init__(self, function): functools.update_wrapper(self, function)\n"
        "def direct(function=None, **options):\n"
        "    return Decorated(function) if function else Decorated\n"
    )
    exec(source, vars(ours))
    monkeypatch.setitem(sys.modules, ours.__name__, ours)
    plain = make("def g(x): return x\ndef f(x): return g(x) + (f(x - 1) if x else 0)", "plain")
    module = make(
        """
        from seamless_dask.decorating import direct

        @direct
        def g(x): return x

        @direct(memory="2 GiB")
        def f(x): return g(x) + (f(x - 1) if x else 0)
        """
    )
    assert text_of(module.f) == text_of(module.f.__wrapped__) == text_of(plain.f)


def test_our_own_decorators_above_others(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = ModuleType("seamless_dask.decorating")
    exec("def direct(function): return function", vars(ours))
    monkeypatch.setitem(sys.modules, ours.__name__, ours)
    module = make(
        """
        from functools import lru_cache
        from seamless_dask.decorating import direct

        @direct
        @lru_cache
        def f(x): return x
        """
    )
    assert text_of(module.f).endswith("@lru_cache\ndef f(x):\n    return x\n\n\n__function__ = f\n")


@pytest.mark.parametrize(
    "source",
    [
        "def f(x):\n    from functools import lru_cache as delayed\n    @delayed\n    def g(): return x\n"
        "    return g() + g.cache_info().misses",
        "def work(x, delayed):\n    @delayed\n    def g(): return x\n    return g()\n"
        "def f(x): return work(x, lambda g: lambda: g() + 1)",
        "keep = [].append\ndef f(x):\n    @keep\n    def g(): return x\n    return [x + 1, g][0]",
    ],
    ids=["an import", "a parameter", "a method of a list"],
)
def test_decorators_inside_functions_that_are_not_ours(make: Make, source: str) -> None:
    module = make("from seamless_dask import delayed\n" + source)
    assert again(identify(module.f))(2) == module.f(2) == 3


def test_imports_inside_functions(make: Make) -> None:
    make("K = 2\ndef g(x): return x + K", "helpers")
    module = make(
        """
        def f(x):
            import math
            from helpers import g, K as k
            return g(x) + k + math.floor(1.5)
        """
    )
    code = identify(module.f)
    del sys.modules["helpers"]
    assert again(code)(1) == 6
    assert "helpers" not in code.text


def test_relative_imports_inside_functions(make: Make, project: Path) -> None:
    make("def g(x): return x + 1", "package.helpers")
    (project / "package" / "__init__.py").write_text("")
    module = make("def f(x):\n    from .helpers import g\n    return g(x)", "package.main")
    assert again(identify(module.f))(1) == 2


def test_a_module_that_a_function_would_import_and_nobody_has(make: Make) -> None:
    module = make(
        "def f():\n    try:\n        import not_there\n    except ImportError:\n        return 'none'"
    )
    assert again(identify(module.f))() == "none"


def test_script_notebook_and_module_agree(make: Make, project: Path) -> None:
    helper, function = "K = 3\ndef g(x): return x * K\n", "def f(x): return g(x) + K\n"
    module = make(helper + function, "all_in_one")
    make(helper, "helpers")
    split = make("from helpers import g, K\n" + function, "split")
    dotted = make("import helpers\ndef f(x): return helpers.g(x) + helpers.K\n", "dotted")
    assert text_of(module.f) == text_of(split.f) == text_of(dotted.f)


def test_closures_of_one_factory_are_never_mixed_up(make: Make) -> None:
    module = make(
        "def make(a):\n    def inner(x): return x + a\n    return inner\none, two = make(1), make(2)\n"
        "def f(x): return one(x), two(x)"
    )
    assert text_of(module.one) != text_of(module.two)
    assert again(identify(module.f))(10) == (11, 12)


def test_libraries_count_by_their_public_name(make: Make) -> None:
    module = make(
        "from json import JSONDecodeError as E\nfrom os.path import join\ndef f(): return E, join('a', 'b')"
    )
    text = text_of(module.f)
    assert "from json import JSONDecodeError\n" in text
    assert "def join" not in text


def test_a_function_of_a_library_that_is_replaced(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    module = make("import math, numpy\ndef f(): return math.sqrt(4), numpy.mean([1])")
    code = identify(module.f)
    helpers = make("K = 5\ndef mine(x): return K", "helpers")
    monkeypatch.setattr("math.sqrt", helpers.mine)
    monkeypatch.setattr("numpy.mean", helpers.mine)
    assert not code.guard()
    replaced = identify(module.f)
    assert again(replaced)() == module.f() == (5, 5)
    helpers.K = 6
    assert not replaced.guard()
    monkeypatch.undo()
    assert identify(module.f).text == code.text


def test_what_is_the_users_can_be_set(make: Make) -> None:
    make("def g(x): return x + 1", "vendored.part")
    module = make("from vendored.part import g\ndef f(x): return g(x)")
    assert "def g" in text_of(module.f)
    text = identify(module.f, Border(remove=("vendored",))).text
    assert "from vendored.part import g" in text
    text = identify(module.f, Border(add=("vendored.part",), remove=("vendored",))).text
    assert "def g" in text


def test_what_is_the_users_does_not_depend_on_what_was_imported(
    make: Make, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(project / "lib" / "site-packages")
    make("", "lib.site-packages.mine.__init__")
    make("def g(x): return x + 1", "lib.site-packages.mine.part")
    make("def h(x): return x + 1", "vendored")
    module = make(
        "def f(x):\n    from mine.part import g\n    from vendored import h\n    return g(x) + h(x)"
    )
    for name in ("vendored", "mine.part", "mine"):
        sys.modules.pop(name, None)
    border = Border(add=("mine.part",), remove=("vendored",))
    text = identify(module.f, border).text
    assert "def g" in text
    assert "from vendored import h" in text
    assert "vendored" not in sys.modules
    assert identify(module.f, border).text == text


def test_what_is_installed_is_a_librarys(make: Make, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(project / "lib" / "site-packages")
    make("def g(x): return x + 1", "lib.site-packages.installed")
    module = make("from installed import g\ndef f(x): return g(x)")
    assert "from installed import g" in text_of(module.f)


def test_what_lies_elsewhere_is_the_users(make: Make, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an editable install does it: a path that `site-packages` only names."""
    monkeypatch.syspath_prepend(project / "checkout" / "src")
    make("def g(x): return x + 1", "checkout.src.editable")
    module = make("from editable import g\ndef f(x): return g(x)")
    assert "def g(x)" in text_of(module.f)


def test_the_standard_library_can_be_the_users(make: Make) -> None:
    module = make("import textwrap\ndef f(x): return textwrap.indent(x, ' ')")
    assert "import textwrap" in text_of(module.f)
    assert "def indent" in identify(module.f, Border(add=("textwrap",))).text


def test_a_proxy_that_stands_for_nothing_is_named(make: Make) -> None:
    module = make(
        """
        class Proxy:
            def __getattr__(self, name): raise RuntimeError("outside of a request")
        request = Proxy()
        def f(): return request
        """
    )
    with pytest.raises(NoIdentity, match=r"^request \(analysis.Proxy\), which f reads"):
        identify(module.f)


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        ("import threading\nthing = threading.Lock()", "_thread.lock"),
        ("import sqlite3\nthing = sqlite3.connect(':memory:')", "sqlite3.Connection"),
        ("thing = open(__file__)", "_io.TextIOWrapper"),
        ("thing = (n for n in [1])", "builtins.generator"),
        ("import socket\nthing = socket.socket()", "socket.socket"),
        ("thing = [1]\nthing.append(thing)", "builtins.list"),
        ("class Client: pass\nthing = Client()", "analysis.Client"),
    ],
    ids=lambda text: text[-12:],
)
def test_a_global_that_is_no_value_is_named(make: Make, made: str, kind: str) -> None:
    module = make(made + "\ndef f(): return thing")
    with pytest.raises(
        NoIdentity, match=rf"^thing \({kind}\), which f reads, at .*analysis.py:\d+, is no value"
    ):
        identify(module.f)
    getattr(module.thing, "close", lambda: None)()
