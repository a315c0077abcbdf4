"""The table of options of ``seamless-run``: for parsing, for help, for completion."""

from __future__ import annotations

import argparse
import os
import re
from typing import NoReturn

from seamless_dask.errors import UsageError

from ..console import add_common

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


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are `UsageError`."""

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print with half a page of usage."""
        raise UsageError(f"{message}; {self.prog} --help lists the options")


def parser(prog: str = "seamless-run") -> Parser:
    """Return the option table of ``seamless-run``, for parsing, help and completion."""
    result = Parser(
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
    add("--local", action="store_true", help="use the store and database of this account on this host")
    add("--same-environment", action="store_true", help="a result from another environment is no hit")
    add("--copy-inputs", action="store_true", help="copy large inputs to the store, too")
    add(
        "-d", "--detach", action="store_true", help="start it and return; .FUTURE files stand for the results"
    )
    add("--qsubmit", action="store_true", help="give it to the queue (seamless-queue) and return")
    add("--direct-print", action="store_true", help="show the command's output on stderr while it runs")
    add("-y", "--yes", action="store_true", help="answer yes: store many files or much data unasked")


def _add_environment(table: argparse.ArgumentParser) -> None:
    add = table.add_argument_group("environment (not part of the identity)").add_argument
    add("--conda", metavar="NAME|PREFIX", help="conda environment to activate")
    add("--image", metavar="IMAGE", help="container to run it in (apptainer): a file, or docker://…")
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
    add("--cpus", type=count, metavar="N", help="processors; sets OMP_NUM_THREADS")
    add("--memory", type=size, metavar="SIZE", help="limit of the whole process tree: 500MB, 4GiB")
    add("--gpus", type=count, metavar="N", help="graphics processors")
    add("--resource", action="append", default=[], metavar="N=V", help="amount of a resource of the workers")
    add("--queue", metavar="NAME", help="only on workers in this queue of the cluster")
    add("--node", metavar="NAME", help="only on this host")
    add("--priority", type=_integer, default=0, metavar="N", help="what waits with a higher one runs first")
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


def count(text: str) -> int:
    """Parse a number above zero."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"not a number above zero: {text!r}")
    return int(text)


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a whole number: {text!r}") from None


def _retries(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"not a number: {text!r}")
    return int(text)
