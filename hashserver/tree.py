"""Directories: their index and deep checksum, and what is still to be fetched of one."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from hashserver.atomic import TEMPORARY_PREFIX
from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import MemberPending, SidecarError, TreeError
from hashserver.hashing import Hashed, hash_files
from hashserver.index import (
    Index,
    check_path,
    index_bytes,
    is_executable,
    parent_folders,
    parse_index,
    safe_join,
)
from hashserver.scan import Member, Scan, directory_state, list_folder, scan
from hashserver.sidecar import CHECKSUM, INDEX, Sidecar, find_sidecar, read_index
from hashserver.statcache import NullStatCache, checksum_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal

    HashMany = Callable[[Sequence[str], Sequence[int]], Sequence[Hashed]]

__all__ = [
    "Identity",
    "Index",
    "Plan",
    "Scan",
    "Tree",
    "assemble",
    "build",
    "check_path",
    "directory_state",
    "identify",
    "index_bytes",
    "is_executable",
    "look_up",
    "make_folders",
    "parent_folders",
    "parse_index",
    "plan",
    "safe_join",
    "scan",
]


class Tree(NamedTuple):
    """A directory's identity.

    Attributes
    ----------
    index
        Relative path → checksum of each file, stand-ins included.
    data
        The canonical bytes of the index.
    checksum
        Their SHA-256: the deep checksum of the directory.
    scan
        What was found there.
    sizes
        Relative path → bytes, of the files that are there.
    stale
        Members (files and directories) that are there, but not as their own sidecars say.
    """

    index: Index  # type: ignore[assignment]  # a tuple has a method of that name, which nobody needs
    data: bytes
    checksum: Checksum
    scan: Scan
    sizes: dict[str, int]
    stale: list[str]


def build(
    directory: str | os.PathLike[str],
    cache: NullStatCache,
    hash_many: HashMany = hash_files,
    *,
    literal: bool = False,
    remember: bool = True,
) -> Tree:
    """Find out the identity of a directory, reading only what the stat cache does not know.

    Parameters
    ----------
    directory
        The directory.
    cache
        The stat cache.
    hash_many
        Called once with paths and sizes of the unknown files, to hash them, perhaps to store them too.
    literal
        Take sidecars as data too.
    remember
        Put what was hashed into the stat cache; not, when the files are to be linked afterwards.

    Raises
    ------
    TreeError
        If it has no identity: see `scan`; or a member is still being made, or cannot be read.
    FileChanged
        If a file changed while it was read.
    """
    root = os.fspath(directory)
    found = scan(root, literal)
    known, unknown = look_up(root, found.files, cache)
    if unknown:
        paths = [os.path.join(root, relative) for relative, _ in unknown]
        hashed = hash_many(paths, [status.st_size for _, status in unknown])
        fresh = [(relative, one) for (relative, _), one in zip(unknown, hashed, strict=True)]
        known.update((relative, one.checksum) for relative, one in fresh)
        if remember:
            cache.put_many(root, fresh)
    return assemble(root, found, known)


def look_up(
    directory: str, files: Sequence[Member], cache: NullStatCache
) -> tuple[dict[str, Checksum], list[Member]]:
    """Return the checksums that the stat cache knows, and the files it does not."""
    known = cache.get_tree(directory, files)
    if len(known) == len(files):
        return known, []
    return known, [member for member in files if member[0] not in known]


def assemble(directory: str, found: Scan, checksums: Mapping[str, Checksum]) -> Tree:
    """Make the tree of a scanned directory, given the checksum of each of its files.

    Raises
    ------
    MemberPending
        If members are still being made by jobs.
    """
    if found.futures:
        raise MemberPending([os.path.join(directory, member) for member in sorted(found.futures)])
    index: Index = {**found.stand_ins, **checksums}
    data = index_bytes(index)
    sizes = {relative: status.st_size for relative, status in found.files}
    return Tree(index, data, hash_bytes(data), found, sizes, _stale(index, found))


def _stale(index: Index, found: Scan) -> list[str]:
    stale = []
    for member, checksum in found.sidecars.items():
        actual = index[member] if member in index else _checksum_below(index, member + "/")
        if actual is not None and actual != checksum:
            stale.append(member)
    return sorted(stale)


def _checksum_below(index: Index, prefix: str) -> Checksum | None:
    below = {path[len(prefix) :]: checksum for path, checksum in index.items() if path.startswith(prefix)}
    return hash_bytes(index_bytes(below)) if below else None


class Identity(NamedTuple):
    """What a path stands for.

    Attributes
    ----------
    kind
        Of the value.
    checksum
        Of the file, or the deep one of the directory.
    present
        Whether the data are there; else only the sidecar is.
    sidecar
        The sidecar, if there is one; it says the same.
    tree
        Of a directory that is there.
    """

    kind: Literal["file", "directory"]
    checksum: Checksum
    present: bool
    sidecar: Sidecar | None
    tree: Tree | None


def identify(path: str | os.PathLike[str], cache: NullStatCache) -> Identity | None:
    """Find out what `path` stands for: by its sidecar, its content, or both, which must agree.

    Returns
    -------
    None if there is neither data nor a sidecar.

    Raises
    ------
    SidecarError
        If the data, or a member of the directory, are not what their sidecar says.
    TreeError, FileChanged, OSError
        If the data have no identity, change, or cannot be read.
    """
    text = os.fspath(path)
    sidecar = find_sidecar(text)
    try:
        is_folder = stat.S_ISDIR(os.stat(text).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None if sidecar is None else Identity(*sidecar[:2], False, sidecar, None)
    if is_folder:
        return _identify_directory(text, sidecar, cache)
    checksum, _ = checksum_of(text, cache)
    if sidecar is not None and sidecar.checksum != checksum:
        raise SidecarError(_changed(text))
    return Identity("file", checksum, True, sidecar, None)


def _changed(path: str) -> str:
    return f"{path} has changed since its sidecar was written: seamless-upload {path} to use it"


def _identify_directory(path: str, sidecar: Sidecar | None, cache: NullStatCache) -> Identity:
    if sidecar is not None and directory_state(path) == "absent":
        return Identity("directory", sidecar.checksum, False, sidecar, None)
    tree = build(path, cache)
    if sidecar is not None and sidecar.checksum != tree.checksum:
        raise SidecarError(_changed(path) + _completion(path, sidecar, tree))
    if tree.stale:
        raise SidecarError(_changed(os.path.join(path, tree.stale[0])))
    return Identity("directory", tree.checksum, True, sidecar, tree)


def _completion(path: str, sidecar: Sidecar, tree: Tree) -> str:
    data = read_index(sidecar)
    if data is not None and tree.index.items() < parse_index(data).items():
        return f", or seamless-download {path} to complete it"
    return ""


class Plan(NamedTuple):
    """How a directory compares with an index; all paths are relative and sorted.

    Attributes
    ----------
    present
        Files that are there with the right bytes.
    missing
        Files that are not there.
    different
        Files that are there with other bytes, or whose place something else takes (a directory, a link).
    extra
        Files that are there but not in the index; the directory's own sidecars do not count.
    """

    present: list[str]
    missing: list[str]
    different: list[str]
    extra: list[str]


def plan(directory: str | os.PathLike[str], index: Mapping[str, Checksum], cache: NullStatCache) -> Plan:
    """Compare a directory, which need not exist, with what it is to hold.

    Raises
    ------
    InvalidIndex
        If a path of the index could lead out of the directory.
    TreeError
        If a file cannot be read.
    """
    root = os.fspath(directory)
    there = _listing(root)
    result = Plan([], [], [], sorted(path for path in there.files if path not in index and not _is_own(path)))
    regular: list[Member] = []
    for relative in sorted(index):
        check_path(relative)
        entry = there.files.get(relative)
        if entry is not None and (status := _regular(entry)) is not None:
            regular.append((relative, status))
        elif entry is not None or relative in there.folders or _is_blocked(relative, there):
            result.different.append(relative)
        else:
            result.missing.append(relative)
    for relative, checksum in _checksums(root, regular, cache).items():
        (result.present if checksum == index[relative] else result.different).append(relative)
    result.present.sort()
    result.different.sort()
    return result


class _Listing(NamedTuple):
    files: dict[str, os.DirEntry[str]]  # links and special files too
    folders: set[str]


def _listing(root: str) -> _Listing:
    found = _Listing({}, set())
    pending = [""] if os.path.isdir(root) else []
    while pending:
        prefix = pending.pop()
        for entry in list_folder(os.path.join(root, prefix)):
            relative = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                found.folders.add(relative)
                pending.append(relative + "/")
            elif not entry.name.startswith(TEMPORARY_PREFIX):
                found.files[relative] = entry
    return found


def _is_own(relative: str) -> bool:
    return relative in (CHECKSUM, INDEX)


def _regular(entry: os.DirEntry[str]) -> os.stat_result | None:
    """Return the state of a file or of what a link leads to, if that is a regular file."""
    try:
        status = entry.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _is_blocked(relative: str, there: _Listing) -> bool:
    # Where a link takes the place of a folder, writing below it could lead out of the directory.
    return any(folder in there.files for folder in parent_folders([relative]))


def _checksums(root: str, files: list[Member], cache: NullStatCache) -> dict[str, Checksum]:
    known, unknown = look_up(root, files, cache)
    paths = [os.path.join(root, relative) for relative, _ in unknown]
    hashed = hash_files(paths, [status.st_size for _, status in unknown])
    fresh = [(relative, one) for (relative, _), one in zip(unknown, hashed, strict=True)]
    cache.put_many(root, fresh)
    known.update((relative, one.checksum) for relative, one in fresh)
    return known


def make_folders(directory: str | os.PathLike[str], paths: Sequence[str] | Mapping[str, Checksum]) -> None:
    """Make a directory and the folders that the relative `paths` lie in.

    Raises
    ------
    TreeError
        If a link or a file takes the place of one: nothing is written through a link.
    """
    root = os.fspath(directory)
    os.makedirs(root, exist_ok=True)
    for folder in sorted(parent_folders(paths)):
        path = safe_join(root, folder)
        try:
            os.mkdir(path)
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise TreeError(f"{path} is in the way: a directory is needed there, move it away") from None
