"""The command ``seamless-run``, before anything is imported."""

from __future__ import annotations

import gc
import sys

GARBAGE = 100_000
"""Objects that are made before somebody looks for cycles among them; a cached run makes fewer."""


def main() -> int:
    """Entry point: with Python's own limit, 700, a tenth of a cached run would be looking for garbage."""
    gc.set_threshold(GARBAGE)
    from .command import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
