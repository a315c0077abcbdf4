"""Buffers that are a user's file: recorded where it is, or linked into the store.

Neither is protected from its owner, so each has a record of the state in which it had its
checksum, and every opening compares.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import TYPE_CHECKING

from hashserver.atomic import NewFile, write_all
from hashserver.checksum import hash_descriptor
from hashserver.durability import sync_directories
from hashserver.errors import InvalidRequest, LinkRefused, OriginalChanged
from hashserver.namedtuple import NamedTuple
from hashserver.regular_file import named, open_regular, read_regular
from hashserver.storage.store import changed, file_changed

if TYPE_CHECKING:
    from hashserver.checksum import Checksum
    from hashserver.storage.store import Path


_LONGEST = 1 << 16  # a path has 4 KiB at most, which JSON may make six times as long


class Reference(NamedTuple):
    """The state in which a user's file had the checksum it is recorded under."""

    path: str
    size: int
    inode: int
    mtime_ns: int

    def holds(self, state: os.stat_result) -> bool:
        """Say whether `state` is the recorded one."""
        return (state.st_size, state.st_ino, state.st_mtime_ns) == self[1:]

    def changed(self, checksum: str) -> OriginalChanged:
        """Return the error for a file that is not what it was."""
        what = "has changed since it was stored in place" if os.path.exists(self.path) else "is gone"
        return OriginalChanged(
            checksum, f"{self.path} {what}, and with it buffer {checksum}: seamless-upload the data again"
        )


class References:
    """The records, one file a buffer.

    Parameters
    ----------
    root
        The directory of the store.
    name
        Name of their directory in it; made with the first of them.
    """

    def __init__(self, root: str, name: str) -> None:
        self._root, self._directory = root, f"{root}/{name}"

    def any(self) -> bool:
        """Say whether there may be records: one look spares one for each buffer."""
        return os.path.exists(self._directory)

    def get(self, checksum: str) -> Reference | None:
        """Return the record of a buffer; one that cannot be read counts as none."""
        try:
            record = json.loads(read_regular(self._file(checksum), _LONGEST, follow=False))
            found = Reference(record["path"], record["size"], record["inode"], record["mtime_ns"])
            return found if _well_typed(found) else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None

    def put(self, checksum: str, path: str, state: os.stat_result) -> None:
        """Record that the file at `path` has `checksum` in `state`."""
        record = Reference(path, state.st_size, state.st_ino, state.st_mtime_ns)
        target = self._file(checksum)
        folder = os.path.dirname(target)
        from hashserver.storage.modes import is_shared, make_below  # only for those who write

        make_below(self._root, folder)
        shared = is_shared(self._root)
        with NewFile(folder, f"{target}.new", 0o600) as file:
            if shared:
                os.fchmod(file.fd, 0o644)
            write_all(file.fd, json.dumps(record._asdict()).encode())
            file.sync()
            file.publish(target)
        sync_directories([folder, self._directory, self._root])

    def remove(self, checksum: str) -> bool:
        """Forget a record; False when there was none."""
        try:
            os.unlink(self._file(checksum))
        except OSError:
            return False
        return True

    def _file(self, checksum: str) -> str:
        return f"{self._directory}/{checksum[:2]}/{checksum}"


def _well_typed(found: Reference) -> bool:
    """Say whether a record, which others may have written, can be one of ours; a number is a descriptor."""
    path, *numbers = found
    is_path = isinstance(path, str) and path.startswith("/") and b"\0" not in os.fsencode(path)
    return is_path and all(type(number) is int for number in numbers)


def state_with(original: str, checksum: Checksum, state: os.stat_result | None) -> os.stat_result:
    """Return the state in which the file has `checksum`: `state`, if it still is in that."""
    if state is None:
        fd, state = open_regular(original)
        try:
            with named(original):
                found, _ = hash_descriptor(fd)
        finally:
            os.close(fd)
        if found != checksum:
            raise file_changed(original, checksum)
    now = os.stat(original)
    if not stat.S_ISREG(now.st_mode):
        raise InvalidRequest(f"{original} is not a regular file: only those can be stored in place")
    if changed(state, now):
        raise file_changed(original, checksum)
    return state


def link_refused(error: OSError, path: Path, url: str) -> LinkRefused:
    """Return the error for a file that the system does not let us link, with what else there is."""
    reasons = {
        errno.EXDEV: "it is on another file system",
        errno.EPERM: "the system does not permit links to files that are not your own to write",
        errno.EMLINK: "it has too many links already",
    }
    reason = reasons.get(error.errno or 0, error.strerror)
    return LinkRefused(
        f"{os.fspath(path)} cannot be linked into {url} ({reason}): use --in-place to store it where it is"
    )
