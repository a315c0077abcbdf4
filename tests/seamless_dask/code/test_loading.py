"""The text runs without the user's files, and tracebacks still show them."""

from __future__ import annotations

import dataclasses
import inspect
import json
import linecache
import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from seamless_dask.code.identity import identify
from seamless_dask.code.items import Buffer
from seamless_dask.code.loading import load

from .conftest import Make, again

SOURCE = """
def g(x):
    '''Divide.'''
    # by nothing

    return (
        1
        / x
    )

def f(x):
    y = x
    return g(y)
"""


def frames(error: BaseException) -> list[tuple[str, int | None, str, str | None]]:
    return [
        (each.filename, each.lineno, each.name, each.line)
        for each in traceback.extract_tb(error.__traceback__)
    ]


def test_tracebacks_show_the_users_file_and_line(make: Make) -> None:
    module = make(SOURCE)
    with pytest.raises(ZeroDivisionError) as plain:
        module.f(0)
    with pytest.raises(ZeroDivisionError) as loaded:
        again(identify(module.f))(0)
    assert frames(loaded.value)[1:] == frames(plain.value)[1:]


def test_and_where_the_file_is_not(make: Make, tmp_path: Path) -> None:
    module = make(SOURCE)
    code = identify(module.f)
    with pytest.raises(ZeroDivisionError) as plain:
        module.f(0)
    expected = frames(plain.value)[1:]
    Path(module.__file__).unlink()
    (tmp_path / "code.json").write_text(json.dumps([code.text, code.lines]))
    script = (
        "import json, sys, traceback\n"
        "from seamless_dask.code.loading import load\n"
        "f = load(*json.load(open(sys.argv[1])))\n"
        "try: f(0)\n"
        "except ZeroDivisionError as e:\n"
        "    told = traceback.extract_tb(e.__traceback__)\n"
        "    print(json.dumps([(t.filename, t.lineno, t.name, t.line) for t in told]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "code.json"],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert [tuple(each) for each in json.loads(done.stdout)][1:] == expected


def test_and_where_the_file_is_another_by_now(make: Make) -> None:
    module = make(SOURCE)
    code = identify(module.f)
    Path(module.__file__).write_text("x = 1\n" * 40)
    linecache.clearcache()
    loaded = again(code)
    assert inspect.getsource(loaded).startswith("def f(x):\n    y = x\n")


def test_getsource_gives_the_users_text(make: Make) -> None:
    module = make(SOURCE)
    loaded = again(identify(module.f))
    assert inspect.getsource(loaded) == inspect.getsource(module.f)
    assert inspect.getsource(loaded.__globals__["g"]) == inspect.getsource(module.g)


def test_it_runs_without_a_line_table(make: Make) -> None:
    code = identify(make(SOURCE).f)
    loaded = load(code.text)
    assert loaded(2) == 0.5
    with pytest.raises(ZeroDivisionError) as raised:
        loaded(0)
    assert frames(raised.value)[-1][0] == "<seamless>"


def test_a_line_table_is_no_part_of_the_text(make: Make) -> None:
    module = make(SOURCE)
    moved = make("\n\n" + SOURCE, "moved")
    one, other = identify(module.f), identify(moved.f)
    assert one.text == other.text
    assert one.lines != other.lines
    assert "analysis" not in one.text


def test_a_table_of_another_text_does_no_harm(make: Make) -> None:
    code = identify(make(SOURCE).f)
    table = {**code.lines, "statements": [[0, [1]] for _ in code.lines["statements"]]}
    assert load(code.text, table)(2) == 0.5


def test_inputs_are_given_when_they_are_asked_for(make: Make) -> None:
    module = make(
        "class V:\n    def __init__(self, n): self.n = n\nv = V(3)\ndef f(): return v.n, type(v).__name__"
    )

    def describe(value: Any) -> Buffer:
        return Buffer("state", str(value.n).encode(), (type(value),))

    code = identify(module.f, describe=describe)
    assert "v = __input__('v')" in code.text
    assert code.inputs["v"][:2] == ("state", b"3")

    def give(name: str, namespace: Any) -> Any:
        return namespace["V"](int(code.inputs[name].data))

    assert load(code.text, code.lines, give)() == (3, "V")


def test_without_inputs_the_name_is_told(make: Make) -> None:
    module = make("v = 1 + 2j\nw = {1: object}\nclass V: pass\nu = V()\ndef f(): return u")
    code = identify(module.f, describe=lambda value: Buffer("x", b""))
    with pytest.raises(KeyError, match="u"):
        load(code.text)


def test_a_large_table_is_an_input_and_a_small_one_is_text(make: Make) -> None:
    module = make(
        "SMALL = list(range(10))\nLARGE = list(range(200_000))\ndef f(): return sum(SMALL) + sum(LARGE)"
    )
    code = identify(module.f, describe=lambda value: Buffer("json/1", json.dumps(value).encode()))
    assert list(code.inputs) == ["LARGE"]
    assert len(code.text) < 300
    assert load(code.text, inputs=lambda name, _: json.loads(code.inputs[name].data))() == module.f()
    module.LARGE.append(1)
    assert not code.guard()


def test_a_description_can_be_text(make: Make) -> None:
    module = make("from decimal import Decimal\nD = Decimal('1.5')\ndef f(): return D")
    code = identify(module.f, describe=lambda value: repr(str(value)))
    assert "D = '1.5'" in code.text


def test_what_a_text_makes_can_be_pickled_where_it_runs(make: Make) -> None:
    module = make("import dataclasses\n@dataclasses.dataclass\nclass A:\n    x: int\ndef f(x): return A(x)")
    made = again(identify(module.f))(3)
    assert dataclasses.is_dataclass(made)
    assert pickle.loads(pickle.dumps(made)) == made


def test_reached_tells_what_counts_and_from_where(make: Make) -> None:
    helpers = make("K = 2\n\ndef g(x): return x * K", "helpers")
    module = make("import math\nfrom helpers import g\ndef f(x): return g(math.floor(x))")
    reached = {each.name: each for each in identify(module.f).reached}
    assert {name: each.kind for name, each in reached.items()} == {
        "f": "function",
        "g": "function",
        "math": "import",
        "K": "value",
    }
    assert (reached["g"].file, reached["g"].line, reached["g"].value) == (helpers.__file__, 3, helpers.g)


def test_the_room_imports_the_standard_library_alone() -> None:
    script = (
        "import sys\n"
        "from seamless_dask.code.identity import identify\n"
        "from seamless_dask.code.loading import load\n"
        "top = {name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)\n"
        "print(sorted(each for each in top if not each.startswith(('_', 'hashserver', 'seamless_dask'))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(inspect.getfile(identify)).parents[2])},
    )
    assert done.stdout.strip() == "[]", done.stderr
