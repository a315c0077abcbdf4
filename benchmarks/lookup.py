"""Ten thousand look-ups in one request, among a million results, against ``import dask``."""

from __future__ import annotations

import hashlib
import random
import sys
import time

from hashserver.checksum import Checksum
from hashserver.client.database import connect_database
from hashserver.results.database import Database, Put

from .measure import Bench, run

ROWS, ASKED = 1_000_000, 10_000


def main(bench: Bench) -> None:
    """10,000 known transformations in one request to a hashserver with a million results."""
    directory = bench.fresh("server")
    known = [Checksum(hashlib.sha256(b"%d" % number).hexdigest()) for number in range(ROWS)]
    with Database(directory / "seamless.db") as database:
        for start in range(0, ROWS, 50_000):
            database.put_many([Put(name, "file", known[0]) for name in known[start : start + 50_000]])
    server = bench.server_at(directory)
    asked = random.Random(1).sample(known, ASKED)
    results = connect_database(server.url, token_file=str(directory / "token"))

    def ours() -> float:
        start = time.perf_counter()
        found = results.get_many(asked)
        wall = time.perf_counter() - start
        assert len(found) == ASKED
        return wall

    def floor() -> float:
        return run([sys.executable, "-c", "import dask"]).wall

    bench.ratio("10,000 of 1,000,000 results, one request", ours, floor, 1.0, "python -c 'import dask'")
