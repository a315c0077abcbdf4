"""``seamless-download PATH…``: fetch what sidecars name."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from typing import TYPE_CHECKING, NamedTuple

from hashserver.checksum import Checksum, is_checksum
from hashserver.errors import BufferMissing, HashserverError, InvalidIndex, ServiceUnavailable
from seamless_dask.errors import Cancelled, ComputationFailed, SeamlessError

from ..console import ERROR, OK, CommandError, Console, error_text, show_tail
from ..data.deliver import (
    deliver_directory,
    deliver_file,
    load_index,
    print_buffer,
    refuse_links,
    refuse_ways_out,
)
from ..data.identify import PathIdentity, identify_sidecar, no_such_path
from ..data.missing import named
from ..data.pending import settle_future
from ..opening import open_context
from ..start import entry_point
from ..table import PATH, USUAL, Argument, CommandTable, flag, group, value
from ..text import count_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seamless_dask.context import Context

    from ..table import ParsedArguments


class Downloaded(NamedTuple):
    """What became of one path."""

    identity: PathIdentity
    target: str
    written: int


TABLE = CommandTable(
    "Fetch the files and directories that sidecars name. What is there already is not fetched again; a file"
    " of yours that differs is never replaced without --overwrite.",
    (
        group(
            "Where to",
            flag("--stdout", help="print the file instead of writing it"),
            value("-o", "--output", metavar="PATH", help="write it here instead"),
            flag("--overwrite", help="replace files that differ"),
        ),
        *USUAL,
    ),
    (Argument("paths", "PATH", "files and directories; with -o a checksum", many=True, completes=PATH),),
    examples=("seamless-download results/", "seamless-download table.txt -o copy.txt"),
    exclusive=(("stdout", "output"),),
)


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Download; what fails is told, the rest goes on."""
    paths = [path for word in arguments.paths for found in expand(word) for path in members(subject(found))]
    if len(paths) > 1 and (arguments.stdout or arguments.output):
        from seamless_dask.errors import UsageError

        raise UsageError("--stdout and -o take one path")
    done: list[Downloaded] = []
    status = OK
    with closing(open_context(arguments, console.note)) as context:
        for path in paths:
            try:
                done += _download(context, path, arguments, console)
            except (ServiceUnavailable, Cancelled):
                raise  # the next path would meet the same
            except ComputationFailed as error:
                show_tail(error.stderr)
                console.error(f"the job that was to make {path} failed: {error}")
                status = ERROR
            except (SeamlessError, HashserverError, OSError) as error:
                console.error(error_text(error))
                status = ERROR
    if console.json and not arguments.stdout:
        console.facts([_facts(item) for item in done])
    return status


def subject(word: str) -> str:
    """Return what a sidecar stands for that was named instead of it."""
    from hashserver.workspace.sidecar import index_stand_in, member_stand_in

    for suffix in (".CHECKSUM", ".INDEX", ".FUTURE"):
        stem = word.removesuffix(suffix).rstrip("/") or ("." if word == suffix else "")
        if word.endswith(suffix) and stem and identify_sidecar(word) is None:
            says = index_stand_in(word) if suffix == ".INDEX" else member_stand_in(word)
            if says is not None:
                return stem
    return word


def members(path: str) -> list[str]:
    """Return what a directory holds sidecars of that has none of its own; else the path itself."""
    from hashserver.workspace.index import parent_folders
    from hashserver.workspace.pending import read_future
    from hashserver.workspace.scan import scan_all

    if not os.path.isdir(path) or identify_sidecar(path) is not None or read_future(path) is not None:
        return [path]
    found = scan_all(path)
    inner = sorted({*found.stand_ins, *found.futures, *found.sidecars})
    refuse_links(path, parent_folders(inner))
    return [os.path.join(path, name) for name in inner] or [path]


def expand(word: str) -> Iterator[str]:
    """Yield what a word names: the shell leaves a pattern alone when only sidecars match it."""
    if not any(c in word for c in "*?[") or os.path.lexists(word) or os.path.lexists(word + ".CHECKSUM"):
        yield word
        return
    from glob import glob

    found = {name.removesuffix(".CHECKSUM") for name in glob(word + ".CHECKSUM")}
    found |= {name.removesuffix("/.CHECKSUM") for name in glob(word + "/.CHECKSUM")}
    yield from sorted(found) or [word]


def _download(context: Context, path: str, arguments: ParsedArguments, console: Console) -> list[Downloaded]:
    identity = _by_checksum(context, path, arguments)
    if identity is None:
        settle_future(context, path, console)
        identity = identify_sidecar(path) or identify_member(
            context, path, elsewhere=bool(arguments.output or arguments.stdout)
        )
    if identity is None:
        raise _nothing_to_fetch(path)
    try:
        return _fetch(context, path, identity, arguments, console)
    except BufferMissing as error:
        raise named(context, error, path) from error


def _by_checksum(context: Context, text: str, arguments: ParsedArguments) -> PathIdentity | None:
    """Return what a bare checksum identifies: a directory, if its bytes are an index as we write it."""
    if not is_checksum(text) or os.path.lexists(text) or identify_sidecar(text) is not None:
        return None
    from hashserver.workspace.pending import LIMIT
    from hashserver.workspace.tree import index_bytes, parse_index

    checksum = Checksum(text)
    if not (arguments.output or arguments.stdout):
        raise CommandError(f"{text} is a checksum: -o PATH says where to write what it identifies")
    size = context.store.has([checksum])[0]
    kind = "file"
    if 3 < size <= LIMIT and not arguments.stdout and b"".join(context.store.read(checksum, 0, 2)) == b"{\n":
        with suppress(InvalidIndex):
            data = context.store.get(checksum)
            kind = "directory" if index_bytes(parse_index(data)) == data else "file"
    return PathIdentity(text, kind, checksum, here=False)


def _fetch(
    context: Context, path: str, identity: PathIdentity, arguments: ParsedArguments, console: Console
) -> list[Downloaded]:
    if arguments.stdout:
        if identity.kind == "directory":
            raise CommandError(f"{path} is a directory: only a file can be printed")
        print_buffer(context.store, identity.checksum)
        return []
    target = arguments.output or path
    if identity.kind == "directory":
        if target != path and not arguments.overwrite:
            _keep_record(context, target, identity.checksum, path)
        written = deliver_directory(context, identity.checksum, target, console, arguments.overwrite)
    else:
        written = int(deliver_file(context, identity.checksum, target, arguments.overwrite))
    console.note(
        f"{target}: {count_text(written, 'file')} fetched" if written else f"{target}: is there already"
    )
    return [Downloaded(identity, target, written)]


def _keep_record(context: Context, target: str, checksum: Checksum, path: str) -> None:
    """Raise `SidecarError` when another directory, which need not be here, has its sidecars at `target`."""
    from hashserver.workspace.replacement import refuse_loss

    index = load_index(context.store, checksum, path)[1]
    refuse_loss(target, index, context.store.get, "--overwrite")


def identify_member(context: Context, path: str, *, elsewhere: bool = False) -> PathIdentity | None:
    """Return what the index of a directory above says of `path`, None when none knows it.

    Parameters
    ----------
    elsewhere
        It will not be written to `path`.

    Raises
    ------
    CommandError
        What is written to `path` would lie elsewhere: a link is on the way.
    """
    from hashserver.workspace.index import index_bytes, members_below

    full = os.path.abspath(path)
    folder, _, name = full.rpartition("/")
    while folder:
        above = identify_sidecar(folder)
        if above is not None and above.kind == "directory":
            _, index = load_index(context.store, above.checksum, folder)
            inner = members_below(index, name)
            if not elsewhere and (name in index or inner):
                refuse_ways_out(folder, name, index)
            if name in index:
                return PathIdentity(path, "file", index[name], here=False)
            if inner:
                return PathIdentity(path, "directory", context.store.put(index_bytes(inner)), here=False)
        folder, _, parent = folder.rpartition("/")
        name = f"{parent}/{name}"
    return None


def _nothing_to_fetch(path: str) -> CommandError:
    if os.path.lexists(path):
        return CommandError(f"{path} has no sidecar that says what to fetch")
    return no_such_path(path)


def _facts(item: Downloaded) -> dict[str, object]:
    identity = item.identity
    facts: dict[str, object] = {"path": identity.path, "kind": identity.kind, "checksum": identity.checksum}
    return {**facts, "target": item.target, "files_written": item.written}


main = entry_point(TABLE, execute, "seamless-download")
