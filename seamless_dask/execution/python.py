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
from .placement import TooLate

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
            called, directory = partial(runner.call, told), runner.directory
            warm = Program(command, b"", "function", (), "format", "exception", called, directory)
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


def _is_there(context: Context, checksum: Checksum) -> bool:
    return context.store.at_hand(checksum) >= 0 or context.store.has([checksum])[0] >= 0


def _python(options: Options) -> str:
    # an environment or an image that was asked for has its own
    return "python3" if options.conda or options.image else shlex.quote(sys.executable)
