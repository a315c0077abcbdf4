"""Plain lines are read here, by the tables that click has too, without the 30 ms that importing click takes.

Whatever is not plain (help, errors, options in unusual forms) is left to click, which reads it anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .table import FLAG, LIST, ParsedArguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .table import Argument, CommandTable, Option

Values = dict[str, Any]


class NotPlain(Exception):
    """The line is left to click."""


def read(table: CommandTable, words: Sequence[str]) -> ParsedArguments | None:
    """Read a line; None when it is left to click."""
    try:
        defaults, given = _read(table, words)
    except NotPlain:
        return None
    return ParsedArguments(**(defaults | given))


def _read(table: CommandTable, words: Sequence[str]) -> tuple[Values, Values]:
    """Return what holds if nothing is said, and what is said."""
    options, given, found = table.by_name(), Values(), list[str]()
    position = take_options(options, words, given)
    if table.actions:
        action = words[position] if position < len(words) else ""
        if action not in table.actions:
            raise NotPlain
        defaults, said = _read(table.actions[action], words[position + 1 :])
        return table.defaults() | defaults, given | said | {"action": action}
    while position < len(words):
        if words[position] == "--":
            found += words[position + 1 :]
            break
        found.append(words[position])
        position += 1
        position += take_options(options, words[position:], given)
    refuse_exclusive(table, given)
    return table.defaults(), given | _arguments(table.arguments, found)


def take_options(options: Mapping[str, Option], words: Sequence[str], given: Values) -> int:
    """Take the options that `words` begins with into `given`; return where they end.

    Raises
    ------
    NotPlain
        Among them is what is not known, not right, or not in its plainest form.
    """
    position = 0
    while position < len(words) and (word := words[position])[:1] == "-" and word not in ("-", "--"):
        position += 1
        option = options.get(word)
        if option is not None and not option.takes_value:
            given[option.dest] = True if option.kind == FLAG else given.get(option.dest, 0) + 1
            continue
        if option is not None:
            text = words[position] if position < len(words) else "-"
            position += 1
            if text[:1] == "-":
                raise NotPlain
        else:
            name, _, text = word.partition("=")
            option = options.get(name)
            if option is None or not option.takes_value or name[:2] != "--":
                raise NotPlain
        meant = _meaning(option, text)
        if option.kind == LIST:
            given.setdefault(option.dest, []).append(meant)
        else:
            given[option.dest] = meant
    return position


def refuse_exclusive(table: CommandTable, given: Values) -> None:
    """Leave a line to click that has options which exclude each other."""
    for names in table.exclusive:
        if sum(name in given for name in names) > 1:
            raise NotPlain


def _arguments(arguments: Sequence[Argument], found: list[str]) -> Values:
    meant: Values = {}
    for argument in arguments:
        if not found and argument.required:
            raise NotPlain
        if argument.many:
            meant[argument.dest], found = [_meaning(argument, text) for text in found], []
        elif found:
            meant[argument.dest] = _meaning(argument, found.pop(0))
        else:
            meant[argument.dest] = argument.default
    if found:
        raise NotPlain
    return meant


def _meaning(entry: Option | Argument, text: str) -> Any:
    if entry.choices and text not in entry.choices:
        raise NotPlain
    try:
        return text if entry.convert is None else entry.convert(text)
    except ValueError:
        raise NotPlain from None
