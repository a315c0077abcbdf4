"""Bytes of many values as one digest: the same on every Python; ``python golden.py`` compares it."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import hashlib
import math
import pathlib
import re
import sys
import types
import uuid
from typing import Any

from shapes import Colour, Frozen, Number, Point, Slotted, Table, Tags

from seamless_dask.values.loading import load
from seamless_dask.values.writing import to_bytes

DIGEST = "b5b77513e21320e46b543d294c6aca6a889193ed75f034eb28b28f8c80b82315"
"""Another one is another identity of everybody's values."""


class Level(enum.IntFlag):
    """Flags that are numbers."""

    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Fit:
    """A data class, of fewer fields than the other one."""

    slope: float
    tags: set[str]


WORDS = ["delta", "alpha", "charlie", "bravo", "echo"]


def values() -> list[Any]:
    """Return values of all kinds that Python itself has."""
    slotted, number = Slotted(), Number(5)
    slotted.b = {*WORDS}
    number.note = (1,)  # type: ignore[attr-defined]
    moment = dt.datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=dt.timezone(dt.timedelta(hours=-3), "X"))
    plain = [None, True, 0, -1, 2**1024, -(10**5000), 0.1, -0.0, 1e16, 1e-320, math.inf, math.nan, 1j, b"x"]
    texts = ["", "é\u2028\x7f\0😀", "\ud800", ["\ud83d\ude00", "\U0001f600"], {"\udfff": 1}]
    nested = [[1, (2, {3})], {"@": 1}, {1: {None: (1.5,)}}, {*WORDS}, frozenset({("a", 1), "b"}), range(3)]
    library = [
        *(moment, moment.date(), moment.time(), dt.timedelta(1, 2, 3), decimal.Decimal("-1.50E+9")),
        *(fractions.Fraction(1, 3), uuid.UUID(int=5), pathlib.PurePosixPath("/a"), slice(1), ...),
        *(pathlib.PureWindowsPath("c:/a"), bytearray(b"x"), [b"x" * 65_536]),
        *(collections.OrderedDict(b=1, a=2), collections.Counter(WORDS), collections.deque([1], 5)),
        *(collections.defaultdict(list, a=[1]), types.SimpleNamespace(b=1, a=2), ValueError("x", 1)),
        *(re.compile("a+", re.IGNORECASE), functools.partial(int, base=2), len, dict.fromkeys, "a".upper),
    ]
    own = [
        *(Colour.RED, Level.LOW | Level.HIGH, Point(1, [2]), Fit(0.5, {*WORDS}), Frozen({"a": 1})),
        *(slotted, number, Tags(WORDS), Table(x=1), Fit, Colour),
    ]
    return [*plain, *texts, *nested, *library, *own]


def digests() -> list[str]:
    """Return the format and digest of each value; what is loaded again must have the same."""
    found = []
    for value in values():
        stored = to_bytes(value)
        assert to_bytes(load(*stored, trusted=True)) == stored, value
        found.append(f"{stored[0]} {hashlib.sha256(stored[1]).hexdigest()}")
    return found


def digest() -> str:
    """Return one digest of them all."""
    return hashlib.sha256("\n".join(digests()).encode()).hexdigest()


if __name__ == "__main__":
    sys.modules["golden"] = sys.modules["__main__"]
    for kind in (Colour, Level, Point, Fit, Frozen, Slotted, Number, Tags, Table):
        kind.__module__ = "golden"
    found = digest()
    print(f"  values: Python {sys.version.split()[0]}, {len(values())} values, {found}")
    if found != DIGEST:
        raise SystemExit("these bytes are not what they were:\n" + "\n".join(digests()))
