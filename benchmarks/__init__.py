"""Named experiments: each measures something against a floor or a peer in the same run, and prints ratios."""

from __future__ import annotations

from collections.abc import Callable

from . import cached_run, http, init, large_file, lookup, small_files, uncached_run
from .measure import Bench

EXPERIMENTS: dict[str, Callable[[Bench], None]] = {
    "cached-run": cached_run.main,
    "uncached-run": uncached_run.main,
    "large-file": large_file.main,
    "small-files": small_files.main,
    "http": http.main,
    "lookup": lookup.main,
    "init": init.main,
}
