"""Identity of arrays and tables of 1 GiB against SHA-256 of their buffers; loading against NumPy's own."""

from __future__ import annotations

import statistics
import sys

from .measure import MIB, MORE_MEMORY, Bench, answer, timed

MEASURED = (
    MORE_MEMORY
    + """
import hashlib, json, sys, time
import numpy as np
import pandas as pd
from seamless_dask.values.writing import identify

kind, runs = sys.argv[1], int(sys.argv[2])
count = 1 << 27
if kind == "array":
    value = np.arange(count, dtype="f8")
    buffers = [value]
elif kind == "array in a dictionary":
    value = {"data": np.arange(count, dtype="f8"), "unit": "m"}
    buffers = [value["data"]]
else:
    columns = {f"c{number}": np.arange(count // 8, dtype="f8") for number in range(7)}
    columns["when"] = np.arange(count // 8).astype("M8[ns]")
    if kind == "frame with text":
        columns = {name: columns[name] for name in ("c0", "c1", "when")}
        columns["text"] = pd.array(["a text of sixteen"], "str").repeat(count // 8)
    value = pd.DataFrame(columns, copy=False)
    buffers = [column for column in columns.values() if isinstance(column, np.ndarray)]
    if "text" in columns:
        import pyarrow as pa
        (chunk,) = pa.chunked_array(pa.array(columns["text"])).chunks
        buffers += [buffer for buffer in chunk.buffers() if buffer is not None]

identify(np.zeros(2)), identify(pd.DataFrame({"a": [1], "b": ["x"]}))
more = more_memory(lambda: identify(value))
ratios = []
for _ in range(runs):
    start = time.process_time()
    identify(value)
    ours = time.process_time() - start
    start = time.process_time()
    sha = hashlib.sha256()
    for buffer in buffers:
        sha.update(buffer)
    ratios.append(ours / (time.process_time() - start))
json.dump({"ratios": ratios, "more": more}, sys.stdout)
"""
)
KINDS = ("array", "array in a dictionary", "frame", "frame with text")


def main(bench: Bench) -> None:
    """Identity of 1 GiB arrays and frames against SHA-256 of their buffers, with memory; loading them."""
    for kind in KINDS:
        found = answer([sys.executable, "-W", "ignore", "-c", MEASURED, kind, str(min(bench.runs, 5))])
        bench.row(
            f"{kind}, 1 GiB", statistics.median(found["ratios"]), 1.2, "SHA-256 of its buffers, CPU time"
        )
        bench.row(f"{kind}, more memory", found["more"] / MIB, 64, "", unit="MiB")
    _loading(bench)


def _loading(bench: Bench) -> None:
    import numpy as np

    from seamless_dask.values.loading import load
    from seamless_dask.values.writing import write_value

    path = bench.fresh("data") / "array.npy"
    with path.open("wb") as stream:
        write_value(np.arange(1 << 27, dtype="f8"), stream.write)

    bench.ratio(
        "1 GiB array from a file, and its sum",
        lambda: timed(lambda: load("npy", path).sum()),
        lambda: timed(lambda: np.load(path).sum()),
        1.3,
        "numpy.load",
    )
    bench.ratio(
        "1 GiB array from a file, mapped, a hundred times",
        lambda: timed(lambda: [load("npy", path) for _ in range(100)]),
        lambda: timed(lambda: [np.load(path, mmap_mode="r") for _ in range(100)]),
        2.0,
        'numpy.load(mmap_mode="r")',
    )
