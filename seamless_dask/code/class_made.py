"""What the standard library makes of a class, and what somebody has done to it or registered there since."""

from __future__ import annotations

import abc
import dataclasses
import enum
from abc import ABCMeta
from collections.abc import Iterator
from functools import singledispatchmethod
from types import FunctionType
from typing import Any

from .data import is_immutable
from .guards import snapshot
from .sources import SourceMissing
from .unwrapping import is_generated, methods, plain_function


def refuse_changed(owner: type) -> None:
    """Refuse a class of which no statement tells what it is by now.

    Raises
    ------
    SourceMissing
        A method that was written for it has other defaults, or a member of an enumeration another value.
    """
    for name, value in vars(owner).items():
        function = plain_function(value)
        if function is not None and is_generated(function) and _has_other_defaults(owner, function):
            raise SourceMissing(f"its {name} was given other defaults later")
    for name, member in _members(owner):
        if not _is_at(owner, member):
            raise SourceMissing(f"its member {name} was given another value later")


def has_state(owner: type) -> bool:
    """Tell whether a class has members, or may have registrations."""
    has_methods = any(isinstance(each, singledispatchmethod) for each in vars(owner).values())
    return has_methods or isinstance(owner, (enum.EnumMeta, ABCMeta))


def state_of(owner: type) -> object:
    """Return what tells a class apart of which members or registrations are others."""
    members = [(name, member._value_, *_values(member)) for name, member in _members(owner)]
    methods = [each for each in vars(owner).values() if isinstance(each, singledispatchmethod)]
    return snapshot([members, registered(owner), [implementations(each) for each in methods]])


def implementations(method: singledispatchmethod[Any]) -> list[tuple[type, Any]]:
    """Return the functions that a method calls for types, but for the one for all others."""
    return [(kind, each) for kind, each in method.dispatcher.registry.items() if kind is not object]


def registered(owner: type) -> list[type]:
    """Return the classes that were registered with an abstract one, in an order that lasts."""
    if not isinstance(owner, ABCMeta) or not hasattr(abc, "_get_dump"):
        return []
    found = [each for each in (one() for one in abc._get_dump(owner)[0]) if each is not None]
    return sorted(found, key=lambda each: (each.__qualname__, each.__module__))


def put_on_members(owner: type) -> list[tuple[str, str, Any]]:
    """Return plain values that were put on members of an enumeration: member, name, and value."""
    if not isinstance(owner, enum.EnumMeta):
        return []
    kinds = owner.__mro__
    own = {name for kind in kinds for each in methods(kind) for name in each.__code__.co_names}
    own |= {name for kind in kinds for name in vars(kind)}
    return [
        (member._name_, name, value)
        for key, member in _members(owner)
        for name, value in _values(member)
        if key == member._name_ and name not in own and not name.startswith("_")
    ]


def _values(member: Any) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in vars(member).items() if is_immutable(value)]


def _has_other_defaults(owner: type, function: FunctionType) -> bool:
    given, wanted = _defaults(function), _told(owner)
    return any(name in wanted and given[name] is not wanted[name] for name in given)


def _defaults(function: FunctionType) -> dict[str, Any]:
    code, defaults = function.__code__, function.__defaults__ or ()
    places = code.co_varnames[: code.co_argcount][code.co_argcount - len(defaults) :]
    return dict(zip(places, defaults, strict=True)) | (function.__kwdefaults__ or {})


def _told(owner: type) -> dict[str, Any]:
    """Return the defaults that the fields of a dataclass or a named tuple say."""
    found = dict(getattr(owner, "_field_defaults", {})) if issubclass(owner, tuple) else {}
    for name, each in vars(owner).get("__dataclass_fields__", {}).items():
        if each.default is not dataclasses.MISSING:
            found[name] = each.default
    return found


def _members(owner: type) -> Iterator[tuple[str, Any]]:
    return iter(owner.__members__.items() if isinstance(owner, enum.EnumMeta) else ())


def _is_at(owner: Any, member: Any) -> bool:
    """Tell whether an enumeration finds a member by its value; one that has no hash is not looked for."""
    try:
        return owner._value2member_map_.get(member._value_, member) is member and (
            member._value_ in owner._value2member_map_ or not owner._value2member_map_
        )
    except TypeError:
        return True
