"""What a run writes to its standard error, shown on that of the process that waits for it."""

from __future__ import annotations

import codecs
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from hashserver.printable import visible

if TYPE_CHECKING:
    from collections.abc import Callable


def stderr_shower() -> Callable[[bytes], None]:
    """Return what shows it, as it comes: under the cell of a notebook, on a terminal without its escapes."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # chunks end in the middle of a character too

    def show(data: bytes) -> None:
        stream = sys.stderr  # now: a notebook, or a test, has another one for each cell
        with suppress(OSError, ValueError, AttributeError):  # nobody reads it: no reason to fail
            text = decoder.decode(data)
            stream.write(visible(text, "\n\t\r") if stream.isatty() else text)
            stream.flush()

    return show
