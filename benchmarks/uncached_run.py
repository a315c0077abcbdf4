"""What ``seamless-run`` adds to a command that runs for the first time, and where the time goes."""

from __future__ import annotations

import itertools
import re
import statistics
import subprocess

from .measure import BIN, PYTHON, Bench, run

_number = itertools.count()


def main(bench: Bench) -> None:
    """An uncached trivial command, embedded: its overhead, by isolation, and where the time goes."""
    data = bench.fresh("data")
    environment = bench.environment()
    bare = ["bash", "-c", "echo 1"]
    for isolation in ("none", "auto"):
        own = environment | {"SEAMLESS_ISOLATION": isolation}

        def ours(own: dict[str, str] = own) -> float:
            return run([BIN / "seamless-run", "-c", f"echo {next(_number)}"], own, data).wall

        measured = [(ours(), run(bare).wall, run(PYTHON).wall) for _ in range(bench.runs + 1)][1:]
        wall, floor, python = (statistics.median(column) for column in zip(*measured, strict=True))
        detail = f"{wall * 1e3:.0f} ms, of which the command itself {floor * 1e3:.0f} ms"
        bench.row(f"trivial command, isolation {isolation}", (wall - floor) / python, None, detail)
    _imports(bench)


def _imports(bench: Bench) -> None:
    """Say what the interpreters of one run spend on imports: the command's and the runner's."""
    for what, module in (("command", "seamless_cli.run"), ("runner", "seamless_dask.runner")):
        report = subprocess.run(
            [PYTHON[0], "-X", "importtime", "-c", f"import {module}"],
            capture_output=True,
            text=True,
            check=True,
        ).stderr
        rows = re.findall(r"import time: +(\d+) \| +(\d+) \| (\s*)(\S+)", report)
        spent = sum(int(own) for own, *_ in rows) / 1000
        top = [(int(total), name) for _, total, indent, name in rows if not indent]
        most = ", ".join(f"{name} {total / 1000:.0f}" for total, name in sorted(top, reverse=True)[:4])
        bench.row(f"imports of the {what}", spent, None, f"most: {most}", unit="ms")
