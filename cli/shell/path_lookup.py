"""What a local path stands for: a file, a directory, a sidecar, a job that is to make it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from hashserver.namedtuple import NamedTuple
from hashserver.regular_file import PATH_MAX, open_far
from hashserver.workspace.index import members_below, parse_index
from hashserver.workspace.sidecar import (
    CHECKSUM,
    FUTURE,
    INDEX,
    Sidecar,
    find_sidecar,
    index_stand_in,
    is_sidecar_name,
    member_stand_in,
    read_future,
    read_index,
    read_sidecar,
)
from seamless_dask.errors import UsageError

if TYPE_CHECKING:
    from hashserver.workspace.index import Index
    from hashserver.workspace.sidecar import Future

_LONGEST_NAME = 255


class PathLookup(NamedTuple):
    """What is known of a path, without reading its bytes.

    Attributes
    ----------
    kind : str
        ``"file"`` or ``"directory"``; of a pending result it is not known yet and said to be a file.
    exists : bool
        Whether the path itself is there.
    sidecar : Sidecar or None
        What its sidecar says.
    future : Future or None
        The job that is to make it; it goes before the sidecar.
    inside : str
        The directory that it is a member of, when only that one's index knows it.
    members : dict or None
        What that says of it, when it is a directory itself.
    """

    kind: str
    exists: bool
    sidecar: Sidecar | None = None
    future: Future | None = None
    inside: str = ""
    members: Index | None = None


class Lookup:
    """Looks paths up, each once.

    Parameters
    ----------
    cwd : str
        Directory that relative paths are relative to.
    """

    def __init__(self, cwd: str) -> None:
        self._cwd = cwd
        self._known: dict[str, PathLookup | None] = {}
        self._indices: dict[str, tuple[Sidecar, Index] | None] = {}

    def find(self, path: str) -> PathLookup | None:
        """Return what `path` stands for, None for nothing.

        Raises
        ------
        UsageError
            For a broken or circular link, or a special file.
        SidecarError
            For a sidecar that is damaged.
        """
        full = os.path.join(self._cwd, path).rstrip("/") or "/"
        if full not in self._known:
            self._known[full] = self._find(full)
        return self._known[full]

    def literal(self, path: str) -> PathLookup | None:
        """Return the file at `path` and nothing that stands for it."""
        status = _status(os.path.join(self._cwd, path))
        return None if status is None or not stat.S_ISREG(status.st_mode) else PathLookup("file", True)

    def _find(self, full: str) -> PathLookup | None:
        if not _possible(full):
            return None
        if len(os.fsencode(full)) >= PATH_MAX:
            _refuse_far(full)
            return None
        status = _status(full)
        kind = "directory" if status is not None and stat.S_ISDIR(status.st_mode) else "file"
        sidecar, future = find_sidecar(full), read_future(full)
        if status is not None:
            return PathLookup(kind, True, sidecar, future) if _is_data(status) else None
        if sidecar is not None or future is not None:
            return PathLookup(kind if sidecar is None else sidecar.kind, False, sidecar, future)
        return self._member(full)

    def _member(self, full: str) -> PathLookup | None:
        """Look for a path that is not there in the index of a directory above it, or in a pending one."""
        folder, _, name = full.rpartition("/")
        while folder and (folder == self._cwd or not self._cwd.startswith(folder + "/")):
            if read_future(folder) is not None:
                return PathLookup("file", False, None, None, folder)
            known = self._index(folder)
            if known is not None:
                sidecar, index = known
                if name in index:
                    return PathLookup("file", False, Sidecar("file", index[name], sidecar.path), None, folder)
                if below := members_below(index, name):
                    return PathLookup("directory", False, None, None, folder, below)
            folder, _, parent = folder.rpartition("/")
            name = f"{parent}/{name}"
        return None

    def _index(self, folder: str) -> tuple[Sidecar, Index] | None:
        if folder not in self._indices:
            self._indices[folder] = None
            if _has_index(folder):
                sidecar = find_sidecar(folder)
                data = None if sidecar is None or sidecar.kind != "directory" else read_index(sidecar)
                if sidecar is not None and data is not None:
                    self._indices[folder] = sidecar, parse_index(data, folder)
        return self._indices[folder]

    def names(self, directory: str) -> list[str]:
        """Return the names in `directory`: sidecars are not among them, what they stand for is."""
        full = os.path.join(self._cwd, directory).rstrip("/") or "/"
        try:
            entries = os.listdir(full)
        except OSError:
            entries = []
        names = {name for name in entries if not is_sidecar_name(name)}
        for name in entries:
            if is_sidecar_name(name):
                names.add(self._stands_for(full, name))
        names.update(self._members(full))
        return sorted(name for name in names if name)

    def _stands_for(self, folder: str, name: str) -> str:
        path = f"{folder}/{name}"
        if name.endswith(INDEX):
            # It makes a pair with its .CHECKSUM, which is seen by itself; any other is data.
            paired = read_sidecar(path[: -len(INDEX)] + CHECKSUM, 0) is not None
            return "" if paired and index_stand_in(path) is not None else name
        suffix = CHECKSUM if name.endswith(CHECKSUM) else FUTURE
        return name if member_stand_in(path) is None else name[: -len(suffix)]

    def _members(self, full: str) -> set[str]:
        folder, inside = full, ""
        while folder and (folder == self._cwd or not self._cwd.startswith(folder + "/")):
            known = self._index(folder)
            if known is not None:
                paths = [path for path in known[1] if path.startswith(inside)]
                return {path[len(inside) :].partition("/")[0] for path in paths}
            folder, _, parent = folder.rpartition("/")
            inside = f"{parent}/{inside}"
        return set()

    def is_there(self, path: str) -> bool:
        """Tell whether something is at `path`, or a sidecar stands for it."""
        full = os.path.join(self._cwd, path)
        return os.path.lexists(full) or (_possible(full) and self.find(path) is not None)

    def is_directory(self, path: str) -> bool:
        """Tell whether a directory is at `path`, or a sidecar stands for one."""
        full = os.path.join(self._cwd, path)
        if os.path.lexists(full):
            return os.path.isdir(full)
        found = self.find(path)
        return found is not None and found.kind == "directory"


def _has_index(folder: str) -> bool:
    """Whether it may have one; where the path is too long for a look it is opened."""
    beside = os.path.lexists(f"{folder}/{INDEX}") or os.path.lexists(folder + INDEX)
    return beside or len(os.fsencode(folder)) + len("/" + INDEX) >= PATH_MAX


def _refuse_far(full: str) -> None:
    """Refuse what is there, or has a sidecar, and is too deep for a run to name it by its whole path."""
    with suppress(OSError):
        os.close(open_far(full, os.O_PATH | os.O_CLOEXEC))
        raise _too_far(full)
    if find_sidecar(full) is not None or read_future(full) is not None:
        raise _too_far(full)


def _too_far(full: str) -> UsageError:
    size = len(os.fsencode(full))
    return UsageError(
        f"{os.path.basename(full)}: its whole path has {size} bytes, and the system takes {PATH_MAX - 1}:"
        " move it up, or a directory above it"
    )


def _possible(full: str) -> bool:
    """Whether a file system could hold `full`."""
    # a current directory has a path of so many bytes at most, and what is named from there has so many, too
    if "\0" in full or len(os.fsencode(full)) >= 2 * PATH_MAX:
        return False
    return all(len(name.encode("utf-8", "surrogateescape")) <= _LONGEST_NAME for name in full.split("/"))


def _is_data(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)


def _status(full: str) -> os.stat_result | None:
    try:
        return os.stat(full)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(full) and find_sidecar(full) is None and read_future(full) is None:
            raise UsageError(f"{full} is a broken symbolic link (to {os.readlink(full)})") from None
        return None
    except OSError as error:
        raise UsageError(f"cannot look at {full}: {error.strerror}") from None
