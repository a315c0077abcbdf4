"""Many commands at once on one host, against as many at a time as it has processors."""

from __future__ import annotations

import os
import time
from pathlib import Path

from .measure import BIN, Bench, run

RUNS, AT_ONCE = 200, 50
SLOWER = 1.2
# a program, since a command itself may not name a file outside of its directory
MARK = '#!/bin/sh\necho "$1" >> "$0.log"\n'


def main(bench: Bench) -> None:
    """200 uncached runs by ``xargs -P 50``: how many at a time, and the time against ``-P`` processors."""
    processors = len(os.sched_getaffinity(0))
    mark = bench.fresh("work") / "mark"
    mark.write_text(MARK)
    mark.chmod(0o700)
    many = _seconds(bench, mark, AT_ONCE)
    most = _most_at_a_time(Path(f"{mark}.log"))
    few = _seconds(bench, mark, processors)
    bench.row("commands at a time, xargs -P 50", most, processors, f"{processors} processors", unit="")
    detail = f"{many:.1f} s against {few:.1f} s with xargs -P {processors}"
    bench.row("time, xargs -P 50", many / few, SLOWER, detail)


def _seconds(bench: Bench, mark: Path, at_once: int) -> float:
    environment = bench.environment() | {"SEAMLESS_ISOLATION": "none"}
    environment["PATH"] = f"{mark.parent}:{environment['PATH']}"
    command = "mark +; echo {}; mark -"
    words = f"seq {RUNS} | xargs -P {at_once} -I{{}} {BIN}/seamless-run -c '{command}'"
    start = time.perf_counter()
    run(["bash", "-c", words], environment, bench.fresh("empty"))
    return time.perf_counter() - start


def _most_at_a_time(log: Path) -> int:
    now = most = 0
    for line in log.read_text().split():
        now += 1 if line == "+" else -1
        most = max(most, now)
    return most
