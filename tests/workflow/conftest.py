"""What the tests of whole workflows share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent


@contextmanager
def daskserver(cache: Path, workers: int, threads: int) -> Iterator[str]:
    """The connection file of a daskserver with a cache and a home of its own."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("SEAMLESS_")}
    own |= {"SEAMLESS_CACHE": str(cache), "HOME": str(cache)}

    def command(*words: str) -> None:
        words = (str(BIN / "seamless-daskserver"), *words)
        done = subprocess.run(words, env=own, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done

    command("start", "--workers", str(workers), "--threads", str(threads))
    yield str(cache / "daskserver" / "default" / "connection.json")
    command("stop")
