"""Calling a function in the process and thread that ask for it, or that Dask has given its task to."""

from __future__ import annotations

import resource
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from hashserver.checksum import hash_bytes
from seamless_dask.errors import UsageError
from seamless_dask.execution.supervisor import NoSupervisor
from seamless_dask.model.records import Outcome, complete
from seamless_dask.model.transformation import Value

from . import process
from .bash import (
    LARGEST_EXCEPTION,
    Program,
    blames_room,
    failure,
    faults_told,
    keep_exception,
    measured_of,
    no_space,
    run_program,
    told_by,
)
from .call_files import PLAIN, CallFiles, FilesInMemory
from .capture import Capture
from .layout import ROOM
from .process import Ended
from .python import as_command
from .workdir import RunDirectory, usable_temporary_directory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from seamless_dask.context import Context
    from seamless_dask.execution.supervisor import Supervisor
    from seamless_dask.model.options import Options
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
    options = options._replace(isolation="none")
    command, arguments = as_command(transformation, context, options)
    told = {"arguments": arguments, "foreign": options.foreign, "format": transformation.result.format}
    if (given := _at_hand(command, arguments, context)) is not None:
        with faults_told(), _CallInMemory(command, context, options) as call:
            return call.outcome(given, told, supervisor or NoSupervisor())

    def called(root: str, variables: dict[str, str], supervisor: Supervisor) -> Ended:
        del variables, supervisor  # the environment is everybody's here, and nothing ends a thread
        return _called(CallFiles(root), told)

    program = Program(command, b"", "function", (), "format", "exception", called)
    return run_program(program, context, options, supervisor)


def _at_hand(
    command: Description, arguments: Mapping[str, tuple[str, str]], context: Context
) -> dict[str, bytes] | None:
    """Return the files that a call reads, where all of them are small and in memory already, and no paths."""
    if any(kind in PLAIN for kind, _ in arguments.values()):
        return None
    checksums = {path: value.checksum for path, value in command.inputs.items() if isinstance(value, Value)}
    if any(context.store.at_hand(checksum) < 0 for checksum in checksums.values()):
        return None
    return {path: context.store.get(checksum) for path, checksum in checksums.items()}


def _called(files: CallFiles, told: Mapping[str, Any]) -> Ended:
    from .calling import attempt

    began, used = time.monotonic(), _thread_time()
    status, said = attempt(files, told, here=True)
    wall, cpu = time.monotonic() - began, _thread_time() - used
    return Ended(status, True, None, said.encode("utf-8", "surrogateescape"), wall, cpu, 0)


class _CallInMemory:
    """As `bash.Attempt` for a call that has a directory only if what it gives is large, or a file."""

    def __init__(self, command: Description, context: Context, options: Options) -> None:
        self._command, self._context, self._options = command, context, options
        self._directory: RunDirectory | None = None
        self._stack = ExitStack()

    def __enter__(self) -> _CallInMemory:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def outcome(self, given: dict[str, bytes], told: dict[str, Any], supervisor: Supervisor) -> Outcome:
        """Call the function, and return what it gives."""
        usable_temporary_directory()  # before it has worked for hours
        supervisor.begin()
        files = FilesInMemory(given, ROOM, self._make_directory)
        began = time.time()
        ended = _called(files, told)
        stderr = ended.stderr[-process.TAIL :].decode("utf-8", "replace")
        measured = measured_of(ended, began, stderr, "none", {"memory": len(given)})
        record = complete(measured, self._options)
        if ended.status == 0:
            return self._captured(files, record, not (self._options.scratch and supervisor.scratch()))
        if blames_room(stderr):
            raise no_space()
        error = failure("function", ended.status, stderr, self._exception(files))
        error.record = record
        raise error

    def _make_directory(self) -> str:
        self._directory = self._stack.enter_context(RunDirectory())
        return self._directory.layout.root

    def _captured(self, files: FilesInMemory, record: dict[str, Any], keep: bool) -> Outcome:
        kind = files.written["format"].decode("ascii")
        if (data := files.written.get("value")) is not None:
            return Outcome(Value(kind, hash_bytes(data)), record, [], [data] if keep else [])
        assert self._directory is not None  # where the value is, since it is no small one
        layout = self._directory.layout
        capture = Capture(self._context.store, layout, layout, {}, keep)
        found = capture.capture(self._command.result, layout.stdout)
        return Outcome(Value(kind, found.value.checksum), record, found.members, found.buffers)

    def _exception(self, files: FilesInMemory) -> tuple[str, str] | None:
        """Store the exception that it has raised, and return format and checksum."""
        kind = files.written.get("exception-format", b"").decode("ascii")
        data = files.written.get("exception")
        if data is None and kind and self._directory is not None:
            data = told_by(self._directory.layout.path("exception"), LARGEST_EXCEPTION)
        return None if data is None else keep_exception(self._context, kind, data)


def _thread_time() -> float:
    used = resource.getrusage(resource.RUSAGE_THREAD)
    return used.ru_utime + used.ru_stime
