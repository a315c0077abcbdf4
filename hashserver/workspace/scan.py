"""What lies in a directory: files, links, sidecars, and what has no identity."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from hashserver.atomic import TEMPORARY_PREFIX
from hashserver.checksum import Checksum
from hashserver.errors import TreeError
from hashserver.system_text import from_system, to_bytes, to_system
from hashserver.workspace.index import parent_folders, parse_index
from hashserver.workspace.sidecar import (
    CHECKSUM,
    INDEX,
    SUFFIXES,
    Future,
    Sidecar,
    find_sidecar,
    index_stand_in,
    member_stand_in,
    read_index,
)

if TYPE_CHECKING:
    from typing import Literal

Member = tuple[str, os.stat_result]
FolderState = tuple[int, int, int]
"""Device, inode, and when something was last made or removed in it (ns)."""


class Scan(NamedTuple):
    """What lies in a directory.

    Attributes
    ----------
    files
        Paths of the data files relative to the directory, with their states; links to files are followed.
    stand_ins
        Members that are not there, but whose checksum a sidecar names.
    futures
        Members that are not there, but that a job is making; one may turn out to be a directory.
    sidecars
        Members (files and directories) that have a sidecar of their own, with what it says.
    remarks
        Relative path → one line on what has no identity and does not count there.
    problems
        Relative path → what keeps the directory from having an identity; that of a folder ends in a slash.
    folders
        The folders in it (and itself, as the empty path), each as it was before it was listed.
    """

    files: list[Member]
    stand_ins: dict[str, Checksum]
    futures: dict[str, Future]
    sidecars: dict[str, Checksum]
    remarks: dict[str, str]
    problems: dict[str, TreeError]
    folders: dict[str, FolderState]

    @property
    def warnings(self) -> list[str]:
        """The remarks."""
        return list(self.remarks.values())


def scan(directory: str | os.PathLike[str], literal: bool = False) -> Scan:
    """Look at all that lies in `directory`; nothing is read but sidecars.

    Parameters
    ----------
    directory
        The directory, or a link to it.
    literal
        Take sidecars as data too: what a command wrote is what it wrote.

    Raises
    ------
    TreeError
        If it holds a broken or cyclic link, a special file, a name that is not UTF-8, or what cannot be read.
    SidecarError
        If sidecars contradict each other.
    """
    found = scan_all(directory, literal)
    for problem in found.problems.values():
        raise problem
    return found


def scan_all(directory: str | os.PathLike[str], literal: bool = False) -> Scan:
    """Do what `scan` does, but leave it to the caller to judge what has no identity: it may not count."""
    walk = _Walk(os.fspath(directory), literal)
    walk.run()
    return walk.result


class _Walk:
    """One pass over a directory."""

    def __init__(self, root: str, literal: bool) -> None:
        self.root = root
        self.literal = literal
        self.result = Scan([], {}, {}, {}, {}, {}, {})
        self.folders: list[str] = []
        self.remade: dict[str, Future] = {}

    def run(self) -> None:
        self._list("")
        for folder in self.folders:  # grows while it is walked: parents come before children
            self._list(folder + "/")
        if self.folders:
            self._judge_empty_folders()
        for target in self.remade:
            self.result.remarks[target] = (
                f"{self.path(target)} is being made anew by a job: its present content is taken"
            )

    def path(self, relative: str) -> str:
        return os.path.join(self.root, to_system(relative))

    def _list(self, prefix: str) -> None:
        """Add what lies directly in the folder `prefix`, which is empty or ends in a slash."""
        files, candidates = self.result.files, []
        first, first_folder = len(files), len(self.folders)
        for entry in self._entries(prefix):
            name = from_system(entry.name)
            relative = prefix + name
            if not name.isascii() and (problem := _bad_name(name, entry.path)) is not None:
                self.result.problems[relative] = problem
            elif entry.is_dir(follow_symlinks=False):
                self.folders.append(relative)
            elif name.startswith(TEMPORARY_PREFIX):
                continue  # unfinished
            elif (status := self._status(entry, relative)) is not None:
                files.append((relative, status))
                if name.endswith(SUFFIXES):
                    candidates.append(relative)
        if candidates and not self.literal:
            self._take_out_sidecars(prefix, first, self.folders[first_folder:], candidates)

    def _entries(self, prefix: str) -> list[os.DirEntry[str]]:
        path = self.path(prefix)
        try:
            # Before it is listed: what changes meanwhile shows when the state is compared later.
            self.result.folders[prefix[:-1]] = folder_state(path)
            return list_folder(path)
        except TreeError as problem:
            self.result.problems[prefix] = problem
            return []

    def _status(self, entry: os.DirEntry[str], relative: str) -> os.stat_result | None:
        """Return the state of a file, or of the file that a link leads to; None for what is no file."""
        try:
            status = entry.stat()
        except OSError as error:
            self.result.problems[relative] = _unusable(entry, error)
            return None
        if stat.S_ISREG(status.st_mode):
            return status
        if stat.S_ISDIR(status.st_mode):
            self.result.remarks[relative] = f"{entry.path} is a link to a directory: not followed, left out"
        else:
            self.result.problems[relative] = TreeError(
                f"{entry.path} is {_kind(status.st_mode)}, which has no content: move it out of {self.root}"
            )
        return None

    def _take_out_sidecars(self, prefix: str, first: int, folders: list[str], candidates: list[str]) -> None:
        """Separate sidecars from data that bear such names; `prefix` is their folder, `folders` lie in it."""
        members = self.result.files[first:]
        found = self._read_candidates(prefix, candidates)
        if not found:
            return
        self.result.files[first:] = [member for member in members if member[0] not in found]
        present = {relative for relative, _ in members}.union(folders)
        stand_ins: dict[str, Checksum] = {}
        for relative, says in found.items():
            target = relative[: relative.rindex(".")]
            if isinstance(says, Future):
                self._add_future(prefix, target, says, present)
            elif says is None:
                continue
            elif target == prefix:
                self._add_sidecar(prefix[:-1], says)
            elif target in present:
                self._add_sidecar(target, says)
            else:
                stand_ins[target] = says
        for target, checksum in stand_ins.items():
            if target not in self.result.futures:  # a future goes before an older checksum
                self._add_stand_in(target, checksum, target + INDEX in found)

    def _read_candidates(self, prefix: str, candidates: list[str]) -> dict[str, Checksum | Future | None]:
        """Return what the sidecars among `candidates` say; nothing, if they are indices."""
        found: dict[str, Checksum | Future | None] = {}
        indices = [relative for relative in candidates if relative.endswith(INDEX)]
        for relative in candidates:
            if not relative.endswith(INDEX) and (says := member_stand_in(self.path(relative))) is not None:
                found[relative] = says
        for relative in indices:
            target = relative[: -len(INDEX)]
            belongs = target == prefix or target + CHECKSUM in found
            if belongs and index_stand_in(self.path(relative)) is not None:
                found[relative] = None
        return found

    def _add_future(self, prefix: str, target: str, future: Future, present: set[str]) -> None:
        if target != prefix:
            (self.remade if target in present else self.result.futures)[target] = future

    def _add_sidecar(self, target: str, checksum: Checksum) -> None:
        if not target:
            return  # the pair of the directory itself: find_sidecar reads it
        if self.result.sidecars.setdefault(target, checksum) != checksum:
            find_sidecar(self.path(target))  # says which two disagree

    def _add_stand_in(self, target: str, checksum: Checksum, has_index: bool) -> None:
        if has_index:
            self._expand(target)
        else:
            self.result.stand_ins[target] = checksum

    def _expand(self, folder: str) -> None:
        """Let the pair of a directory that is not there stand for its members."""
        sidecar = find_sidecar(self.path(folder))
        data = None if sidecar is None else read_index(sidecar)
        if data is None:
            raise TreeError(f"{self.path(folder)} is not there, nor is its index: seamless-download it first")
        for relative, checksum in parse_index(data, self.path(folder)).items():
            self.result.stand_ins[f"{folder}/{relative}"] = checksum

    def _judge_empty_folders(self) -> None:
        result = self.result
        occupied = parent_folders([relative for relative, _ in result.files])
        occupied |= parent_folders(result.stand_ins) | parent_folders(result.futures)
        for folder in reversed(self.folders):
            if folder not in occupied and (folder in result.sidecars or folder in self.remade):
                if folder in self.remade:
                    result.futures[folder] = self.remade.pop(folder)
                else:
                    self._expand(folder)
                occupied |= {folder} | parent_folders([folder])
        for folder in self.folders:
            parent = folder.rpartition("/")[0]
            if folder not in occupied and (not parent or parent in occupied):
                result.remarks[folder + "/"] = (
                    f"{self.path(folder)} is empty: it has no identity and is left out"
                )


def folder_state(path: str) -> FolderState:
    """Return what changes when something is made or removed in a directory.

    Raises
    ------
    TreeError
        If it cannot be looked at.
    """
    try:
        status = os.stat(path)
    except OSError as error:
        raise TreeError(f"cannot read the directory {path}: {error.strerror}") from None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def list_folder(path: str) -> list[os.DirEntry[str]]:
    """Return what lies directly in a directory.

    Raises
    ------
    TreeError
        If it cannot be read.
    """
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        raise TreeError(f"cannot read the directory {path}: {error.strerror}") from None


def _bad_name(name: str, path: str) -> TreeError | None:
    try:
        name.encode()
    except UnicodeEncodeError:
        return TreeError(f"the name of {to_bytes(from_system(path))!r} is not UTF-8: rename it")
    return None


def _unusable(entry: os.DirEntry[str], error: OSError) -> TreeError:
    if not entry.is_symlink():
        return TreeError(f"cannot read {entry.path}: {error.strerror}")
    if error.errno == errno.ELOOP:
        return TreeError(f"{entry.path} is a link that leads back to itself: remove it")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return TreeError(f"{entry.path} is a broken link (to {_target(entry.path)}): mend or remove it")
    return TreeError(f"cannot follow the link {entry.path}: {error.strerror}")


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return "nowhere"


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "a special file")


def directory_state(directory: str | os.PathLike[str]) -> Literal["absent", "empty", "present"]:
    """Tell whether the files of a directory are there; links to directories and empty directories are none.

    Returns
    -------
    ``absent`` if it does not exist, or if no file of it does while its own sidecars name its content (it was
    deleted after an upload): sidecars of members count as such when they say the same; ``empty`` if it has
    neither files nor sidecars; else ``present``.
    """
    path = os.fspath(directory)
    if not os.path.isdir(path):
        return "absent"
    content = _content(path)
    if content == "data":
        return "present"
    sidecar = find_sidecar(path)
    if content == "sidecars" and (sidecar is None or not agrees(scan_all(path), sidecar)):
        return "present"
    return "empty" if sidecar is None else "absent"


def _content(root: str) -> Literal["data", "sidecars", ""]:
    """Return what kinds of files lie in a directory, its own pair not counted."""
    found: Literal["sidecars", ""] = ""
    pending = [root]
    while pending:
        folder = pending.pop()
        for entry in list_folder(folder):
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
            elif entry.name.startswith(TEMPORARY_PREFIX) or (folder == root and _is_own(entry)):
                continue
            elif not entry.is_dir():  # a link to a directory is no part of the identity
                if not _is_sidecar(entry):
                    return "data"
                found = "sidecars"
    return found


def agrees(found: Scan, sidecar: Sidecar) -> bool:
    """Tell whether nothing counts in a directory but sidecars that say what its own one says."""
    if found.files or found.futures or found.problems:
        return False
    if not found.stand_ins:
        return True
    data = read_index(sidecar)
    index = {} if data is None else parse_index(data)
    return all(index.get(member) == checksum for member, checksum in found.stand_ins.items())


def _is_own(entry: os.DirEntry[str]) -> bool:
    return entry.name in (CHECKSUM, INDEX) and _is_sidecar(entry)


def _is_sidecar(entry: os.DirEntry[str]) -> bool:
    if entry.name.endswith(INDEX):
        return index_stand_in(entry.path) is not None
    return entry.name.endswith(SUFFIXES) and member_stand_in(entry.path) is not None
