"""Tree-sitter's grammar of bash: loading it, and which of its nodes are words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tree_sitter import Node, Parser

WORDS = frozenset(
    {
        "word", "string", "raw_string", "ansi_c_string", "translated_string", "concatenation", "number",
        "simple_expansion", "expansion", "command_substitution", "arithmetic_expansion", "brace_expression",
        "process_substitution",
    }
)  # fmt: skip
OPAQUE = frozenset(
    {
        "simple_expansion", "expansion", "command_substitution", "arithmetic_expansion",
        "process_substitution",
    }
)  # fmt: skip
QUOTED = frozenset({"string", "raw_string", "ansi_c_string", "translated_string"})

_parser: Parser | None = None


def parser() -> Parser:
    """Return the parser of this process."""
    global _parser
    if _parser is None:
        from tree_sitter import Language, Parser

        _parser = Parser(Language(_language()))
    return _parser


def _language() -> object:
    """Return the grammar, loaded without its package's ``__init__``.

    That imports importlib.resources for query files that are of no use here, which takes longer than
    everything else on the way to a cached result.
    """
    from importlib.machinery import ExtensionFileLoader, PathFinder

    package = PathFinder.find_spec("tree_sitter_bash")
    places = None if package is None else package.submodule_search_locations
    spec = PathFinder.find_spec("tree_sitter_bash._binding", places)
    if spec is None or not isinstance(spec.loader, ExtensionFileLoader):
        import tree_sitter_bash

        language: object = tree_sitter_bash.language()
        return language
    module = spec.loader.create_module(spec)
    spec.loader.exec_module(module)
    return module.language()


def parse(source: bytes) -> Node:
    """Parse shell text; returns the root of its tree, whose offsets are those of `source`."""
    return parser().parse(_masked(source)).root_node


def _masked(source: bytes) -> bytes:
    r"""Hide ``\\\\`` inside ``$'…'``: the grammar takes the second one for an escape of what follows it."""
    if b"$'" not in source or b"\\\\" not in source:
        return source
    import re

    def hidden(match: re.Match[bytes]) -> bytes:
        return match[0] if match[1] is None else match[0].replace(b"\\\\", b"__")

    tokens = rb"""\\.|'[^']*'|"(?:\\.|[^"\\])*"|(\$'(?:\\.|[^'\\])*')"""
    return re.sub(tokens, hidden, source, flags=re.DOTALL)


def descend(node: Node) -> Iterator[Node]:
    """Walk `node` and everything below it, in the order of the text."""
    todo = [node]
    while todo:
        current = todo.pop()
        yield current
        todo.extend(reversed(current.children))


def first_error(root: Node) -> Node | None:
    """Return the first place that the grammar could not make sense of."""
    if not root.has_error:
        return None
    return next((node for node in descend(root) if node.is_error or node.is_missing), root)


def is_word(node: Node) -> bool:
    """Tell whether `node` is a word or a part of one."""
    return node.type in WORDS or node.type in ("$", "==", "=~")  # operators, to the grammar, anywhere


def pieces(group: list[Node]) -> Iterator[Node]:
    """Walk the parts of a word that are quoted or expanded."""
    todo = list(reversed(group))
    while todo:
        node = todo.pop()
        if node.type in OPAQUE or node.type in QUOTED:
            yield node
        else:
            todo.extend(reversed(node.children))
