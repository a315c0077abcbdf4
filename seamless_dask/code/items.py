"""What the text of a function consists of: definitions, values, imports, and where one names another."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Buffer(NamedTuple):
    """A value as bytes.

    Attributes
    ----------
    format
        How bytes become an object.
    data
        The bytes.
    uses
        Classes and functions of the user's that it takes to make the object; they become part of the text.
    """

    format: str
    data: bytes
    uses: tuple[object, ...] = ()


Describe = Callable[[object], Buffer | str]
"""From an object to bytes, or to an expression that names only builtins.

``TypeError`` or ``UsageError`` say that it is no value.
"""


@dataclass(frozen=True, eq=False)
class ItemUse:
    """A place in the tree of one item that means another one, or something in it.

    Attributes
    ----------
    node
        The place: a name, or an attribute of a module.
    item
        What it means.
    path
        Attributes of that.
    now
        It is needed where the definition is executed.
    """

    node: ast.expr
    item: Item
    path: tuple[str, ...] = ()
    now: bool = True

    @property
    def plain_name(self) -> str | None:
        """The name that stands there and means the item: nothing of the user's lies in its way."""
        return self.node.id if isinstance(self.node, ast.Name) and not self.path else None


class Target(NamedTuple):
    """An item, or something in it."""

    item: Item
    path: tuple[str, ...] = ()


@dataclass(eq=False)
class Item:
    """One thing in the text.

    Attributes
    ----------
    kind
        ``function``, ``class``, ``value``, ``input``, ``import``, ``module``, ``builtin``.
    name
        The name that it has where it comes from; in the text it may be another one.
    value
        The object that it stands for.
    file, line
        Where it comes from.
    source
        The number of its first line in that file, and its lines.
    body
        Its statements; a definition first.
    uses
        Which places in them mean other items.
    bound
        Names that scopes inside have of their own.
    free
        Names that are left alone: builtins, and what does not exist.
    buffer
        The bytes of an input.
    """

    kind: str
    name: str
    value: Any
    file: str = ""
    line: int = 0
    source: tuple[int, tuple[str, ...]] = (0, ())
    body: list[ast.stmt] = field(default_factory=list)
    uses: list[ItemUse] = field(default_factory=list)
    bound: set[str] = field(default_factory=set)
    free: set[str] = field(default_factory=set)
    kept: list[tuple[Any, str]] = field(default_factory=list)
    """Annotations: a node and the field in which they stand."""
    hints: list[tuple[Any, str]] = field(default_factory=list)
    """Those of them that are to be text."""
    declared: dict[int, dict[str, Item]] = field(default_factory=dict)
    """For statements ``global`` and ``nonlocal``: which of their names are items."""
    replaced: dict[int, list[ast.stmt]] = field(default_factory=dict)
    """Statements in whose places others stand: imports of the user's modules."""
    buffer: Buffer | None = None
    hazards: list[Hazard] = field(default_factory=list)
    origin: str = ""
    """For what is a library's: its name with its module."""
    own: list[ast.Name] = field(default_factory=list)
    """Places that mean the item itself."""
    asked: Mapping[str, Any] | None = None
    """For a function whose calls are asked for, and not made: how, which does not count."""
    fixed: list[ItemUse] = field(default_factory=list)
    """Uses whose name must stay."""

    def reset(self) -> None:
        """Forget its statements and what they use: others take their place."""
        for each in (
            self.body,
            self.uses,
            self.bound,
            self.free,
            self.kept,
            self.hints,
            self.own,
            self.fixed,
        ):
            each.clear()
        self.declared.clear()
        self.replaced.clear()

    def own_name(self) -> ast.Name:
        """Return a new place that means the item itself."""
        node = ast.Name(self.name, ast.Load())
        self.own.append(node)
        return node

    def warn(self, node: ast.AST, message: str) -> None:
        """Note what the identity does not see."""
        found = Hazard(self.file, getattr(node, "lineno", self.line), message)
        if found not in self.hazards:
            self.hazards.append(found)

    def use(self, node: ast.expr, target: Target, now: bool = True) -> None:
        """Note that a place means something."""
        self.uses.append(ItemUse(node, target.item, target.path, now))

    def named(self, target: Target, now: bool = True) -> ast.expr:
        """Return a new place that means something."""
        node = ast.Name(target.item.name, ast.Load())
        wrapped = ast.Attribute(node, "", ast.Load())  # not plain: it may get any name
        self.use(wrapped, target, now)
        return wrapped


@dataclass(frozen=True)
class Hazard:
    """Something that the identity does not see.

    Attributes
    ----------
    file, line
        Where it stands.
    message
        What it is, and what to do.
    """

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


def reachable(start: Item) -> Iterator[Item]:
    """Yield an item and all that it uses, each once, in the order of the text."""
    seen = {start}
    waiting = [start]
    for item in waiting:
        yield item
        for use in item.uses:
            if use.item not in seen:
                seen.add(use.item)
                waiting.append(use.item)
