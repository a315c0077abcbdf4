"""Whether a definition in a source text is the one that a code object was compiled from."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Iterator
from types import CodeType
from typing import Any

from .literals import same_constant
from .scopes import FunctionNode, mangled

_FUTURE = 0x1FE0000  # flags of `from __future__`
_FLAGS = 0x3AF  # star arguments, generator, coroutine; not how deep the function is nested
_FIELDS = (
    "co_name",
    "co_code",
    "co_argcount",
    "co_posonlyargcount",
    "co_kwonlyargcount",
    "co_names",
    "co_varnames",
    "co_freevars",
    "co_cellvars",
    "co_exceptiontable",
)


def matches(node: FunctionNode, private: str, code: CodeType, imports: tuple[str, ...]) -> bool:
    """Tell whether a definition compiles to a code object that is loaded."""
    name = "<lambda>" if isinstance(node, ast.Lambda) else mangled(node.name, "")
    if name != code.co_name:
        return False
    # A notebook compiles each statement of a cell by itself: then the imports beside it are not seen.
    for seen in dict.fromkeys((imports, ())):
        try:
            made = _compiled(node, private, code, seen)
        except (SyntaxError, ValueError, RecursionError):
            return False
        if any(_same_code(each, code) for each in made):
            return True
    return False


def _compiled(
    node: FunctionNode, private: str, code: CodeType, imports: tuple[str, ...]
) -> Iterator[CodeType]:
    """Yield the code of a definition, compiled where its free variables and its class are what they were."""
    statement: ast.stmt = _plain(node)
    if private or "__class__" in code.co_freevars:
        statement = ast.ClassDef(private or "_", [], [], [statement], [])
        _without_types(statement)
    free = [name for name in code.co_freevars if name.isidentifier() and name != "__class__"]
    if free:
        given = ast.arguments([], [ast.arg(name) for name in free], None, [], [], None, [])
        statement = ast.FunctionDef("_", given, [statement], [])
        _without_types(statement)
    known = [ast.Import([ast.alias("_", name)]) for name in imports if name != "*"]
    module = ast.fix_missing_locations(ast.Module([*known, statement], []))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outer = compile(module, code.co_filename, "exec", code.co_flags & _FUTURE, dont_inherit=True)
    return _inner(outer, code.co_name)


def _plain(node: FunctionNode) -> ast.stmt:
    """Return a definition without what is executed outside it: decorators, defaults, annotations."""
    given = node.args
    bare = ast.arguments(
        [_unannotated(each) for each in given.posonlyargs],
        [_unannotated(each) for each in given.args],
        _unannotated(given.vararg) if given.vararg else None,
        [_unannotated(each) for each in given.kwonlyargs],
        [None for _ in given.kwonlyargs],
        _unannotated(given.kwarg) if given.kwarg else None,
        [],
    )
    if isinstance(node, ast.Lambda):
        return ast.copy_location(ast.Expr(ast.copy_location(ast.Lambda(bare, node.body), node)), node)
    plain: Any = type(node)(node.name, bare, node.body, [], None)
    if hasattr(node, "type_params"):
        plain.type_params = node.type_params
    statement: ast.stmt = ast.copy_location(plain, node)
    return statement


def _unannotated(place: ast.arg) -> ast.arg:
    return ast.copy_location(ast.arg(place.arg), place)


def _without_types(node: Any) -> None:
    if "type_params" in node._fields:
        node.type_params = []


def _inner(code: CodeType, name: str) -> Iterator[CodeType]:
    """Yield the outermost code objects of a name."""
    for each in code.co_consts:
        if isinstance(each, CodeType):
            if each.co_name == name:
                yield each
            else:
                yield from _inner(each, name)


def _same_code(one: CodeType, other: CodeType) -> bool:
    return (
        all(getattr(one, name) == getattr(other, name) for name in _FIELDS)
        and one.co_flags & _FLAGS == other.co_flags & _FLAGS
        and len(one.co_consts) == len(other.co_consts)
        and all(_same_constant(a, b, one, other) for a, b in zip(one.co_consts, other.co_consts, strict=True))
    )


def _same_constant(one: Any, other: Any, left: CodeType, right: CodeType) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, CodeType):
        return _same_code(one, other)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(
            _same_constant(a, b, left, right) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, frozenset):
        return sorted(map(repr, one)) == sorted(map(repr, other))
    if one == left.co_qualname and other == right.co_qualname:
        return True  # a class body names itself, by a way that is another one here
    return same_constant(one, other)
