"""From a class that is loaded to its statement: where it may stand, and whether it is the one."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from typing import Any

from .class_statements import nested_in
from .markers import TEXT_FILE, TEXT_OF
from .matching import matches
from .scopes import mangled, nodes_of
from .sources import Found, SourceMissing, cells, first_line, index_of, is_edited
from .unwrapping import is_generated, methods, plain_function


def class_source(owner: type) -> Found:
    """Find the definition of a class.

    Raises
    ------
    SourceMissing
        There is no source, or it is not what is loaded.
    """
    reason = "there is no source of it"
    for name, namespace in _files(owner):
        try:
            index, lines = index_of(name, namespace)
        except SourceMissing as error:
            reason = str(error)
            continue
        if is_edited(namespace):
            reason = f"{name} has been edited since it was loaded"
            continue
        candidates = index.classes.get(owner.__qualname__, [])
        line = owner.__dict__.get("__firstlineno__")
        candidates = sorted(candidates, key=lambda each: (first_line(each[0]) == line, each[0].lineno))
        for node, around in reversed(candidates):
            if _is_of(node, owner, name, index.imports):
                return Found(node, name, lines, around, index.has_text_hints, index.imports)
            reason = f"{name} has been edited since it was loaded"
    raise SourceMissing(reason)


def _files(owner: type) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield where a class may be defined: the files of its methods, its module's, the cells of a notebook."""
    module = sys.modules.get(owner.__module__)
    namespace = vars(module) if module else {}
    seen = set()
    for function in methods(owner):
        if function.__qualname__.startswith(owner.__qualname__ + ".") and not is_generated(function):
            seen.add(function.__code__.co_filename)
            yield function.__code__.co_filename, function.__globals__
    if TEXT_OF in namespace:
        yield TEXT_FILE, namespace
    elif namespace.get("__file__") not in (None, *seen):
        yield str(namespace["__file__"]), namespace
    if owner.__module__ == "__main__":
        yield from ((name, namespace) for name in cells(namespace) if name not in seen)


def _is_of(node: ast.ClassDef, owner: type, file: str, imports: tuple[str, ...]) -> bool:
    """Tell whether a class may have been made from a statement; what was put into it later does not count."""
    for statement in nodes_of(node):
        if isinstance(statement, ast.ClassDef) and statement in node.body:
            inner = nested_in(owner, statement)
            if inner is not None and not _is_of(statement, inner, file, imports):
                return False
        if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        function = plain_function(owner.__dict__.get(mangled(statement.name, node.name)))
        if function is None or function.__qualname__ != f"{owner.__qualname__}.{statement.name}":
            continue
        if file not in (function.__code__.co_filename, TEXT_FILE):
            continue
        code = function.__code__
        if not any(matches(each, node.name, code, imports) for each in _of_name(node, statement.name)):
            return False
    fields = list(dict.fromkeys(_fields(node)))
    return fields == _loaded_fields(owner, fields)


def _of_name(node: ast.ClassDef, name: str) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return all methods of a name: a property has a getter and a setter."""
    return [
        each
        for each in nodes_of(node)
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) and each.name == name
    ]


def _fields(node: ast.ClassDef) -> list[str]:
    return [
        mangled(each.target.id, node.name)
        for each in node.body
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name) and each.simple
    ]


def _loaded_fields(owner: type, otherwise: list[str]) -> list[str]:
    if sys.version_info >= (3, 14):
        import annotationlib

        try:
            return list(annotationlib.get_annotations(owner, format=annotationlib.Format.FORWARDREF))
        except Exception:  # whatever an annotation raises
            return otherwise
    return list(vars(owner).get("__annotations__", ()))  # to ask the class would make an empty one
