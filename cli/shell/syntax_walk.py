"""From the tree of a shell text to its commands, words and redirections."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .grammar import OPAQUE, descend, is_word
from .syntax import (
    ARGUMENT,
    ASSIGNMENT,
    COMMAND,
    LIST,
    READ,
    TEST,
    WRITE,
    Assignment,
    Commandline,
    Redirection,
    SimpleCommand,
    Use,
)
from .word_reader import WordReader

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tree_sitter import Node

    from .word import Word

_READS = ("<", "<>")
_SEQUENCES = frozenset(
    {
        "program", "list", "pipeline", "subshell", "compound_statement", "negated_command",
        "heredoc_redirect",
    }
)  # fmt: skip
"""Nodes whose last command is the last one within them."""


class SyntaxWalk:
    """One walk over the tree of a text, which collects what `Commandline` holds."""

    def __init__(self, source: bytes) -> None:
        self._reader = WordReader(source)
        self.commands: list[SimpleCommand] = []
        self.uses: list[Use] = []
        self.redirections: dict[int, list[Redirection]] = {}  # by node
        self.loops: set[str] = set()
        self.moves: list[tuple[int, int]] = []
        self._scope = len(source)

    def result(self, text: str, root: Node, place: tuple[int, ...]) -> Commandline:
        """Return what was collected."""
        uses = sorted(self.uses, key=lambda use: use.word.start)
        commands = sorted(self.commands, key=lambda command: command.words[0].start if command.words else 0)
        redirections = [item for items in self.redirections.values() for item in items]
        captured = self._last(root)
        return Commandline(
            text, tuple(commands), tuple(uses), tuple(redirections), frozenset(self.loops), captured,
            tuple(sorted(self.moves)), place,
        )  # fmt: skip

    def visit(self, node: Node) -> None:
        """Collect what `node` holds."""
        method = getattr(self, f"_visit_{node.type}", None)
        if method is not None:
            method(node)
        else:
            self._visit_children(node.children)

    def _visit_children(self, nodes: Iterable[Node], role: str = LIST) -> None:
        """Collect what stands beside each other; words among it have `role`."""
        for group in self._reader.groups(nodes):
            if is_word(group[0]):
                self._add_uses(self._reader.words(group), role)
                self._visit_inside(group)
            else:
                self.visit(group[0])

    def _visit_inside(self, group: Iterable[Node]) -> None:
        """Collect the commands of substitutions in words."""
        for word in group:
            outer = -1  # end of the substitution that is being visited: it sees to those inside it
            for node in descend(word):
                if node.type in OPAQUE and node.start_byte >= outer:
                    outer = node.end_byte
                    self._visit_scope(node)

    def _visit_scope(self, node: Node) -> None:
        """Visit what runs in a shell of its own."""
        outer, self._scope = self._scope, node.end_byte
        kinds = ("simple_expansion", "expansion", "arithmetic_expansion")
        if node.type in kinds:
            for child in node.children:
                self._visit_inside([child])
        else:
            self._visit_children(node.children)
        self._scope = outer

    _visit_subshell = _visit_scope

    def _visit_command(self, node: Node) -> None:
        self._add_command(node, [])

    def _visit_test_command(self, node: Node) -> None:
        for child in node.children:
            if child.type in ("binary_expression", "unary_expression", "parenthesized_expression"):
                self._visit_test_command(child)
            elif is_word(child):
                self._visit_children([child], TEST)

    def _visit_redirected_statement(self, node: Node) -> None:
        command: Node | None = None
        extra: list[Node] = []
        for child in node.children:
            if child.type == "command" and command is None:
                command = child
            elif child.type in ("file_redirect", "heredoc_redirect", "herestring_redirect"):
                extra += self._redirect(child, node)
            else:
                self._visit_children([child])
        if command is not None or extra:
            self._add_command(command, extra, node)

    def _visit_file_redirect(self, node: Node) -> None:
        self._add_command(None, self._redirect(node, node))

    _visit_heredoc_redirect = _visit_herestring_redirect = _visit_file_redirect

    def _visit_variable_assignment(self, node: Node) -> None:
        self._assignment(node)

    def _visit_for_statement(self, node: Node) -> None:
        name = node.child_by_field_name("variable")
        if name is not None:
            self.loops.add(self._reader.text(name))
        self._visit_children(node.children)

    def _visit_case_item(self, node: Node) -> None:
        """Visit the commands behind the pattern."""
        children = node.children
        closing = next((i for i, child in enumerate(children) if child.type == ")"), -1)
        self._visit_children(children[closing + 1 :])

    def _visit_function_definition(self, node: Node) -> None:
        for child in node.children:
            if child.type in ("file_redirect", "heredoc_redirect", "herestring_redirect"):
                self._redirect(child, node)
            elif child.type != "word":
                self._visit_children([child])

    def _visit_arithmetic(self, node: Node) -> None:
        for child in node.children:
            self._visit_inside([child])

    _visit_unset_command = _visit_regex = _visit_extglob_pattern = _visit_comment = _visit_arithmetic

    def _visit_c_style_for_statement(self, node: Node) -> None:
        self._visit_children([child for child in node.children if child.type == "do_group"])
        self._visit_arithmetic(node)

    def _add_command(self, node: Node | None, extra: list[Node], owner: Node | None = None) -> None:
        """Collect a command: its own node, and words that the grammar gave to redirections."""
        owner = owner or node
        words, assignments, rest = [], [], []
        for child in node.children if node is not None else ():
            if child.type == "variable_assignment":
                assignments.append(self._assignment(child))
            elif child.type.endswith("_redirect"):
                extra = [*extra, *self._redirect(child, node if node is not None else child)]
            elif child.type == "command_name":
                words += child.children
            elif is_word(child):
                words.append(child)
            else:
                rest.append(child)
        groups = list(self._reader.groups([*words, *sorted(extra, key=lambda item: item.start_byte)]))
        found = [word for group in groups for word in self._reader.words(group)]
        self._add_uses(found[:1], COMMAND)
        self._add_uses(found[1:], ARGUMENT)
        for group in groups:
            self._visit_inside(group)
        self._visit_children(rest)
        if found and found[0].value in ("cd", "pushd"):
            self.moves.append((found[-1].end, self._scope))
        ids = {owner.id if owner is not None else -1, node.id if node is not None else -1}
        redirections = tuple(item for one in ids for item in self.redirections.get(one, ()))
        if found or assignments or redirections:
            self.commands.append(SimpleCommand(tuple(found), redirections, tuple(assignments)))

    def _assignment(self, node: Node) -> Assignment:
        """Collect ``NAME=VALUE``."""
        children = node.children
        sign = next((i for i, child in enumerate(children) if child.type in ("=", "+=")), len(children))
        name = self._reader.text(children[0])
        self.loops.add(name)
        value = None
        if [child.type for child in children[sign + 1 :]] == ["array"]:
            self._visit_children(children[sign + 1].children)
        elif children[sign + 1 :]:
            for group in self._reader.groups(children[sign + 1 :]):
                words = self._reader.words(group)
                value = words[0] if words else None
                self._add_uses(words, ASSIGNMENT)
                self._visit_inside(group)
        return Assignment(name, value)

    def _redirect(self, node: Node, owner: Node) -> list[Node]:
        """Collect a redirection; returns words that belong to the command instead.

        The grammar takes every word behind a redirection for a target of it; the shell takes one.
        """
        operator, descriptor, targets = "", None, []
        for child in node.children:
            if child.type == "file_descriptor":
                text = self._reader.text(child)
                descriptor = int(text) if text.isdigit() else None
            elif is_word(child):
                targets.append(child)
            elif child.type == "heredoc_body":
                self._visit_inside(child.children)
            elif child.type == "ERROR" and operator.startswith("<<"):
                targets += [item for item in child.children if is_word(item)]
            elif child.type.endswith("_redirect"):
                targets += self._redirect(child, owner)
            elif child.type in ("heredoc_start", "heredoc_end"):
                continue
            elif child.is_named:
                self._visit_children([child])
            elif not operator:
                operator = child.type
        if operator in ("<<", "<<-", ""):
            return targets
        groups = list(self._reader.groups(targets))
        here = groups[:1] if operator not in (">&-", "<&-") else []
        for group in here:
            self._target(operator, descriptor, group, owner)
        return [item for group in groups[len(here) :] for item in group]

    def _target(self, operator: str, descriptor: int | None, group: list[Node], owner: Node) -> None:
        words = self._reader.words(group)
        word = words[0] if words else None
        if operator.endswith("&") and word is not None and re.fullmatch(r"\d+-?|-", word.text):
            word = None
        self.redirections.setdefault(owner.id, []).append(Redirection(operator, descriptor, word))
        if word is not None and operator != "<<<":
            self._add_uses([word], READ if operator in _READS else WRITE)
        self._visit_inside(group)

    def _last(self, node: Node) -> Redirection | None:
        """Find where the last command's standard output goes."""
        mine = [item for item in self.redirections.get(node.id, ()) if item.stdout]
        if mine:
            return mine[-1]
        if node.type == "redirected_statement":
            chained = [c for c in node.children if c.type == "heredoc_redirect"]
            if chained and any(c.type in ("pipeline", "redirected_statement") for c in chained[0].children):
                return self._last(chained[0])
            return self._last(node.children[0])
        if node.type not in _SEQUENCES:
            return None
        inner = [
            c
            for c in node.children
            if c.is_named and c.type not in ("comment", "heredoc_body", "heredoc_end")
        ]
        return self._last(inner[-1]) if inner else None

    def _add_uses(self, words: Iterable[Word], role: str) -> None:
        self.uses += [Use(word, role) for word in words]
