"""The frozen printer's half for expressions and patterns.

Nothing of ``ast.unparse`` or ``ast.dump``: both change between versions of Python. Parentheses stand where
precedence asks for them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Any

from .literals import Unprintable, constant, escaped


class Level(IntEnum):
    """How tightly an expression holds together; a looser one inside a tighter one gets parentheses."""

    YIELD = 0
    TEST = 1
    OR = 2
    AND = 3
    NOT = 4
    COMPARISON = 5
    BIT_OR = 6
    BIT_XOR = 7
    BIT_AND = 8
    SHIFT = 9
    SUM = 10
    PRODUCT = 11
    SIGN = 12
    POWER = 13
    AWAIT = 14
    PRIMARY = 15


_BINARY: dict[type[ast.operator], tuple[str, Level]] = {
    ast.BitOr: ("|", Level.BIT_OR),
    ast.BitXor: ("^", Level.BIT_XOR),
    ast.BitAnd: ("&", Level.BIT_AND),
    ast.LShift: ("<<", Level.SHIFT),
    ast.RShift: (">>", Level.SHIFT),
    ast.Add: ("+", Level.SUM),
    ast.Sub: ("-", Level.SUM),
    ast.Mult: ("*", Level.PRODUCT),
    ast.MatMult: ("@", Level.PRODUCT),
    ast.Div: ("/", Level.PRODUCT),
    ast.Mod: ("%", Level.PRODUCT),
    ast.FloorDiv: ("//", Level.PRODUCT),
    ast.Pow: ("**", Level.POWER),
}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
}
_UNARY: dict[type[ast.unaryop], tuple[str, Level]] = {
    ast.Not: ("not ", Level.NOT),
    ast.UAdd: ("+", Level.SIGN),
    ast.USub: ("-", Level.SIGN),
    ast.Invert: ("~", Level.SIGN),
}
_CONVERSIONS = {-1: "", ord("s"): "!s", ord("r"): "!r", ord("a"): "!a"}
_QUOTES = ("'", '"', "'''", '"""')


def expression(node: ast.AST, level: Level = Level.TEST) -> str:
    """Return the text of an expression, in parentheses if it is looser than `level`.

    Raises
    ------
    Unprintable
        There is none in the frozen form.
    """
    printer = _PRINTERS.get(type(node).__name__)
    if printer is None:
        raise Unprintable(f"an expression of kind {type(node).__name__}")
    text, own = printer(node)
    return text if own >= level else f"({text})"


def bare(node: ast.expr) -> str:
    """Return the text of an expression where a tuple needs no parentheses."""
    if isinstance(node, ast.Tuple) and len(node.elts) > 1 and not _has_starred(node.elts):
        return _separated(node.elts)
    return expression(node)


def operator(node: ast.operator) -> str:
    """Return the sign of a binary operator."""
    return _BINARY[type(node)][0]


def _separated(nodes: Sequence[ast.expr]) -> str:
    return ", ".join(map(expression, nodes))


def _has_starred(nodes: Sequence[ast.expr]) -> bool:
    return any(isinstance(node, ast.Starred) for node in nodes)


def _name(node: ast.Name) -> tuple[str, Level]:
    return node.id, Level.PRIMARY


def _constant(node: ast.Constant) -> tuple[str, Level]:
    return constant(node.value), Level.PRIMARY


def _binary(node: ast.BinOp) -> tuple[str, Level]:
    sign, level = _BINARY[type(node.op)]
    if isinstance(node.op, ast.Pow):  # it binds less than a sign on its right, and groups from there
        left, right = expression(node.left, Level.AWAIT), expression(node.right, Level.SIGN)
    else:
        left, right = expression(node.left, level), expression(node.right, Level(level + 1))
    return f"{left} {sign} {right}", level


def _unary(node: ast.UnaryOp) -> tuple[str, Level]:
    sign, level = _UNARY[type(node.op)]
    return sign + expression(node.operand, level), level


def _boolean(node: ast.BoolOp) -> tuple[str, Level]:
    level = Level.AND if isinstance(node.op, ast.And) else Level.OR
    sign = " and " if isinstance(node.op, ast.And) else " or "
    return sign.join(expression(value, Level(level + 1)) for value in node.values), level


def _compare(node: ast.Compare) -> tuple[str, Level]:
    parts = [expression(node.left, Level.BIT_OR)]
    for sign, other in zip(node.ops, node.comparators, strict=True):
        parts += [_COMPARISONS[type(sign)], expression(other, Level.BIT_OR)]
    return " ".join(parts), Level.COMPARISON


def _conditional(node: ast.IfExp) -> tuple[str, Level]:
    body, test = expression(node.body, Level.OR), expression(node.test, Level.OR)
    return f"{body} if {test} else {expression(node.orelse)}", Level.TEST


def _lambda(node: ast.Lambda) -> tuple[str, Level]:
    given = arguments(node.args)
    return f"lambda{' ' if given else ''}{given}: {expression(node.body)}", Level.TEST


def _named(node: ast.NamedExpr) -> tuple[str, Level]:
    return f"({expression(node.target)} := {expression(node.value)})", Level.PRIMARY


def _await(node: ast.Await) -> tuple[str, Level]:
    return "await " + expression(node.value, Level.PRIMARY), Level.AWAIT


def _yield(node: ast.Yield) -> tuple[str, Level]:
    return "yield" if node.value is None else f"yield {expression(node.value)}", Level.YIELD


def _yield_from(node: ast.YieldFrom) -> tuple[str, Level]:
    return f"yield from {expression(node.value)}", Level.YIELD


def _starred(node: ast.Starred) -> tuple[str, Level]:
    return "*" + expression(node.value, Level.BIT_OR), Level.TEST


def _tuple(node: ast.Tuple) -> tuple[str, Level]:
    return f"({_separated(node.elts)}{',' if len(node.elts) == 1 else ''})", Level.PRIMARY


def _list(node: ast.List) -> tuple[str, Level]:
    return f"[{_separated(node.elts)}]", Level.PRIMARY


def _set(node: ast.Set) -> tuple[str, Level]:
    return "{" + _separated(node.elts) + "}", Level.PRIMARY


def _dict(node: ast.Dict) -> tuple[str, Level]:
    entries = (
        "**" + expression(value, Level.BIT_OR) if key is None else f"{expression(key)}: {expression(value)}"
        for key, value in zip(node.keys, node.values, strict=True)
    )
    return "{" + ", ".join(entries) + "}", Level.PRIMARY


def _generators(generators: Sequence[ast.comprehension]) -> str:
    text = ""
    for each in generators:
        word = "async for" if each.is_async else "for"
        text += f" {word} {bare(each.target)} in {expression(each.iter, Level.OR)}"
        text += "".join(" if " + expression(test, Level.OR) for test in each.ifs)
    return text


def _list_comprehension(node: ast.ListComp) -> tuple[str, Level]:
    return f"[{expression(node.elt)}{_generators(node.generators)}]", Level.PRIMARY


def _set_comprehension(node: ast.SetComp) -> tuple[str, Level]:
    return "{" + expression(node.elt) + _generators(node.generators) + "}", Level.PRIMARY


def _generator(node: ast.GeneratorExp) -> tuple[str, Level]:
    return f"({expression(node.elt)}{_generators(node.generators)})", Level.PRIMARY


def _dict_comprehension(node: ast.DictComp) -> tuple[str, Level]:
    if node.value is None:  # {**each for each in dicts}, Python 3.15
        entry = "**" + expression(node.key, Level.BIT_OR)
    else:
        entry = f"{expression(node.key)}: {expression(node.value)}"
    return "{" + entry + _generators(node.generators) + "}", Level.PRIMARY


def _primary(node: ast.expr) -> str:
    """Return the text of what something is asked of; a point after a number would be part of it."""
    text = expression(node, Level.PRIMARY)
    number = isinstance(node, ast.Constant) and type(node.value) in (int, float, complex)
    return f"({text})" if number else text


def _attribute(node: ast.Attribute) -> tuple[str, Level]:
    return f"{_primary(node.value)}.{node.attr}", Level.PRIMARY


def _slice(node: ast.Slice) -> tuple[str, Level]:
    text = f"{expression(node.lower) if node.lower else ''}:{expression(node.upper) if node.upper else ''}"
    return text + (f":{expression(node.step)}" if node.step else ""), Level.TEST


def _subscript(node: ast.Subscript) -> tuple[str, Level]:
    index = node.slice
    if isinstance(index, ast.Tuple) and index.elts:
        inside = _separated(index.elts) + ("," if len(index.elts) == 1 else "")
    else:
        inside = expression(index)
    return f"{_primary(node.value)}[{inside}]", Level.PRIMARY


def _call(node: ast.Call) -> tuple[str, Level]:
    if len(node.args) == 1 and not node.keywords and isinstance(node.args[0], ast.GeneratorExp):
        return _primary(node.func) + expression(node.args[0]), Level.PRIMARY
    return f"{_primary(node.func)}({call_arguments(node.args, node.keywords)})", Level.PRIMARY


def call_arguments(positional: Sequence[ast.expr], keywords: Sequence[ast.keyword]) -> str:
    """Return what stands between the parentheses of a call, or of a class statement."""
    named = (
        "**" + expression(each.value, Level.BIT_OR)
        if each.arg is None
        else f"{each.arg}={expression(each.value)}"
        for each in keywords
    )
    return ", ".join([*map(expression, positional), *named])


def merged(values: Sequence[ast.expr]) -> list[ast.expr]:
    """Return the parts of an f-string with neighbouring texts as one: Pythons differ in that."""
    parts: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            if not value.value:
                continue
            if parts and isinstance(parts[-1], ast.Constant):
                joined = ast.Constant(str(parts[-1].value) + value.value)
                parts[-1] = ast.copy_location(joined, parts[-1])
                continue
        parts.append(value)
    return parts


def _field(node: Any) -> str:
    """Return a replacement field; the text of a template's field is part of its value."""
    text = getattr(node, "str", None) or expression(node.value)
    if text.startswith("{"):
        text = " " + text
    text += _CONVERSIONS[node.conversion]
    if node.format_spec is not None:
        text += ":" + "".join(map(_format, merged(node.format_spec.values)))
    return "{" + text + "}"


def _format(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return _braces(escaped(str(part.value), ""))
    return _field(part)


def _braces(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _formatted(node: Any, prefix: str = "f") -> tuple[str, Level]:
    """Return an f-string in quotes that its fields do not have, as Python 3.11 asks for, if there are any."""
    parts = merged(node.values)
    fields = {id(part): _field(part) for part in parts if not isinstance(part, ast.Constant)}
    inside = "".join(fields.values())
    quote = next((quote for quote in _QUOTES if quote not in inside and quote[0] not in inside), None)
    quote = quote or next((quote for quote in _QUOTES[2:] if quote not in inside), "'")
    text = "".join(
        _braces(escaped(str(part.value), quote[0])) if isinstance(part, ast.Constant) else fields[id(part)]
        for part in parts
    )
    return prefix + quote + text + quote, Level.PRIMARY


def _template(node: Any) -> tuple[str, Level]:
    return _formatted(node, "t")


_PRINTERS: dict[str, Callable[[Any], tuple[str, Level]]] = {
    "Name": _name,
    "Constant": _constant,
    "BinOp": _binary,
    "UnaryOp": _unary,
    "BoolOp": _boolean,
    "Compare": _compare,
    "IfExp": _conditional,
    "Lambda": _lambda,
    "NamedExpr": _named,
    "Await": _await,
    "Yield": _yield,
    "YieldFrom": _yield_from,
    "Starred": _starred,
    "Tuple": _tuple,
    "List": _list,
    "Set": _set,
    "Dict": _dict,
    "ListComp": _list_comprehension,
    "SetComp": _set_comprehension,
    "GeneratorExp": _generator,
    "DictComp": _dict_comprehension,
    "Attribute": _attribute,
    "Slice": _slice,
    "Subscript": _subscript,
    "Call": _call,
    "JoinedStr": _formatted,
    "TemplateStr": _template,
}


def arguments(given: ast.arguments) -> str:
    """Return the parameters of a function."""
    return ", ".join(_parameters(given))


def _parameters(given: ast.arguments) -> Iterator[str]:
    places = [*given.posonlyargs, *given.args]
    defaults = [*[None] * (len(places) - len(given.defaults)), *given.defaults]
    for number, (place, default) in enumerate(zip(places, defaults, strict=True), 1):
        yield _parameter(place, default)
        if number == len(given.posonlyargs):
            yield "/"
    if given.vararg:
        yield "*" + _parameter(given.vararg, None)
    elif given.kwonlyargs:
        yield "*"
    for place, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
        yield _parameter(place, default)
    if given.kwarg:
        yield "**" + _parameter(given.kwarg, None)


def _parameter(place: ast.arg, default: ast.expr | None) -> str:
    text = place.arg
    if place.annotation is not None:
        text += ": " + expression(place.annotation)
    return text if default is None else f"{text}={expression(default)}"


def pattern(node: ast.pattern) -> str:
    """Return the text of what stands behind ``case``."""
    match node:
        case ast.MatchValue():
            return expression(node.value, Level.SUM)
        case ast.MatchSingleton():
            return str(node.value)
        case ast.MatchSequence():
            return f"[{', '.join(map(pattern, node.patterns))}]"
        case ast.MatchStar():
            return "*" + (node.name or "_")
        case ast.MatchMapping():
            entries = [
                f"{expression(k)}: {pattern(v)}" for k, v in zip(node.keys, node.patterns, strict=True)
            ]
            return "{" + ", ".join([*entries, *([f"**{node.rest}"] if node.rest else [])]) + "}"
        case ast.MatchClass():
            named = zip(node.kwd_attrs, node.kwd_patterns, strict=True)
            inside = [*map(pattern, node.patterns), *(f"{name}={pattern(each)}" for name, each in named)]
            return f"{expression(node.cls, Level.PRIMARY)}({', '.join(inside)})"
        case ast.MatchAs():
            name = node.name or "_"
            return name if node.pattern is None else f"({pattern(node.pattern)} as {name})"
        case ast.MatchOr():
            return f"({' | '.join(map(pattern, node.patterns))})"
    raise Unprintable(f"a pattern of kind {type(node).__name__}")
