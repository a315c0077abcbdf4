"""Plain values as expressions, which are printed into the text."""

from __future__ import annotations

import ast
import logging
import math
import operator
import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from .expressions import expression

Code = Callable[[Any], ast.expr | None]
"""From a function, a class or the like to a place that means it; None for what is none."""
_SCALARS = (type(None), bool, int, str, bytes, type(...))
_SIMPLE = (*_SCALARS, float, complex)
MUTABLE = (list, dict, set, bytearray)


class NoLiteral(Exception):
    """A value that is no plain one; it is the only argument."""


def is_scalar(value: object) -> bool:
    """Tell whether a value is a number, a text, or another constant of Python."""
    return type(value) in _SIMPLE


def is_immutable(value: object) -> bool:
    """Tell whether nothing in a plain value can change."""
    if type(value) in (tuple, frozenset):
        return all(map(is_immutable, value))  # type: ignore[call-overload]
    return is_scalar(value) or type(value) is range


def literal(value: Any, code: Code = lambda value: None, inside: frozenset[int] = frozenset()) -> ast.expr:
    """Return the expression of a value.

    Parameters
    ----------
    value
        Anything; types are looked at exactly, so that a subclass of ``int`` is no ``int``.
    code
        Asked for functions, classes and what else stands in the text by its name; for containers inside
        others too, which may be shared.
    inside
        The containers around it.

    Raises
    ------
    NoLiteral
        There is none.
    """
    kind = type(value)
    if kind in _SCALARS:
        return _signed(value) if kind is int else ast.Constant(value)
    if kind is float:
        return _float(value)
    if id(value) in inside:
        raise NoLiteral(value)  # it contains itself
    if inside and kind in MUTABLE and (place := code(value)) is not None:
        return place
    if kind in _MAKERS:
        inner = inside | {id(value)}
        return _MAKERS[kind](value, lambda each: literal(each, code, inner))
    place = code(value)
    if place is None:
        raise NoLiteral(value)
    return place


def _signed(value: int | float) -> ast.expr:
    if math.copysign(1, value) < 0 if isinstance(value, float) else value < 0:
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    return ast.Constant(value)


def _float(value: float) -> ast.expr:
    if value == value:
        return _signed(value)
    nan = call("float", ast.Constant("nan"))
    return nan if math.copysign(1, value) > 0 else ast.UnaryOp(ast.USub(), nan)


def call(name: str, *arguments: ast.expr) -> ast.expr:
    """Return a call of something by its name."""
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


Inner = Callable[[Any], ast.expr]


def _dict(value: dict[Any, Any], inner: Inner) -> ast.expr:
    return ast.Dict([inner(key) for key in value], [inner(each) for each in value.values()])


def _elements(value: Iterable[Any], inner: Inner) -> list[ast.expr]:
    """Return the elements of a set in the order of their texts: its own changes from process to process."""
    return sorted(map(inner, value), key=expression)


def _set(value: set[Any], inner: Inner) -> ast.expr:
    return ast.Set(_elements(value, inner)) if value else call("set")


def _frozenset(value: frozenset[Any], inner: Inner) -> ast.expr:
    return call("frozenset", *([ast.Set(_elements(value, inner))] if value else []))


def _partial(value: partial[Any], inner: Inner) -> ast.expr:
    named = [ast.keyword(name, inner(each)) for name, each in value.keywords.items()]
    return ast.Call(inner(partial), [inner(value.func), *map(inner, value.args)], named)


def _pattern(value: re.Pattern[Any], inner: Inner) -> ast.expr:
    flags = value.flags & ~(re.UNICODE if isinstance(value.pattern, str) else 0)
    return ast.Call(
        ast.Attribute(inner(re), "compile", ast.Load()),
        [inner(value.pattern), *([inner(int(flags))] if flags else [])],
        [],
    )


def _logger(value: logging.Logger, inner: Inner) -> ast.expr:
    name = [] if value is logging.getLogger() else [inner(value.name)]
    return ast.Call(ast.Attribute(inner(logging), "getLogger", ast.Load()), name, [])


def _reduced(value: Any, inner: Inner) -> ast.expr:
    kind, arguments = value.__reduce__()
    return ast.Call(inner(kind), [inner(each) for each in arguments], [])


_MAKERS: dict[type, Callable[[Any, Inner], ast.expr]] = {
    tuple: lambda value, inner: ast.Tuple([inner(each) for each in value], ast.Load()),
    list: lambda value, inner: ast.List([inner(each) for each in value], ast.Load()),
    dict: _dict,
    set: _set,
    frozenset: _frozenset,
    complex: lambda value, inner: call("complex", inner(value.real), inner(value.imag)),
    bytearray: lambda value, inner: call("bytearray", *([inner(bytes(value))] if value else [])),
    range: lambda value, inner: call("range", *map(inner, (value.start, value.stop, value.step))),
    slice: lambda value, inner: call("slice", *map(inner, (value.start, value.stop, value.step))),
    object: lambda value, inner: call("object"),
    partial: _partial,
    re.Pattern: _pattern,
    logging.Logger: _logger,
    operator.itemgetter: _reduced,
    operator.attrgetter: _reduced,
    logging.RootLogger: _logger,
}
BUILTINS = {"float", "set", "frozenset", "complex", "bytearray", "range", "slice", "object"}
"""Names that the expressions use."""
