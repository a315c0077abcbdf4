"""From what a command line means to a transformation with a key."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hashserver.checksum import hash_bytes
from hashserver.errors import SidecarError
from hashserver.namedtuple import NamedTuple
from hashserver.statcache import checksum_of
from seamless_dask.errors import UsageError
from seamless_dask.model.transformation import Deferred, Description, Value

from ..console import CommandError
from ..data.identify import LocalFile
from ..text import count_text
from .results import OutputTarget

if TYPE_CHECKING:
    from hashserver.checksum import Checksum
    from hashserver.workspace.pending import Future
    from hashserver.workspace.tree import Identity
    from seamless_dask.config import Config
    from seamless_dask.context import Context
    from seamless_dask.jobs.request_log import LoggedRequest
    from seamless_dask.model.options import Options

    from ..console import Console
    from ..shell.collect import Input, Inputs
    from ..table import ParsedArguments


class CommandJob(NamedTuple):
    """What is to be computed, and what is known here about it.

    Attributes
    ----------
    transformation : Description
        What is computed.
    document : bytes
        Its canonical form.
    key : Checksum
        Its checksum, or its structural key.
    text : str
        The shell text.
    named, unnamed : tuple of File
        The local files of its inputs: those that a sidecar names, and those that none does.
    indices : tuple of bytes
        The indices of input directories that are here.
    wanted : tuple of Wanted
        Where its results go.
    writable : tuple of str
        Inputs that the command is going to modify.
    upstream : dict of str to str
        How the jobs were asked for that make its inputs: `Options` as JSON, by key.
    executables : tuple of str
        Inputs that can be executed because they can be here.
    """

    transformation: Description
    document: bytes
    key: Checksum
    text: str
    named: tuple[LocalFile, ...]
    unnamed: tuple[LocalFile, ...]
    indices: tuple[bytes, ...]
    wanted: tuple[OutputTarget, ...]
    writable: tuple[str, ...]
    upstream: dict[str, str] = {}  # noqa: RUF012 - never changed
    executables: tuple[str, ...] = ()


class _Identified(NamedTuple):
    value: Value | Deferred
    files: tuple[LocalFile, ...] = ()
    index_data: bytes | None = None
    upstream: dict[str, str] = {}  # noqa: RUF012 - never changed


def build(
    context: Context, meant: Inputs, arguments: ParsedArguments, console: Console, *, waits: bool = True
) -> CommandJob:
    """Identify all inputs and put the transformation together.

    Parameters
    ----------
    waits
        Jobs that make inputs are waited for, and run where nobody does, if it takes that.

    Raises
    ------
    SidecarError
        An input has changed since its sidecar was written.
    """
    values: dict[str, Value | Deferred] = {}
    stdin: Value | Deferred | None = None
    named: list[LocalFile] = []
    unnamed: list[LocalFile] = []
    indices: list[bytes] = []
    upstream: dict[str, str] = {}
    identified = [(item, identify_input(context, item, console, waits=waits)) for item in meant.all]
    for item, found in _needed(identified):
        if item is meant.stdin:
            stdin = found.value
        else:
            values[item.name] = found.value
        (unnamed if item.sidecar is None or item.literal else named).extend(found.files)
        indices += [] if found.index_data is None else [found.index_data]
        upstream |= found.upstream
    transformation = Description(
        language="bash",
        code=hash_bytes(meant.text.encode()),
        result=meant.result,
        inputs=values,
        stdin=stdin,
        variables=arguments.var or None,
        shell_flags=arguments.shell_flags,
    )
    document = transformation.canonical()
    return CommandJob(
        transformation, document, hash_bytes(document), meant.text,
        tuple(named), tuple(unnamed), tuple(indices), wanted(meant), meant.writable, upstream,
        meant.executables,
    )  # fmt: skip


def _needed(identified: list[tuple[Input, _Identified]]) -> list[tuple[Input, _Identified]]:
    """Leave out the inputs that lie in an input directory, which has not left them out."""
    folders = [pair for pair in identified if pair[0].kind == "directory"]
    return [
        (item, found)
        for item, found in identified
        if item.literal or not any(_holds(folder, of_it, item) for folder, of_it in folders)
    ]


def _holds(folder: Input, found: _Identified, item: Input) -> bool:
    if not item.name.startswith(folder.name + "/"):
        return False
    from hashserver.workspace.index import parse_index

    relative = item.name[len(folder.name) + 1 :]
    if found.index_data is None:
        return True  # it is not here, and nothing was left out of it
    index = parse_index(found.index_data, folder.name)
    return relative in index or any(path.startswith(relative + "/") for path in index)


def wanted(meant: Inputs) -> tuple[OutputTarget, ...]:
    """Return where each result goes; with nothing captured, standard output is printed."""
    if not meant.captures:
        return (OutputTarget(None, None),)
    return tuple(OutputTarget(capture.path or None, capture.local) for capture in meant.captures)


def identify_input(context: Context, item: Input, console: Console, *, waits: bool = True) -> _Identified:
    """Find out what an input is: a job's result, what its sidecar says, or its bytes."""
    if item.future is not None and not item.literal:
        return _identify_pending(context, item, item.future, console, waits)
    if item.members is not None:
        from hashserver.workspace.tree import identify_index

        told = identify_index(item.path, item.members, context.store.get, item.apart)
        return _told(item, told, console)
    if not item.exists:
        assert item.sidecar is not None
        if item.sidecar.kind == "file":
            return _Identified(Value("file", item.sidecar.checksum))
        from hashserver.workspace.tree import identify_sidecar

        told = identify_sidecar(item.path, item.sidecar, context.store.get, item.apart)
        return _told(item, told, console)
    if item.kind == "directory":
        return _identify_directory(context, item, console, waits)
    checksum, status = checksum_of(item.shown, context.stat_cache)
    if item.sidecar is not None and not item.literal and item.sidecar.checksum != checksum:
        from hashserver.workspace.tree import changed_text

        raise SidecarError(changed_text(item.shown))
    return _Identified(Value("file", checksum), (LocalFile(item.path, checksum, status),))


def _identify_directory(context: Context, item: Input, console: Console, waits: bool) -> _Identified:
    from hashserver.errors import MemberPending
    from hashserver.workspace.tree import identify

    fetch = context.store.get
    try:
        found = identify(item.shown, context.stat_cache, fetch, item.apart)
    except MemberPending as error:
        if not waits:
            raise CommandError(
                f"{error.paths[0]} is still to be made by a job: ask when it is there"
            ) from None
        # A directory has a checksum only when all that lies in it has one.
        from ..data.pending import settle_future

        for path in error.paths:
            console.detail(f"{path} is made by a job: waiting for it")
            settle_future(context, path, console)
        found = identify(item.shown, context.stat_cache, fetch, item.apart)
    if found is None:
        raise SidecarError(f"{item.shown} is gone: it was there a moment ago")
    return _told(item, found, console)


def _told(item: Input, found: Identity, console: Console) -> _Identified:
    """Say what is odd about an input, and what does not count in it."""
    value, tree = Value(found.kind, found.checksum), found.tree
    if found.left_out:
        console.note(
            f"{item.shown}: {count_text(found.left_out, 'file')} left out"
            " (by-products such as __pycache__, and what .seamlessignore names)"
        )
    if tree is None:
        return _Identified(value, index_data=found.data)
    for warning in tree.scan.warnings:
        console.warn(f"{item.shown}: {warning}")
    files = (
        LocalFile(os.path.join(item.path, name), tree.index[name], status) for name, status in tree.scan.files
    )
    return _Identified(value, tuple(files), found.data)


def _identify_pending(
    context: Context, item: Input, future: Future, console: Console, waits: bool
) -> _Identified:
    """Return the result of the job that makes an input, or a reference to it while it runs."""
    from seamless_dask.jobs import request_log

    from ..data.pending import is_elsewhere, known_result, require_asker, result_of

    found = known_result(context, future)
    if found is not None:
        return _Identified(found)
    if not waits:
        return _Identified(Deferred(future.key, future.result))
    request = request_log.find(context.config.cache, future.key)
    if not is_elsewhere(context, future.key, request):
        require_asker(context, future, request)
        reference = Deferred(future.key, future.result)
        return _Identified(reference, upstream=_options_upstream(future.key, request))
    where = (request.server if request is not None else None) or "this host"
    console.note(f"{item.shown} is made by a job of {where}: waiting for it")
    return _Identified(result_of(context, future, console))


def _options_upstream(key: Checksum, request: LoggedRequest | None) -> dict[str, str]:
    """Return how a pending job was asked for, and those that it waits for itself, by key."""
    if request is None:
        return {}
    options = request.options
    own = options.kept()._replace(label=None, upstream={}).to_json()
    return options.upstream | ({} if own == "{}" else {key: own})


def options_of(arguments: ParsedArguments, job: CommandJob, isolation: str) -> Options:
    """Return how the job is to be run."""
    from seamless_dask.model.options import Options

    return Options(
        prologue=tuple(arguments.prologue),
        modules=tuple(arguments.module),
        metavars=dict(arguments.metavar),
        conda=_conda(arguments.conda),
        image=_image(arguments.image),
        cpus=arguments.cpus,
        gpus=arguments.gpus,
        resources=dict(arguments.resource),
        queue=arguments.queue,
        node=arguments.node,
        priority=arguments.priority,
        memory=arguments.memory,
        time_limit=arguments.time_limit,
        retries=arguments.retries,
        writable=job.writable,
        executables=job.executables,
        scratch=arguments.scratch,
        isolation=isolation,
        direct_print=arguments.direct_print,
        label=label_of(job.text),
        upstream=job.upstream,
    )


def note_unserved(options: Options, config: Config, console: Console) -> None:
    """Say what of the options takes a daskserver, where this host computes.

    Raises
    ------
    UsageError
        Another host was asked for.
    """
    if config.daskserver is not None:
        return
    host = os.uname().nodename
    if options.node not in (None, host):
        raise UsageError(f"--node {options.node} takes a daskserver (--daskserver): this computes on {host}")
    names = {"gpus": "--gpus", "resources": "--resource", "queue": "--queue"}
    given = [option for name, option in names.items() if getattr(options, name)]
    if given:
        console.note(f"{', '.join(given)} choose among the workers of a daskserver: this host computes")


def names_environment(arguments: ParsedArguments) -> bool:
    """Say whether an environment was named, which a known result is compared with."""
    return bool(arguments.prologue or arguments.module or arguments.conda or arguments.image)


def _conda(name: str | None) -> str | None:
    """Make a prefix absolute; a name is looked up where the command runs."""
    return os.path.abspath(os.path.expanduser(name)) if name and "/" in name else name


def _image(name: str | None) -> str | None:
    """Make the path of an image absolute, as far as it is here; others are the worker's to find."""
    if name is None or "://" in name:
        return name
    path = os.path.abspath(os.path.expanduser(name))
    return path if "/" in name or os.path.exists(path) else name


def label_of(text: str) -> str:
    """Return a short name for a command: its first word."""
    words = text.split(None, 1)
    return (os.path.basename(words[0])[:40] if words else "") or "bash"
