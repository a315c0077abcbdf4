"""1,000 distinct calls of ``x + 1`` that nobody has computed, by Dask's threads, against `joblib.Memory`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from .measure import Bench, run

COUNT = 1000
OURS = """
import sys
import dask
from seamless_dask import delayed

@delayed
def increment(x):
    return x + 1

count = int(sys.argv[1])
found = dask.compute(*map(increment, range(count)), scheduler="threads")
assert list(found) == list(range(1, count + 1))
"""
JOBLIB = """
import sys
import joblib

def increment(x):
    return x + 1

cached = joblib.Memory("memory", verbose=0).cache(increment)
count = int(sys.argv[1])
assert [cached(x) for x in range(count)] == list(range(1, count + 1))
"""


def main(bench: Bench) -> None:
    """1,000 distinct misses of `x + 1`, embedded, by `dask.compute` with threads, against `joblib.Memory`."""
    numbers = iter(range(1 << 20))

    def measured(text: str) -> Callable[[], float]:
        def wall() -> float:
            directory = bench.fresh(f"misses-{next(numbers)}")
            (directory / "script.py").write_text(text)
            environment = bench.environment(name=f"cache-{next(numbers)}")
            return run([sys.executable, "script.py", str(COUNT)], environment, directory).wall

        return wall

    bench.ratio(f"{COUNT} misses", measured(OURS), measured(JOBLIB), 1.5, "joblib.Memory", runs=1)
