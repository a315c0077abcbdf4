"""The table of options of ``seamless-run``, and what values of options mean."""

from __future__ import annotations

import re

from ..table import (
    DIRECTORY,
    FILE,
    PATH,
    USUAL,
    Argument,
    CommandTable,
    OptionGroup,
    flag,
    value,
    values,
)

_SIZE = r"(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?"
_DURATION = r"(\d+(?:\.\d+)?)\s*([smhd]?)"
_CLOCK = r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)"
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def size(text: str) -> int:
    """Parse a number of bytes: ``4G`` and ``4GB`` are 4·10⁹ as in Dask, ``4GiB`` is 4·2³⁰."""
    match = re.fullmatch(_SIZE, text.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"not a size: {text!r} (500MB, 4GiB)")
    number, unit, binary = match.groups()
    power = " kmgt".index(unit.lower()) if unit else 0
    result = int(float(number) * (1024 if binary else 1000) ** power)
    if result <= 0:
        raise ValueError("must be more than nothing")
    return result


def duration(text: str) -> float:
    """Parse a time: seconds, ``30m``, ``2h``, ``1d``, ``MM:SS``, ``H:MM:SS`` or ``D-HH:MM:SS``."""
    if match := re.fullmatch(_DURATION, text.strip()):
        result = float(match[1]) * _SECONDS[match[2]]
    elif match := re.fullmatch(_CLOCK, text.strip()):
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        result = days * 86400 + hours * 3600 + minutes * 60 + seconds
    else:
        raise ValueError(f"not a time: {text!r} (90, 30m, 2h, 1:30:00)")
    if result <= 0:
        raise ValueError("must be more than nothing")
    return result


def count(text: str) -> int:
    """Parse a number above zero."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"not a number above zero: {text!r}")
    return int(text)


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"not a whole number: {text!r}") from None


def _retries(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError(f"not a number: {text!r}")
    return int(text)


_COMPUTATION = (
    value("-c", dest="line", metavar="STRING", help="the command as shell text"),
    values("-cp", "--capture", metavar="PATH[:LOCAL]",
        help="result that the command writes, delivered as LOCAL; ':LOCAL' is its standard output; a quoted"
        " glob is a directory of its matches"),
    values("-i", "--input", metavar="PATH", help="further input"),
    values("-I", "--input-file", metavar="FILE", help="file that lists further inputs, one a line"),
    values("--var", metavar="N=V", help="variable in the command's environment"),
    value("--stdin", metavar="FILE", help="standard input of the command (empty otherwise)", completes=PATH),
    value("--shell-flags", metavar="FLAGS", help="flags of bash in place of '-eo pipefail'"),
)  # fmt: skip
_NAMES = (
    value("-w", dest="workdir", metavar="DIR", help="inputs are relative to DIR"),
    flag("-W", dest="root", help="inputs are relative to the root"),
    flag("-ms", dest="strip", help="inputs lose their directories"),
    flag("-mx", dest="by_extension", help="inputs are renamed file1.ext, file2.ext, …"),
    flag("-g1", dest="guess_1", help="no notes for words that look like missing files"),
    flag("-g2", dest="guess_2", help="the same, and words without a file extension are never inputs"),
)
_DELIVERY = (
    flag("-nd", "--no-download", help="write sidecars of results, not their bytes"),
    flag("--overwrite", help="replace local files whatever is in them"),
    flag("--scratch", help="record the result, do not keep its bytes"),
    flag("--fingertip", help="recompute results whose bytes are gone"),
    flag("--undo", help="contest the known result: the next run computes it again"),
    flag("--dry-run", help="show what would be run, and run nothing"),
    flag("--explain", help="say whether it is known, or what sets it apart from what is; run nothing"),
    value("--write-job", metavar="DIR", help="write the job to a new directory DIR instead of running it"),
    flag("--local", help="use the store and database of this account on this host"),
    flag("--same-environment", help="a result from another environment is no hit"),
    flag("--copy-inputs", help="copy large inputs to the store, too"),
    flag("-d", "--detach", help="start it and return; .FUTURE files stand for the results"),
    flag("--qsubmit", help="give it to the queue (seamless-queue) and return"),
    flag("--direct-print", help="show the command's output on stderr while it runs"),
    flag("-y", "--yes", help="answer yes: store many files or much data unasked"),
)  # fmt: skip
_ENVIRONMENT = (
    value("--conda", metavar="NAME|PREFIX", help="conda environment to activate", completes=DIRECTORY),
    value(
        "--image",
        metavar="IMAGE",
        help="container to run it in (apptainer): a file, or docker://…",
        completes=FILE,
    ),
    values("--module", metavar="NAME", help="environment module to load"),
    values("--prologue", metavar="CMD", help="shell text that runs before the command"),
    values("--metavar", metavar="N=V", help="like --var, but no part of the identity"),
    values("--writable", metavar="PATH", help="input that the command modifies"),
)

_EXECUTION = (
    value("--cpus", convert=count, metavar="N", help="processors; sets OMP_NUM_THREADS"),
    value("--memory", convert=size, metavar="SIZE", help="limit of the whole process tree: 500MB, 4GiB"),
    value("--gpus", convert=count, metavar="N", help="graphics processors"),
    values("--resource", metavar="N=V", help="amount of a resource of the workers"),
    value("--queue", metavar="NAME", help="only on workers in this queue of the cluster"),
    value("--node", metavar="NAME", help="only on this host"),
    value("--priority", convert=_integer, default=0, metavar="N",
        help="what waits with a higher one runs first"),
    value("--time-limit", convert=duration, metavar="TIME", help="limit of wall time: 90, 30m, 2h, 1:30:00"),
    value("--retries", convert=_retries, default=3, metavar="N",
        help="attempts after losses of a worker (3)"),
)  # fmt: skip

TABLE = CommandTable(
    "Run a command, or find its result when it is known already.",
    (
        OptionGroup("What is computed (all of it is part of the identity)", _COMPUTATION),
        OptionGroup("Words and names", _NAMES),
        OptionGroup("Delivery and manner", _DELIVERY),
        OptionGroup("Environment (not part of the identity)", _ENVIRONMENT),
        OptionGroup("Execution (not part of the identity)", _EXECUTION),
        *USUAL,
    ),
    (Argument("command", "COMMAND", "the command and its words", many=True, required=False, completes=PATH),),
    examples=(
        "seamless-run wc -l data.csv",
        "seamless-run 'sort data.csv | uniq > table.txt'",
        "seamless-run python fit.py data.csv --capture model.json",
    ),
    notes="Everything before COMMAND is an option of seamless-run. After it only --capture, --input, --var,"
    " --metavar, --no-download (-nd), --scratch and --fingertip are, at the end of the line; put -- before"
    " COMMAND, or before the end of the line, to leave them to the command. After a command that is one"
    " quoted string all options are taken. Exit status: 0; 1 error; 2 usage; that of the command when it"
    " fails; 130 interrupted.",
    exclusive=(("workdir", "root", "strip", "by_extension"),),
    usage="[OPTION…] COMMAND [ARGUMENT…] [OPTION…]",
    own_words=True,
    click_class=".run.by_click:RunCommand",
)
"""The command line of ``seamless-run``."""
