"""Classes of all kinds, importable by their names: what is made of them are values."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
from typing import Any


class Colour(enum.Enum):
    RED = 1
    GREEN = "g"


class Level(enum.IntEnum):
    LOW = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Fit:
    slope: float
    tags: set[Any]
    names: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    value: Any


class Slotted:
    __slots__ = ("a", "b")


class Number(int):
    pass


class Text(str):
    pass


class Tags(set):  # type: ignore[type-arg]
    pass


class Table(dict):  # type: ignore[type-arg]
    pass


class Stack(list):  # type: ignore[type-arg]
    pass


class Lazy:
    def __init__(self, n: Any) -> None:
        self.n = n

    @functools.cached_property
    def square(self) -> Any:
        return self.n**2


class Node:
    def __init__(self) -> None:
        self.other = self


class Kept:
    def __init__(self, a: Any) -> None:
        self.a = a

    def __getstate__(self) -> dict[str, Any]:
        return {"kept": self.a}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.a = state["kept"]


class Celsius:
    def __init__(self, degrees: Any) -> None:
        self.degrees = degrees

    def __eq__(self, other: object) -> bool:
        return type(other) is Celsius and other.degrees == self.degrees

    __hash__ = None  # type: ignore[assignment]


def helper(x: Any) -> Any:
    return x
