"""What ``seamless-run`` adds to a command that a daskserver runs for the first time."""

from __future__ import annotations

import itertools
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .measure import BIN, PYTHON, Bench, run

LIMIT = 25
WORKERS = ["--workers", "2", "--threads", "1"]
_number = itertools.count()


def main(bench: Bench) -> None:
    """An uncached trivial command by way of the jobserver: its overhead, in starts of an interpreter."""
    environment = bench.environment(name="server")
    with daskserver(environment) as connection:
        own = bench.environment() | {"SEAMLESS_DASKSERVER": str(connection)}
        rows = [_row(bench, own) for _ in range(bench.runs + 1)]
    miss, hit, bare, python = (statistics.median(column) for column in zip(*rows[1:], strict=True))
    times = f"{miss * 1e3:.0f} ms, a hit {hit * 1e3:.0f} ms"
    detail = f"{times}, against {python * 1e3:.0f} ms for python -c pass"
    bench.row("uncached, above the command's own time", (miss - bare) / python, LIMIT, detail)


def _row(bench: Bench, environment: dict[str, str]) -> tuple[float, ...]:
    """Measure a miss, a hit, the bare command and an interpreter's start in turn."""
    line = f"echo {next(_number)}"
    seamless = [BIN / "seamless-run", "-c", line]
    return (
        run(seamless, environment, bench.directory).wall,
        run(seamless, environment, bench.directory).wall,
        run(["bash", "-c", line]).wall,
        run(PYTHON).wall,
    )


@contextmanager
def daskserver(environment: dict[str, str]) -> Iterator[Path]:
    """Have a daskserver with two workers of one thread; yields its connection file."""
    command = [str(BIN / "seamless-daskserver")]
    subprocess.run([*command, "start", *WORKERS], env=environment, check=True, stdout=subprocess.DEVNULL)
    try:
        yield Path(environment["SEAMLESS_CACHE"]) / "daskserver" / "default" / "connection.json"
    finally:
        subprocess.run([*command, "stop"], env=environment, check=True, stderr=subprocess.DEVNULL)
