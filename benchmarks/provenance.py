"""What made it, and why it runs again, with a database of a million results, against a cached run."""

from __future__ import annotations

import hashlib

from hashserver.checksum import Checksum
from hashserver.results.database import Database, Provenance, Put

from .measure import BIN, Bench, run

ROWS, AT_ONCE = 1_000_000, 50_000


def main(bench: Bench) -> None:
    """`seamless-log` and `seamless-why` among a million results, against a cached `seamless-run`."""
    data, environment = bench.fresh("data"), bench.environment()
    (data / "input.txt").write_text("b\na\n")
    known = [BIN / "seamless-run", "-q", "sort input.txt > sorted.txt"]
    run(known, environment, data)
    with Database(f"{environment['SEAMLESS_CACHE']}/seamless.db") as database:
        for start in range(0, ROWS, AT_ONCE):
            database.put_many([_result(number) for number in range(start, start + AT_ONCE)])
    lines = {
        "seamless-log FILE": ["seamless-log", "sorted.txt"],
        "seamless-log": ["seamless-log"],
        "seamless-why, known": ["seamless-why", "sort input.txt > sorted.txt"],
        "seamless-why, not known": ["seamless-why", "sort -r input.txt > sorted.txt"],
    }
    for title, (command, *words) in lines.items():
        line = [BIN / command, *words]
        bench.ratio(
            f"{title}, 1,000,000 results",
            lambda line=line: run(line, environment, data).wall,
            lambda: run(known, environment, data).wall,
            2.0,
            "cached seamless-run",
        )


def _result(number: int) -> Put:
    """Return a result like those of a day: two inputs of its own, a code that a thousand runs share."""
    provenance = Provenance(
        _checksum(f"code {number % 1000}"),
        [_checksum(f"a {number}"), _checksum(f"b {number}")],
        names=["sort", f"out-{number}.txt"],
    )
    record = {
        "started": "2026-01-01T00:00:00Z", "host": "n1", "environment": {}, "version": "1.0", "label": "sort",
        "wall": 1.5, "cpu": 1.4, "max_rss": 3 << 20, "exit_status": 0, "stderr": "",
        "isolation": "bubblewrap",
    }  # fmt: skip
    return Put(_checksum(f"tf {number}"), "file", _checksum(f"r {number}"), record, (), provenance)


def _checksum(text: str) -> Checksum:
    return Checksum(hashlib.sha256(text.encode()).hexdigest())
