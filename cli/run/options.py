"""The options of ``seamless-run``, and what of its command line is whose.

Before the command every option is ours. After it only those of `TAIL` are, as one unbroken tail of the
line and never beyond ``--``; the rest of the line is the command's. A command given as one quoted string
has no options of its own on our line, so that all are ours on both sides of it.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from seamless_dask.errors import UsageError

from ..console import suggestion
from ..shell.word import is_plain, join
from .option_table import parser

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

TAIL = {
    "--capture": True, "--input": True, "--var": True, "--metavar": True,
    "--no-download": False, "-nd": False, "--scratch": False, "--fingertip": False,
    "-cp": True, "-i": True,
}  # fmt: skip
"""Options that are ours after the command too, with whether each takes a value."""
_ALSO_THEIRS = ("--input", "-i", "--scratch", "-cp")  # many commands have options of these names; java -cp
_HARDLY_THEIRS = ("--capture", "-cp", "--metavar", "--no-download", "--fingertip")

_NAMING = {
    "input": "--input", "input_file": "--input-file", "stdin": "--stdin", "workdir": "-w",
    "write_job": "--write-job", "writable": "--writable", "module": "--module", "conda": "--conda",
    "image": "--image", "queue": "--queue", "node": "--node",
}  # fmt: skip
_SERVICES = ("hashserver", "store", "database", "daskserver")
_EXCLUSIVE = (
    ("undo", "dry_run", "write_job"),
    *((name, "qsubmit") for name in ("undo", "write_job", "detach")),
    ("conda", "image"),  # an environment of this host is not in the image
    ("module", "image"),
    *(("local", name) for name in _SERVICES),
)

_DASHED = re.compile(r"-[^0-9.]")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def parse(argv: Sequence[str], prog: str = "seamless-run") -> argparse.Namespace:
    """Parse the command line of ``seamless-run``.

    Parameters
    ----------
    argv : sequence of str
        Without the program's name.
    prog : str
        The program's name in messages.

    Returns
    -------
    argparse.Namespace
        One attribute per option; see `parser`. Beside them: ``text``, the shell text (several words
        are joined with shell quoting); ``words``, the command's words, or None when it was given as one
        string; ``notes``, what the user should be told about the line.

    Raises
    ------
    UsageError
        For anything that is not a command line of ``seamless-run``.
    SystemExit
        After ``--help``.
    """
    table = parser(prog)
    argv = [_utf8(word) for word in argv]
    argv, is_flagged = _without_flag(table, argv)
    split = _end_of_options(table, argv)
    head, rest = argv[:split], argv[split:]
    if is_flagged and rest:  # what follows the text are options, whatever the text looks like
        head, rest = [*head, "-c", rest[0], *rest[1:]], []
    closed = rest[:1] == ["--"]
    words = rest[1:] if closed else rest
    notes: list[str] = []
    if "-c" not in _option_names(table, head) and words and not closed:
        if _is_line(words):
            head, words = [*head, *words[1:]], words[:1]
        else:
            words, tail, notes = _split_tail(words)
            head = [*head, *tail]
    result = table.parse_args([*head, "--"])
    result.words, result.text = _command(result.line, words, table)
    result.notes = notes
    _finish(result, table)
    return result


def _utf8(word: str) -> str:
    try:
        word.encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"not UTF-8: {os.fsencode(word)!r}; rename the file, or quote less of the line"
        ) from None
    return word


def _actions(table: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {name: action for action in table._actions for name in action.option_strings}


def _option(actions: dict[str, argparse.Action], word: str) -> tuple[str, bool]:
    """Return the name of the option that `word` is, and whether its value is the next word."""
    head, equals, _ = word.partition("=")
    if word in actions:
        return word, actions[word].nargs is None
    if equals and head in actions:
        return head, False
    if word.startswith("--"):
        return "", False
    for position in range(1, len(word)):
        action = actions.get("-" + word[position])
        if action is None:
            return "", False
        if action.nargs is None:
            return "-" + word[position], position + 1 == len(word)
    return word[:2], False


def _without_flag(table: argparse.ArgumentParser, argv: list[str]) -> tuple[list[str], bool]:
    """Take away a ``-c`` that other options follow: it says, as in Seamless 1.x, that text is to come."""
    actions, position = _actions(table), 0
    while position + 1 < len(argv) and argv[position].startswith("-") and argv[position] not in ("-", "--"):
        word, following = argv[position], argv[position + 1]
        if word == "-c" and following.startswith("-") and _option(actions, following)[0]:
            return [*argv[:position], *argv[position + 1 :]], True
        position += 1 + _option(actions, word)[1]
    return argv, False


def _end_of_options(table: argparse.ArgumentParser, argv: list[str]) -> int:
    """Return where the command begins (or the ``--`` before it)."""
    actions, position = _actions(table), 0
    while position < len(argv):
        word = argv[position]
        if word == "--" or word == "-" or not word.startswith("-"):
            return position
        name, takes_next = _option(actions, word)
        if not name:
            shown = word.partition("=")[0]
            meant = suggestion(word, actions)
            raise UsageError(f"no option {shown}{meant}; {table.prog} --help lists them")
        if takes_next:
            _refuse_dashed(actions[name], word, argv[position + 1 : position + 2])
        position += 1 + takes_next
    return len(argv)


def _refuse_dashed(action: argparse.Action, word: str, value: list[str]) -> None:
    """Say how a value is written that looks like an option."""
    if value and _DASHED.match(value[0]):
        name = max(action.option_strings, key=len)
        if not name.startswith("--"):
            raise UsageError(f"{word} {value[0]}: a value that begins with a dash is written ./{value[0]}")
        raise UsageError(f"{word} {value[0]}: a value that begins with a dash is written {name}={value[0]}")


def _option_names(table: argparse.ArgumentParser, head: list[str]) -> set[str]:
    actions, position, names = _actions(table), 0, set()
    while position < len(head):
        name, takes_next = _option(actions, head[position])
        names.add(name)
        position += 1 + takes_next
    return names


def _is_line(words: list[str]) -> bool:
    """Whether the command is one quoted string, after which only options follow."""
    return not is_plain(words[0]) and (len(words) == 1 or words[1].startswith("-"))


def _split_tail(words: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Split a command's words from the tail of options; returns words, tail, and notes."""
    start = next((i for i in range(1, len(words)) if _is_tail(words[i:])), len(words))
    if "--" in words:
        start = len(words)  # the end of the line lies beyond it
    command, tail = words[:start], words[start:]
    notes = []
    for name in _ALSO_THEIRS:
        if any(word.partition("=")[0] == name for word in tail):
            notes.append(
                f"{name} at the end of the line was taken as an option of seamless-run;"
                " put -- before the command to leave it to the command"
            )
    left = [word for word in ([] if "--" in words else command) if word.partition("=")[0] in _HARDLY_THEIRS]
    if left:
        notes.append(
            f"{left[0]} was left to the command, since what follows it is no option of ours with its value;"
            " options of seamless-run stand before the command or at the end of the line"
        )
    if len(command) > 1 and _is_no_program(command[0]):
        notes.append(f"{command[0]!r} is taken as the name of a program: quote the whole line, or none of it")
    return command, tail, notes


def _is_no_program(word: str) -> bool:
    """Whether a command word has blanks in it and names nothing that could be run."""
    if not any(character.isspace() for character in word):
        return False
    from shutil import which

    return which(word) is None and not os.path.exists(word)


def _is_tail(words: list[str]) -> bool:
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


def _command(
    line: str | None, words: list[str], table: argparse.ArgumentParser
) -> tuple[list[str] | None, str]:
    if line is not None:
        if words:
            raise UsageError(
                f"-c takes the whole command; {words[0]!r} is a word too many: quote the command"
            )
        words = [line]
    elif len(words) > 1:
        return words, join(words)
    text = words[0] if words else ""
    if not text.strip():
        raise UsageError(f"no command: {table.usage}")
    return None, text


def _finish(result: argparse.Namespace, table: argparse.ArgumentParser) -> None:
    """Turn texts into what they mean, and check what argparse cannot."""
    if superfluous := [word for word in result.command if word != "--"]:
        raise UsageError(f"{superfluous[0]!r} is a word too many after a command that is one quoted string")
    del result.command, result.line
    result.var = _variables(result.var, "--var")
    result.metavar = _variables(result.metavar, "--metavar")
    result.resource = _resources(result.resource)
    both = sorted(result.var.keys() & result.metavar.keys())
    if both:
        raise UsageError(f"{both[0]} is given by --var and by --metavar")
    for names in _EXCLUSIVE:
        given = ["--" + name.replace("_", "-") for name in names if getattr(result, name)]
        if len(given) > 1:
            table.error(f"{given[0]} and {given[1]} exclude each other")
    for name, option in _NAMING.items():
        # An empty path is the current directory to the system, and a variable without a value to the user.
        value = getattr(result, name)
        if value == "" or (isinstance(value, list) and "" in value):
            raise UsageError(f"{option} was given an empty name")
    for value in (result.text, *result.input, *result.capture):
        if "\0" in value:
            raise UsageError("a NUL character in the command line")


def _resources(items: list[str]) -> dict[str, float]:
    result: dict[str, float] = {}
    for item in items:
        name, equals, text = item.partition("=")
        try:
            amount = float(text)
        except ValueError:
            amount = 0.0
        if not name or not equals or not 0 < amount < float("inf"):
            raise UsageError(f"--resource takes NAME=NUMBER, not {item!r}")
        if result.setdefault(name, amount) != amount:
            raise UsageError(f"--resource gives {name} two amounts")
    return result


def _variables(items: list[str], option: str) -> dict[str, str]:
    result: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise UsageError(f"{option} takes NAME=VALUE, not {item!r}")
        if result.setdefault(name, value) != value:
            raise UsageError(f"{option} gives {name} two values")
    return result
