"""A definition without what does not count: docstrings, annotations that nothing reads, our decorators."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .expressions import merged
from .scopes import parameters


@dataclass
class Stripper:
    """Copies trees and leaves out what does not count.

    Parameters
    ----------
    docs
        Docstrings stay: some of the code reads them.
    hints
        Annotations of functions stay: some of the code reads them.
    """

    docs: bool = False
    hints: bool = False
    counting: Callable[[list[ast.expr]], list[ast.expr]] = list
    """Returns those of the decorators of a definition inside that count."""
    kept: list[tuple[Any, str]] = field(default_factory=list)
    """Annotations that stay: a node and the field in which they stand."""

    def definition(self, node: Any, decorators: list[ast.expr]) -> Any:
        """Return a copy of a function or class with `decorators` in place of its own."""
        copy = self._copy(node, bool(decorators), False)
        if not isinstance(node, ast.Lambda):
            copy.decorator_list = [self._copy(each, False, False) for each in decorators]
            if not decorators and not self.hints and not isinstance(node, ast.ClassDef):
                self._drop_hints(copy)
        return copy

    def expression(self, node: ast.expr) -> ast.expr:
        """Return a copy of an expression."""
        copy = self._copy(node, True, False)
        assert isinstance(copy, ast.expr)
        return copy

    def _copy(self, node: Any, hints: bool, in_function: bool) -> Any:
        if isinstance(node, list):
            return [self._copy(each, hints, in_function) for each in node]
        if not isinstance(node, ast.AST):
            return node
        if in_function and isinstance(node, ast.AnnAssign):
            return self._local(node, hints)
        copy: Any = node.__class__.__new__(node.__class__)  # since Python 3.13 a call asks for all fields
        decorators = self.counting(getattr(node, "decorator_list", []))
        inner_hints = hints or bool(decorators)
        inside = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or (
            in_function and not isinstance(node, ast.ClassDef)
        )
        for name in node._fields:
            value: Any = getattr(node, name, None)
            if name == "body" and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                value = self._body(value)
            elif name == "decorator_list":
                value = decorators
            setattr(copy, name, self._copy(value, inner_hints, inside))
        ast.copy_location(copy, node)
        if isinstance(node, ast.JoinedStr):
            copy.values = merged(copy.values)  # as they will be when the text is read
        self._annotations(copy, inner_hints)
        return copy

    def _body(self, body: list[ast.stmt]) -> list[ast.stmt]:
        """Return statements without texts that stand alone, of which the first may be a docstring."""
        kept = [each for n, each in enumerate(body) if not _is_text(each) or (self.docs and n == 0)]
        return kept or [ast.copy_location(ast.Pass(), body[0])]

    def _annotations(self, node: Any, hints: bool) -> None:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if not hints and not self.hints:
                self._drop_hints(node)
            else:
                self.kept += [(each, "annotation") for each in parameters(node.args) if each.annotation]
                self.kept += [(node, "returns")] if node.returns else []
        elif isinstance(node, ast.AnnAssign):
            self.kept.append((node, "annotation"))

    def _drop_hints(self, node: Any) -> None:
        for each in parameters(node.args):
            each.annotation = None
        node.returns = None
        self.kept = [(owner, name) for owner, name in self.kept if getattr(owner, name) is not None]

    def _local(self, node: ast.AnnAssign, hints: bool) -> ast.stmt:
        """Return an assignment of a function without its annotation, which Python does not evaluate."""
        target = self._copy(node.target, hints, True)
        statement: ast.stmt
        if node.value is not None:
            statement = ast.Assign([target], self._copy(node.value, hints, True))
        else:
            statement = ast.AnnAssign(target, ast.copy_location(ast.Constant(None), node), None, node.simple)
        return ast.copy_location(statement, node)


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
