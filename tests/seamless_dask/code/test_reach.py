"""What a function reaches becomes part of its text, and the text does what the function does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from seamless_dask.code.border import Border
from seamless_dask.code.identity import identify
from seamless_dask.errors import NoIdentity

from .conftest import Make, again, text_of

RUNS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "helper": ("def g(x): return x + 1\ndef f(x): return g(x)", (1,)),
    "constant": ("K = 3\ndef f(x): return x * K", (2,)),
    "recursion": ("def f(n, acc=1): return acc if n == 0 else f(n - 1, acc * n)", (5,)),
    "mutual recursion": (
        "def even(n): return True if n == 0 else odd(n - 1)\n"
        "def odd(n): return False if n == 0 else even(n - 1)\n"
        "f = even",
        (7,),
    ),
    "closure": (
        "def make(a):\n"
        "    b = [a]\n"
        "    def inner(x): return x + a + b[0] + (inner(x - 1) if x else 0)\n"
        "    return inner\n"
        "f = make(3)",
        (2,),
    ),
    "nonlocal": (
        "def f(x):\n"
        "    n = 0\n"
        "    def count():\n"
        "        nonlocal n\n"
        "        n += 1\n"
        "        return n\n"
        "    return count() + count() + x",
        (1,),
    ),
    "class": (
        "class Base:\n"
        "    rate = 2\n"
        "    __secret = 5\n"
        "    def __init__(self, x): self.x = x\n"
        "    def go(self): return self.x * self.rate + self.__secret\n"
        "class Child(Base):\n"
        "    __slots__ = ('y',)\n"
        "    def go(self): return super().go() + helper(__class__.__name__)\n"
        "def helper(x): return len(x)\n"
        "def f(x): return Child(x).go()",
        (3,),
    ),
    "metaclass": (
        "class Meta(type):\n"
        "    def __new__(mcls, name, bases, space):\n"
        "        return super().__new__(mcls, name, bases, {**space, 'k': 4})\n"
        "class A(metaclass=Meta): pass\n"
        "def f(): return A.k",
        (),
    ),
    "properties and methods of classes": (
        "class A:\n"
        "    def __init__(self): self._x = 1\n"
        "    @property\n"
        "    def x(self): return self._x\n"
        "    @x.setter\n"
        "    def x(self, value): self._x = value + K\n"
        "    @classmethod\n"
        "    def made(cls): return cls()\n"
        "    @staticmethod\n"
        "    def twice(x): return 2 * x\n"
        "    class Inner:\n"
        "        z = 5\n"
        "K = 10\n"
        "Inner = A.Inner\n"
        "def f(x):\n"
        "    a = A.made()\n"
        "    a.x = x\n"
        "    return a.x, A.twice(x), Inner.z",
        (1,),
    ),
    "method": ("class A:\n    @staticmethod\n    def g(x): return h(x)\ndef h(x): return -x\nf = A.g", (4,)),
    "dataclass": (
        "import dataclasses\n"
        "@dataclasses.dataclass(order=True)\n"
        "class D:\n"
        "    x: int\n"
        "    y: float = 2.5\n"
        "    z: list = dataclasses.field(default_factory=list)\n"
        "def f(x): return (D(x) < D(x + 1), repr(D(x)))",
        (1,),
    ),
    "enum": (
        "import enum\n"
        "class C(enum.Enum):\n    RED = 1\n    BLUE = 2\n"
        "FAVOURITE = C.BLUE\n"
        "def f(): return C.RED.value, FAVOURITE.name, len(C)",
        (),
    ),
    "named tuple": (
        "from collections import namedtuple\nfrom typing import NamedTuple\n"
        "P = namedtuple('P', 'x y', defaults=[3])\n"
        "class Q(NamedTuple):\n    a: int\n    b: int = 4\n"
        "def f(x): return tuple(P(x)) + tuple(Q(x))",
        (1,),
    ),
    "generic": (
        "from typing import Generic, TypeVar\n"
        "T = TypeVar('T')\n"
        "class Box(Generic[T]):\n    def __init__(self, v: T) -> None: self.v = v\n"
        "def f(x): return Box[int](x).v",
        (1,),
    ),
    "decorators": (
        "import functools\nfrom contextlib import contextmanager\nfrom functools import lru_cache, partial\n"
        "def timed(g):\n"
        "    @functools.wraps(g)\n"
        "    def wrapper(*a): return g(*a)\n"
        "    return wrapper\n"
        "def doubled(g):\n"
        "    def w(x): return g(x) * 2\n"
        "    return w\n"
        "def times(n):\n"
        "    def deco(g):\n"
        "        @functools.wraps(g)\n"
        "        def wrapper(*a): return n * g(*a)\n"
        "        return wrapper\n"
        "    return deco\n"
        "@contextmanager\n"
        "def opened(x): yield x\n"
        "@lru_cache(maxsize=None)\n"
        "def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)\n"
        "@timed\n"
        "def g(x): return x + 1\n"
        "@doubled\n"
        "def h(x): return x\n"
        "@times(5)\n"
        "@timed\n"
        "def five(x): return x\n"
        "fast = lru_cache(g)\n"
        "p = partial(h, 4)\n"
        "def slow(x): return x\n"
        "slow = lru_cache(slow)\n"
        "REGISTRY = {}\n"
        "def register(g):\n"
        "    REGISTRY[g.__name__] = g\n"
        "    return g\n"
        "@register\n"
        "def one(x): return x\n"
        "def f(x):\n"
        "    with opened(x) as y:\n"
        "        return fib(y), g(y), h(y), five(y), fast(3), p(), slow(y), REGISTRY['one'](5), one(2)",
        (10,),
    ),
    "values": (
        "import logging, re\n"
        "NUMBERS = [1, True, 1.0, -0.0, 1e400, 2**70, -5, 3j, b'x', None, ..., (1,)]\n"
        "SETS = [{1, 2}, frozenset('a'), set()]\n"
        "SLICES = {'a': slice(1), 'b': range(3), 'c': bytearray(b'y')}\n"
        "PATTERN = re.compile('A+', re.I)\n"
        "LOG = logging.getLogger('analysis')\n"
        "MISSING = object()\n"
        "def g(x=MISSING): return x is MISSING\n"
        "def f(): return repr(NUMBERS), SETS, repr(SLICES), PATTERN.match('aa').end(), LOG.name, g()",
        (),
    ),
    "table of functions": (
        "import math\ndef g(x): return x + 1\nTABLE = {'a': g, 'b': len, 'c': [math.sqrt]}\n"
        "def f(x): return TABLE['a'](x), TABLE['b']('xy'), TABLE['c'][0](4)",
        (1,),
    ),
    "defaults of helpers": (
        "def h(x): return -x\nBASE = [7]\n"
        "def g(x, by=h, base=BASE, *, n=2): return by(x) + base[0] + n\n"
        "def f(x): return g(x)",
        (1,),
    ),
    "attributes of functions": ("def g(x): return x + g.step\ng.step = 4\ndef f(x): return g(x)", (1,)),
    "a global of the name of a builtin": ("def len(x): return 7\ndef f(x): return len(x) + max(1, 2)", ([],)),
    "generator": (
        "def g(n):\n    for i in range(n):\n        yield i * 2\ndef f(n): return list(g(n))",
        (4,),
    ),
    "coroutine": (
        "import asyncio\nasync def g(x): return x + 1\ndef f(x): return asyncio.run(g(x))",
        (4,),
    ),
    "comprehensions": (
        "K = 2\nxs = [1]\ndef f(xs): return [x * K for x in xs], {x: [y for y in xs if y > x] for x in xs}",
        ([1, 2],),
    ),
    "match": (
        "class P:\n    __match_args__ = ('x',)\n    def __init__(self, x): self.x = x\n"
        "def f(x):\n    match P(x):\n        case P(1): return 'one'\n        case P(x=y): return y",
        (2,),
    ),
    "local class": (
        "K = 3\ndef f(x):\n    class A:\n        k = K\n"
        "        def go(self): return self.k + x\n    return A().go()",
        (2,),
    ),
    "class in a factory": (
        "def make(n):\n    class A:\n        def go(self): return n\n    return A\n"
        "B = make(4)\ndef f(): return B().go()",
        (),
    ),
    "class body that reads the global of its own name": (
        "x = 1\nclass A:\n    x = x\n    y = x + 1\ndef f(): return A.y",
        (),
    ),
    "names of types": (
        "from __future__ import annotations\nimport dataclasses, typing\n"
        "Vector = list[float]\n"
        "@dataclasses.dataclass\nclass Node:\n    next: Node | None\n"
        "    data: Vector = dataclasses.field(default_factory=list)\n"
        "def f(): return str(typing.get_type_hints(Node)['data']), Node(Node(None)).next.next",
        (),
    ),
    "lambda": ("f = lambda x, y=2: x + y", (1, 2)),
    "two lambdas on a line": ("a, f = (lambda x: x + 1), (lambda x: x + 2)", (1,)),
    "submodule of a library": (
        "import xml.etree.ElementTree\ndef f(): return xml.etree.ElementTree.fromstring('<a/>').tag",
        (),
    ),
    "assignment to a global": ("N = 1\ndef f():\n    global N\n    N = N + 1\n    return N", ()),
    "a global that the function makes": ("def f():\n    global NEW\n    NEW = 3\n    return NEW", ()),
    "docstring that is read": ("def f():\n    'usage'\n    return f.__doc__", ()),
}


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


def test_what_is_the_users_can_be_set(make: Make) -> None:
    make("def g(x): return x + 1", "vendored.part")
    module = make("from vendored.part import g\ndef f(x): return g(x)")
    assert "def g" in text_of(module.f)
    text = identify(module.f, Border(remove=("vendored",))).text
    assert "from vendored.part import g" in text
    text = identify(module.f, Border(add=("vendored.part",), remove=("vendored",))).text
    assert "def g" in text


def test_the_standard_library_can_be_the_users(make: Make) -> None:
    module = make("import textwrap\ndef f(x): return textwrap.indent(x, ' ')")
    assert "import textwrap" in text_of(module.f)
    assert "def indent" in identify(module.f, Border(add=("textwrap",))).text


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
    for name in ("close",):
        getattr(module.thing, name, lambda: None)()
