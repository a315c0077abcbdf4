"""Frames of a function that has failed elsewhere, below the call that it failed for.

An exception that was stored has lost its traceback; its note has the text of it. Debuggers, IPython and
``traceback`` look at frames: there they find files and lines of the user's.
"""

from __future__ import annotations

import re
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

_HEADER = re.compile(r"^(  \+ Exception Group )?Traceback \(most recent call last\):$", re.MULTILINE)
_OF_GROUP = "  | "
"""What lines of the traceback of a group begin with."""
_FRAME = re.compile(r'  File "(.+)", line (\d+), in (.+)')
MOST = 100
"""Frames that are shown of a deep recursion: the first ones."""


def traceback_of(text: str) -> TracebackType | None:
    """Return a traceback with the frames that the last one of a text names."""
    places: list[tuple[str, int, str]] = []
    headers = list(_HEADER.finditer(text))
    if not headers:
        return None
    for line in text[headers[-1].end() + 1 :].splitlines():
        line = line.removeprefix(_OF_GROUP) if headers[-1][1] else line
        if not line.startswith("  "):
            break  # the message, in which anything may stand
        if found := _FRAME.fullmatch(line):
            places.append((found[1], int(found[2]), found[3]))
    call: Any = None
    for place in reversed(places[:MOST]):
        call = _failing(place, call)
    if call is None:
        return None
    try:
        call()
    except _Stop as stop:
        own = stop.__traceback__
    return own.tb_next if own is not None else None


class _Stop(Exception):
    """What makes the frames; nobody meets it."""


def _failing(place: tuple[str, int, str], inner: Any) -> FunctionType:
    """Return a function that fails at a place of a file, by itself or in what it calls."""
    file, line, name = place
    code = compile("\n" * (line - 1) + ("raise stop" if inner is None else "call()"), file, "exec")
    code = code.replace(co_name=name, co_qualname=name)
    return FunctionType(code, {"__name__": name, "stop": _Stop, "call": inner})
