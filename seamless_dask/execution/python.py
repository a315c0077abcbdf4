"""Running a function in Python: a command that loads its arguments, calls it, and stores what it returns.

So all that holds for commands holds for functions: sandbox, limits, environments, and that nothing of theirs
is left running.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import hashserver.checksum
from hashserver.checksum import Checksum
from seamless_dask.execution.supervisor import NoSupervisor
from seamless_dask.model.transformation import Description, ResultSpec, Value

from . import runners
from .bash import Program, run_program
from .call_files import PLAIN
from .layout import ROOM
from .placement import TooLate, lengths_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seamless_dask.context import Context
    from seamless_dask.execution.supervisor import Supervisor
    from seamless_dask.model.options import Options
    from seamless_dask.model.records import Outcome

_SCRIPT = """\
exec {python} -I -B {call} 3<<'END' >&2
{told}
END
"""
_CALL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "call.py")
_PACKAGES = [
    os.path.dirname(os.path.abspath(str(hashserver.checksum.__file__))),
    os.path.dirname(os.path.dirname(_CALL)),
]
"""The directories of what `call` imports, wherever the interpreter is that runs it."""


def run_python(
    transformation: Description, context: Context, options: Options, supervisor: Supervisor | None = None
) -> Outcome:
    """Call a function and store what it returns; parameters and errors as of `run_bash`."""
    command, arguments = as_command(transformation, context, options)
    told = {"arguments": arguments, "foreign": options.foreign, "format": transformation.result.format}

    def start(told: Mapping[str, Any]) -> Program:
        """Return what starts an interpreter that is told something."""
        words = _SCRIPT.format(
            python=_python(options), call=shlex.quote(_CALL), told=json.dumps({"packages": _PACKAGES, **told})
        )
        shown = (sys.prefix, sys.base_prefix, *_PACKAGES)
        return Program(command, words.encode(), "function", shown, "format", "exception")

    supervisor = supervisor or NoSupervisor()
    with (
        suppress(TooLate, runners.Gone),
        runners.lent(command, context, options, supervisor, start) as runner,
    ):
        if runner is not None:
            rest, carried = _carried(command, arguments, context)
            called, directory = partial(runner.call, told | {"carried": carried}), runner.directory
            warm = Program(rest, b"", "function", (), "format", "exception", called, directory)
            return run_program(warm, context, options, supervisor)
    return run_program(start(told), context, options, supervisor)


def as_command(
    transformation: Description, context: Context, options: Options
) -> tuple[Description, dict[str, tuple[str, str]]]:
    """Return what `run_program` is given for a function, and where the inputs lie, with their formats."""
    source = Checksum(options.source) if options.source else transformation.code
    files = {"code": Value("file", source)}
    arguments: dict[str, tuple[str, str]] = {}
    beside = {name: Value(kind, Checksum(text)) for name, (kind, text) in options.ignored.items()}
    for number, (name, value) in enumerate(sorted((transformation.inputs | beside).items())):
        assert isinstance(value, Value)
        path = f"inputs/{number}"
        arguments[name] = value.format, path
        files[path] = value if value.format == "directory" else Value("file", value.checksum)
    if options.lines and _is_there(context, Checksum(options.lines)):
        files["lines"] = Value("file", Checksum(options.lines))
    command = Description(
        language="bash",
        code=source,
        result=ResultSpec(paths=("value",)),
        inputs=files,  # type: ignore[arg-type]
        variables=transformation.variables,
    )
    return command, arguments


def _carried(
    command: Description, arguments: Mapping[str, tuple[str, str]], context: Context
) -> tuple[Description, dict[str, str]]:
    """Take from a command those inputs that need not be files, for they are small, and only loaded.

    Returns
    -------
    What is left of the command, and the bytes of those inputs by their paths, each byte a character.
    """
    shown = {path for kind, path in arguments.values() if kind in PLAIN}
    loaded = {
        name: value.checksum
        for name, value in command.inputs.items()
        if isinstance(value, Value) and name not in shown
    }
    lengths = lengths_of(context.store, list(dict.fromkeys(loaded.values())))
    small: dict[str, Checksum] = {}
    room = ROOM
    for name, checksum in loaded.items():
        if 0 <= lengths[checksum] <= room:  # of what is missing those tell who place the others
            room -= lengths[checksum]
            small[name] = checksum
    data = dict(context.store.get_many(list(dict.fromkeys(small.values()))))
    inputs = {name: value for name, value in command.inputs.items() if name not in small}
    carried = {name: data[checksum].decode("latin-1") for name, checksum in small.items()}
    return command._replace(inputs=inputs), carried


def _is_there(context: Context, checksum: Checksum) -> bool:
    return context.store.at_hand(checksum) >= 0 or context.store.has([checksum])[0] >= 0


def _python(options: Options) -> str:
    # an environment or an image that was asked for has its own
    return "python3" if options.conda or options.image else shlex.quote(sys.executable)
