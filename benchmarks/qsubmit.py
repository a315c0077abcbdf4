"""Submitting to the queue, while it waits and while it works."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .measure import BIN, PYTHON, Bench, run

SUBMISSIONS = 500
LIMIT = 10.0
_number = itertools.count()


def main(bench: Bench) -> None:
    """500 submissions by ``--qsubmit``, each against the start of the interpreter."""
    work = bench.fresh("work")
    (work / "input.txt").write_text("one\ntwo\n")
    environment = bench.environment() | {"SEAMLESS_ISOLATION": "none"}
    with _queue(environment, work, workers=1):
        go = work / "go"
        _submit(environment, work, f"while ! test -e {go}; do sleep 0.05; done; echo > waited")
        waiting = _measure(environment, work)
        bench.row("a submission, the queue waits", waiting.ratio, LIMIT, waiting.detail)
        go.touch()
    with _queue(environment, work, workers=1):
        working = _measure(environment, work, count=SUBMISSIONS // 5)
        bench.row("a submission, the queue at work", working.ratio, None, working.detail)


class _Figure:
    """Submissions and starts of the interpreter in turn, so that both see the same machine."""

    def __init__(self, ours: list[float], floor: list[float]) -> None:
        mean, start = statistics.fmean(ours), statistics.fmean(floor)
        self.ratio = mean / start
        self.detail = (
            f"{len(ours)} of them, {mean * 1e3:.0f} ms each, against {start * 1e3:.0f} ms for python -c pass"
        )


def _measure(environment: Mapping[str, str], work: Path, count: int = SUBMISSIONS) -> _Figure:
    pairs = [(_submit(environment, work, _command(next(_number))), run(PYTHON).wall) for _ in range(count)]
    return _Figure([ours for ours, _ in pairs], [floor for _, floor in pairs])


def _command(number: int) -> str:
    return f"wc -c input.txt > result-{number}.txt"


def _submit(environment: Mapping[str, str], work: Path, command: str) -> float:
    return run([BIN / "seamless-run", "--qsubmit", "-c", command], environment, work).wall


@contextmanager
def _queue(environment: Mapping[str, str], work: Path, workers: int) -> Iterator[None]:
    """Run a queue that is drained in the end."""
    run([BIN / "seamless", "queue", "--workers", str(workers), "-d"], environment, work)
    try:
        yield
    finally:
        run([BIN / "seamless", "queue-finish"], environment, work)
