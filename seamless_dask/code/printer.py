"""The frozen printer: a syntax tree as Python text, the same bytes on every version of Python.

The text is what identifies a function and what runs. Whatever is changed here changes everybody's identities.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .expressions import Level, arguments, bare, call_arguments, expression, merged, operator, pattern
from .literals import Unprintable, same_constant

_INDENT = "    "
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def checked(body: Sequence[ast.stmt]) -> str:
    """Return the text of some statements, once it is known to parse back to them.

    Raises
    ------
    Unprintable
        There is none that does.
    """
    text = "".join(line + "\n" for statement in body for line in lines(statement))
    try:
        back = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unprintable(f"its text does not parse: {error}") from None
    if not _same_list(back, body):
        raise Unprintable("its text parses to another tree")
    return text


def lines(node: ast.stmt, indent: str = "") -> Iterator[str]:
    """Yield the lines of a statement."""
    printer = _PRINTERS.get(type(node).__name__)
    if printer is None:
        raise Unprintable(f"a statement of kind {type(node).__name__}")
    for line in printer(node):
        yield indent + line if line else ""


def same(one: Any, other: Any) -> bool:
    """Tell whether two trees are one; neither places in a file nor how texts are split count."""
    if isinstance(one, ast.AST):
        if type(one) is not type(other):
            return False
        if isinstance(one, ast.JoinedStr) or type(one).__name__ == "TemplateStr":
            return _same_list(merged(getattr(one, "values", [])), merged(getattr(other, "values", [])))
        if bool(getattr(one, "is_lazy", 0)) != bool(getattr(other, "is_lazy", 0)):  # of 3.15; ours: None
            return False
        return all(
            same(getattr(one, field, None), getattr(other, field, None))
            for field in one._fields
            if field not in ("ctx", "kind", "type_comment", "type_ignores", "is_lazy")
        )
    if isinstance(one, list):
        return isinstance(other, list) and _same_list(one, other)
    return same_constant(one, other)


def _same_list(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(map(same, one, other))


def _block(head: str, body: Iterable[ast.stmt]) -> Iterator[str]:
    yield head + ":"
    for statement in body:
        yield from lines(statement, _INDENT)


def _further(word: str, body: Sequence[ast.stmt]) -> Iterator[str]:
    if body:
        yield from _block(word, body)


def _value(node: ast.expr) -> str:
    """Return what stands alone or on the right of a sign: ``yield`` needs no parentheses there."""
    return expression(node, Level.YIELD) if isinstance(node, (ast.Yield, ast.YieldFrom)) else bare(node)


def _type_parameters(node: Any) -> str:
    given = [_type_parameter(each) for each in getattr(node, "type_params", None) or ()]
    return f"[{', '.join(given)}]" if given else ""


def _type_parameter(node: Any) -> str:
    stars = {"TypeVar": "", "TypeVarTuple": "*", "ParamSpec": "**"}[type(node).__name__]
    text = stars + str(node.name)
    if getattr(node, "bound", None) is not None:
        text += ": " + expression(node.bound)
    if getattr(node, "default_value", None) is not None:
        text += " = " + expression(node.default_value)
    return text


def _decorators(nodes: Iterable[ast.expr]) -> Iterator[str]:
    for node in nodes:
        yield "@" + expression(node)


def _function(node: ast.FunctionDef, word: str = "def") -> Iterator[str]:
    yield from _decorators(node.decorator_list)
    returns = f" -> {expression(node.returns)}" if node.returns else ""
    head = f"{word} {node.name}{_type_parameters(node)}({arguments(node.args)}){returns}"
    yield from _block(head, node.body)


def _async_function(node: Any) -> Iterator[str]:
    yield from _function(node, "async def")


def _class(node: ast.ClassDef) -> Iterator[str]:
    yield from _decorators(node.decorator_list)
    inside = call_arguments(node.bases, node.keywords)
    yield f"class {node.name}{_type_parameters(node)}{f'({inside})' if inside else ''}:"
    for before, statement in zip([None, *node.body], node.body, strict=False):
        if before and (isinstance(before, DEFINITIONS) or isinstance(statement, DEFINITIONS)):
            yield ""
        yield from lines(statement, _INDENT)


def _return(node: ast.Return) -> Iterator[str]:
    yield "return" if node.value is None else f"return {bare(node.value)}"


def _delete(node: ast.Delete) -> Iterator[str]:
    yield "del " + ", ".join(map(expression, node.targets))


def _assign(node: ast.Assign) -> Iterator[str]:
    yield "".join(f"{bare(target)} = " for target in node.targets) + _value(node.value)


def _augmented(node: ast.AugAssign) -> Iterator[str]:
    yield f"{expression(node.target)} {operator(node.op)}= {_value(node.value)}"


def _annotated(node: ast.AnnAssign) -> Iterator[str]:
    target = expression(node.target)
    if isinstance(node.target, ast.Name) and not node.simple:
        target = f"({target})"
    value = "" if node.value is None else f" = {_value(node.value)}"
    yield f"{target}: {expression(node.annotation)}{value}"


def _type_alias(node: Any) -> Iterator[str]:
    yield f"type {expression(node.name)}{_type_parameters(node)} = {expression(node.value)}"


def _for(node: ast.For, word: str = "for") -> Iterator[str]:
    yield from _block(f"{word} {bare(node.target)} in {expression(node.iter)}", node.body)
    yield from _further("else", node.orelse)


def _async_for(node: Any) -> Iterator[str]:
    yield from _for(node, "async for")


def _while(node: ast.While) -> Iterator[str]:
    yield from _block(f"while {expression(node.test)}", node.body)
    yield from _further("else", node.orelse)


def _if(node: ast.If) -> Iterator[str]:
    word = "if"
    while True:
        yield from _block(f"{word} {expression(node.test)}", node.body)
        match node.orelse:
            case [ast.If() as inner]:
                node, word = inner, "elif"
            case _:
                break
    yield from _further("else", node.orelse)


def _with(node: ast.With, word: str = "with") -> Iterator[str]:
    items = [
        expression(item.context_expr)
        + ("" if item.optional_vars is None else f" as {expression(item.optional_vars)}")
        for item in node.items
    ]
    # One item stays without parentheses, which would make a tuple or a group of it.
    inside = items[0] if len(items) == 1 else f"({', '.join(items)})"
    yield from _block(f"{word} {inside}", node.body)


def _async_with(node: Any) -> Iterator[str]:
    yield from _with(node, "async with")


def _match(node: ast.Match) -> Iterator[str]:
    yield f"match {expression(node.subject)}:"
    for case in node.cases:
        guard = f" if {expression(case.guard)}" if case.guard else ""
        for line in _block(f"case {pattern(case.pattern)}{guard}", case.body):
            yield _INDENT + line


def _raise(node: ast.Raise) -> Iterator[str]:
    text = "raise" if node.exc is None else f"raise {expression(node.exc)}"
    yield text if node.cause is None else f"{text} from {expression(node.cause)}"


def _try(node: ast.Try, star: str = "") -> Iterator[str]:
    yield from _block("try", node.body)
    for handler in node.handlers:
        kind = f" {expression(handler.type)}" if handler.type else ""
        yield from _block(f"except{star}{kind}{f' as {handler.name}' if handler.name else ''}", handler.body)
    yield from _further("else", node.orelse)
    yield from _further("finally", node.finalbody)


def _try_star(node: Any) -> Iterator[str]:
    yield from _try(node, "*")


def _assert(node: ast.Assert) -> Iterator[str]:
    message = f", {expression(node.msg)}" if node.msg else ""
    yield f"assert {expression(node.test)}{message}"


def _aliases(names: Iterable[ast.alias]) -> str:
    return ", ".join(each.name + (f" as {each.asname}" if each.asname else "") for each in names)


def _import(node: ast.Import) -> Iterator[str]:
    yield f"{_lazily(node)}import {_aliases(node.names)}"


def _import_from(node: ast.ImportFrom) -> Iterator[str]:
    yield f"{_lazily(node)}from {'.' * node.level}{node.module or ''} import {_aliases(node.names)}"


def _lazily(node: ast.stmt) -> str:
    return "lazy " if getattr(node, "is_lazy", 0) else ""  # Python 3.15


def _global(node: ast.Global) -> Iterator[str]:
    yield "global " + ", ".join(node.names)


def _nonlocal(node: ast.Nonlocal) -> Iterator[str]:
    yield "nonlocal " + ", ".join(node.names)


def _expression(node: ast.Expr) -> Iterator[str]:
    yield _value(node.value)


def _word(word: str) -> Callable[[Any], Iterator[str]]:
    return lambda node: iter((word,))


_PRINTERS: dict[str, Callable[[Any], Iterator[str]]] = {
    "FunctionDef": _function,
    "AsyncFunctionDef": _async_function,
    "ClassDef": _class,
    "Return": _return,
    "Delete": _delete,
    "Assign": _assign,
    "AugAssign": _augmented,
    "AnnAssign": _annotated,
    "TypeAlias": _type_alias,
    "For": _for,
    "AsyncFor": _async_for,
    "While": _while,
    "If": _if,
    "With": _with,
    "AsyncWith": _async_with,
    "Match": _match,
    "Raise": _raise,
    "Try": _try,
    "TryStar": _try_star,
    "Assert": _assert,
    "Import": _import,
    "ImportFrom": _import_from,
    "Global": _global,
    "Nonlocal": _nonlocal,
    "Expr": _expression,
    "Pass": _word("pass"),
    "Break": _word("break"),
    "Continue": _word("continue"),
}
