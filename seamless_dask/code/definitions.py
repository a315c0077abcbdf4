"""Functions as items: their trees without what does not count, and their values of the moment."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable
from types import CellType, FunctionType
from typing import Any, Protocol

from .data import is_immutable, literal
from .hazards import words
from .items import Item, Target
from .names import Binder, Environment, TreeReader, below_ours
from .printer import checked
from .scopes import analyse, mangled, scope_in
from .sources import Found, SourceMissing
from .stripping import Stripper
from .unwrapping import codes


class Definer(Binder, Protocol):
    """Who knows items, and what of a definition counts."""

    docs: bool
    hints: bool
    words: set[str]

    def apart(self, function: FunctionType, hint: str) -> Target:
        """Return the item of a function by itself, though a class has it."""


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
    SourceMissing
        It has none outside its class.
    NoValue
        It reaches what is no value.
    """
    if "__class__" in function.__code__.co_freevars or _is_private(found):
        raise SourceMissing("it is a method, and its class does not give it")
    environment = environment_of(function, found)
    tree = stripped(definer, item, found, decorators, environment)
    tree.args.defaults, tree.args.kw_defaults = [], [None] * len(tree.args.kwonlyargs)
    if isinstance(tree, ast.Lambda):
        item.body = [ast.copy_location(ast.Assign([item.own_name()], tree), tree)]
    else:
        item.body = [tree]
    checked(item.body)
    reader = TreeReader(definer, item, environment)
    reader.read(tree, found.private, item.kept, {})
    return tree


def _is_private(found: Found) -> bool:
    """Tell whether a definition has names that mean others outside the class around it."""
    names = words(found.node) if found.private else ()
    return any(mangled(name, found.private) != name for name in names)


def stripped(
    definer: Definer, item: Item, found: Found, decorators: list[ast.expr], environment: Environment
) -> Any:
    """Return the tree of a definition without what does not count, and note its annotations."""
    definer.words |= words(found.node)
    outside = functools.cache(lambda: {id(each.node) for each in analyse(found.node, found.private).outside})

    inside = not isinstance(found.node, ast.ClassDef)

    def counting(some: list[ast.expr]) -> list[ast.expr]:
        return below_ours(some, environment, lambda name: id(name) in outside(), inside)

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
    tree.args.defaults, tree.args.kw_defaults = defaults_of(definer, item, function, tree.args)


def defaults_of(
    definer: Definer, item: Item, function: FunctionType, given: ast.arguments
) -> tuple[list[ast.expr], list[ast.expr | None]]:
    """Return the defaults that a function has, those of parameters with a place and those by name."""
    places = [*given.posonlyargs, *given.args]
    defaults = function.__defaults__ or ()
    names = [place.arg for place in places][len(places) - len(defaults) :]
    named = function.__kwdefaults__ or {}
    return (
        [_default(definer, item, function, *each) for each in zip(names, defaults, strict=True)],
        [
            _default(definer, item, function, place.arg, named[place.arg]) if place.arg in named else None
            for place in given.kwonlyargs
        ],
    )


def _default(definer: Definer, item: Item, function: FunctionType, name: str, value: Any) -> ast.expr:
    if is_immutable(value):
        return literal(value)
    return item.named(definer.bind(value, f"{item.name}_{name}", function.__globals__))


def add_attributes(definer: Definer, item: Item, function: FunctionType) -> None:
    """Add what was put on a function: `f.count = 0`."""
    for name, value in function.__dict__.items():
        if name.isidentifier() and name != "__wrapped__":
            target = definer.bind(value, f"{item.name}_{name}", function.__globals__)
            item.body.append(setting(item, name, item.named(target)))


def add_attributes_of_wrapper(
    definer: Definer, item: Item, wrapper: Any, function: FunctionType, makers: Iterable[Any]
) -> None:
    """Add plain values that were put on what decorators made; what these put there they do again."""
    if not isinstance(wrapper, FunctionType) and type(wrapper).__module__ != "functools":
        return
    own = {name for maker in makers if maker is not None for code in codes(maker) for name in code.co_names}
    definer.checks.size(vars(wrapper))
    for name, value in vars(wrapper).items():
        is_own = name in own or (name in function.__dict__ and function.__dict__[name] is value)
        if name.isidentifier() and not name.startswith("__") and not is_own and is_immutable(value):
            definer.checks.entry(vars(wrapper), name, value)
            item.body.append(setting(item, name, literal(value)))


def setting(item: Item, name: str, value: ast.expr) -> ast.stmt:
    """Return the assignment of an attribute of an item."""
    return ast.Assign([ast.Attribute(item.own_name(), name, ast.Store())], value)
