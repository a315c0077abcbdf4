"""Functions and classes as items: their trees without what does not count, and their values of the moment."""

from __future__ import annotations

import ast
import builtins
import enum
import functools
import sys
from collections.abc import Iterator
from types import BuiltinFunctionType, CellType, FunctionType
from typing import Any, Protocol

from .data import is_immutable, literal
from .hazards import words
from .items import Item
from .library import attribute
from .matching import matches
from .names import MISSING, Binder, Environment, NoValue, TreeReader, below_ours, decorator
from .printer import checked
from .scopes import analyse, mangled, scope_in
from .sources import Found, SourceMissing
from .stripping import Stripper
from .unwrapping import is_generated, methods, plain_function

_OF_CLASSES = {"__module__", "__qualname__", "__doc__", "__annotations__", "__slots__"}


class Definer(Binder, Protocol):
    """Who knows items, and what of a definition counts."""

    docs: bool
    hints: bool
    words: set[str]


def cells_of(function: FunctionType) -> dict[str, CellType]:
    """Return the variables of the functions around a function, as far as it reads them."""
    return dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))


def environment_of(function: FunctionType, found: Found) -> Environment:
    """Return where the names of a function are looked up."""
    return Environment(function.__globals__, cells_of(function), scope_in(found.around))


def define_function(
    definer: Definer, item: Item, function: FunctionType, found: Found, decorators: list[ast.expr]
) -> Any:
    """Make the statements of a function, without its defaults; return its tree.

    Raises
    ------
    Unprintable
        It has no text in the frozen form.
    NoValue
        It reaches what is no value.
    """
    environment = environment_of(function, found)
    tree = _stripped(definer, item, found, decorators, environment)
    tree.args.defaults, tree.args.kw_defaults = [], [None] * len(tree.args.kwonlyargs)
    if isinstance(tree, ast.Lambda):
        item.body = [ast.copy_location(ast.Assign([item.own_name()], tree), tree)]
    else:
        item.body = [tree]
    checked(item.body)
    reader = TreeReader(definer, item, environment)
    reader.read(tree, found.private, item.kept, {})
    return tree


def _stripped(
    definer: Definer, item: Item, found: Found, decorators: list[ast.expr], environment: Environment
) -> Any:
    definer.words |= words(found.node)
    outside = functools.cache(lambda: {id(each.node) for each in analyse(found.node, found.private).outside})

    def counting(some: list[ast.expr]) -> list[ast.expr]:
        return below_ours(some, environment, lambda name: id(name) in outside())

    stripper = Stripper(definer.docs, definer.hints, counting)
    tree = stripper.definition(found.node, decorators)
    item.kept = [place for place in stripper.kept if getattr(*place) is not None]
    item.hints = [place for place in item.kept if _unquoted(*place) or found.has_text_hints]
    return tree


def _unquoted(owner: Any, field: str) -> bool:
    """Put the tree of an annotation that is a text in its place, for its names; tell whether it is one."""
    node = getattr(owner, field)
    if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
        return False
    try:
        tree = ast.parse(node.value, mode="eval").body
    except (SyntaxError, ValueError):
        return False
    for each in ast.walk(tree):
        ast.copy_location(each, node)
    setattr(owner, field, tree)
    return True


def add_defaults(definer: Definer, item: Item, function: FunctionType, tree: Any) -> None:
    """Give a definition the defaults that its function has, which may be others than stand there."""
    given = [*tree.args.posonlyargs, *tree.args.args]
    defaults = function.__defaults__ or ()
    names = [place.arg for place in given][len(given) - len(defaults) :]
    for name, value in zip(names, defaults, strict=True):
        tree.args.defaults.append(_default(definer, item, function, name, value))
    named = function.__kwdefaults__ or {}
    for number, place in enumerate(tree.args.kwonlyargs):
        if place.arg in named:
            value = named[place.arg]
            tree.args.kw_defaults[number] = _default(definer, item, function, place.arg, value)


def _default(definer: Definer, item: Item, function: FunctionType, name: str, value: Any) -> ast.expr:
    if is_immutable(value):
        return literal(value)
    return item.named(definer.bind(value, f"{item.name}_{name}", function.__globals__))


def add_attributes(definer: Definer, item: Item, function: FunctionType) -> None:
    """Add what was put on a function: `f.count = 0`."""
    for name, value in function.__dict__.items():
        if name.isidentifier() and name != "__wrapped__":
            target = definer.bind(value, f"{item.name}_{name}", function.__globals__)
            item.body.append(_setting(item, name, item.named(target)))


def _setting(item: Item, name: str, value: ast.expr) -> ast.stmt:
    return ast.Assign([ast.Attribute(item.own_name(), name, ast.Store())], value)


class ClassReader:
    """Makes the statements of a class."""

    def __init__(self, definer: Definer, item: Item, owner: type, found: Found) -> None:
        self._definer, self._item, self._owner, self._found = definer, item, owner, found
        module = sys.modules.get(owner.__module__)
        # What a library puts there, such as the methods of a named tuple, looks its names up elsewhere.
        functions = [each for each in methods(owner) if each.__globals__.get("__name__") == owner.__module__]
        functions = [each for each in functions if each.__qualname__.startswith(owner.__qualname__ + ".")]
        self._namespace = functions[0].__globals__ if functions else vars(module) if module else {}
        cells: dict[str, CellType] = {}
        for each in functions:
            cells |= cells_of(each)
        cells.pop("__class__", None)
        self._environment = Environment(self._namespace, cells, scope_in(found.around))
        # What `NamedTuple`, an enumeration or a decorator puts there, it puts there again.
        self._is_plain = type(owner) is type and not hasattr(owner, "_field_defaults")
        self._is_made_by_users = any(map(self._is_users, found.node.decorator_list))
        self._by_value: list[tuple[ast.Assign | ast.AnnAssign, ast.expr]] = []

    def define(self) -> None:
        """Make the statements.

        Raises
        ------
        Unprintable
            It has no text in the frozen form.
        NoValue
            It reaches what is no value.
        """
        node, item = self._found.node, self._item
        tree = _stripped(self._definer, item, self._found, node.decorator_list, self._environment)
        item.body = [tree]
        checked(item.body)
        for statement in tree.body:
            self._take_value(statement)
        reader = TreeReader(self._definer, item, self._environment)
        reader.read(tree, self._found.private, item.kept, self._bases(tree))
        if "<locals>" in self._owner.__qualname__ and reader.missing:
            raise SourceMissing(f"it reads {min(reader.missing)} of a function around it, which is over")
        for statement, value in self._by_value:
            statement.value = value
        self._add_methods()
        self._add_values()

    def _take_value(self, statement: ast.stmt) -> None:
        """Use the value that the class has by a name at the moment, where it is one."""
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)])
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr())
            ):
                pass
            case _:
                return
        value = self._owner.__dict__.get(mangled(name, self._owner.__name__), MISSING)
        is_data = value is not MISSING and self._counts_by_value(value)
        if not is_data and not (self._is_plain and self._was_replaced(statement, value)):
            return
        try:
            place = self._literal(value, name)
        except NoValue:
            return
        assert isinstance(statement, (ast.Assign, ast.AnnAssign))
        statement.value = ast.copy_location(ast.Constant(None), statement)  # its names are not looked at
        self._by_value.append((statement, place))

    def _was_replaced(self, statement: Any, value: Any) -> bool:
        """Tell whether a class has another function or class by a name than its statement gives."""
        node = statement.value
        if not isinstance(value, (FunctionType, BuiltinFunctionType, type)):
            return False
        if isinstance(node, ast.Lambda):
            found = self._found
            return not (
                isinstance(value, FunctionType)
                and matches(node, found.node.name, value.__code__, found.imports)
            )
        if not isinstance(node, ast.Name):
            return False  # what a call or an attribute gives is not known
        given = self._owner.__dict__.get(mangled(node.id, self._owner.__name__), MISSING)
        if given is MISSING:
            given = self._environment.find(node.id, self._definer.checks)
        return (getattr(builtins, node.id, MISSING) if given is MISSING else given) is not value

    def _counts_by_value(self, value: Any) -> bool:
        kind = type(value)
        is_descriptor = any(hasattr(kind, name) for name in ("__get__", "__set_name__"))
        return not isinstance(self._owner, enum.EnumMeta) and not is_descriptor and not callable(value)

    def _literal(self, value: Any, name: str) -> ast.expr:
        return literal(value) if is_immutable(value) else self._bound(value, name)

    def _bound(self, value: Any, name: str) -> ast.expr:
        target = self._definer.bind(value, f"{self._item.name}_{name}", self._namespace)
        if target.item is self._item:
            raise SourceMissing(f"{name} is not what its statement defines")
        return self._item.named(target)

    def _bases(self, tree: ast.ClassDef) -> dict[int, Any]:
        """Return base classes whose names mean others by now, as after a cell was run again."""
        bases = self._owner.__bases__
        if len(bases) != len(tree.bases):
            return {}
        found = {}
        for node, base in zip(tree.bases, bases, strict=True):
            if isinstance(node, ast.Name):
                present = self._environment.find(node.id, self._definer.checks)
                if present is MISSING or (isinstance(present, type) and present is not base):
                    found[id(node)] = base
        return found

    def _add_methods(self) -> None:
        """Add functions that were put into the class after its statement."""
        if not self._is_plain:
            return
        for name, value in list(self._owner.__dict__.items()):
            if (
                not isinstance(value, FunctionType)
                or name.startswith("__annotate")
                or self._is_own(name, value)
            ):
                continue
            is_made = self._is_made_by_users and "<locals>" in value.__qualname__
            if self._found.node.decorator_list and is_generated(value):
                continue  # a library's decorator has written it, such as `dataclass`
            if self._definer.border.owns(value.__globals__.get("__name__")) and not is_made:
                self._item.body.append(_setting(self._item, name, self._bound(value, name)))

    def _is_users(self, node: ast.expr) -> bool:
        """Tell whether a decorator may put functions of the user's into the class."""
        value = decorator(node, self._environment)
        return self._definer.border.owns(attribute(value, "__module__"))

    def _is_own(self, name: str, function: FunctionType) -> bool:
        plain = plain_function(function) or function
        found = self._found
        return any(
            mangled(node.name, self._owner.__name__) == name
            and matches(node, found.node.name, plain.__code__, found.imports)
            for node in found.node.body
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        ) or any(
            isinstance(node, ast.Assign) and name in _assigned(node) for node in ast.walk(self._found.node)
        )

    def _add_values(self) -> None:
        """Add values that were put into the class after its statement."""
        if not self._is_plain:
            return
        known = {mangled(name, self._owner.__name__) for name in _bound(self._found.node)} | _OF_CLASSES
        for name, value in list(self._owner.__dict__.items()):
            if name in known or name.startswith("__"):
                continue
            if isinstance(value, type) and not self._found.node.decorator_list:
                raise SourceMissing(f"the class {name} was put into it later")
            if not self._counts_by_value(value):
                continue
            try:
                place = self._literal(value, name)
            except NoValue:
                if self._found.node.decorator_list:
                    continue
                raise
            self._item.body.append(_setting(self._item, name, place))


def _assigned(node: ast.Assign) -> set[str]:
    return {each.id for target in node.targets for each in ast.walk(target) if isinstance(each, ast.Name)}


def _bound(node: ast.ClassDef) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Name) and not isinstance(each.ctx, ast.Load):
            yield each.id
        elif isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield each.name
