"""Directories: their index and deep checksum, and what is still to be fetched of one."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from hashserver.atomic import TEMPORARY_PREFIX
from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import BufferMissing, InvalidIndex, MemberPending, SidecarError, TreeError
from hashserver.hashing import Hashed, hash_files
from hashserver.statcache import NullStatCache, checksum_of
from hashserver.system_text import from_system, to_system
from hashserver.workspace.ignore import ignore_files, is_by_product, may_concern
from hashserver.workspace.index import (
    Index,
    check_path,
    index_bytes,
    is_executable,
    parent_folders,
    parse_index,
    safe_join,
)
from hashserver.workspace.scan import Member, Scan, agrees, directory_state, list_folder, scan
from hashserver.workspace.sidecar import CHECKSUM, INDEX, Sidecar, find_sidecar, read_index
from hashserver.workspace.survey import Survey, check_settled, judge_of, slim_index, survey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Literal

    from hashserver.workspace.ignore import Apart, LeaveOut
    from hashserver.workspace.survey import Fetch

    HashMany = Callable[[Sequence[str], Sequence[int]], Sequence[Hashed]]

__all__ = [
    "DirectoryPlan",
    "Identity",
    "Index",
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
    left_out
        How many files do not count: by-products, and what ``.seamlessignore`` names.
    """

    index: Index  # type: ignore[assignment]  # a tuple has a method of that name, which nobody needs
    data: bytes
    checksum: Checksum
    scan: Scan
    sizes: dict[str, int]
    stale: list[str]
    left_out: int = 0


def build(
    directory: str | os.PathLike[str],
    cache: NullStatCache,
    hash_many: HashMany = hash_files,
    *,
    fetch: Fetch | None = None,
    by_products: bool = True,
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
    fetch
        Returns the bytes of a checksum; called for a ``.seamlessignore`` of which only a sidecar is here.
    by_products
        Whether by-products count: not in the inputs of a run.
    remember
        Put what was hashed into the stat cache; not, when the files are to be linked afterwards.

    Raises
    ------
    TreeError
        If it has no identity: see `scan`; or a member is still being made, or cannot be read.
    FileChanged
        If a file or the directory changed while it was read.
    """
    root = os.fspath(directory)

    def look() -> Survey:
        return survey(root, fetch, not by_products)

    return _finish(root, look(), look, cache, hash_many, remember)


def _finish(
    root: str,
    found: Survey,
    look: Callable[[], Survey],
    cache: NullStatCache,
    hash_many: HashMany = hash_files,
    remember: bool = True,
) -> Tree:
    known = _checksums(root, found.scan.files, cache, hash_many, remember)
    tree = assemble(root, found.scan, known, found.judge)._replace(left_out=found.left_out)
    check_settled(root, found, tree.index, look)
    return tree


def look_up(
    directory: str, files: Sequence[Member], cache: NullStatCache
) -> tuple[dict[str, Checksum], list[Member]]:
    """Return the checksums that the stat cache knows, and the files it does not."""
    known = cache.get_tree(directory, files)
    if len(known) == len(files):
        return known, []
    return known, [member for member in files if member[0] not in known]


def assemble(
    directory: str, found: Scan, checksums: Mapping[str, Checksum], judge: LeaveOut | None = None
) -> Tree:
    """Make the tree of a scanned directory, given the checksum of each of its files.

    Parameters
    ----------
    judge
        Tells what was left out of the scan.

    Raises
    ------
    MemberPending
        If members are still being made by jobs.
    """
    if found.futures:
        raise MemberPending([os.path.join(directory, to_system(member)) for member in sorted(found.futures)])
    index: Index = {**found.stand_ins, **checksums}
    data = index_bytes(index)
    sizes = {relative: status.st_size for relative, status in found.files}
    return Tree(index, data, hash_bytes(data), found, sizes, _stale(directory, index, found, judge))


def _stale(directory: str, index: Index, found: Scan, judge: LeaveOut | None) -> list[str]:
    stale = []
    for member, checksum in found.sidecars.items():
        if member in index:
            if index[member] != checksum:
                stale.append(member)
        elif below := _below(index, member + "/"):
            says = hash_bytes(index_bytes(below)) == checksum
            if not says and below != _says(os.path.join(directory, member), member + "/", judge):
                stale.append(member)
    return sorted(stale)


def _below(index: Index, prefix: str) -> Index:
    return {path[len(prefix) :]: checksum for path, checksum in index.items() if path.startswith(prefix)}


def _says(path: str, prefix: str, judge: LeaveOut | None) -> Index | None:
    """Return what the sidecar of a folder names, without what is left out; None if that is not known here."""
    sidecar = find_sidecar(path)
    data = None if sidecar is None or judge is None else read_index(sidecar)
    if data is None or judge is None:
        return None
    index = parse_index(data, path)
    out = judge.of([prefix + relative for relative in index])
    return {relative: checksum for relative, checksum in index.items() if prefix + relative not in out}


class Identity(NamedTuple):
    """What a path stands for as the input of a run.

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
    data
        The index of a directory, when a store need not have it: the directory is here, or it is not here and
        something is left out of what its sidecar names.
    left_out
        How many files of a directory do not count.
    """

    kind: Literal["file", "directory"]
    checksum: Checksum
    present: bool
    sidecar: Sidecar | None
    tree: Tree | None
    data: bytes | None = None
    left_out: int = 0


def identify(
    path: str | os.PathLike[str],
    cache: NullStatCache,
    fetch: Fetch | None = None,
    apart: Apart | None = None,
) -> Identity | None:
    """Find out what `path` stands for: by its sidecar, its content, or both, which must agree.

    By-products and what ``.seamlessignore`` names do not count, neither in the directory nor in what its
    sidecar names. A by-product that is named itself is taken whole.

    Parameters
    ----------
    path
        A file or a directory, which need not be there.
    cache
        The stat cache.
    fetch
        Returns the bytes of a checksum: indices and rules that are not here.
    apart
        Tells what is no part of a directory, by its path in there: results of the run that it is an input of.

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
        return None if sidecar is None else identify_sidecar(text, sidecar, fetch, apart)
    if is_folder:
        return _identify_directory(text, sidecar, cache, fetch, apart)
    checksum, _ = checksum_of(text, cache)
    if sidecar is not None and sidecar.checksum != checksum:
        raise SidecarError(changed_text(text))
    return Identity("file", checksum, True, sidecar, None)


def identify_sidecar(
    path: str, sidecar: Sidecar, fetch: Fetch | None, apart: Apart | None = None
) -> Identity:
    """Return what a sidecar names, without what does not count as the input of a run."""
    if sidecar.kind == "directory":
        data = _index_of(sidecar, fetch)
        if data is not None:
            slim = slim_index(path, data, sidecar.checksum, fetch, not is_by_product(path), apart)
            new = slim.data if slim.checksum != sidecar.checksum else None
            return Identity("directory", slim.checksum, False, sidecar, None, new, slim.left_out)
    return Identity(sidecar.kind, sidecar.checksum, False, sidecar, None)


def identify_index(path: str, index: Index, fetch: Fetch | None, apart: Apart | None = None) -> Identity:
    """Return what a directory is as the input of a run, of which only an index is known."""
    data = index_bytes(index)
    slim = slim_index(path, data, hash_bytes(data), fetch, not is_by_product(path), apart)
    return Identity("directory", slim.checksum, False, None, None, slim.data, slim.left_out)


def _index_of(sidecar: Sidecar, fetch: Fetch | None) -> bytes | None:
    data = read_index(sidecar)
    if data is None and fetch is not None:
        try:
            data = fetch(sidecar.checksum)
            parse_index(data)
        except (BufferMissing, InvalidIndex):
            return None
    return data


def changed_text(path: str) -> str:
    """Return what is said of a file or directory that its sidecar does not describe."""
    return f"{path} has changed since its sidecar was written: seamless-upload {path} to use it"


def _identify_directory(
    path: str, sidecar: Sidecar | None, cache: NullStatCache, fetch: Fetch | None, apart: Apart | None
) -> Identity:
    whole = is_by_product(path)

    def look() -> Survey:
        return survey(path, fetch, not whole, apart=apart)

    found = look()
    if sidecar is not None and is_away(path, found.scan, sidecar, fetch, whole):
        return identify_sidecar(path, sidecar, fetch, apart)
    tree = _finish(path, found, look, cache)
    if sidecar is not None and sidecar.checksum != tree.checksum:
        known = identify_sidecar(path, sidecar, fetch, apart)
        if known.checksum != tree.checksum:
            raise SidecarError(_difference(path, tree, known.data or _index_of(sidecar, fetch)))
    if tree.stale:
        raise SidecarError(changed_text(os.path.join(path, to_system(tree.stale[0]))))
    return Identity("directory", tree.checksum, True, sidecar, tree, tree.data, tree.left_out)


def is_away(path: str, found: Scan, sidecar: Sidecar, fetch: Fetch | None, by_products: bool = False) -> bool:
    """Tell whether a directory was deleted after its upload; what does not count may have stayed.

    What its ``.seamlessignore`` named stays when that is deleted: the rules that the index names count, too.
    """
    if agrees(found, sidecar):
        return True
    if found.stand_ins or found.futures:
        return False
    data = _index_of(sidecar, fetch)
    index = {} if data is None or not may_concern(data, False) else parse_index(data)
    if not ignore_files(index):
        return False
    files = [relative for relative, _ in found.files]
    return judge_of(path, index, fetch, not by_products).of(files) == set(files)


def state_after_upload(path: str, fetch: Fetch) -> Literal["absent", "empty", "present"]:
    """Do what `directory_state` does, where what ``.seamlessignore`` left out of an upload has stayed."""
    state = directory_state(path)
    if state == "present":
        try:
            sidecar = find_sidecar(path)
        except SidecarError:
            return state  # it is about to be written anew
        if sidecar is None or not _may_have_left_out(sidecar, fetch):
            return state  # the whole directory need not be looked at: what lies in it counts
        if is_away(path, survey(path, fetch, False).scan, sidecar, fetch, True):
            return "absent"
    return state


def _may_have_left_out(sidecar: Sidecar, fetch: Fetch | None) -> bool:
    """Say, without reading the index as such, whether it may name rules of what an upload leaves out."""
    data = _index_of(sidecar, fetch)
    return data is not None and may_concern(data, False)


def _difference(path: str, tree: Tree, data: bytes | None) -> str:
    """Say how a directory differs from what its sidecar names; what is advised loses nothing."""
    from hashserver.workspace.replacement import told

    index = {} if data is None else parse_index(data)
    gone = sorted(index.keys() - tree.index.keys())
    if not gone:
        return changed_text(path)
    changed = any(index.get(member, checksum) != checksum for member, checksum in tree.index.items())
    text = f"{path} is only partly there: {told(gone)} that its sidecar names missing: seamless-download"
    if changed:  # then the download of all would be refused
        first = os.path.join(path, gone[0])
        return (
            f"{text} brings them back one by one ({first}), seamless-upload {path} takes the others' changes"
        )
    return f"{text} {path} to complete it, or seamless-upload --replace {path} to go on without"


class DirectoryPlan(NamedTuple):
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


def plan(
    directory: str | os.PathLike[str], index: Mapping[str, Checksum], cache: NullStatCache
) -> DirectoryPlan:
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
    result = DirectoryPlan(
        [], [], [], sorted(path for path in there.files if path not in index and not _is_own(path))
    )
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
        for entry in list_folder(os.path.join(root, to_system(prefix))):
            relative = prefix + from_system(entry.name)
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


def _checksums(
    root: str,
    files: list[Member],
    cache: NullStatCache,
    hash_many: HashMany = hash_files,
    remember: bool = True,
) -> dict[str, Checksum]:
    """Return the checksums of files, hashing those that the stat cache does not know."""
    known, unknown = look_up(root, files, cache)
    if unknown:
        paths = [os.path.join(root, to_system(relative)) for relative, _ in unknown]
        hashed = hash_many(paths, [status.st_size for _, status in unknown])
        fresh = [(relative, one) for (relative, _), one in zip(unknown, hashed, strict=True)]
        known.update((relative, one.checksum) for relative, one in fresh)
        if remember:
            cache.put_many(root, fresh)
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
