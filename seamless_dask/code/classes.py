"""Classes as items: their statements with the values of the moment, and what was put into them later."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import enum
import functools
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from types import BuiltinFunctionType, CellType, FunctionType
from typing import Any

from .class_made import implementations, put_on_members, refuse_changed, registered
from .class_statements import ClassStatement, nested_in, parts
from .data import is_immutable, literal
from .definitions import Definer, cells_of, defaults_of, stripped
from .expressions import expression
from .items import Item
from .library import attribute, name_of
from .matching import matches
from .names import MISSING, Environment, NoValue, TreeReader, decorator
from .owners import may_give, meant
from .printer import checked
from .scopes import mangled, scope_in
from .sources import Found, SourceMissing
from .unwrapping import methods

OF_CLASSES = {"__module__", "__qualname__", "__doc__", "__annotations__", "__slots__", "_abc_impl"}
OF_CLASSES |= {"_is_protocol", "_is_runtime_protocol", "_fields", "_field_defaults", "__orig_bases__"}
OF_CLASSES |= {"__firstlineno__", "__static_attributes__", "__annotate_func__", "__annotations_cache__"}
"""What Python and its library put into classes."""
Defaults = tuple[list[ast.expr], list[ast.expr | None]]
_VALUES = (ast.Constant, ast.JoinedStr, ast.List, ast.Tuple, ast.Dict, ast.Set)
"""Expressions that give no function."""


class ClassReader:
    """Makes the statements of a class, and of the classes in it.

    Parameters
    ----------
    definer, item
        Who knows items, and the one of the outermost class.
    owner, found
        The class and its definition.
    path
        From the outermost class to this one.
    """

    def __init__(
        self, definer: Definer, item: Item, owner: type, found: Found, path: tuple[str, ...] = ()
    ) -> None:
        self._definer, self._item, self._owner, self._found = definer, item, owner, found
        self._path = path
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
        decorators = [decorator(node, self._environment) for node in found.node.decorator_list]
        self._statement = ClassStatement(owner, found, decorators, definer.border)
        self._fields = _fields(owner)
        self._is_enumeration = isinstance(owner, enum.EnumMeta)
        self._by_value: list[tuple[str, ast.Assign | ast.AnnAssign, ast.expr]] = []
        self._defaults: list[tuple[ast.arguments, Defaults]] = []
        self._taken: set[str] = set()
        """Names whose statements have been looked at."""
        self._inner: list[ClassReader] = []

    def define(self) -> list[type]:
        """Make the statements; return the class, and those in it.

        Raises
        ------
        Unprintable
            It has no text in the frozen form.
        NoValue
            It reaches what is no value.
        """
        node, item, present = self._found.node, self._item, self._namespace.get(self._owner.__name__)
        if (
            node.decorator_list
            and isinstance(present, type)
            and self._owner in present.__mro__[1:]
            and present.__qualname__ != self._owner.__qualname__
        ):
            raise SourceMissing("a decorator has made another class of it")
        refuse_changed(self._owner)
        tree = stripped(self._definer, item, self._found, node.decorator_list, self._environment)
        item.body = [tree]
        checked(item.body)
        self._take(tree)
        reader = TreeReader(self._definer, item, self._environment)
        reader.read(tree, self._found.private, item.kept, self._bases(tree))
        if "<locals>" in self._owner.__qualname__ and reader.missing:
            raise SourceMissing(f"it reads {min(reader.missing)} of a function around it, which is over")
        return list(self._give())

    def _take(self, tree: ast.ClassDef) -> None:
        """Look which statements of the body are to give what the class has by now."""
        for statement in tree.body:
            if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self._take_defaults(statement)
            elif isinstance(statement, ast.ClassDef):
                self._take_class(statement)
            else:
                self._take_value(statement)

    def _take_class(self, statement: ast.ClassDef) -> None:
        inner = nested_in(self._owner, statement)
        if inner is None:
            if self._statement.is_alone and not statement.decorator_list:
                raise SourceMissing(f"its class {statement.name} is another one by now")
            return
        nodes = [each for each in self._found.node.body if isinstance(each, ast.ClassDef)]
        node = next(each for each in nodes if each.lineno == statement.lineno)
        found = replace(self._found, node=node, around=(*self._found.around, self._found.node))
        refuse_changed(inner)
        reader = ClassReader(self._definer, self._item, inner, found, (*self._path, statement.name))
        reader._take(statement)
        self._inner.append(reader)

    def _give(self) -> Iterator[type]:
        """Put the values of the moment in their places, and add what was put there later."""
        yield self._owner
        for name, statement, value in self._by_value:
            if self._needs_itself(value):
                reason = "it has an object of this class, or of one in it: make it inside the function"
                raise NoValue(f"{self._owner.__qualname__}.{name}", vars(self._owner).get(name), reason)
            statement.value = value
        for given, found in self._defaults:
            given.defaults, given.kw_defaults = found
        gone = (self._taken | self._statement.lasting) - {*vars(self._owner), *OF_CLASSES}
        if gone and self._statement.is_alone:
            raise SourceMissing(f"{min(gone)} was taken out of it later")
        for name, value in list(vars(self._owner).items()):
            if isinstance(value, functools.singledispatchmethod):
                self._add_calls(name, implementations(value), self._statement.defines)
            if name not in OF_CLASSES and not name.startswith("__annotate"):
                self._add_later(name, value)
        self._add_calls("", [(each,) for each in registered(self._owner)])
        for member, name, value in put_on_members(self._owner):
            self._item.body.append(_setting(self._name(member), name, literal(value)))
        for inner in self._inner:
            yield from inner._give()

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
        assert isinstance(statement, (ast.Assign, ast.AnnAssign))
        assert statement.value is not None
        own = mangled(name, self._owner.__name__)
        self._taken.add(own)
        value = self._owner.__dict__.get(own, MISSING)
        if own in self._fields:
            value = MISSING if self._is_told_to_library(statement.value) else self._fields[own]
        is_data = value is not MISSING and _is_data(value) and not self._is_enumeration
        is_object = not (is_data or self._is_enumeration) and self._is_object(value)
        is_other = self._statement.is_open and self._was_replaced(statement.value, value)
        if not (is_data or is_object or is_other):
            return
        place = (self._place_of_object if is_object else self._place_or_none)(name, value)
        if place is None:
            return
        statement.value = ast.copy_location(ast.Constant(None), statement)  # its names are not looked at
        self._by_value.append((own, statement, place))

    def _place_or_none(self, name: str, value: Any) -> ast.expr | None:
        try:
            return self._place(name, value)
        except NoValue:
            return None

    def _is_object(self, value: Any) -> bool:
        """Tell whether something is an object of the user's that is called or asked, such as a descriptor."""
        is_users = self._definer.border.owns(type(value).__module__)
        return is_users and not isinstance(value, type) and not hasattr(value, "__wrapped__")

    def _place_of_object(self, name: str, value: Any) -> ast.expr | None:
        """Return an expression of such an object by its state; None where that is none, or has this class."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its expression counts then
            try:
                place = self._place(name, value)
            except (NoValue, SourceMissing):
                place = None
        used = [use.item for use in self._item.uses if use.node is place]
        is_weak = any(each.buffer is not None and each.buffer.format == "pickle" for each in used)
        if place is not None and (is_weak or self._needs_itself(place)):
            self._item.uses = [use for use in self._item.uses if use.node is not place]
            return None
        return place

    def _take_defaults(self, statement: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        """Use the defaults that a method has at the moment; its class.s own as they stand there."""
        function = self._statement.function_of(statement)
        if function is None:
            return
        values = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        own = f"{self._owner.__qualname__}."
        if any(str(attribute(each, "__qualname__", "")).startswith(own) for each in values):
            return
        given = statement.args
        with suppress(NoValue):
            found = defaults_of(self._definer, self._item, function, given)
            given.defaults, given.kw_defaults = [], [None for _ in given.kwonlyargs]
            self._defaults.append((given, found))

    def _is_told_to_library(self, node: ast.expr) -> bool:
        """Tell whether an expression says more of a field than its default: ``field(repr=False)``."""
        if not isinstance(node, ast.Call):
            return False
        called = decorator(node, self._environment)
        return not self._definer.border.owns(attribute(called, "__module__"))

    def _was_replaced(self, node: ast.expr, value: Any) -> bool:
        """Tell whether a class has another function or class by a name than its statement gives."""
        if functions := parts(value):
            return isinstance(node, _VALUES) or not all(self._may_give(node, each) for each in functions)
        if isinstance(value, functools.partialmethod):
            return not self._gives_partial(node, value)
        if not isinstance(value, (FunctionType, BuiltinFunctionType, type)):
            return False
        if isinstance(node, ast.Lambda):
            found = self._found
            return not (
                isinstance(value, FunctionType)
                and matches(node, found.node.name, value.__code__, found.imports)
            )
        if not isinstance(node, ast.Name):
            return isinstance(node, _VALUES)  # what a call or an attribute gives is not known
        given = self._owner.__dict__.get(mangled(node.id, self._owner.__name__), MISSING)
        if given is MISSING:
            given = self._environment.find(node.id, self._definer.checks)
        return (getattr(builtins, node.id, MISSING) if given is MISSING else given) is not value

    def _gives_partial(self, node: ast.expr, value: functools.partialmethod[Any]) -> bool:
        """Tell whether a call of ``partialmethod`` gives one of the same function and arguments."""
        if not isinstance(node, ast.Call) or any(each.arg is None for each in node.keywords):
            return False
        held = [value.func, *value.args, *value.keywords.values()]
        given = [*node.args, *(each.value for each in node.keywords)]
        names = [each.arg for each in node.keywords]
        return (
            names == list(value.keywords) and len(given) == len(held) and all(map(self._means, given, held))
        )

    def _means(self, node: ast.expr, value: Any) -> bool:
        if is_immutable(value) and expression(literal(value)) == expression(node):
            return True
        return meant(node, {**self._namespace, **vars(self._owner)}) is value

    def _may_give(self, node: ast.expr, function: FunctionType) -> bool:
        names = {**self._namespace, **vars(self._owner)}
        border, found = self._definer.border, self._found
        return may_give(node, names, function, border, found.imports, found.node.name)

    def _place(self, name: str, value: Any) -> ast.expr:
        """Return an expression of what a class has by a name."""
        if isinstance(value, functools.partialmethod):
            keywords = [ast.keyword(key, self._place(name, each)) for key, each in value.keywords.items()]
            args = [self._place(name, each) for each in (value.func, *value.args)]
            return ast.Call(self._bound(functools.partialmethod, name), args, keywords)
        if not isinstance(value, (property, staticmethod, classmethod)):
            return literal(value) if is_immutable(value) else self._bound(value, name)
        given = (value.fget, value.fset, value.fdel) if isinstance(value, property) else (value.__func__,)
        made = [ast.Constant(None) if each is None else self._bound(each, name) for each in given]
        return ast.Call(self._bound(type(value), name), made, [])

    def _bound(self, value: Any, name: str) -> ast.expr:
        hint = f"{self._item.name}_{name}"
        target = self._definer.bind(value, hint, self._namespace)
        if target.item is self._item:
            if not isinstance(value, FunctionType):
                raise SourceMissing(f"{name} is not what its statement defines")
            target = self._definer.apart(value, hint)
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

    def _add_later(self, name: str, value: Any) -> None:
        """Add what the class has by a name, unless its statement gives it."""
        statement = self._statement
        if _is_data(value):
            if not self._is_later_data(name, value):
                return
        elif name in self._taken or statement.gives(name, value):
            return
        if isinstance(value, type):
            raise SourceMissing(f"the class {name} was put into it later")
        try:
            place = self._place(name, value)
        except NoValue:
            if _is_data(value):
                if statement.is_alone:
                    raise
                return  # a library keeps something there
            raise SourceMissing(f"{name} was put into it later") from None
        self._item.body.append(_setting(self._name(), name, place))

    def _name(self, *path: str) -> ast.expr:
        """Return a place that means the class, or something in it."""
        place: ast.expr = self._item.own_name()
        for each in (*self._path, *path):
            place = ast.Attribute(place, each, ast.Load())
        return place

    def _add_calls(
        self,
        name: str,
        calls: Iterable[tuple[Any, ...]],
        is_given: Callable[[Any], bool] = lambda value: False,
    ) -> None:
        """Add calls of ``register``: what they are given is no part of the statement."""
        for given in calls:
            if not is_given(given[-1]):
                register = ast.Attribute(self._name(*([name] if name else [])), "register", ast.Load())
                call = ast.Call(register, [self._bound(each, name_of(each, name)) for each in given], [])
                self._item.body.append(ast.Expr(call))

    def _needs_itself(self, place: ast.expr) -> bool:
        """Tell whether a value has an object of the very class, or of one in it."""
        used = [use.item for use in self._item.uses if use.node is place]
        return any(use.item is self._item for item in used for use in item.uses)

    def _is_later_data(self, name: str, value: Any) -> bool:
        """Tell whether data was put there later, or in a part of the statement that is not by value."""
        if name in self._fields:
            return self._fields[name] is not MISSING and value is not self._fields[name]
        if name in self._taken or not self._statement.is_open:
            return False
        if self._is_enumeration:
            return name not in self._statement.names and not name.startswith("_")
        return name in self._statement.names or not name.startswith("__")


def _setting(owner: ast.expr, name: str, value: ast.expr) -> ast.stmt:
    return ast.Assign([ast.Attribute(owner, name, ast.Store())], value)


def _is_data(value: Any) -> bool:
    is_descriptor = any(hasattr(type(value), name) for name in ("__get__", "__set_name__"))
    return not is_descriptor and not callable(value)


def _fields(owner: type) -> dict[str, Any]:
    """Return the defaults of fields of a dataclass or a named tuple: the class has something else by them."""
    found = dict.fromkeys(getattr(owner, "_fields", ()), MISSING) if issubclass(owner, tuple) else {}
    found |= getattr(owner, "_field_defaults", {}) if found else {}
    for name, each in vars(owner).get("__dataclass_fields__", {}).items():
        found[name] = MISSING if each.default is dataclasses.MISSING else each.default
    return found
