"""What ``seamless-run`` adds to a command that runs for the first time, and where the time goes."""

from __future__ import annotations

import itertools
import statistics

from .measure import BIN, PYTHON, Bench, run

_number = itertools.count()
RUNNER = "import seamless_dask.worker.local, seamless_dask.graph.perform, seamless_dask.execution.bash"


def main(bench: Bench) -> None:
    """An uncached trivial command, embedded: its overhead by isolation, and where the time goes."""
    environment = bench.environment()
    for isolation in ("none", "auto"):
        own = environment | {"SEAMLESS_ISOLATION": isolation}
        _measure(bench, isolation, own)


def _measure(bench: Bench, isolation: str, environment: dict[str, str]) -> None:
    """Measure a miss, a hit, the starts of interpreters and the bare command in turn."""

    def seamless(number: int) -> float:
        return run([BIN / "seamless-run", "-c", f"echo {number}"], environment, bench.directory).wall

    rows = []
    for _ in range(bench.runs + 1):
        number = next(_number)
        rows.append(
            (
                seamless(number),
                seamless(number),
                run([PYTHON[0], "-c", RUNNER], environment).wall,
                run(["bash", "-c", f"echo {number}"]).wall,
                run(PYTHON).wall,
            )
        )
    miss, hit, runner, bare, python = (statistics.median(column) for column in zip(*rows[1:], strict=True))
    detail = f"{miss * 1e3:.0f} ms in all, against {python * 1e3:.0f} ms for python -c pass"
    bench.row(f"overhead, isolation {isolation}", (miss - bare) / python, None, detail)
    parts = {
        "the command line: parsing, look-up, delivery (a hit)": hit,
        "the runner: its interpreter, Dask and our modules": runner,
        "the command itself (bash -c)": bare,
        "the rest, by difference: storing, directory, sandbox": miss - hit - runner - bare,
    }
    for what, seconds in parts.items():
        bench.row(f"  {what}", 1e3 * seconds, None, f"{seconds / miss:.0%}", unit="ms")
