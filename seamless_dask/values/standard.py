"""Dates, exact numbers, paths and identifiers of the standard library, in ``json/1``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from .tree import Unwalkable, tag, write_integer

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tree import ValueWriter, Write
    from .tree_reader import ValueReader


def writer(kind: type) -> Write | None:
    """Return what writes objects of exactly this type."""
    return _WRITERS.get((kind.__module__.partition(".")[0], kind.__name__))


def reader(name: str) -> Callable[..., Any]:
    """Return what reads the fields behind a tag; raises `KeyError`."""
    return _READERS[name]


def _date(writer: ValueWriter, value: Any) -> Any:
    return tag("standard:date", value.isoformat())


def _moment(name: str, writer: ValueWriter, value: Any) -> Any:
    text = value.replace(tzinfo=None).isoformat(timespec="microseconds")
    return tag(name, text, value.fold, writer.named("tzinfo", value.tzinfo))


def _timedelta(writer: ValueWriter, value: Any) -> Any:
    return tag("standard:timedelta", value.days, value.seconds, value.microseconds)


def _timezone(writer: ValueWriter, value: Any) -> Any:
    offset, *name = value.__getinitargs__()
    return tag("standard:timezone", offset.days, offset.seconds, offset.microseconds, *map(writer.tree, name))


def _zone(writer: ValueWriter, value: Any) -> Any:
    if value.key is None:
        raise Unwalkable("is a time zone that was read from a file: use one by its name")
    return tag("standard:zone", value.key)


def _decimal(writer: ValueWriter, value: Any) -> Any:
    sign, digits, exponent = value.as_tuple()
    # An exponent that is no number marks infinity and what is not a number. Its digits may be many.
    return tag("standard:decimal", sign, "".join(map(str, digits)), exponent)


def _fraction(writer: ValueWriter, value: Any) -> Any:
    return tag("standard:fraction", write_integer(value.numerator), write_integer(value.denominator))


def _uuid(writer: ValueWriter, value: Any) -> Any:
    safe = value.is_safe.value  # whether it was made safely is known of few
    return tag("standard:uuid", value.hex, *([] if safe is None else [safe]))


def _path(name: str, writer: ValueWriter, value: Any) -> Any:
    return tag("standard:path", name, writer.tree(str(value)))


_PATHS = ("PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath")
_WRITERS: dict[tuple[str, str], Write] = {
    **{("pathlib", name): partial(_path, name) for name in _PATHS},
    ("datetime", "date"): _date,
    ("datetime", "datetime"): partial(_moment, "standard:datetime"),
    ("datetime", "time"): partial(_moment, "standard:time"),
    ("datetime", "timedelta"): _timedelta,
    ("datetime", "timezone"): _timezone,
    ("zoneinfo", "ZoneInfo"): _zone,
    ("decimal", "Decimal"): _decimal,
    ("fractions", "Fraction"): _fraction,
    ("uuid", "UUID"): _uuid,
}


def _read_date(reader: ValueReader, text: str) -> Any:
    import datetime

    return datetime.date.fromisoformat(text)


def _read_datetime(reader: ValueReader, text: str, fold: int, zone: Any) -> Any:
    import datetime

    return datetime.datetime.fromisoformat(text).replace(tzinfo=reader.value(zone), fold=fold)


def _read_time(reader: ValueReader, text: str, fold: int, zone: Any) -> Any:
    import datetime

    return datetime.time.fromisoformat(text).replace(tzinfo=reader.value(zone), fold=fold)


def _read_timedelta(reader: ValueReader, days: int, seconds: int, microseconds: int) -> Any:
    import datetime

    return datetime.timedelta(days, seconds, microseconds)


def _read_timezone(reader: ValueReader, days: int, seconds: int, microseconds: int, *name: Any) -> Any:
    import datetime

    return datetime.timezone(datetime.timedelta(days, seconds, microseconds), *map(reader.value, name))


def _read_zone(reader: ValueReader, key: str) -> Any:
    import zoneinfo

    return zoneinfo.ZoneInfo(key)


def _read_decimal(reader: ValueReader, sign: int, digits: str, exponent: int | str) -> Any:
    import decimal

    parts: Any = (sign, tuple(map(int, digits)), exponent)
    return decimal.Decimal(parts)


def _read_fraction(reader: ValueReader, numerator: Any, denominator: Any) -> Any:
    import fractions

    return fractions.Fraction(reader.value(numerator), reader.value(denominator))


def _read_uuid(reader: ValueReader, digits: str, safe: int | None = None) -> Any:
    import uuid

    return uuid.UUID(hex=digits, is_safe=uuid.SafeUUID(safe))


def _read_path(reader: ValueReader, name: str, text: Any) -> Any:
    import pathlib

    if name not in _PATHS:
        raise ValueError(name)
    return getattr(pathlib, name)(reader.value(text))


_READERS: dict[str, Callable[..., Any]] = {
    "date": _read_date,
    "datetime": _read_datetime,
    "time": _read_time,
    "timedelta": _read_timedelta,
    "timezone": _read_timezone,
    "zone": _read_zone,
    "decimal": _read_decimal,
    "fraction": _read_fraction,
    "uuid": _read_uuid,
    "path": _read_path,
}
