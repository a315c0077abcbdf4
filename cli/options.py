"""The options of ``seamless-run``, and what of its command line is whose.

Before the command every option is ours. After it only those of `TAIL` are, as one unbroken tail of the
line and never beyond ``--``; the rest of the line is the command's. A command given as one quoted string
has no options of its own on our line, so that all are ours on both sides of it.
"""

from __future__ import annotations

import argparse
import os
import re
from typing import TYPE_CHECKING, NoReturn

from seamless_dask.errors import UsageError

from .console import add_common
from .words.word import is_plain, join

if TYPE_CHECKING:
    from collections.abc import Sequence

TAIL = {
    "--capture": True, "--input": True, "--var": True, "--metavar": True,
    "--no-download": False, "-nd": False, "--scratch": False, "--fingertip": False,
}  # fmt: skip
"""Options that are ours after the command too, with whether each takes a value."""
_ALSO_THEIRS = ("--input", "--scratch")  # many commands have options of these names
_HARDLY_THEIRS = ("--capture", "--metavar", "--no-download", "--fingertip")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_CLOCK = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

_DESCRIPTION = "Run a command, or find its result when it is known already."
_EPILOG = """\
Everything before COMMAND is an option of seamless-run. After it only --capture, --input, --var, --metavar,
--no-download (-nd), --scratch and --fingertip are, at the end of the line; put -- before COMMAND, or before
the end of the line, to leave them to the command. After a command that is one quoted string all options are
taken. Exit status: 0; 1 error; 2 usage; that of the command when it fails; 130 interrupted.
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Finds the width of the terminal itself: argparse imports shutil for it whenever an option is added."""

    def __init__(self, prog: str) -> None:
        try:
            columns = int(os.environ.get("COLUMNS", "")) or os.get_terminal_size(1).columns
        except (ValueError, OSError):
            columns = 80
        super().__init__(prog, width=max(40, columns - 2), max_help_position=30)


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are `UsageError`."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print with half a page of usage."""
        raise UsageError(f"{message}; {self.prog} --help lists the options")


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
    split = _end_of_options(table, argv)
    head, rest = argv[:split], argv[split:]
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


def parser(prog: str = "seamless-run") -> _Parser:
    """Return the option table of ``seamless-run``, for parsing, help and completion."""
    result = _Parser(
        prog=prog,
        usage=f"{prog} [OPTION…] COMMAND [ARGUMENT…] [OPTION…]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        allow_abbrev=False,
        formatter_class=_Formatter,
    )
    result.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND", help=argparse.SUPPRESS)
    _add_computation(result)
    _add_names(result)
    _add_delivery(result)
    _add_environment(result)
    _add_execution(result)
    add_common(result, json=True)
    return result


def _add_computation(table: argparse.ArgumentParser) -> None:
    group = table.add_argument_group("what is computed (all of it is part of the identity)")
    add = group.add_argument
    add("-c", dest="line", metavar="STRING", help="the command as shell text")
    add("-cp", "--capture", action="append", default=[], metavar="PATH[:LOCAL]",
        help="result that the command writes, delivered as LOCAL; ':LOCAL' is its standard output; a quoted"
        " glob is a directory of its matches")  # fmt: skip
    add("-i", "--input", action="append", default=[], metavar="PATH", help="further input")
    add("-I", "--input-file", action="append", default=[], metavar="FILE",
        help="file that lists further inputs, one a line")  # fmt: skip
    add("--var", action="append", default=[], metavar="N=V", help="variable in the command's environment")
    add("--stdin", metavar="FILE", help="standard input of the command (empty otherwise)")
    add("--shell-flags", metavar="FLAGS", help="flags of bash in place of '-eo pipefail'")


def _add_names(table: argparse.ArgumentParser) -> None:
    group = table.add_argument_group("words and names")
    choice = group.add_mutually_exclusive_group()
    choice.add_argument("-w", dest="workdir", metavar="DIR", help="inputs are relative to DIR")
    choice.add_argument("-W", dest="workdir", action="store_const", const="/",
                        help="inputs are relative to the root")  # fmt: skip
    choice.add_argument("-ms", dest="mapping", action="store_const", const="strip",
                        help="inputs lose their directories")  # fmt: skip
    choice.add_argument("-mx", dest="mapping", action="store_const", const="extension",
                        help="inputs are renamed file1.ext, file2.ext, …")  # fmt: skip
    add = group.add_argument
    add("-g1", dest="guess", action="store_const", const=1, default=0,
        help="no notes for words that look like missing files")  # fmt: skip
    add("-g2", dest="guess", action="store_const", const=2,
        help="the same, and words without a file extension are never inputs")  # fmt: skip


def _add_delivery(table: argparse.ArgumentParser) -> None:
    add = table.add_argument_group("delivery and manner").add_argument
    add("-nd", "--no-download", action="store_true", help="write sidecars of results, not their bytes")
    add("--overwrite", action="store_true", help="replace local files whatever is in them")
    add("--scratch", action="store_true", help="record the result, do not keep its bytes")
    add("--fingertip", action="store_true", help="recompute results whose bytes are gone")
    add("--undo", action="store_true", help="contest the known result: the next run computes it again")
    add("--dry-run", action="store_true", help="show what would be run, and run nothing")
    add("--write-job", metavar="DIR", help="write the job to a new directory DIR instead of running it")
    add("--local", action="store_true", help="run in this process' place, whatever server is configured")
    add("--same-environment", action="store_true", help="a result from another environment is no hit")
    add("--copy-inputs", action="store_true", help="copy large inputs to the store, too")
    add("--direct-print", action="store_true", help="show the command's output while it runs")
    add("-y", "--yes", action="store_true", help="answer yes: store many files or much data unasked")


def _add_environment(table: argparse.ArgumentParser) -> None:
    add = table.add_argument_group("environment (not part of the identity)").add_argument
    add("--module", action="append", default=[], metavar="NAME", help="environment module to load")
    add(
        "--prologue",
        action="append",
        default=[],
        metavar="CMD",
        help="shell text that runs before the command",
    )
    add(
        "--metavar",
        action="append",
        default=[],
        metavar="N=V",
        help="like --var, but no part of the identity",
    )
    add("--writable", action="append", default=[], metavar="PATH", help="input that the command modifies")


def _add_execution(table: argparse.ArgumentParser) -> None:
    add = table.add_argument_group("execution (not part of the identity)").add_argument
    add("--cpus", type=_count, metavar="N", help="processors; sets OMP_NUM_THREADS")
    add("--memory", type=size, metavar="SIZE", help="limit of the whole process tree: 500MB, 4GiB")
    add("--time-limit", type=duration, metavar="TIME", help="limit of wall time: 90, 30m, 2h, 1:30:00")
    add("--retries", type=_retries, default=3, metavar="N", help="attempts after losses of a worker (3)")


def size(text: str) -> int:
    """Parse a number of bytes: ``4G`` and ``4GB`` are 4·10⁹ as in Dask, ``4GiB`` is 4·2³⁰."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"not a size: {text!r} (500MB, 4GiB)")
    number, unit, binary = match.groups()
    power = " kmgt".index(unit.lower()) if unit else 0
    result = int(float(number) * (1024 if binary else 1000) ** power)
    if result <= 0:
        raise argparse.ArgumentTypeError("must be more than nothing")
    return result


def duration(text: str) -> float:
    """Parse a time: seconds, ``30m``, ``2h``, ``1d``, ``MM:SS``, ``H:MM:SS`` or ``D-HH:MM:SS``."""
    if match := _DURATION.fullmatch(text.strip()):
        result = float(match[1]) * _SECONDS[match[2]]
    elif match := _CLOCK.fullmatch(text.strip()):
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        result = days * 86400 + hours * 3600 + minutes * 60 + seconds
    else:
        raise argparse.ArgumentTypeError(f"not a time: {text!r} (90, 30m, 2h, 1:30:00)")
    if result <= 0:
        raise argparse.ArgumentTypeError("must be more than nothing")
    return result


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"not a number above zero: {text!r}")
    return int(text)


def _retries(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"not a number: {text!r}")
    return int(text)


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
            meant = _suggestion(word, actions)
            raise UsageError(f"no option {shown}{meant}; {table.prog} --help lists them")
        position += 1 + takes_next
    return len(argv)


def _option_names(table: argparse.ArgumentParser, head: list[str]) -> set[str]:
    actions, position, names = _actions(table), 0, set()
    while position < len(head):
        name, takes_next = _option(actions, head[position])
        names.add(name)
        position += 1 + takes_next
    return names


def _suggestion(word: str, actions: dict[str, argparse.Action]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word.partition("=")[0], actions, 1, 0.8)
    return f" (did you mean {close[0]}?)" if close else ""


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
            f"{left[0]} was left to the command, since other words follow it;"
            " options of seamless-run stand before the command or at the end of the line"
        )
    return command, tail, notes


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
    both = sorted(result.var.keys() & result.metavar.keys())
    if both:
        raise UsageError(f"{both[0]} is given by --var and by --metavar")
    for names in (
        ("undo", "dry_run"),
        ("undo", "write_job"),
    ):
        if all(getattr(result, name) for name in names):
            first, second = ("--" + name.replace("_", "-") for name in names)
            table.error(f"{first} and {second} exclude each other")
    for value in (result.text, *result.input, *result.capture):
        if "\0" in value:
            raise UsageError("a NUL character in the command line")


def _variables(items: list[str], option: str) -> dict[str, str]:
    result: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not _NAME.fullmatch(name):
            raise UsageError(f"{option} takes NAME=VALUE, not {item!r}")
        if result.setdefault(name, value) != value:
            raise UsageError(f"{option} gives {name} two values")
    return result
