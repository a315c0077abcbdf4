"""Calls of `direct` functions whose results are known, large arguments, and what the import takes."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from .measure import GIB, MIB, MORE_MEMORY, PYTHON, Bench, answer, run

HITS = """
import json, sys, timeit
import joblib
from seamless_dask import direct

def add(x, y=2):
    return x + y

def total(items, scale=1.5):
    return {"number": len(items), "sum": sum(items) * scale}

def pairs(function, given, runs):
    ours, theirs = direct(function), joblib.Memory("joblib", verbose=0).cache(function)
    assert ours(given) == theirs(given)
    def per_call(function):
        return min(timeit.repeat(lambda: function(given), number=500, repeat=5)) / 500
    return [(per_call(ours), per_call(theirs)) for _ in range(runs)]

def measured(runs):
    json.dump({"number": pairs(add, 1, runs), "list": pairs(total, [1, 2.5, 3], runs)}, sys.stdout)

if __name__ == "__main__":
    measured(int(sys.argv[1]))
"""

ARRAYS = """
import json, sys, time
import numpy as np
from seamless_dask import direct

SIZE = int(sys.argv[2])

@direct
def ones(size):
    import numpy
    return numpy.ones(size, numpy.uint8)

def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start

def measured(runs):
    np.save("array.npy", ones(SIZE))
    found = {"read": [], "mapped": []}
    ones(SIZE), np.load("array.npy")
    for _ in range(runs):
        found["read"].append((seconds(lambda: ones(SIZE).sum()), seconds(lambda: np.load("array.npy").sum())))
        found["mapped"].append((
            min(seconds(lambda: ones(SIZE)) for _ in range(50)),
            min(seconds(lambda: np.load("array.npy", mmap_mode="r")) for _ in range(50)),
        ))
    json.dump(found, sys.stdout)

if __name__ == "__main__":
    measured(int(sys.argv[1]))
"""

ARGUMENTS = (
    MORE_MEMORY
    + """
import hashlib, json, sys, time
import numpy as np
import pandas as pd
from seamless_dask import direct, put

COLUMNS = 8

@direct
def length(data):
    return len(data)

def made(kind, size):
    columns = [np.arange(size // 8 // COLUMNS, dtype="f8") for _ in range(COLUMNS)]
    if kind == "array":
        return np.concatenate(columns), columns
    return pd.DataFrame({f"c{number}": column for number, column in enumerate(columns)}, copy=False), columns

def hashed(buffers):
    sha = hashlib.sha256()
    for buffer in buffers:
        sha.update(buffer)

def seconds(function):
    start = time.process_time()
    function()
    return time.process_time() - start

def measured(runs, kind, size):
    length(made(kind, 1 << 20)[0])  # what the first miss of all imports
    data, buffers = made(kind, size)
    found = {"identity": [], "put": [], "memory": more_memory(lambda: length(data))}
    handle, calls = put(data), length.delayed
    length(handle), calls(data)
    for _ in range(runs):
        sha = seconds(lambda: hashed(buffers))
        found["identity"].append((seconds(lambda: calls(data).key), sha))
        found["put"].append((seconds(lambda: length(handle)), sha))
    json.dump(found, sys.stdout)

if __name__ == "__main__":
    measured(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
"""
)


def _measured(bench: Bench, name: str, script: str, *arguments: str) -> dict[str, list[list[float]]]:
    directory = bench.fresh(name)
    (directory / "script.py").write_text(script)
    command = [sys.executable, "script.py", str(bench.runs), *arguments]
    found: dict[str, list[list[float]]] = answer(command, bench.environment(name=f"{name}-cache"), directory)
    return found


def _row(bench: Bench, what: str, pairs: list[list[float]], limit: float | None, against: str) -> None:
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    bench.row(what, ratio, limit, f"{ours * 1e6:.0f} µs against {theirs * 1e6:.0f} µs for {against}")


def _large(bench: Bench, kind: str) -> None:
    found = _measured(bench, kind, ARGUMENTS, kind, str(GIB))
    memory: float = found["memory"]  # type: ignore[assignment]
    bench.row(f"memory of the first call with 1 GiB, {kind}", memory / MIB, 64, "beside the object", "MiB")
    _row(bench, f"identity of an argument of 1 GiB, {kind}", found["identity"], 1.2, "SHA-256, CPU time")
    _row(bench, f"a call with what was put, {kind}", found["put"], 0.01, "SHA-256, CPU time")


def main(bench: Bench) -> None:
    """Hits of `direct` functions against joblib and `numpy.load`; identity of large arguments; the import."""
    hits = _measured(bench, "hits", HITS)
    _row(bench, "a hit after the first", hits["number"], 0.5, "joblib.Memory")
    _row(bench, "a hit with a list that gives a dictionary", hits["list"], None, "joblib.Memory")
    found = _measured(bench, "arrays", ARRAYS, str(GIB))
    _row(bench, "a hit with an array of 1 GiB, then read", found["read"], 1.3, "numpy.load")
    _row(bench, "the same, mapped only", found["mapped"], 2.0, "numpy.load(mmap_mode='r')")
    for kind in ("array", "frame"):
        _large(bench, kind)
    directory: Path = bench.fresh("import")
    imported = [sys.executable, "-c", "from seamless_dask import direct"]
    bench.ratio(
        "import of direct",
        lambda: run(imported, cwd=directory).wall,
        lambda: run(PYTHON, cwd=directory).wall,
        3.0,
        "python -c pass",
        runs=3 * bench.runs,
    )
