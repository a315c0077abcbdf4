"""The command ``seamless-run``, before anything is imported."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

GARBAGE = 50_000
"""Objects that are made before somebody looks for cycles among them; a cached run makes some 19,000."""


def main(argv: Sequence[str] | None = None, prog: str = "seamless-run") -> int:
    """Entry point: with Python's own limit, 700, a tenth of a cached run would be looking for garbage."""
    gc.set_threshold(GARBAGE)
    from .command import main

    status = main(argv, prog)
    gc.freeze()  # the process ends: Python would look through everything once more
    return status


if __name__ == "__main__":
    sys.exit(main())
