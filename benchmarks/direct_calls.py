"""Calls of `direct` functions whose results are known, large arguments, and what the import takes."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from .measure import GIB, MIB, PYTHON, Bench, answer, run

HITS = """
import json, sys, timeit
import joblib
from seamless_dask import direct

def add(x, y=2):
    return x + y

def measured(runs):
    ours, theirs = direct(add), joblib.Memory("joblib", verbose=0).cache(add)
    assert ours(1) == theirs(1) == 3
    def per_call(function):
        return min(timeit.repeat(lambda: function(1), number=500, repeat=5)) / 500
    pairs = [(per_call(ours), per_call(theirs)) for _ in range(runs)]
    json.dump(pairs, sys.stdout)

if __name__ == "__main__":
    measured(int(sys.argv[1]))
"""

ARRAYS = """
import hashlib, json, sys, time
import numpy as np
from seamless_dask import direct, put

SIZE = int(sys.argv[2])

@direct
def ones(size):
    import numpy
    return numpy.ones(size, numpy.uint8)

@direct
def first(data):
    return int(data[0])

def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) << 10

def reset():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

def measured(runs):
    data = ones(SIZE)
    np.save("array.npy", data)
    data = np.load("array.npy")
    found = {"read": [], "mapped": [], "identity": [], "put": []}
    ones(SIZE), np.load("array.npy"), first(data)
    handle = put(data)
    first(handle)
    for _ in range(runs):
        found["read"].append((seconds(lambda: ones(SIZE).sum()), seconds(lambda: np.load("array.npy").sum())))
        found["mapped"].append((
            min(seconds(lambda: ones(SIZE)) for _ in range(50)),
            min(seconds(lambda: np.load("array.npy", mmap_mode="r")) for _ in range(50)),
        ))
        sha = seconds(lambda: hashlib.sha256(data).hexdigest())
        found["identity"].append((seconds(lambda: first.delayed.transformation(data).key), sha))
        found["put"].append((seconds(lambda: first(handle)), sha))
    reset()
    before = resident()
    first(data)
    found["memory"] = peak() - before
    json.dump(found, sys.stdout)

if __name__ == "__main__":
    measured(int(sys.argv[1]))
"""


def _measured(bench: Bench, name: str, script: str, *arguments: str) -> dict[str, list[list[float]]]:
    directory = bench.fresh(name)
    (directory / "script.py").write_text(script)
    command = [sys.executable, "script.py", str(bench.runs), *arguments]
    found = answer(command, bench.environment(name=f"{name}-cache"), directory)
    return found if isinstance(found, dict) else {"hits": found}


def _row(bench: Bench, what: str, pairs: list[list[float]], limit: float, against: str) -> None:
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(a / b for a, b in pairs)
    bench.row(what, ratio, limit, f"{ours * 1e6:.0f} µs against {theirs * 1e6:.0f} µs for {against}")


def main(bench: Bench) -> None:
    """Hits of `direct` functions against joblib and `numpy.load`; identity of large arguments; the import."""
    hits = _measured(bench, "hits", HITS)["hits"]
    _row(bench, "a hit after the first", hits, 0.5, "joblib.Memory")
    found = _measured(bench, "arrays", ARRAYS, str(GIB))
    _row(bench, "a hit with an array of 1 GiB, then read", found["read"], 1.3, "numpy.load")
    _row(bench, "the same, mapped only", found["mapped"], 2.0, "numpy.load(mmap_mode='r')")
    _row(bench, "identity of an argument of 1 GiB", found["identity"], 1.2, "SHA-256")
    memory: float = found["memory"]  # type: ignore[assignment]
    bench.row("memory of that", memory / MIB, 64, "beside the array", "MiB")
    _row(bench, "a call with what was put, for nothing", found["put"], 0.01, "SHA-256")
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
