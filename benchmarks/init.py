"""``seamless-init`` from nothing running to ready."""

from __future__ import annotations

import statistics
import sys

from .measure import BIN, Bench, run


def main(bench: Bench) -> None:
    """``seamless-init`` to a ready hashserver, against importing what a server needs plus 0.2 s."""

    def ours() -> float:
        environment = bench.environment()
        wall = run([BIN / "seamless-init", "-q"], environment).wall
        run([BIN / "seamless-init", "-q", "--stop"], environment)
        return wall

    def floor() -> float:
        return run([sys.executable, "-c", "import aiohttp, fsspec"]).wall

    ours(), floor()
    measured = [(ours(), floor()) for _ in range(bench.runs)]
    a, b = (statistics.median(column) for column in zip(*measured, strict=True))
    ratio = statistics.median((x - 0.2) / y for x, y in measured)
    detail = f"{a * 1e3:.0f} ms less 200 ms, against {b * 1e3:.0f} ms for python -c 'import aiohttp, fsspec'"
    bench.row("seamless-init, from nothing to ready", ratio, 1.5, detail)
