"""Calling a function in the process and thread that ask for it, or that Dask has given its task to."""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

from seamless_dask.errors import UsageError

from .bash import Program, run_program
from .process import Ended
from .python import as_command

if TYPE_CHECKING:
    from seamless_dask.context import Context
    from seamless_dask.execution.supervisor import Supervisor
    from seamless_dask.model.options import Options
    from seamless_dask.model.records import Outcome
    from seamless_dask.model.transformation import Description

_IMPOSSIBLE = ("conda", "image", "modules", "prologue", "metavars", "memory", "cpus", "gpus")
"""Options that mean a process of the function's own."""


def check(transformation: Description, options: Options) -> None:
    """Raise `UsageError` for what this process cannot offer."""
    if transformation.language != "python":
        raise UsageError('run="here" is for functions: a command runs in processes of its own')
    if options.isolation == "bubblewrap":
        raise UsageError('run="here" runs without a sandbox, and isolation = "bubblewrap" demands one')
    asked = [name for name in _IMPOSSIBLE if getattr(options, name)]
    asked += ["variables"] if transformation.variables else []
    if asked:
        raise UsageError(
            f'run="here" runs in a process that is there already, for which {asked[0]} cannot be set'
        )


def call_here(
    transformation: Description, context: Context, options: Options, supervisor: Supervisor | None = None
) -> Outcome:
    """Call a function in this thread and store what it returns; parameters and errors as of `run_bash`.

    Raises
    ------
    UsageError
        If what is asked for takes a process of its own.
    KeyboardInterrupt
        When it is interrupted; nothing is recorded.
    """
    check(transformation, options)
    command, arguments = as_command(transformation, context, options)

    told = {"arguments": arguments, "foreign": options.foreign, "format": transformation.result.format}

    def called(root: str, variables: dict[str, str], supervisor: Supervisor) -> Ended:
        del variables, supervisor  # the environment is everybody's here, and nothing ends a thread
        from .calling import attempt

        began, used = time.monotonic(), _thread_time()
        status, said = attempt(root, told, here=True)
        wall, cpu = time.monotonic() - began, _thread_time() - used
        return Ended(status, True, None, said.encode("utf-8", "surrogateescape"), wall, cpu, 0)

    program = Program(command, b"", "function", (), "format", "exception", called)
    return run_program(program, context, options._replace(isolation="none"), supervisor)


def _thread_time() -> float:
    used = resource.getrusage(resource.RUSAGE_THREAD)
    return used.ru_utime + used.ru_stime
