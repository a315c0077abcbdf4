"""What the names in a tree mean: each that means something outside becomes a use of another item."""

from __future__ import annotations

import ast
import builtins
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import CellType, FunctionType, ModuleType
from typing import Any, Protocol

from . import hazards
from .border import Border, is_ours
from .guards import Checks
from .items import Item, Target
from .library import attribute
from .scopes import OuterName, Scope, TreeNames, analyse

_LEFT_ALONE = {
    "__name__",
    "__file__",
    "__doc__",
    "__package__",
    "__spec__",
    "__loader__",
    "__builtins__",
    "__debug__",
}
"""What every module has of its own: names of modules and files do not count."""
MISSING = object()
Variable = tuple[int, str]
"""A global, or a variable of a function around it: the address of its module or cell, and the name."""


class NoValue(Exception):
    """A global that is no value.

    Parameters
    ----------
    name, value
        What it is called, and itself.
    reason
        Why it is none, and what to do.
    """

    def __init__(self, name: str, value: Any, reason: str = "") -> None:
        super().__init__(name, value, reason)
        self.reader, self.file, self.line = "", "", 0

    def __str__(self) -> str:
        name, value, reason = self.args
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        where = f", at {self.file}:{self.line}" if self.file else ""
        reason = reason or "make it inside the function, or pass what it is made from"
        return f"{name} ({kind}), which {self.reader or 'it'} reads{where}, is no value: {reason}"


class Binder(Protocol):
    """Who knows which item an object is."""

    border: Border
    checks: Checks
    assigned: set[Variable]
    """Variables that some function assigns to."""

    def bind(
        self, value: Any, hint: str, namespace: dict[str, Any], variable: Variable | None = None
    ) -> Target:
        """Return the item of an object that is called `hint` in a module, or of a variable that holds it.

        Raises
        ------
        NoValue
            There can be none.
        """


@dataclass(frozen=True)
class Environment:
    """Where the names of a definition are looked up.

    Parameters
    ----------
    namespace
        The module's.
    cells
        Variables of the functions around it.
    scope
        Where it stands: what is executed there reads variables that no cell holds, and that are gone by now.
    """

    namespace: dict[str, Any]
    cells: Mapping[str, CellType]
    scope: Scope = field(default_factory=Scope)

    def variable(self, name: str) -> Variable:
        """Return which variable a name means."""
        return id(self.cells.get(name, self.namespace)), name

    def is_gone(self, name: str) -> bool:
        """Tell whether a name meant a variable that is gone, where the definition was executed."""
        return name not in self.cells and self.scope.has(name)

    def is_builtin(self, name: str) -> bool:
        """Tell whether a name that is found nowhere means a builtin, where the definition is executed."""
        return hasattr(builtins, name) and not self.is_gone(name)

    def find(self, name: str, checks: Checks, now: bool = True) -> Any:
        """Return what a name means at the moment, ``MISSING`` for builtins and for what is nowhere.

        Parameters
        ----------
        name
            The name.
        checks
            Told what was looked at.
        now
            It is read where the definition is executed, not where it is called.
        """
        if now and self.is_gone(name):
            return MISSING
        if name in self.cells:
            try:
                value = self.cells[name].cell_contents
            except ValueError:  # not assigned yet
                checks.never()
                return MISSING
            checks.cell(self.cells[name], value)
            return value
        if name not in self.namespace:
            checks.absent(self.namespace, name)
            return MISSING
        value = self.namespace[name]
        checks.entry(self.namespace, name, value)
        return value


class TreeReader:
    """Finds what the tree of an item uses.

    Parameters
    ----------
    binder
        Asked for the item of each object.
    item
        Whose tree it is.
    environment
        Where names are looked up.
    """

    def __init__(self, binder: Binder, item: Item, environment: Environment) -> None:
        self._binder, self._item, self._environment = binder, item, environment
        self._parents: dict[int, ast.AST] = {}
        self._names = TreeNames()
        self._is_seeded = False
        self._libraries: dict[str, str] = {}
        """What is imported of libraries inside, by the names that it gets."""
        self.missing: set[str] = set()
        """Names that mean nothing, and would have to where the definition is executed."""

    def read(
        self, tree: ast.AST, private: str, hints: list[tuple[Any, str]], bases: Mapping[int, Any]
    ) -> None:
        """Note all uses.

        Parameters
        ----------
        tree
            A definition or an expression.
        private
            The class around it.
        hints
            Annotations: a node and the field in which they stand.
        bases
            What names of base classes mean: their present meaning may be another one.
        """
        self._parents = {id(child): node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self._is_seeded = bool({"seed", "manual_seed"} & hazards.words(tree))
        names = self._names = analyse(tree, private)
        self._item.bound |= names.bound
        in_hints = {id(node): place for place in hints for node in ast.walk(getattr(*place))}
        for reference in names.outside:
            place = in_hints.get(id(reference.node))
            if place is not None:
                self._hint(reference, place)
            else:
                self._reference(reference, reference.now, bases)
        for statement in names.declared:
            self._declaration(statement)
        for each in names.imports:
            self._import(each)
        outside = {id(each.node) for each in names.outside}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id in self._libraries and id(node) not in outside:
                self._look_for_hazards(self._libraries[node.id], node)
        for node, message in hazards.method_hazards(tree, names.bound):
            self._item.warn(node, message)

    def _hint(self, reference: OuterName, place: tuple[Any, str]) -> None:
        """Read a name in an annotation; one that cannot be evaluated there makes a text of the annotation."""
        before = len(self._item.uses)
        try:
            self._reference(reference, place not in self._item.hints, {})
        except NoValue:
            self._item.free.add(reference.name)
        found = [use.item for use in self._item.uses[before:]]
        if (not found and not self._environment.is_builtin(reference.name)) or self._item in found:
            self._item.hints.append(place)

    def _reference(self, reference: OuterName, now: bool, bases: Mapping[int, Any]) -> None:
        name, item = reference.name, self._item
        if name in _LEFT_ALONE:
            item.free.add(name)
            if name == "__file__":
                item.warn(reference.node, hazards.OWN_FILE)
            return
        value = bases.get(id(reference.node), MISSING)
        if value is MISSING:
            value = self._environment.find(name, self._binder.checks, now)
        if reference.stored:
            item.warn(reference.node, hazards.GLOBAL.format(name))
            self._binder.assigned.add(self._environment.variable(name))
        if value is MISSING:
            item.free.add(reference.node.id)
            if now and not self._environment.is_builtin(name):
                self.missing.add(name)
            self._look_for_hazards(name, reference.node)
            return
        node, value, variable = self._follow(reference.node, value, self._environment.variable(name))
        target = self._bind(value, variable[1], node, variable)
        item.use(node, target, now)
        if reference.fixed:
            item.fixed.append(item.uses[-1])
        if target.item.origin:
            self._look_for_hazards(".".join([target.item.origin, *target.path]), node)

    def _bind(self, value: Any, hint: str, node: ast.AST, variable: Variable | None = None) -> Target:
        try:
            return self._binder.bind(value, hint, self._environment.namespace, variable)
        except NoValue as error:
            if not error.reader:  # say where it is read, the first that knows
                error.reader, error.file = self._item.name, self._item.file
                error.line = getattr(node, "lineno", 0)
            raise

    def _follow(self, node: ast.expr, value: Any, variable: Variable) -> tuple[ast.expr, Any, Variable]:
        """Go on from a module to what is asked of it: one function of the user's module, not all of it."""
        while isinstance(value, ModuleType):
            above = self._parents.get(id(node))
            if not isinstance(above, ast.Attribute) or above.value is not node:
                break
            if not isinstance(above.ctx, ast.Load):
                self._item.warn(above, hazards.GLOBAL.format(f"{variable[1]}.{above.attr}"))
                break
            inner = vars(value).get(above.attr, MISSING)
            users = self._binder.border.owns(value.__name__) or self._is_replaced(value, above.attr, inner)
            below = isinstance(inner, ModuleType) and inner.__name__ == f"{value.__name__}.{above.attr}"
            if above.attr in _LEFT_ALONE or not (users or below):
                break
            inner = self._has(value, above.attr)
            if inner is MISSING:
                break
            variable = id(vars(value)), above.attr
            node, value = above, inner
        return node, value, variable

    def _is_replaced(self, module: ModuleType, name: str, value: Any) -> bool:
        """Tell whether the user has put a function of his own in the place of a library's."""
        if not callable(value):
            return False
        self._binder.checks.entry(vars(module), name, value)
        return isinstance(value, FunctionType) and self._binder.border.owns(value.__globals__.get("__name__"))

    def _has(self, module: ModuleType, name: str) -> Any:
        """Return what a module has by a name; the ``__getattr__`` of one of the user's is asked."""
        value = vars(module).get(name, MISSING)
        if value is not MISSING:
            self._binder.checks.entry(vars(module), name, value)
        elif "__getattr__" in vars(module) and self._binder.border.owns(module.__name__):
            value = attribute(module, name, MISSING)
            if name in vars(module):  # it was loaded when it was asked for
                self._binder.checks.entry(vars(module), name, value)
            elif value is not MISSING:
                self._binder.checks.answer(module, name, value)
        return value

    def _look_for_hazards(self, dotted: str, node: ast.expr) -> None:
        while True:
            message = hazards.hazard(dotted, node, self._parents, self._names.bound)
            if message and not (self._is_seeded and "seed" in message):
                self._item.warn(node, message)
                return
            above = self._parents.get(id(node))
            if not isinstance(above, ast.Attribute):
                return
            dotted, node = f"{dotted}.{above.attr}", above

    def _declaration(self, statement: ast.Global | ast.Nonlocal) -> None:
        """Note which names of a ``global`` or ``nonlocal`` lie outside."""
        found = self._item.declared.setdefault(id(statement), {})
        outside = {each.name for each in self._names.outside if each.stored}
        for name in statement.names:
            if isinstance(statement, ast.Nonlocal) and name not in self._environment.cells:
                continue
            value = self._environment.find(name, self._binder.checks, now=False)
            if value is not MISSING:
                found[name] = self._bind(value, name, statement, self._environment.variable(name)).item
            elif name in outside:
                self._item.free.add(name)

    def _import(self, statement: ast.Import | ast.ImportFrom) -> None:
        """Put what is imported from the user's modules in the place of the import, which works only here."""
        statements: list[ast.stmt] = []
        for alias in statement.names:
            value = self._imported(statement, alias)
            name = alias.asname or alias.name.partition(".")[0]
            if value is MISSING:
                kept: ast.stmt
                if isinstance(statement, ast.Import):
                    kept = ast.Import([alias])
                    self._libraries[name] = alias.name if alias.asname else name
                else:
                    kept = ast.ImportFrom(statement.module, [alias], statement.level)
                    self._libraries[name] = f"{statement.module}.{alias.name}"
                statements.append(ast.copy_location(kept, statement))
                continue
            target = self._bind(value, alias.name.rpartition(".")[2], statement)
            place = self._item.named(target, now=False)
            assignment = ast.Assign([ast.Name(name, ast.Store())], place)
            statements.append(ast.copy_location(assignment, statement))
        if any(isinstance(each, ast.Assign) for each in statements):
            self._item.replaced[id(statement)] = [_located(each, statement) for each in statements]

    def _imported(self, statement: ast.Import | ast.ImportFrom, alias: ast.alias) -> Any:
        """Return what an import of the user's gives, ``MISSING`` for a library's."""
        if isinstance(statement, ast.Import):
            module = self._module(alias.name)
            if module is None:
                return MISSING
            return module if alias.asname else sys.modules[alias.name.partition(".")[0]]
        name = statement.module or ""
        if statement.level:
            package = str(self._environment.namespace.get("__package__") or "")
            name = ".".join(
                [
                    *package.split(".")[: len(package.split(".")) - statement.level + 1],
                    *([name] if name else []),
                ]
            )
        module = self._module(name)
        if module is None:
            return MISSING
        value = self._has(module, alias.name)
        return (self._module(f"{name}.{alias.name}") or MISSING) if value is MISSING else value

    def _module(self, name: str) -> ModuleType | None:
        """Return a module of the user's; a function may name one that nothing has imported yet."""
        if name not in sys.modules and not self._binder.border.would_own(name):
            return None
        try:
            module = importlib.import_module(name)
        except ImportError:  # the function may be ready for that
            return None
        return module if self._binder.border.owns(name) else None


def _located(statement: ast.stmt, like: ast.stmt) -> ast.stmt:
    for node in ast.walk(statement):
        if "lineno" in node._attributes:
            ast.copy_location(node, like)
    return statement


Stands = Callable[[ast.Name], bool]
"""Tells of a place where a name stands whether it means something outside a definition."""


def decorator(node: ast.expr, environment: Environment, is_outside: Stands = lambda node: True) -> Any:
    """Return what a decorator is, without calling it; None where that is not known."""
    attributes: list[str] = []
    while isinstance(node, (ast.Call, ast.Attribute)):
        if isinstance(node, ast.Attribute):
            attributes.insert(0, node.attr)
            node = node.value
        else:
            node = node.func
    if not isinstance(node, ast.Name) or not is_outside(node):
        return None
    value = environment.find(node.id, Checks())
    for name in attributes:
        value = vars(value).get(name, value) if isinstance(value, ModuleType) else value
    return value


def below_ours(
    decorators: Sequence[ast.expr],
    environment: Environment,
    is_outside: Stands = lambda node: True,
    inside: bool = False,
) -> list[ast.expr]:
    """Return the decorators of a definition below those of ours.

    Inside of a function `delayed` stays: what it makes is no such function, and the code goes on with that.
    """
    for number, node in reversed(list(enumerate(decorators))):
        value = decorator(node, environment, is_outside)
        if is_ours(attribute(value, "__module__")):
            stays = inside and attribute(value, "__name__") == "delayed"
            return list(decorators[number if stays else number + 1 :])
    return list(decorators)
