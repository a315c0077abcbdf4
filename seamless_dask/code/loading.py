"""From text back to the function: compiled as it stands, in a namespace of its own, with the user's lines."""

from __future__ import annotations

import ast
import hashlib
import linecache
import sys
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, ModuleType
from typing import Any

from .markers import CODE_OF, FUNCTION, INPUT, LOADED, TEXT_FILE, TEXT_OF

Inputs = Callable[[str, Mapping[str, Any]], Any]
"""From the name of an input and what the module has so far, its classes among it, to the value."""


def load(text: str, lines: Mapping[str, Any] | None = None, inputs: Inputs | None = None) -> Any:
    """Return the function of a text; see `load_namespace`."""
    return load_namespace(text, lines, inputs)[FUNCTION]


def load_namespace(
    text: str, lines: Mapping[str, Any] | None = None, inputs: Inputs | None = None
) -> dict[str, Any]:
    """Return what the module of a text has when it has run, under `FUNCTION` the function itself.

    Parameters
    ----------
    text
        The module, as `identify` makes it.
    lines
        Its line table: with it tracebacks show the user's files.
    inputs
        Gives the values that the text asks for.

    Raises
    ------
    KeyError
        The text asks for an input, and there are none.
    """
    module = ModuleType(LOADED + hashlib.sha256(text.encode()).hexdigest()[:16])
    namespace = vars(module)
    namespace[TEXT_OF], namespace[CODE_OF] = text, {}

    def give(name: str) -> Any:
        if inputs is None:
            raise KeyError(name)
        return inputs(name, namespace)

    namespace[INPUT] = give
    sys.modules[module.__name__] = module  # dataclasses, pickle and typing look there
    lines = lines or {}
    _show_sources(lines)
    body = ast.parse(text, TEXT_FILE).body
    # Python compiles calls of what a module imports in another way: each statement sees the imports, which do
    # not run again.
    imports: list[ast.stmt] = [each for each in body if isinstance(each, (ast.Import, ast.ImportFrom))]
    known: list[ast.stmt] = [ast.If(ast.Constant(False), imports, [])] if imports else []
    table, files = lines.get("statements") or [], list(lines.get("files") or ())
    for number, statement in enumerate(body):
        file = TEXT_FILE
        if number < len(table) and table[number] is not None:
            place, numbers = table[number]
            file = files[place]
            _relocate(statement, numbers)
        module_tree = ast.fix_missing_locations(ast.Module([*known, statement], []))
        code = compile(module_tree, file, "exec", dont_inherit=True)
        namespace[CODE_OF].update((id(each), each) for each in _all_code(code))
        exec(code, namespace)  # noqa: S102 - that is what it is for
    return namespace


def _all_code(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield each
            yield from _all_code(each)


def _relocate(statement: ast.stmt, numbers: list[int]) -> None:
    """Give the nodes of a statement the lines of the user's file; its columns are others, and not told."""
    nodes: list[Any] = [node for node in ast.walk(statement) if "lineno" in node._attributes]
    if len(nodes) != len(numbers):  # a version of Python that reads the text in other nodes
        numbers = numbers[:1] * len(nodes)
    for node, number in zip(nodes, numbers, strict=True):
        node.lineno = node.end_lineno = number
        node.col_offset = node.end_col_offset = -1


def _show_sources(lines: Mapping[str, Any]) -> None:
    """Have tracebacks and ``inspect.getsource`` find the user's lines where the files are gone or changed."""
    for name, sources in (lines.get("files") or {}).items():
        present = linecache.getlines(name)
        if all(_has(present, int(first), source) for first, source in sources.items()):
            continue
        length = max(int(first) + len(source) for first, source in sources.items())
        made = ["\n"] * (length - 1)
        for first, source in sources.items():
            made[int(first) - 1 : int(first) - 1 + len(source)] = source
        linecache.cache[name] = sum(map(len, made)), None, made, name


def _has(present: list[str], first: int, source: list[str]) -> bool:
    return [line.rstrip("\n") for line in present[first - 1 : first - 1 + len(source)]] == [
        line.rstrip("\n") for line in source
    ]
