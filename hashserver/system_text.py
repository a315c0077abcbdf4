"""The boundary between what the system gives, which is bytes, and text: UTF-8 in every locale.

Python decodes arguments, environment and names by the locale. In one such as ``en_US.ISO-8859-1`` its text
for the two bytes of ``é`` is ``Ã©``: as UTF-8 that would be four bytes, and another identity. Processes of
our own run in Python's UTF-8 mode, where its text is ours. In one of somebody else's, a worker or a user's
own Python, names keep Python's form as long as they are for the system, and pass here when they become text
that is recorded, or when such text becomes a name.

Bytes that are not UTF-8 are lone surrogates in the text, as they are in Python's own; who may not have them
refuses them.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

IS_UTF8 = sys.getfilesystemencoding() == "utf-8"
"""Whether Python's own text of names is ours, so that nothing is to be done."""


def from_system(name: str) -> str:
    """Return the text of what Python has decoded by the locale: an argument, a variable, a name."""
    return name if IS_UTF8 or name.isascii() else os.fsencode(name).decode("utf-8", "surrogateescape")


def to_system(text: str) -> str:
    """Return the form of a text in which Python hands its UTF-8 bytes to the system."""
    return text if IS_UTF8 or text.isascii() else os.fsdecode(to_bytes(text))


def each(document: Any, convert: Callable[[str], str]) -> Any:
    """Return what JSON or TOML may be with all its texts converted; keys stay."""
    if IS_UTF8:
        return document
    if isinstance(document, dict):
        return {key: each(value, convert) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [each(value, convert) for value in document]
    return convert(document) if isinstance(document, str) else document


def to_bytes(text: str) -> bytes:
    """Return the bytes of a text for the system, or for whoever reads what we print."""
    return text.encode("utf-8", "surrogateescape")


def interpreter() -> list[str]:
    """Return the words that start this Python in UTF-8 mode; its environment, which others inherit, stays."""
    return [sys.executable, "-X", "utf8"]


def ensure_utf8() -> None:
    """Start this process anew in UTF-8 mode where the locale has another encoding: first in an entry point.

    Number, descriptors and directory of the process stay. Who has said ``-X utf8=0`` is left alone.
    """
    if not IS_UTF8 and "utf8" not in sys._xoptions and sys.executable:
        words = [*map(os.fsencode, interpreter()), *_own_words()[1:]]
        os.execv(os.fsencode(sys.executable), words)  # noqa: S606 - our own interpreter


def _own_words() -> list[bytes]:
    """Return the command line of this process as it was given."""
    try:
        with open("/proc/self/cmdline", "rb") as file:
            words = file.read().split(b"\0")[:-1]
    except OSError:
        words = []
    # Where there is no /proc: exact in all encodings that have a character for every byte.
    return words if len(words) == len(sys.orig_argv) else [os.fsencode(word) for word in sys.orig_argv]
