"""Time zones of pytz, which pandas before 3 makes of names: by what they tell pickle, which is data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytz

from .objects import write_object
from .tree import tag

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tree import ValueWriter, Write

_MAKERS: dict[str, Callable[..., Any]] = {
    "zone": pytz._p,
    "utc": pytz._UTC,
    "offset": pytz.FixedOffset,
}


def writer(kind: type) -> Write | None:
    """Return what writes objects of exactly this type."""
    return _zone if hasattr(kind, "__reduce__") and hasattr(kind, "utcoffset") else None


def reader(name: str) -> Callable[..., Any]:
    """Return what reads the fields behind a tag; raises `KeyError`."""
    make = _MAKERS[name]
    return lambda reader, *arguments: make(*reader.values(arguments))


def _zone(writer: ValueWriter, value: Any) -> Any:
    make, arguments, *more = value.__reduce__()
    for name, known in _MAKERS.items():
        if make is known and not more:
            return tag(f"pytz:{name}", *writer.items(arguments))
    return write_object(writer, value)
