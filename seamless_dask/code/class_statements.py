"""What a class statement gives with its decorators and bases; the rest was put into the class later."""

from __future__ import annotations

import ast
import enum
from abc import ABCMeta
from collections.abc import Sequence
from functools import cached_property, partialmethod
from types import CodeType, FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, Protocol

from .border import Border
from .matching import matches
from .scopes import bound_in, mangled, nodes_of
from .sources import Found
from .unwrapping import codes, is_generated, layers, plain_function

_OPEN = (type, ABCMeta, type(Protocol), enum.EnumMeta)
"""Metaclasses of which it is known what they put into a class."""
_IMPLICIT = ("__new__", "__init_subclass__", "__class_getitem__")
"""Methods that Python makes static, or of the class, by itself."""


def parts(value: Any) -> list[FunctionType]:
    """Return the functions that a property, a static method or a method of the class consists of."""
    if isinstance(value, property):
        given: list[Any] = [value.fget, value.fset, value.fdel]
    else:
        given = [value.__func__] if isinstance(value, (staticmethod, classmethod)) else []
    return [function for each in given if (function := plain_function(each)) is not None]


def nested_in(owner: type, node: ast.ClassDef) -> type | None:
    """Return the class that a statement in the body of another one has made; None where there is no such."""
    value = vars(owner).get(mangled(node.name, owner.__name__))
    is_own = isinstance(value, type) and value.__qualname__ == f"{owner.__qualname__}.{node.name}"
    return value if is_own else None


class ClassStatement:
    """What the statement of a class gives.

    Parameters
    ----------
    owner, found
        The class and its definition.
    decorators
        Those of the class; None for those of which it is not known what they are.
    border
        What is the user's.

    Attributes
    ----------
    is_open
        It is known what the metaclass puts into it.
    is_alone
        Nothing but the statement itself puts anything into it, as far as it is known.
    names
        All that the body gives a value.
    lasting
        Methods that it neither deletes nor makes something else of.
    """

    def __init__(self, owner: type, found: Found, decorators: Sequence[Any], border: Border) -> None:
        self._owner, self._found, self._decorators, self._border = owner, found, decorators, border
        kind = type(owner)
        self.is_open = kind in _OPEN or border.owns(kind.__module__)
        self.is_alone = not decorators and kind in (type, ABCMeta, type(Protocol))
        self.names = bound_in(found.node)
        self._definitions: dict[str, list[ast.FunctionDef | ast.AsyncFunctionDef]] = {}
        self._others: set[str] = set()
        for node in nodes_of(found.node):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                self._definitions.setdefault(mangled(node.name, owner.__name__), []).append(node)
            elif isinstance(node, ast.ClassDef):
                self._others.add(mangled(node.name, owner.__name__))
            elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                self._others.add(mangled(node.id, owner.__name__))
        self.lasting = set(self._definitions) - self._others

    def gives(self, name: str, value: Any) -> bool:
        """Tell whether a function, a descriptor or a class may be there from the statement."""
        functions = [value] if isinstance(value, FunctionType) else parts(value)
        if functions:
            return all(self._gives_function(name, value, each) for each in functions)
        if name in self._others:
            return True
        if name in self._definitions:
            plain = plain_function(value)
            return self._gives_function(name, value, plain) if plain else not self._is_bare(name)
        if name.startswith("__") or isinstance(value, (GetSetDescriptorType, MemberDescriptorType)):
            return True
        is_users = self._border.owns(type(value).__module__) or isinstance(value, partialmethod)
        return self._has_makers if is_users else not self.is_alone

    def _is_bare(self, name: str) -> bool:
        """Tell whether nothing makes anything else of the functions of a name than what stands there."""
        return self.is_alone and not any(each.decorator_list for each in self._definitions[name])

    def _gives_function(self, name: str, value: Any, function: FunctionType) -> bool:
        if name in self._others:
            return True
        nodes = self._definitions.get(name, [])
        plain = plain_function(function) or function
        if any(self._matches(node, plain) for node in nodes):
            allowed = max(len(node.decorator_list) for node in nodes) + (name in _IMPLICIT)
            if max(layers(value), isinstance(value, property)) <= allowed:
                return True
        elif not self._border.owns(plain.__globals__.get("__name__")):
            return not (nodes and self._is_bare(name))
        elif self._is_generated(name, plain) or self._is_renamed(name, plain):
            return True
        return any(function.__code__ in inner for inner in self._made_by_others)

    def defines(self, function: Any) -> bool:
        """Tell whether a function is one of those that stand in the body."""
        plain = plain_function(function)
        nodes = [each for found in self._definitions.values() for each in found]
        return plain is not None and any(self._matches(node, plain) for node in nodes)

    def function_of(self, copy: ast.FunctionDef | ast.AsyncFunctionDef) -> FunctionType | None:
        """Return the function that a definition of the body has made, from a copy of it."""
        name = mangled(copy.name, self._owner.__name__)
        value = vars(self._owner).get(name)
        for node in self._definitions.get(name, ()):
            for function in (plain_function(value), *parts(value)):
                if node.lineno == copy.lineno and function is not None and self._matches(node, function):
                    return function
        return None

    def _matches(self, node: ast.FunctionDef | ast.AsyncFunctionDef, function: FunctionType) -> bool:
        return matches(node, self._found.node.name, function.__code__, self._found.imports)

    def _is_generated(self, name: str, function: FunctionType) -> bool:
        """Tell whether a library has written a method, such as `dataclass`."""
        return not self.is_alone and function.__name__ == name and is_generated(function)

    def _is_renamed(self, name: str, function: FunctionType) -> bool:
        """Tell whether the metaclass keeps a method by another name, as that of enumerations does."""
        nodes = self._definitions.get(function.__name__, [])
        return name.startswith("__") and not self.is_alone and any(self._matches(n, function) for n in nodes)

    @property
    def _has_makers(self) -> bool:
        """Whether the user's own code puts something into the class."""
        return any(self._border.owns(getattr(maker, "__module__", None)) for maker in self._makers)

    @cached_property
    def _made_by_others(self) -> list[set[CodeType]]:
        """All code that puts something into the class."""
        return [set(codes(maker)) for maker in self._makers]

    @cached_property
    def _makers(self) -> list[Any]:
        """Decorators, the metaclass, and what bases do with their subclasses."""
        kinds = type(self._owner).mro(type(self._owner))
        makers: list[Any] = [each for each in kinds if self._border.owns(each.__module__)]
        makers += self._decorators
        makers += [
            vars(base)["__init_subclass__"]
            for base in self._owner.__mro__[1:]
            if "__init_subclass__" in vars(base)
        ]
        return [maker for maker in makers if maker is not None]
