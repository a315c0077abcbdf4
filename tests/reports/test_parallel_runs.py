"""Many at once ask for the same that nobody has computed yet.

https://github.com/joblib/joblib/issues/490: a hundred calls of one cached function in several processes
warn of entries that cannot be read, since others are just writing them, and compute what is being computed.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CALLS = """
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from seamless_dask import bash

warnings.simplefilter("error")
line = f"echo ran >> {sys.argv[1]}; for n in $(seq 1000); do printf '%01000d' $n; done"

def call(number):
    return bash(line, isolation="none").compute(scheduler="sync").read_bytes()

with ThreadPoolExecutor(5) as pool:
    found = set(pool.map(call, range(25)))
assert len(found) == 1
print(len(found.pop()))
"""


def test_a_hundred_calls_in_four_processes_compute_it_once(tmp_path: Path) -> None:
    words = [sys.executable, "-c", CALLS, tmp_path / "ran"]
    processes = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)
    ]
    done = [process.communicate(timeout=100) for process in processes]
    assert {errors for _, errors in done} == {""}
    assert [printed for printed, _ in done] == ["1000000\n"] * 4
    assert (tmp_path / "ran").read_text() == "ran\n"
