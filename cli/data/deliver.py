"""From the store to standard output, files, directories: verified, atomic, never over the user's own work."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from hashserver.errors import BufferMissing, HashserverError
from hashserver.namedtuple import NamedTuple
from hashserver.statcache import checksum_of
from hashserver.workspace.sidecar import CHECKSUM, find_sidecar, write_atomic, write_directory_sidecars

from ..console import CommandError, Console, write_stdout
from ..text import count_text
from .identify import stat_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hashserver.checksum import Checksum
    from hashserver.statcache import NullStatCache
    from hashserver.storage.store import Store
    from hashserver.workspace.tree import Index
    from seamless_dask.context import Context


IN_MEMORY = 4 << 20
"""What is not larger is fetched in one piece, without a file in between."""
SMALL_FILE = 1 << 18
BATCH_BYTES, BATCH_FILES = 32 << 20, 4096
CHUNK = 1 << 20


def hand_over(context: Context, checksum: Checksum, output: str | None, overwrite: bool) -> None:
    """Write a buffer to standard output, or to the file `output`."""
    if output is None or output == "-":
        print_buffer(context.store, checksum)
    else:
        deliver_file(context, checksum, output, overwrite)


def print_buffer(store: Store, checksum: Checksum) -> None:
    """Write a buffer to standard output; its first byte appears once all are verified.

    Raises
    ------
    BufferMissing, BufferCorrupt
        Nothing has been written then.
    """
    if size_of(store, checksum) <= IN_MEMORY:
        write_stdout([store.get(checksum)])
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="seamless-") as directory:
        spool = os.path.join(directory, "spool")
        store.get_file(checksum, spool)
        write_stdout(_chunks(spool))


def size_of(store: Store, checksum: Checksum) -> int:
    """Return the length of a buffer; raises `BufferMissing`, or `OriginalChanged` where that is why."""
    size = store.has([checksum])[0]
    if size < 0:
        store.read(checksum)
        raise BufferMissing(checksum)
    return size


def _chunks(path: str) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def may_write_file(path: str, new: Checksum | None, stat_cache: NullStatCache, overwrite: bool) -> bool:
    """Say whether `path` has to be written to become `new`.

    Parameters
    ----------
    path : str
        Where a file is to be.
    new : Checksum or None
        What it is to contain, None when that is not known yet.
    overwrite : bool
        Whatever is there may be replaced.

    Returns
    -------
    bool
        False when the right bytes are there already.

    Raises
    ------
    CommandError
        What is there is the user's own: its bytes are not those of its sidecar. Or it is a git repository.
    """
    status = stat_path(path) if not (overwrite and os.path.islink(path)) else None
    if status is None:
        if not overwrite:
            _refuse_file_in_repository(path)
        return True
    if stat.S_ISDIR(status.st_mode):
        raise CommandError(f"{path}: a directory is in the way of a file; move it away")
    present, _ = checksum_of(path, stat_cache)
    if present == new:
        return False
    sidecar = find_sidecar(path)
    if not overwrite and (sidecar is None or sidecar.checksum != present):
        why = "has changed since its sidecar was written" if sidecar else "has no sidecar"
        raise CommandError(f"{path} is there and {why}: it would be lost (--overwrite replaces it)")
    return True


def deliver_file(
    context: Context, checksum: Checksum, path: str, overwrite: bool = False, data: bytes | None = None
) -> bool:
    """Make `path` a file with the bytes of `checksum`; says whether it had to be written.

    Parameters
    ----------
    data : bytes, optional
        The bytes, when they are known already.
    """
    if not may_write_file(path, checksum, context.stat_cache, overwrite):
        return False
    make_parent(path)
    if data is None:
        context.store.get_file(checksum, path)
    else:
        write_member(path, data)
    return True


def make_parent(path: str) -> None:
    """Make the directory that `path` lies in."""
    parent = os.path.dirname(path)
    if parent:
        os.makedirs(parent, exist_ok=True)


def write_member(path: str, data: bytes) -> None:
    """Write a file atomically, executable when its content is."""
    from hashserver.workspace.tree import is_executable

    if is_executable(data[:4]):
        write_atomic(path, data, mode=0o777)
    else:
        write_atomic(path, data)


def load_index(store: Store, checksum: Checksum, path: str) -> tuple[bytes, Index]:
    """Return the index of a directory: that of the sidecars at `path` if it fits, else the store's."""
    from hashserver.checksum import hash_bytes
    from hashserver.regular_file import read_regular
    from hashserver.workspace.tree import parse_index

    for name in (os.path.join(path, ".INDEX"), path.rstrip("/") + ".INDEX"):
        try:
            data = read_regular(name)
        except OSError:
            continue
        if hash_bytes(data) == checksum:
            return data, parse_index(data, path)
    data = store.get(checksum)
    return data, parse_index(data, path)


def previous_index(path: str) -> Index:
    """Return the index that the sidecars of `path` hold, empty when there is none."""
    from hashserver.workspace.sidecar import read_index
    from hashserver.workspace.tree import parse_index

    try:
        sidecar = find_sidecar(path)
        data = None if sidecar is None or sidecar.kind != "directory" else read_index(sidecar)
        return {} if data is None else parse_index(data)
    except HashserverError:
        return {}


class Changes(NamedTuple):
    """What has to be done to a directory: all paths are relative to it."""

    fetch: Index
    delete: list[str]
    extra: list[str]


def plan_directory(path: str, index: Index, stat_cache: NullStatCache, overwrite: bool) -> Changes:
    """Find out how `path` becomes the directory `index`.

    Raises
    ------
    CommandError
        Files of the user's own would be lost: they are neither those of the index nor those of the sidecars.
    """
    from hashserver.workspace.tree import plan

    compared = plan(path, index, stat_cache)
    old = previous_index(path) if compared.different or compared.extra else {}
    before = {name: old[name] for name in (*compared.different, *compared.extra) if name in old}
    untouched = set(plan(path, before, stat_cache).present) if before else set()
    lost = [name for name in compared.different if name not in untouched]
    if lost and not overwrite:
        shown, more = os.path.join(path, lost[0]), count_text(len(lost), "file")
        raise CommandError(f"{shown} ({more} altogether) is there and differs: --overwrite replaces it")
    changes = Changes(
        fetch={name: index[name] for name in (*compared.missing, *compared.different)},
        delete=[name for name in compared.extra if name in untouched],
        extra=[name for name in compared.extra if name not in untouched],
    )
    if not overwrite:
        _refuse_elsewhere(path, changes.extra)
        _refuse_repository(path, changes)
    return changes


def _refuse_elsewhere(path: str, others: Sequence[str]) -> None:
    """Raise `CommandError` when a link leads to a directory of something else, as one that was cloned may."""
    path = path.rstrip("/") or "/"  # with a slash behind it a link is what it leads to
    if os.path.islink(path) and others and not os.path.lexists(os.path.join(path, CHECKSUM)):
        there = os.path.realpath(path)
        raise CommandError(
            f"{path} is a link to {there}, which holds other files: name that directory itself if it is meant"
        )


def _refuse_repository(path: str, changes: Changes) -> None:
    """Raise `CommandError` when files would get into a git repository that is there: git runs some."""
    from hashserver.workspace.repository import repository_of

    root = os.path.realpath(path)
    there = {repository_of(f"{root}/{name}") for name in changes.extra}
    for name in changes.fetch:
        found = repository_of(f"{root}/{name}")
        if found and (found in there or (root + "/").startswith(found + "/")):
            raise _in_repository(os.path.join(path, name))


def _refuse_file_in_repository(path: str) -> None:
    """Raise `CommandError` when a file would get into a git repository."""
    from hashserver.workspace.repository import repository_of

    folder = os.path.realpath(os.path.dirname(path) or ".")
    if repository_of(folder + "/"):
        raise _in_repository(path)


def _in_repository(path: str) -> CommandError:
    return CommandError(
        f"{path} would get into the git repository that is there: --overwrite if that is meant"
    )


def deliver_directory(
    context: Context, checksum: Checksum, path: str, console: Console, overwrite: bool = False
) -> int:
    """Make `path` the directory `checksum`, fetching what is not there yet.

    Returns
    -------
    int
        How many files were written.

    Raises
    ------
    CommandError
        Files of the user's own are in the way.
    """
    refuse_file(path)
    data, index = load_index(context.store, checksum, path)
    changes = plan_directory(path, index, context.stat_cache, overwrite)
    fetch(context.store, path, changes.fetch, console)
    for name in changes.delete:
        os.unlink(os.path.join(path, name))
    remove_folders(path, changes.delete)
    if changes.extra:
        shown, more = os.path.join(path, changes.extra[0]), count_text(len(changes.extra), "file")
        console.warn(f"{shown} ({more} altogether) is not part of {path}")
    write_directory_sidecars(path, checksum, data)
    return len(changes.fetch)


def remove_folders(root: str, members: Sequence[str]) -> None:
    """Remove the folders below `root` that held `members`, which are deleted, and hold nothing now."""
    from hashserver.workspace.index import parent_folders

    for folder in sorted(parent_folders(members), reverse=True):
        with suppress(OSError):  # something else is in it
            os.rmdir(os.path.join(root, folder))


def refuse_file(path: str) -> None:
    """Raise `CommandError` when something that is no directory is where one is to be."""
    status = stat_path(path)
    if status is not None and not stat.S_ISDIR(status.st_mode):
        raise CommandError(f"{path}: a file is in the way of a directory; move it away")


def refuse_links(root: str, folders: Iterable[str]) -> None:
    """Raise `CommandError` when a link is where a folder below `root` is to be."""
    for folder in sorted(folders):
        path = os.path.join(root, folder)
        if os.path.islink(path):
            raise CommandError(f"{path} is a link to {os.readlink(path)}: name that itself if it is meant")


def refuse_ways_out(root: str, member: str, index: Index) -> None:
    """Raise `CommandError` when a link on the way from `root` to a member would lead out of it.

    Parameters
    ----------
    member
        A file of `index`, or a folder that some of its files lie in.
    index
        What `root` is to hold.
    """
    from hashserver.workspace.index import parent_folders

    if os.path.isdir(root):
        top = {name.partition("/")[0] for name in index}
        _refuse_elsewhere(root, [name for name in os.listdir(root) if name not in top])
    refuse_links(root, parent_folders([member if member in index else f"{member}/"]))


def fetch(store: Store, root: str, members: Index, console: Console) -> None:
    """Write `members` below `root`: small ones many at a time, large ones each as a stream."""
    from hashserver.workspace.tree import make_folders

    checksums = list(dict.fromkeys(members.values()))
    sizes = dict(zip(checksums, store.has(checksums), strict=True)) if checksums else {}
    _refuse_missing(root, members, sizes)
    make_folders(root, members)
    paths: dict[Checksum, list[str]] = {}
    for name, checksum in members.items():
        paths.setdefault(checksum, []).append(os.path.join(root, name))
    with console.progress(root, sum(sizes[checksum] for checksum in members.values())) as progress:
        small = [checksum for checksum in checksums if sizes[checksum] <= SMALL_FILE]
        for batch in batches(small, sizes):
            for checksum, data in store.get_many(batch):
                for path in paths[checksum]:
                    write_member(path, data)
                    progress.add(len(data))
        for checksum in checksums:
            if sizes[checksum] > SMALL_FILE:
                for path in paths[checksum]:
                    store.get_file(checksum, path)
                    progress.add(sizes[checksum])


def _refuse_missing(root: str, members: Index, sizes: dict[Checksum, int]) -> None:
    gone = [name for name, checksum in members.items() if sizes[checksum] < 0]
    if gone:
        first = os.path.join(root, gone[0])
        message = f"{first} ({count_text(len(gone), 'file')} altogether): the store does not have its bytes"
        raise BufferMissing(members[gone[0]], message)


def batches(checksums: Sequence[Checksum], sizes: dict[Checksum, int]) -> Iterator[list[Checksum]]:
    """Cut `checksums` into pieces of bounded number and bytes."""
    batch: list[Checksum] = []
    room = BATCH_BYTES
    for checksum in checksums:
        if batch and (len(batch) == BATCH_FILES or sizes[checksum] > room):
            yield batch
            batch, room = [], BATCH_BYTES
        batch.append(checksum)
        room -= sizes[checksum]
    if batch:
        yield batch
