"""The order in which a text is executed: what is executed finds what it needs."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from enum import Enum

from .items import Item


class ItemPart(Enum):
    """Which statements of an item."""

    WHOLE = "all"
    HEAD = "an empty container, or the class statement alone"
    REST = "what is in the container, or what was put into the class later"


def ordered(items: list[Item]) -> list[tuple[Item, ItemPart]]:
    """Return items so that what is executed finds what it needs; the function itself as late as possible.

    What goes round is cut in two: a table of classes of which the definition of each enters it there.
    """
    place = _Placing(items)
    for item in [*place.simple(), *reversed(items)]:
        place.place(item)
    return place.placed


def _needed(item: Item) -> Iterator[tuple[ast.expr, Item]]:
    """Yield what an item needs where it is executed, and the places where it does."""
    hints = {id(node) for place in item.hints for node in ast.walk(getattr(*place))}
    for use in item.uses:
        if use.now and id(use.node) not in hints and use.item is not item and use.item.kind != "builtin":
            yield use.node, use.item


class _Placing:
    def __init__(self, items: list[Item]) -> None:
        self._items = items
        self._needs = {item: [other for _, other in _needed(item)] for item in items}
        self._begun: set[Item] = set()
        self._there: set[Item] = set()
        self._open: dict[Item, list[Item]] = {}
        """Items of which the head is placed, and what the rest needs."""
        self.placed: list[tuple[Item, ItemPart]] = []
        self._cut: dict[Item, tuple[list[Item], list[Item]]] = {}
        """Of items that are cut in two: what the head needs, and what the rest alone."""
        self._cut = {item: parts for item in items if (parts := self._parts(item)) is not None}

    def simple(self) -> list[Item]:
        """Return values that need nothing."""
        return [each for each in self._items if each.kind in ("value", "input") and not self._needs[each]]

    def place(self, item: Item) -> None:
        """Place an item after all that it needs, and that what it calls may need in turn."""
        if item in self._begun:
            return
        self._begun.add(item)
        head, rest = self._cut.get(item, (self._needs[item], []))
        self._place_all(head)
        self._add(item, ItemPart.HEAD if rest else ItemPart.WHOLE)
        if rest:
            self._open[item] = rest
            if self._there.issuperset(self._begun & self._all_behind(rest)):  # else it comes when it can
                self._place_all(rest)
            self._close()

    def _place_all(self, needs: list[Item]) -> None:
        needed = self._all_behind(needs) if needs else set()
        for other in reversed([each for each in self._items if each in needed]):
            self.place(other)

    def _add(self, item: Item, part: ItemPart) -> None:
        self.placed.append((item, part))
        self._there.add(item)
        self._close()

    def _close(self) -> None:
        """Place the rests of which all is there by now."""
        for item, rest in list(self._open.items()):
            if self._there.issuperset(rest):
                del self._open[item]
                self.placed.append((item, ItemPart.REST))

    def _parts(self, item: Item) -> tuple[list[Item], list[Item]] | None:
        """Return what an item needs for its head and its rest, None if nothing goes round."""
        if not self._needs[item] or not _can_be_cut(item):
            return None
        own = {id(node) for node in ast.walk(item.body[0])} if item.kind == "class" else set()
        head = [other for node, other in _needed(item) if id(node) in own]
        rest = [other for node, other in _needed(item) if id(node) not in own and other not in head]
        goes_round = any(
            item in self._all_behind(self._needs[other])
            for other in self._all_behind(rest)
            if self._needs[other]
        )
        return (head, rest) if goes_round else None

    def _all_behind(self, items: Iterable[Item]) -> set[Item]:
        """Return all that items reach; the rest of what is cut comes when it can."""
        found: set[Item] = set()
        waiting = list(items)
        while waiting:
            item = waiting.pop()
            if item not in found and item.kind != "builtin":
                found.add(item)
                rest = self._cut[item][1] if item in self._cut else ()
                waiting += [use.item for use in item.uses if use.item not in rest]
        return found


def _can_be_cut(item: Item) -> bool:
    if item.kind == "class":
        return len(item.body) > 1
    statement = item.body[0] if item.kind == "value" and type(item.value) in (list, dict, set) else None
    return isinstance(statement, ast.Assign) and isinstance(statement.value, (ast.List, ast.Dict, ast.Set))
