"""Modules of users, each with a function `f` and arguments for it: for tests, and for other interpreters."""

from __future__ import annotations

from typing import Any

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
    "counters of one name": (
        "def make():\n    n = 0\n    def count():\n        nonlocal n\n        n += 1\n        return n\n"
        "    return count\n"
        "one, two = make(), make()\n"
        "def f(): return one(), one(), two()",
        (),
    ),
    "a variable that two closures share": (
        "def make():\n    n = 0\n    def count():\n        nonlocal n\n        n += 1\n"
        "    def told(): return n\n    return count, told\n"
        "count, told = make()\n"
        "def f():\n    count()\n    return told()",
        (),
    ),
    "containers that are one object": (
        "ROW = [0]\nGRID = {'a': ROW, 'b': [ROW, ROW]}\n"
        "def f():\n    before = GRID['b'][0] is ROW is GRID['a']\n    return before, GRID['b'][1] is ROW",
        (),
    ),
    "a container twice in another one": (
        "GRID = [[0]] * 2\ndef f():\n    return GRID[0] is GRID[1]",
        (),
    ),
    "implementations by type": (
        "from functools import singledispatch\n"
        "@singledispatch\ndef g(x): return 'any'\n"
        "@g.register\ndef _(x: int): return 'int'\n"
        "@g.register(list)\ndef _(x): return 'list'\n"
        "def f(): return g(1), g([]), g('')",
        (),
    ),
    "decorators that a factory had": (
        "from functools import lru_cache, wraps\n"
        "def make(n):\n"
        "    def deco(g):\n"
        "        @wraps(g)\n"
        "        def wrapper(x): return g(x) + n\n"
        "        return wrapper\n"
        "    @deco\n"
        "    def inner(x): return x\n"
        "    return inner\n"
        "g = make(3)\ndef f(x): return g(x)",
        (1,),
    ),
    "functions that C code has": (
        "OPS = {'a': str.upper, 'b': dict.fromkeys, 'c': ', '.join, 'd': type(None), 'e': max}\n"
        "def f(): return OPS['a']('x'), OPS['b']('ab'), OPS['c']('xy'), OPS['d'], OPS['e'](1, 2)",
        (),
    ),
    "a class in a function whose base is there too": (
        "def make(n):\n    class P:\n        def go(self): return n\n"
        "    class Q(P):\n        def go(self): return super().go() + 1\n"
        "    return lambda: Q().go()\n"
        "f = make(3)",
        (),
    ),
    "functions as class values": (
        "def g(x): return x\nclass A:\n    one = staticmethod(g)\n    two = g\n    three = lambda self: 3\n"
        "    four = two\n"
        "def f(): return A.one(1), A.two(2), A().three(), A.four(4)",
        (),
    ),
    "docstring that is read": ("def f():\n    'usage'\n    return f.__doc__", ()),
}
SINCE: dict[str, tuple[tuple[int, int], str, tuple[Any, ...]]] = {
    "generic function": ((3, 12), "def g[T](x: T) -> T: return x\ndef f(x): return g(x)", (1,)),
    "generic class": (
        (3, 12),
        "class Box[T]:\n    def __init__(self, v: T): self.v = v\n    def get(self) -> T: return self.v\n"
        "def f(x): return Box[int](x).get()",
        (1,),
    ),
    "a type parameter that is used": (
        (3, 12),
        "def g[T](x: T): return T.__name__\ndef f(x): return g(x)",
        (1,),
    ),
    "alias of a type": ((3, 12), "type V = list[float]\ndef f(): return V.__value__", ()),
    "one string in another": ((3, 12), "def f(x): return f'{x['a']} {'\\n'.join(x)}'", ({"a": 1},)),
    "annotations that are evaluated late": (
        (3, 14),
        "import dataclasses\n@dataclasses.dataclass\nclass Node:\n    next: Node | Other\nclass Other: pass\n"
        "def f(): return [each.name for each in dataclasses.fields(Node)]",
        (),
    ),
}
"""Cases of later versions: the first that reads them, source and arguments."""
DIGEST = "ead986453ea68bf7179a0d23def6196de828fab3b2d303e233b7412e42703270"
"""SHA-256 of the texts of all functions, one behind the other, on every version of Python."""
