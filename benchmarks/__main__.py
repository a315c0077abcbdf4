"""Run experiments by name: ``python -m benchmarks [--list] [--runs N] [NAME…]`` (all without a name)."""

from __future__ import annotations

import argparse
import signal
import sys

from . import EXPERIMENTS
from .measure import Bench


def main() -> int:
    """Run what was named, print a row per figure; exit status 1 when a figure is over its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments (default: all)")
    parser.add_argument("--list", action="store_true", help="say what there is")
    parser.add_argument("--runs", type=int, default=7, help="pairs measured of each figure (default 7)")
    args = parser.parse_args()
    if args.list:
        for name, experiment in EXPERIMENTS.items():
            print(f"{name:14} {(experiment.__doc__ or '').splitlines()[0]}")
        return 0
    unknown = set(args.names) - set(EXPERIMENTS)
    if unknown:
        parser.error(f"no such experiment: {', '.join(sorted(unknown))} (see --list)")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    within = True
    for name in args.names or EXPERIMENTS:
        with Bench(name, args.runs) as bench:
            EXPERIMENTS[name](bench)
        within &= bench.within
    return 0 if within else 1


sys.exit(main())
