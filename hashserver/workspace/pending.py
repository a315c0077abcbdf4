"""Futures: sidecars of results that a job is still making."""

from __future__ import annotations

import errno
import json
import os
import stat
from typing import TYPE_CHECKING

from hashserver.atomic import write_atomic
from hashserver.checksum import Checksum
from hashserver.errors import InvalidChecksum, SidecarError
from hashserver.namedtuple import NamedTuple
from hashserver.regular_file import READ_FLAGS, open_far

if TYPE_CHECKING:
    from typing import Any

FUTURE = ".FUTURE"
LIMIT = 1 << 28
"""No sidecar is longer: an index of that length names more than two million files."""
_FUTURE_LIMIT = 1 << 20


class Future(NamedTuple):
    """A result that a job is making; data, of whoever has written the sidecar.

    It says which job that is. Nobody is asked, and nothing is run, because of what else it says.

    Attributes
    ----------
    key
        Key of the transformation.
    result
        Name of the result; None is its standard output.
    server
        Name of the service that runs it, for people to read; None for a job of the host itself.
    host
        Name of the host that asked.
    process
        Process that asked there.
    """

    key: Checksum
    result: str | None
    server: str | None
    host: str
    process: int


def read_sidecar(path: str, limit: int = LIMIT) -> bytes | None:
    """Return the content of a regular file, at most `limit` bytes; None when there is no such file.

    Raises
    ------
    SidecarError
        If it cannot be read.
    """
    try:
        fd = open_far(path, READ_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None  # what cannot be called so is not there: the file itself may well be
        raise SidecarError(f"cannot read {path}: {error.strerror}") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return None
        return _read_whole(fd, min(limit, status.st_size))
    except OSError as error:
        raise SidecarError(f"cannot read {path}: {error.strerror}") from None
    finally:
        os.close(fd)


def _read_whole(fd: int, size: int) -> bytes:
    data = os.read(fd, size)
    while len(data) < size and (more := os.read(fd, size - len(data))):
        data += more
    return data


def stem_of(path: str) -> str:
    """Return `path` without slashes at its end."""
    return path.rstrip("/") or path[:1]


def future_path(path: str | os.PathLike[str]) -> str:
    """Return where the future of `path` is written: beside it."""
    return stem_of(os.fspath(path)) + FUTURE


def read_future(path: str | os.PathLike[str]) -> Future | None:
    """Return the pending job that makes `path`, if its ``.FUTURE`` has our syntax."""
    return parse_future(read_sidecar(future_path(path), _FUTURE_LIMIT))


def parse_future(data: bytes | None) -> Future | None:
    """Return what a ``.FUTURE`` file says, None if its content is not in our syntax."""
    if not data:
        return None
    try:
        fields: dict[str, Any] = json.loads(data)
        if fields.pop("seamless-future") != 1:
            return None
        fields.pop("options", None)  # older versions wrote how it was to be run
        found = Future(**fields)
        return found._replace(key=Checksum(found.key)) if _well_typed(found) else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, InvalidChecksum):
        return None


def _well_typed(future: Future) -> bool:
    texts = (future.result, future.server)
    return (
        all(text is None or isinstance(text, str) for text in texts)
        and isinstance(future.host, str)
        and type(future.process) is int
    )


def write_future(path: str | os.PathLike[str], future: Future) -> str:
    """Write the future of `path`; return where it is."""
    target = future_path(path)
    document = {"seamless-future": 1, **future._asdict()}
    write_atomic(target, (json.dumps(document, sort_keys=True, ensure_ascii=False) + "\n").encode())
    return target


def remove_future(path: str | os.PathLike[str], key: str | None = None) -> bool:
    """Remove the future of `path` if it is still that of `key` (any when None); tell whether it was."""
    found = read_future(path)
    if found is None or (key is not None and found.key != key):
        return False
    try:
        os.unlink(future_path(path))
    except FileNotFoundError:
        return False
    return True
