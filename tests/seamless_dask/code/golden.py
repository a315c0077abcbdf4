"""Sources with the text that they must have, on every version of Python: no test is imported here."""

# ruff: noqa: E501 - a source and its text side by side

from __future__ import annotations

GOLDEN = [
    ("x=1+2*3-(4-5)", "x = 1 + 2 * 3 - (4 - 5)\n"),
    ("x=(1+2)*3", "x = (1 + 2) * 3\n"),
    ("x=2**-1;y=(-2)**2;z=-2**2;w=(2**3)**4", "x = 2 ** -1\ny = (-2) ** 2\nz = -2 ** 2\nw = (2 ** 3) ** 4\n"),
    ("x=not a==b and(c or d)", "x = not a == b and (c or d)\n"),
    ("x=(a<b)<c;y=a<b<c", "x = (a < b) < c\ny = a < b < c\n"),
    ("x=1 if a else(2 if b else 3)", "x = 1 if a else 2 if b else 3\n"),
    ("x=(1 if a else 2)if b else 3", "x = (1 if a else 2) if b else 3\n"),
    ("x=lambda a,/,b=1,*c,d,e=2,**f:(a,b)", "x = lambda a, /, b=1, *c, d, e=2, **f: (a, b)\n"),
    ("x=(1).real;y=1.5.real;z=1j.imag", "x = (1).real\ny = (1.5).real\nz = (1j).imag\n"),
    (
        "x=0xff;y=1_000;z=1e400;w=0x1_0000_0000_0000_0000",
        "x = 255\ny = 1000\nz = 1e309\nw = 0x10000000000000000\n",
    ),
    ("x='a\"b'\"c'd\"", "x = 'a\"bc\\'d'\n"),
    ('x="it\'s"', 'x = "it\'s"\n'),
    ("x=b'\\x00\\xff\\n\\''", 'x = b"\\x00\\xff\\n\'"\n'),
    ("x=r'\\d'+'''a\nb'''", "x = '\\\\d' + 'a\\nb'\n"),
    ("x=f'{a}{b!r:>{w}}{{}}'", "x = f'{a}{b!r:>{w}}{{}}'\n"),
    ("x=f\"{d['a']}\"'b'", "x = f\"{d['a']}b\"\n"),
    ("x=f'{a=}'", "x = f'a={a!r}'\n"),
    ("x=f'''{f\"{d['a']}\"}'''", "x = f'''{f\"{d['a']}\"}'''\n"),
    ("x=f'{ {1:2}[1]}'", "x = f'{ {1: 2}[1]}'\n"),
    ("x=f'a\\n{b:%Y}'", "x = f'a\\n{b:%Y}'\n"),
    ("x=a[1:2,::3];y=a[()];z=a[1,];w=a[b:=1]", "x = a[1:2, ::3]\ny = a[()]\nz = a[1,]\nw = a[(b := 1)]\n"),
    ("x={**a,1:2};y={*b,3}", "x = {**a, 1: 2}\ny = {*b, 3}\n"),
    ("f(a,*b,c=1,**d)", "f(a, *b, c=1, **d)\n"),
    ("f(x for x in y);f((x for x in y),1)", "f(x for x in y)\nf((x for x in y), 1)\n"),
    ("x=[a for a,b in c if d if e for f in g]", "x = [a for a, b in c if d if e for f in g]\n"),
    ("x={a:b for a in c}", "x = {a: b for a in c}\n"),
    ("x:int=1;(y):int=2;z.w:int", "x: int = 1\n(y): int = 2\nz.w: int\n"),
    ("x=y=1,2;x,=z;(x,*y)=w", "x = y = 1, 2\n(x,) = z\n(x, *y) = w\n"),
    (
        "def f():\n  x=yield\n  y=yield 1\n  z=(yield 2)+1\n  yield from x\n",
        "def f():\n    x = yield\n    y = yield 1\n    z = (yield 2) + 1\n    yield from x\n",
    ),
    (
        "async def f():\n  await g();x=(await h())**2\n  async for a in b:pass\n  async with c as d,e:pass\n",
        "async def f():\n    await g()\n    x = await h() ** 2\n    async for a in b:\n        pass\n    async with (c as d, e):\n        pass\n",
    ),
    (
        "if a:pass\nelif b:pass\nelse:\n if c:pass\n",
        "if a:\n    pass\nelif b:\n    pass\nelif c:\n    pass\n",
    ),
    (
        "try:a\nexcept(B,C)as d:raise\nexcept E:raise F from d\nelse:g\nfinally:h",
        "try:\n    a\nexcept (B, C) as d:\n    raise\nexcept E:\n    raise F from d\nelse:\n    g\nfinally:\n    h\n",
    ),
    ("try:a\nexcept*B:b", "try:\n    a\nexcept* B:\n    b\n"),
    ("with(a as b,c):pass", "with (a as b, c):\n    pass\n"),
    (
        "@a.b(1)\nclass C(D,metaclass=E):\n '''doc'''\n x=1\n def f(self):pass\n",
        "@a.b(1)\nclass C(D, metaclass=E):\n    'doc'\n    x = 1\n\n    def f(self):\n        pass\n",
    ),
    (
        "match a:\n case[1,*_]|{'b':c,**d}if e:pass\n case F(1,g=-2)as h:pass\n case None|True|'x':pass\n case _:pass",
        "match a:\n    case ([1, *_] | {'b': c, **d}) if e:\n        pass\n    case (F(1, g=-2) as h):\n        pass\n    case (None | True | 'x'):\n        pass\n    case _:\n        pass\n",
    ),
    ("from..a import b as c,d\nimport e.f as g", "from ..a import b as c, d\nimport e.f as g\n"),
    ("global a,b\ndel c,d[0]\nassert e,f", "global a, b\ndel c, d[0]\nassert e, f\n"),
    ("x=1;\n# comment\n\n\ny=2", "x = 1\ny = 2\n"),
    ("", ""),
]

SINCE = [
    ((3, 12), "def f[T: int, *U, **V](x: T): pass", "def f[T: int, *U, **V](x: T):\n    pass\n"),
    ((3, 12), "class C[T](B): pass", "class C[T](B):\n    pass\n"),
    ((3, 12), "type A[T] = list[T]", "type A[T] = list[T]\n"),
    ((3, 12), "x = f'{d['a']}'", "x = f\"{d['a']}\"\n"),
    ((3, 12), "x = f'{'\\n'.join(y)}'", "x = f\"{'\\n'.join(y)}\"\n"),
    ((3, 13), "def f[T = int](x): pass", "def f[T = int](x):\n    pass\n"),
    ((3, 14), "x = t'{ a!r:>3} b'", "x = t'{ a!r:>3} b'\n"),
    ((3, 14), "try: a\nexcept B, C: b", "try:\n    a\nexcept (B, C):\n    b\n"),
]
"""What older versions do not read: the first version that does, source and text."""

CORPUS = "\n".join(source for source, _ in GOLDEN) + "\n"
DIGEST = "a1d96e23f9b89f69919b30031c99762e07b9f70a69bb25dffebfb666441342b6"
