"""From items to a module of text: names that do not clash, an order that runs, where each line is from."""

from __future__ import annotations

import ast
import keyword
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from .data import BUILTINS, call
from .expressions import expression
from .items import Item, ItemUse, Target, reachable
from .literals import Unprintable
from .markers import FUNCTION, INPUT
from .ordering import ItemPart, ordered
from .printer import DEFINITIONS, checked, lines

_RESERVED = {*keyword.kwlist, *BUILTINS, INPUT, FUNCTION}


@dataclass(frozen=True)
class Text:
    """A module as text.

    Attributes
    ----------
    text
        The module.
    lines
        The line table, plain data: under ``files`` names and the lines of each that count, under
        ``statements`` for each statement of the text the number of its file and the lines of the nodes of its
        tree, in the order of ``ast.walk``. Under ``asked``, by their names in the text, the functions whose
        calls are asked for in a run, and how.
    names
        What each item is called in it.
    """

    text: str
    lines: dict[str, Any]
    names: dict[Item, str]


def compose(main: Target) -> Text:
    """Make the module in which a function stands with all that it reaches.

    Raises
    ------
    Unprintable
        It cannot be written down.
    """
    items = [item for item in reachable(main.item) if item.kind != "builtin"]
    names = _named(items)
    builtins = [main.item, *(use.item for item in items for use in item.uses)]
    names |= {item: item.name for item in builtins if item.kind == "builtin"}
    order = ordered(items)  # before places get their names: it looks at which are annotations
    statements = {item: _statements(item, names) for item in items}
    pieces = [(item, _part(item, statements[item], part)) for item, part in order]
    imports = sorted((piece for piece in pieces if piece[0].kind == "import"), key=_import_order)
    pieces = [*imports, *(piece for piece in pieces if piece[0].kind != "import")]
    end = ast.Assign([ast.Name(FUNCTION, ast.Store())], _place(names, main))
    pieces.append((Item("value", FUNCTION, None), [end]))
    checked([statement for _, body in pieces for statement in body])
    table = _line_table(pieces)
    if asked := {names[item]: dict(item.asked) for item in items if item.asked is not None}:
        table["asked"] = asked
    return Text(_print(pieces), table, names)


def _named(items: list[Item]) -> dict[Item, str]:
    """Give each item a name: the one that it has, unless that means something else somewhere."""
    taken = _RESERVED | {name for item in items for name in item.free}
    taken |= {use.item.name for item in items for use in item.uses if use.item.kind == "builtin"}
    users: dict[Item, list[tuple[Item, ItemUse]]] = defaultdict(list)
    for item in items:
        for use in item.uses:
            users[use.item].append((item, use))
    names: dict[Item, str] = {}
    for item in items:
        name = next(
            name for name in _candidates(item) if name not in taken and not _clashes(name, users[item])
        )
        names[item] = name
        taken.add(name)
    return names


def _candidates(item: Item) -> Iterator[str]:
    yield item.name
    if item.kind == "class":
        yield "_" + item.name.lstrip("_")  # the same private names as before
    number = 2
    while True:
        yield f"{item.name}_{number}"
        number += 1


def _clashes(name: str, users: Iterable[tuple[Item, ItemUse]]) -> bool:
    """Tell whether a name would mean something of the user's own where an item is used."""
    return any(name in user.bound and use.plain_name != name for user, use in users)


def _place(names: dict[Item, str], target: Target | ItemUse) -> ast.expr:
    place: ast.expr = ast.Name(names[target.item], ast.Load())
    for name in target.path:
        place = ast.Attribute(place, name, ast.Load())
    return place


class _Substitution(ast.NodeTransformer):
    """Puts the names of items where they are used."""

    def __init__(self, item: Item, names: dict[Item, str]) -> None:
        self._item, self._names = item, names
        self._uses = {id(use.node): use for use in item.uses}

    def visit(self, node: ast.AST) -> Any:
        use = self._uses.get(id(node))
        if use is None:
            if id(node) in self._item.replaced:
                return [self.visit(each) for each in self._item.replaced[id(node)]]
            if isinstance(node, (ast.Global, ast.Nonlocal)):
                return self._declaration(node)
            return self.generic_visit(node)
        place = _place(self._names, use)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            if use.path:
                raise Unprintable(f"{node.id} is assigned to, and is part of a class")
            place = ast.Name(self._names[use.item], node.ctx)
        return ast.copy_location(place, node) if hasattr(node, "lineno") else place

    def _declaration(self, node: ast.Global | ast.Nonlocal) -> list[ast.stmt]:
        found = self._item.declared.get(id(node), {})
        outside = [self._names[found[name]] for name in node.names if name in found]
        others = [name for name in node.names if name not in found]
        statements: list[ast.stmt] = [ast.Global(outside)] if outside else []
        if others:
            statements.append(type(node)(others))
        return [ast.copy_location(each, node) for each in statements]


def _statements(item: Item, names: dict[Item, str]) -> list[ast.stmt]:
    """Return the statements of an item with all names in place."""
    name = names[item]
    if item.kind == "import":
        return [_import(item, name)]
    if item.kind == "input":
        request = ast.Call(ast.Name(INPUT, ast.Load()), [ast.Constant(name)], [])
        return [ast.Assign([ast.Name(name, ast.Store())], request)]
    if any(isinstance(use.node, ast.Name) and names[use.item] != use.node.id for use in item.fixed):
        raise Unprintable("a class has a value by the name of one that it reads")
    for own in item.own:
        own.id = name
    substitution = _Substitution(item, names)
    body: list[ast.stmt] = [substitution.visit(statement) for statement in item.body]
    for owner, field in item.hints:
        hint = getattr(owner, field)
        if not isinstance(hint, ast.Constant):
            setattr(owner, field, ast.copy_location(ast.Constant(expression(hint)), hint))
    first = body[0] if body else None
    if isinstance(first, DEFINITIONS):
        return [*_definition(item, first, name), *body[1:]]
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Name, ast.Attribute)):
            node.targets[0].ctx = ast.Store()
    return body


def _part(item: Item, statements: list[ast.stmt], part: ItemPart) -> list[ast.stmt]:
    """Return the statements of a part of an item."""
    if part is ItemPart.WHOLE:
        return statements
    if item.kind == "class":
        first = len(statements) - len(item.body) + 1
        return statements[:first] if part is ItemPart.HEAD else statements[first:]
    assignment: Any = statements[0]
    name, value = assignment.targets[0].id, assignment.value
    if part is ItemPart.HEAD:
        empties: dict[Any, ast.expr] = {
            list: ast.List([], ast.Load()),
            dict: ast.Dict([], []),
            set: call("set"),
        }
        return [ast.Assign(assignment.targets, empties[type(item.value)])]
    if isinstance(item.value, list):
        return [ast.Assign([ast.Subscript(ast.Name(name, ast.Load()), ast.Slice(), ast.Store())], value)]
    # What was executed since may have entered something, in another order.
    verbs: dict[str, list[ast.expr]] = {"clear": [], "update": [value]}
    return [
        ast.Expr(ast.Call(ast.Attribute(ast.Name(name, ast.Load()), verb, ast.Load()), given, []))
        for verb, given in verbs.items()
    ]


def _definition(item: Item, node: Any, name: str) -> list[ast.stmt]:
    """Return a definition under its name in the text; who asks for its name gets the one that it had."""
    known = getattr(item.value, "__name__", node.name)
    node.name = name
    if name == known:
        return [node]
    decorators, node.decorator_list = node.decorator_list, []
    places: list[ast.expr] = [
        ast.Attribute(ast.Name(name, ast.Load()), each, ast.Store()) for each in ("__name__", "__qualname__")
    ]
    statements = [node, ast.Assign(places, ast.Constant(known))]
    for decorator in reversed(decorators):
        call = ast.Call(decorator, [ast.Name(name, ast.Load())], [])
        statements.append(ast.Assign([ast.Name(name, ast.Store())], call))
    return statements


def _import(item: Item, name: str) -> ast.stmt:
    if item.body:
        statement = item.body[0]
        assert isinstance(statement, ast.ImportFrom)
        imported = statement.names[0].name
        alias = ast.alias(imported, None if name == imported else name)
        return ast.ImportFrom(statement.module, [alias], 0)
    return ast.Import([ast.alias(item.origin, None if name == item.origin else name)])


def _import_order(piece: tuple[Item, list[ast.stmt]]) -> tuple[bool, str]:
    statement = piece[1][0]
    return isinstance(statement, ast.ImportFrom), next(lines(statement))


def _print(pieces: list[tuple[Item, list[ast.stmt]]]) -> str:
    """Return the text, with two empty lines round definitions."""
    text: list[str] = []
    before = None
    for item, body in pieces:
        kind = "import" if item.kind == "import" else "value"
        if isinstance(body[0], DEFINITIONS):
            kind = "definition"
        if before is not None and (kind != before or kind == "definition"):
            text += [""] if before == "import" and kind == "value" else ["", ""]
        text += [line for statement in body for line in lines(statement)]
        before = kind
    return "\n".join(text) + "\n"


def _line_table(pieces: list[tuple[Item, list[ast.stmt]]]) -> dict[str, Any]:
    files: dict[str, dict[str, list[str]]] = {}
    statements: list[tuple[int, list[int]] | None] = []
    for item, body in pieces:
        if not item.file:
            statements += [None for _ in body]
            continue
        sources = files.setdefault(item.file, {})
        first, source = item.source
        if source:
            sources[str(first)] = list(source)
        number = list(files).index(item.file)
        statements += [(number, list(_lines_of(statement, item.line))) for statement in body]
    return {"files": files, "statements": statements}


def _lines_of(statement: ast.stmt, otherwise: int) -> Iterator[int]:
    for node in ast.walk(statement):
        if "lineno" in node._attributes:
            otherwise = getattr(node, "lineno", otherwise)
            yield otherwise
