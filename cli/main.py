"""The ``seamless`` command: ``seamless run`` is ``seamless-run``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hashserver.system_text import ensure_utf8

from .start import is_completing
from .table import COMMANDS, load

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Hand over to a command; only that command's module is imported, and click if there is none."""
    if argv is None:
        ensure_utf8()
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in COMMANDS and not is_completing("seamless"):
        if words[0] == "run":
            from .run.__main__ import main as run

            return run(words[1:], "seamless run")
        status: int = load(words[0]).main(words[1:], prog=f"seamless {words[0]}")
        return status
    from .group import run_group

    return run_group(words)
