"""Identity of a function with 50 helpers in five modules, second call, against ``dask.base.tokenize``."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from .measure import Bench, answer

MODULES, HELPERS = 5, 10
HELPER = """
def h{m}_{n}(x, k={n}):
    total = 0
    for j in range(k):
        if j % 2:
            total += j * x
        else:
            total -= TABLE["a"]
    return total + {rest}

"""
MEASURED = """
import json, sys, timeit
import dask.base
from seamless_dask.code.identity import identify

def measured():
    code = identify(analyse)
    def per_call(function, number):
        timer = timeit.Timer(function, timer=__import__("time").process_time)
        return min(timer.repeat(5, number)) / number
    ratios = []
    for _ in range(int(sys.argv[1])):
        ours = per_call(code.guard, 2000)
        ratios.append(ours / per_call(lambda: dask.base.tokenize(analyse), 50))
    assert code.guard() and not code.warnings
    json.dump({"ratios": ratios, "seconds": ours, "reached": len(code.reached)}, sys.stdout)
"""


def _helpers(m: int, alone: bool) -> str:
    text = f'SCALE = {m} + 2\nTABLE = {{"a": 1, "b": [1, 2, 3]}}\n'
    for n in range(HELPERS):
        rest = f"h{m}_{n + 1}(x + SCALE)" if n + 1 < HELPERS else "x"
        if n + 1 == HELPERS and m + 1 < MODULES:
            rest = f"h{m + 1}_0(x)" if alone else f"m{m + 1}.h{m + 1}_0(x)"
        text += HELPER.format(m=m, n=n, rest=rest)
    return text


def _write(directory: Path) -> None:
    """Write the modules, a script that imports the function, and one that has everything itself."""
    for m in range(MODULES):
        following = f"import m{m + 1}\n" if m + 1 < MODULES else ""
        (directory / f"m{m}.py").write_text(following + _helpers(m, alone=False))
    function = "def analyse(x, threshold=0.5):\n    return {}h0_0(x) + threshold\n"
    (directory / "main.py").write_text("import m0\n" + function.format("m0."))
    (directory / "imported.py").write_text("from main import analyse\n" + MEASURED + "measured()\n")
    everything = "".join(_helpers(m, alone=True) for m in range(MODULES))
    (directory / "script.py").write_text(everything + function.format("") + MEASURED + "measured()\n")


def main(bench: Bench) -> None:
    """Identity of a function with 50 helpers, second call, against `dask.base.tokenize` of it."""
    directory = bench.fresh("project")
    _write(directory)
    for script, limit, what in (("script.py", 0.02, "in a script"), ("imported.py", 1.0, "in modules")):
        found = answer([sys.executable, script, str(bench.runs)], cwd=directory)
        bench.row(
            f"{what}, {found['seconds'] * 1e6:.1f} µs",
            statistics.median(found["ratios"]),
            limit,
            "tokenize, CPU time",
        )
