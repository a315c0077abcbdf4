"""Running a transformation in Bash, from its inputs to its value."""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
import time
from contextlib import contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.checksum import hash_bytes
from hashserver.errors import HashserverError, NoSpace, ServiceUnavailable
from hashserver.system_text import to_system
from seamless_dask.errors import (
    STDOUT_TAIL,
    Cancelled,
    ComputationFailed,
    InputModified,
    LimitExceeded,
    ResultMissing,
    UsageError,
)
from seamless_dask.execution.supervisor import NoSupervisor
from seamless_dask.model.records import Outcome, complete, timestamp
from seamless_dask.model.transformation import Value

from . import environment, isolation, pipelines, process
from .capture import Capture
from .layout import depth_of, layout
from .placement import Placement
from .shell import system_shell
from .workdir import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from seamless_dask.context import Context
    from seamless_dask.execution.supervisor import Supervisor
    from seamless_dask.model.options import Options
    from seamless_dask.model.transformation import Description

_NO_ROOM = ("No space left on device", "Disk quota exceeded", "[Errno 28]", "[Errno 122]")
# what a command says that tried to write to an input it shares with others
_REFUSED = (
    "Read-only file system", "Device or resource busy", "Permission denied", "Operation not permitted",
    "Invalid cross-device link", "[Errno 30]", "[Errno 16]", "[Errno 13]", "[Errno 1]", "[Errno 18]",
)  # fmt: skip
_TOO_LONG = "the variables of the command are too long for this system"
# what is the same at every attempt: no worker is lost by it
_LASTING = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS)
LARGEST_EXCEPTION = 1 << 20
_LONGEST_WORD = 100_000  # the kernel takes words of up to 128 KiB

# why no sandbox came about in this process, once that is known
_without_sandbox: list[str] = []


class Program(NamedTuple):
    """What is run as a command.

    Attributes
    ----------
    description
        Inputs, results and variables as those of a command.
    code
        The shell text.
    what
        What messages call it.
    shown
        Directories that it needs besides those of all programs.
    format
        The file that it writes the format of its only result to; None: results are files and directories.
    exception
        The file that it writes an exception to where it fails; those with ``-format`` and ``-text`` behind
        that have its format, and what is said of it at the end of standard error.
    call
        What is called in this process instead, with the directory of the run, variables for what runs in it,
        and the supervisor; it tells how that ended.
    directory
        One that was made before, and is not removed afterwards.
    """

    description: Description
    code: bytes
    what: str = "command"
    shown: tuple[str, ...] = ()
    format: str | None = None
    exception: str | None = None
    call: Callable[[str, dict[str, str], Supervisor], process.Ended] | None = None
    directory: RunDirectory | None = None


def run_bash(
    transformation: Description,
    context: Context,
    options: Options,
    supervisor: Supervisor | None = None,
) -> Outcome:
    """Run a command and store its results, but for small ones: `Outcome.buffers` go with the record.

    Parameters
    ----------
    transformation
        What to run; its inputs are known values.
    context
        Store and node cache.
    options
        Environment and manner; limits are the supervisor's.
    supervisor
        Is asked while the command runs; by default everything runs to its end.

    Returns
    -------
    Outcome
        The value and the record of the run.

    Raises
    ------
    ComputationFailed
        With exit status, the tail of stderr, and the record in ``record``. `ResultMissing` and
        `LimitExceeded` are kinds of it.
    Cancelled
        If the supervisor says that nobody waits any more.
    UsageError
        If what the options ask for is not there.
    BufferMissing, ServiceUnavailable
        If inputs cannot be had, or there is no room.
    """
    program = Program(transformation, context.store.get(transformation.code))
    return run_program(program, context, options, supervisor)


def run_program(
    program: Program, context: Context, options: Options, supervisor: Supervisor | None = None
) -> Outcome:
    """Run what is to be run as a command; see `run_bash`."""
    with faults_told():
        return _Runner(program, context, options, supervisor or NoSupervisor()).run()


@contextmanager
def faults_told() -> Iterator[None]:
    """Raise what a fault of the system means, in the place of that."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space() from error
        if error.errno == errno.E2BIG:
            raise UsageError(_TOO_LONG) from error
        if error.errno in _LASTING:
            host, what = os.uname().nodename, error.filename or "its directory"
            raise UsageError(f"the run cannot be set up on {host}: {error.strerror}: {what}") from error
        raise


class _Runner:
    def __init__(self, program: Program, context: Context, options: Options, supervisor: Supervisor) -> None:
        self._program, self._context = program, context
        self._options, self._supervisor = options, supervisor

    def run(self) -> Outcome:
        try:
            try:
                return self._run_once(copies=False)
            except InputModified:
                return self._run_once(copies=True)
        except isolation.Unavailable as reason:
            if self._options.isolation == "bubblewrap":
                raise UsageError(f"isolation by bubblewrap does not work here: {reason}") from None
            _without_sandbox.append(str(reason))
            return self.run()

    def _run_once(self, copies: bool) -> Outcome:
        description = self._program.description
        spec = description.result
        results = (*spec.paths, *(_literal_part(glob) for glob in spec.globs))
        made = self._program.directory
        with (
            nullcontext(made)
            if made
            else RunDirectory(depth_of((*description.inputs, *results))) as directory
        ):
            attempt = Attempt(self._program, self._context, self._options, directory)
            try:
                attempt.prepare(copies, results)
                ended = attempt.start(self._supervisor)
                attempt.judge(ended)
                return attempt.outcome(self._supervisor.scratch())
            except ComputationFailed as error:
                error.stderr = error.stderr if error.stderr.strip() else attempt.said()
                error.args = (error.args[0], error.exit_status, error.stderr)
                error.record = attempt.record
                raise
            finally:
                attempt.close()


class Attempt:
    """One run of the command in one directory; parameters as of `run_program`."""

    def __init__(self, program: Program, context: Context, options: Options, directory: RunDirectory) -> None:
        self._program, self._transformation, self._context = program, program.description, context
        self._options, self._directory = options, directory
        self._bwrap = sandbox_program(options)
        self._prefix: str | None = None
        if options.conda:
            from . import conda

            self._prefix = conda.find(to_system(options.conda), os.environ, known=self._bwrap is not None)
        self._outer = directory.layout
        depth = self._outer.work.count("/") - self._outer.root.count("/")
        self._inner = layout(directory.name, isolation.INNER, depth) if self._bwrap else self._outer
        if self._bwrap:
            self._inner = self._inner._replace(tmp="/tmp")  # noqa: S108 - a private one
        self._placement = self._new_placement(copies=False)
        self.stderr = ""
        self.record: dict[str, Any] = {}
        self._value: tuple[str, bytes] | None = None

    def said(self) -> str:
        """Return the end of what the command said: many a program complains on its standard output."""
        if self.stderr.strip():
            return self.stderr
        try:
            with open(self._outer.stdout, "rb") as file:
                file.seek(max(os.fstat(file.fileno()).st_size - process.TAIL, 0))
                text = file.read(process.TAIL).decode("utf-8", "replace")
        except OSError:
            return self.stderr
        return f"{STDOUT_TAIL}\n{text}" if text.strip() else self.stderr

    def close(self) -> None:
        """Let go of the inputs."""
        self._placement.close()

    def prepare(self, copies: bool, results: Sequence[str]) -> None:
        """Place inputs; a result that is an input too, or lies in one, is going to be written to."""
        self._placement = self._new_placement(copies)
        writable = (*self._options.writable, *results)
        self._placement.place(self._transformation, writable, self._options.executables)
        self._placement.make_parents(results)

    def _new_placement(self, copies: bool) -> Placement:
        late = self._program.call is not None
        return Placement(self._context, self._outer, self._bwrap is not None, copies, late=late)

    def start(self, supervisor: Supervisor) -> process.Ended:
        """Run the command; fills in the record."""
        # what the user has set goes first
        gateway = supervisor.gateway(self._outer.control, self._inner.control)
        began = time.time()
        ended = self._process(gateway, supervisor)
        self._directory.is_deserted, self._value = ended.alone, ended.value
        said = ended.stderr + self._exception_text()
        self.stderr = said[-process.TAIL :].decode("utf-8", "replace")
        if not ended.started:
            raise self._why_not_started()
        isolated = "bubblewrap" if self._bwrap else "image" if self._options.image else "none"
        measured = measured_of(ended, began, self.stderr, isolated, self._placement.counts)
        if isolated == "none" and _without_sandbox and self._options.isolation == "auto":
            measured["isolation_reason"] = _without_sandbox[0]
        self.record = complete(measured, self._options)
        return ended

    def _why_not_started(self) -> Exception:
        """Return what kept the sandbox from being made: this host, or this one run."""
        assert self._bwrap is not None
        if reason := isolation.why_not(self._bwrap, system_shell()):
            return isolation.Unavailable(reason)
        said = self.stderr.strip().rpartition("\n")[2]
        if os.strerror(errno.E2BIG) in said:
            return UsageError(_TOO_LONG)
        return ServiceUnavailable(f"a sandbox could not be made on {os.uname().nodename}: {said}")

    def judge(self, ended: process.Ended) -> None:
        """Raise what the end of the command means."""
        if ended.stop is not None:
            if ended.stop.limit:
                raise LimitExceeded(f"{ended.stop} on {os.uname().nodename}", ended.status, self.stderr)
            raise Cancelled(str(ended.stop))
        self._placement.check()
        self._check_room(ended)
        self._check_prelude(ended)
        if ended.status == 0:
            return
        if self._placement.shared and any(text in self.stderr for text in _REFUSED):
            raise InputModified("the command could not write to an input")
        raise failure(self._program.what, ended.status, self.stderr, self._exception())

    def _exception_text(self) -> bytes:
        name = self._program.exception
        return b"" if name is None else told_by(self._outer.path(f"{name}-text"), process.TAIL)

    def _exception(self) -> tuple[str, str] | None:
        """Store the exception that a function has raised, and return format and checksum."""
        name = self._program.exception
        if name is None:
            return None
        kind = told_by(self._outer.path(f"{name}-format"), 64).decode("ascii", "replace")
        data = told_by(self._outer.path(name), LARGEST_EXCEPTION)
        return keep_exception(self._context, kind, data)

    def outcome(self, scratch: bool) -> Outcome:
        """Store the results; `scratch` says that nobody else wants their bytes."""
        mounted = {target: checksum for target, (_, checksum) in self._placement.mounted.items()}
        keep = not (self._options.scratch and scratch)
        if self._value is not None:
            kind, data = self._value
            return Outcome(Value(kind, hash_bytes(data)), self.record, [], [data] if keep else [])
        if self._program.format and not os.path.lexists(self._outer.path(self._program.format)):
            raise ResultMissing(f"the {self._program.what} ended its process before it returned: os._exit()?")
        capture = Capture(self._context.store, self._outer, self._inner, mounted, keep)
        captured = capture.capture(self._transformation.result, self._outer.stdout)
        value = captured.value
        if self._program.format is not None:
            kind = told_by(self._outer.path(self._program.format), 64).decode("ascii", "replace")
            value = Value(kind, value.checksum)
        return Outcome(value, self.record, captured.members, captured.buffers)

    def _shell(self) -> tuple[list[str], dict[str, str]]:
        """Return the words that start the shell, and its environment."""
        env = environment.variables(
            self._inner, self._transformation, self._options, os.environ, self._prefix
        )
        if self._bwrap and len(env) > isolation.MOST_VARIABLES:
            raise UsageError(f"a sandbox takes {isolation.MOST_VARIABLES} variables, not {len(env)}")
        shell = "bash" if self._options.image else system_shell()  # an image has its own
        flags = environment.shell_flags(self._transformation)
        code = self._program.code.decode("utf-8", "surrogateescape")
        excused = pipelines.excuse(code, flags)
        phase = f"{self._inner.control}/phase"
        before = environment.prelude(self._options, phase, excused != code, os.environ, self._prefix)
        text = to_system(excused)
        as_file = len(os.fsencode(text)) > _LONGEST_WORD or "\0" in text
        if before or as_file:
            os.makedirs(self._outer.control, exist_ok=True)
        if before:
            _write_text(f"{self._outer.control}/prelude", before)
            env["BASH_ENV"] = f"{self._inner.control}/prelude"
        if as_file:
            _write_text(f"{self._outer.control}/command", text)
            return [shell, *flags, f"{self._inner.control}/command"], env
        return [shell, *flags, "-c", "--", text], env

    def _contained(
        self, name: str, words: list[str], env: dict[str, str]
    ) -> tuple[list[str], dict[str, str]]:
        from . import image

        runtime = image.program(name, os.environ.get("PATH"))
        own = {*self._options.metavars, *(self._transformation.variables or {})}
        env = image.variables(runtime, env, own, environment.THREADS, os.environ)
        name = image.absolute(name)  # the program runs in another directory than this process
        return [*image.container(runtime, name, self._directory.path, self._outer), *words], env

    def _process(self, gateway: dict[str, str], supervisor: Supervisor) -> process.Ended:
        if self._program.call is not None:
            supervisor.begin()
            return self._program.call(self._outer.root, gateway, supervisor)
        with self.command(gateway) as command:
            return process.run(command, supervisor)

    @contextmanager
    def command(self, gateway: dict[str, str]) -> Iterator[process.CommandProcess]:
        """Give what is to be started, with the descriptors of its streams.

        Parameters
        ----------
        gateway
            Variables that what the user has set goes before.
        """
        words, env = self._shell()
        env = gateway | env
        if self._bwrap:
            mounted = [
                (source, self._inner.root + target.removeprefix(self._outer.root))
                for target, (source, _) in self._placement.mounted.items()
            ]
            prefixes = [*self._program.shown, *([self._prefix] if self._prefix else [])]
            shown = isolation.visible(os.environ, *prefixes)
            private = [os.path.realpath(path) for path in (os.path.expanduser("~"), self._context.cache)]
            words = isolation.sandbox(self._bwrap, self._outer, self._inner, mounted, shown, private) + words
        elif self._options.image:
            words, env = self._contained(to_system(self._options.image), words, env)
        opened: list[int] = []
        try:
            opened.append(self._open_stdin())
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            opened.append(os.open(self._outer.stdout, flags, 0o600))
            yield process.CommandProcess(
                words,
                env,
                cwd=self._outer.work,
                name=self._directory.name,
                directory=self._directory.path,
                sandboxed=self._bwrap is not None,
                stdin=opened[0],
                stdout=opened[1],
                show_stdout=self._options.direct_print,
            )
        finally:
            for fd in opened:
                os.close(fd)

    def _open_stdin(self) -> int:
        stdin = self._transformation.stdin
        if stdin is None:
            return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        assert isinstance(stdin, Value)
        return self._placement.open_stdin(stdin)

    def _check_room(self, ended: process.Ended) -> None:
        """Raise `NoSpace` for a full disk: the system's fault, whatever the command made of it."""
        place = os.statvfs(self._directory.path)
        full = place.f_bavail * place.f_frsize < 1 << 16 or (place.f_files > 0 and place.f_favail == 0)
        if full or (ended.status != 0 and blames_room(self.stderr)):
            raise no_space()

    def _check_prelude(self, ended: process.Ended) -> None:
        if self._program.call is not None or not environment.is_prepared(self._options):
            return
        phase = told_by(f"{self._outer.control}/phase", 256).decode("utf-8", "replace")
        if phase == "command":
            return
        message = environment.blame(phase, self._options, _last_line(self.stderr))
        raise ComputationFailed(message, ended.status or 1, self.stderr)


def sandbox_program(options: Options) -> str | None:
    """Return the program by which a sandbox is to be made; None: there is to be none.

    Raises
    ------
    UsageError, isolation.Unavailable
        One is demanded that there cannot be, or would be made if it could.
    """
    if options.image and options.isolation == "bubblewrap":
        raise UsageError("an image cannot be run with isolation by bubblewrap: it has its own")
    if options.image or options.isolation == "none" or (options.isolation == "auto" and _without_sandbox):
        return None
    found = isolation.program() if sys.platform == "linux" else None
    if found is None:
        raise isolation.Unavailable("bwrap is not installed (Debian: apt install bubblewrap)")
    return found


def failure(
    what: str, status: int, stderr: str, exception: tuple[str, str] | None = None
) -> ComputationFailed:
    """Return the error for something that ended with a status other than zero."""
    said = f"the {what} failed on {os.uname().nodename} with exit status {status}{_signal_name(status)}"
    return ComputationFailed(said, status, stderr, exception)


def measured_of(
    ended: process.Ended, began: float, stderr: str, isolation: str, placement: dict[str, int]
) -> dict[str, Any]:
    """Return what a record says of a run that was measured; `began` in seconds since 1970."""
    return {
        "started": timestamp(began),
        "wall": round(ended.wall, 6),
        "cpu": round(ended.cpu, 6),
        "max_rss": ended.max_rss or None,
        "exit_status": ended.status,
        "stderr": stderr,
        "isolation": isolation,
        "placement": placement,
    }


def keep_exception(context: Context, kind: str, data: bytes) -> tuple[str, str] | None:
    """Store the exception that a function has raised, if it is no large one; return format and checksum."""
    if not kind or len(data) == LARGEST_EXCEPTION:
        return None
    with suppress(HashserverError):  # its text has been kept
        return kind, context.store.put(data)
    return None


def blames_room(stderr: str) -> bool:
    """Whether something that failed says that there was no room."""
    return any(text in stderr for text in _NO_ROOM)


def _literal_part(pattern: str) -> str:
    """Return the part of a glob that can be made beforehand: up to its first special character."""
    for position, character in enumerate(pattern):
        if character in "*?[":
            return pattern[:position] + "_"
    return pattern


def _signal_name(status: int) -> str:
    if not 128 < status <= 128 + 64:
        return ""
    try:
        name = signal.Signals(status - 128).name
    except ValueError:
        return ""
    hint = ": out of memory?" if name == "SIGKILL" else ""
    return f" (killed by {name}{hint})"


def _last_line(stderr: str) -> str:
    line = stderr.strip().rpartition("\n")[2].strip()
    return f": {line}" if line else ""


def no_space() -> NoSpace:
    """Return the error for a full disk."""
    from .workdir import temporary_directory

    place = f"{temporary_directory()} on {os.uname().nodename}"
    return NoSpace(f"no room left in {place}: free some space there, or set TMPDIR to another place")


def told_by(path: str, most: int) -> bytes:
    """Return the little that a command has written to a file, which it may have replaced by anything."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, most) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)


def _write_text(path: str, text: str) -> None:
    with open(path, "wb") as file:
        file.write(os.fsencode(text))
