"""Text as a terminal may be given it: what could move the cursor, hide or reorder words is escaped.

A name, a message of a server or a command's output may hold anything; printed as it is, it could rewrite what
stands on the screen, or set the terminal's title and keys.
"""

from __future__ import annotations

import codecs
import sys
from contextlib import suppress


def one_line(text: str) -> str:
    """`text` with control characters escaped, so that a message is one line and moves no cursor."""
    return visible(text, "")


def visible(text: str, keep: str = "\n\t") -> str:
    """`text` with all control characters escaped but those of `keep`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)


def tell(text: str) -> None:
    """Write one line to standard error."""
    with suppress(OSError):  # nobody listens: no reason to fail
        print(one_line(text), file=sys.stderr, flush=True)


class Filter:
    """A stream of bytes on its way to a terminal: lines, tabs and progress bars pass, escapes do not."""

    def __init__(self) -> None:
        # Chunks end anywhere, in the middle of a character too.
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def __call__(self, data: bytes, final: bool = False) -> bytes:
        """Return what may be shown now."""
        return visible(self._decoder.decode(data, final), "\n\t\r").encode()
