"""``seamless-run`` as click reads it: which words of the line are whose."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from seamless_dask.errors import UsageError

from ..by_click import HELP_NAMES, TableCommand, is_dashed
from ..shell.word import is_plain
from .options import TAIL, finished, is_no_command, notes_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    import click
    from click.shell_completion import CompletionItem

    from ..table import ParsedArguments


class RunCommand(TableCommand):
    """The command, whose line holds another command."""

    needs_command = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read our words, and set the command's apart."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        ours, words, notes = self._split([_utf8(word) for word in args])
        rest = super().parse_args(ctx, ours)
        if superfluous := ctx.params["command"]:
            raise UsageError(
                f"{superfluous[0]!r} is a word too many after a command that is one quoted string"
            )
        if (line := ctx.params["line"]) is not None:
            if words:
                raise UsageError(
                    f"-c takes the whole command; {words[0]!r} is a word too many: quote the command"
                )
            words = [line]
        if is_no_command(words, self.needs_command):
            raise UsageError(f"no command: {ctx.command_path} {self.table.usage}")
        ctx.meta[__name__] = words, notes
        return rest

    def arguments(self, ctx: click.Context) -> ParsedArguments:
        """Return what was read."""
        return finished(super().arguments(ctx), *ctx.meta[__name__])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the options that a word may become: behind a command's words not all are ours."""
        found = super().shell_complete(ctx, incomplete)
        return [item for item in found if item.value in TAIL] if ctx.params.get("command") else found

    def _split(self, args: list[str]) -> tuple[list[str], list[str], list[str]]:
        """Return the words that are ours, those of the command, and what is to be told of that."""
        args, is_flagged = self._without_flag(args)
        end, gives_line = self._end_of_options(args)
        head, words = args[:end], args[end:]
        if is_flagged and words:  # what follows the text are options, whatever the text looks like
            return [*head, "-c", *words], [], []
        if words[:1] == ["--"]:
            return head, words[1:], []
        if not words or gives_line:
            return head, words, []
        if not is_plain(words[0]) and (len(words) == 1 or words[1].startswith("-")):  # one quoted string
            return head + words[1:], words[:1], []
        start = next((i for i in range(1, len(words)) if _is_tail(words[i:])), len(words))
        if "--" in words:
            start = len(words)  # the end of the line lies beyond it
        return head + words[start:], words[:start], notes_on(words[:start], words[start:])

    def _without_flag(self, args: list[str]) -> tuple[list[str], bool]:
        """Take away a ``-c`` that other options follow: it says, as in Seamless 1.x, that text is to come."""
        position = 0
        while position + 1 < len(args) and is_dashed(args[position]) and args[position] != "--":
            word, following = args[position : position + 2]
            if word == "-c" and (following in HELP_NAMES or self._is_option(following)):
                return [*args[:position], *args[position + 1 :]], True
            position += 1 + self.option_of(word)[1]
        return args, False

    def _is_option(self, word: str) -> bool:
        return is_dashed(word) and self.option_of(word)[0] is not None

    def _end_of_options(self, args: list[str]) -> tuple[int, bool]:
        """Return where the command begins (or the ``--`` before it), and whether ``-c`` has given it."""
        position, gives_line = 0, False
        while position < len(args) and is_dashed(args[position]) and args[position] != "--":
            option, takes_next = self.option_of(args[position])
            gives_line |= option is not None and option.dest == "line"
            position += 1 + takes_next
        return min(position, len(args)), gives_line


class WhyCommand(RunCommand):
    """The same, whose line may do without."""

    needs_command = False


def _utf8(word: str) -> str:
    try:
        word.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"not UTF-8: {os.fsencode(word)!r}; rename the file, or quote less of the line"
        ) from None
    return word


def _is_tail(words: Sequence[str]) -> bool:
    position = 0
    while position < len(words):
        name, equals, _ = words[position].partition("=")
        if name not in TAIL or (equals and not TAIL[name]):
            return False
        position += 1
        if TAIL[name] and not equals:
            if position == len(words) or words[position].startswith("-"):
                return False
            position += 1
    return True
