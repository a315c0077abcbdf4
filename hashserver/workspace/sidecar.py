"""Sidecars: small files that hold the identity of what lies, lay or will lie beside them."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from hashserver.atomic import write_atomic
from hashserver.checksum import Checksum, hash_bytes
from hashserver.durability import sync_file
from hashserver.errors import InvalidChecksum, InvalidIndex, SidecarError
from hashserver.namedtuple import NamedTuple
from hashserver.regular_file import PATH_MAX
from hashserver.workspace.index import parse_index
from hashserver.workspace.pending import (
    FUTURE,
    Future,
    future_path,
    parse_future,
    read_future,
    read_sidecar,
    remove_future,
    stem_of,
    write_future,
)

if TYPE_CHECKING:
    from typing import Literal

__all__ = [
    "CHECKSUM",
    "FUTURE",
    "INDEX",
    "LONGEST_NAME",
    "Future",
    "Sidecar",
    "find_sidecar",
    "future_path",
    "is_sidecar_name",
    "member_stand_in",
    "no_room",
    "read_checksum",
    "read_future",
    "read_index",
    "read_sidecar",
    "remove_future",
    "write_atomic",
    "write_directory_sidecars",
    "write_file_sidecar",
    "write_future",
]

CHECKSUM, INDEX = ".CHECKSUM", ".INDEX"
LONGEST_NAME = 255 - len(CHECKSUM)
"""The most bytes that a file's name may have to leave room for its sidecar's, on nearly all file systems."""
SUFFIXES = (CHECKSUM, INDEX, FUTURE)


class Sidecar(NamedTuple):
    """What a sidecar says.

    Attributes
    ----------
    kind
        What the checksum identifies.
    checksum
        That of the file, or the deep one of the directory.
    path
        The sidecar that says so.
    index_path
        The ``.INDEX`` of a directory, where there is one; it belongs to `checksum`.
    """

    kind: Literal["file", "directory"]
    checksum: Checksum
    path: str
    index_path: str | None = None


def is_sidecar_name(name: str) -> bool:
    """Tell whether `name` is that of a sidecar, whatever the file holds."""
    return name.endswith(SUFFIXES)


def read_checksum(sidecar_path: str | os.PathLike[str]) -> Checksum:
    """Return the checksum that a ``.CHECKSUM`` file holds.

    Raises
    ------
    SidecarError
        If it is empty, holds anything else, or cannot be read.
    FileNotFoundError
        If there is none.
    """
    path = os.fspath(sidecar_path)
    text = read_sidecar(path, 4096)
    if text is None:
        raise FileNotFoundError(2, "No such sidecar", path)
    found = _parse_checksum(text)
    if found is None:
        state = "does not hold a checksum (64 lower-case hex digits)" if text.strip() else "is empty"
        raise SidecarError(
            f"{path} {state}: restore it, or seamless-upload {_subject(path)} to write it anew"
        )
    return found


def _subject(sidecar_path: str) -> str:
    return sidecar_path[: -len(CHECKSUM)].rstrip("/") or "."


def _parse_checksum(data: bytes) -> Checksum | None:
    try:
        return Checksum(data.strip().decode("ascii"))
    except (InvalidChecksum, UnicodeDecodeError):
        return None


def find_sidecar(path: str | os.PathLike[str]) -> Sidecar | None:
    """Return what the sidecar of `path` says, whether or not `path` exists.

    The form inside a directory and the forms beside it that Seamless 1.x writes are both read.

    Raises
    ------
    SidecarError
        If it is empty or holds no checksum, if both forms exist and disagree, or if an index is not that of
        the checksum.
    """
    stem = stem_of(os.fspath(path))
    inside = _optional_checksum(stem + "/" + CHECKSUM)
    beside = _optional_checksum(stem + CHECKSUM)
    if inside is not None:
        if beside is not None and beside != inside:
            raise SidecarError(
                f"{stem}/{CHECKSUM} and {stem}{CHECKSUM} disagree:"
                f" delete the wrong one, or seamless-upload {stem}"
            )
        return _directory_sidecar(stem, inside, stem + "/")
    if beside is None:
        return None
    if _is_directory_beside(stem, beside):
        return _directory_sidecar(stem, beside, stem)
    return Sidecar("file", beside, stem + CHECKSUM)


def _optional_checksum(path: str) -> Checksum | None:
    try:
        return read_checksum(path)
    except FileNotFoundError:
        return None


def _is_directory_beside(stem: str, checksum: Checksum) -> bool:
    try:
        return stat.S_ISDIR(os.stat(stem).st_mode)
    except OSError:
        pass
    data = read_sidecar(stem + INDEX)
    # An unrelated file may bear that name; what parses as an index is ours.
    return data is not None and (hash_bytes(data) == checksum or _parses(data))


def _parses(data: bytes) -> bool:
    try:
        parse_index(data)
    except InvalidIndex:
        return False
    return True


def _directory_sidecar(stem: str, checksum: Checksum, prefix: str) -> Sidecar:
    index_path = prefix + INDEX
    data = read_sidecar(index_path)
    if data is None:
        return Sidecar("directory", checksum, prefix + CHECKSUM)
    if hash_bytes(data) != checksum:
        raise SidecarError(
            f"{index_path} is not the index of {prefix}{CHECKSUM}: seamless-upload {stem} to write both"
        )
    return Sidecar("directory", checksum, prefix + CHECKSUM, index_path)


def read_index(sidecar: Sidecar) -> bytes | None:
    """Return the bytes of a directory's index, or None when they must be had from a store.

    Raises
    ------
    SidecarError
        If they are no longer those of the sidecar.
    """
    data = None if sidecar.index_path is None else read_sidecar(sidecar.index_path)
    if data is not None and hash_bytes(data) != sidecar.checksum:
        raise SidecarError(f"{sidecar.index_path} has changed since it was found: try again")
    return data


def write_file_sidecar(path: str | os.PathLike[str], checksum: Checksum, durable: bool = False) -> str:
    """Write the sidecar of a file, which need not exist; return where it is.

    Parameters
    ----------
    durable
        Whether it is to survive a power cut.

    Raises
    ------
    SidecarError
        If `path` is a directory, or its name leaves no room for that of a sidecar.
    """
    text = os.fspath(path)
    if os.path.isdir(text):
        raise SidecarError(f"{text} is a directory: move it away, a file's sidecar is to stand beside it")
    target = text + CHECKSUM
    _drop_index_of_old_pair(text)
    _write(text, target, f"{checksum}\n".encode(), durable)
    return target


def _write(path: str, target: str, data: bytes, durable: bool) -> None:
    try:
        write_atomic(target, data, durable=durable)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise SidecarError(no_room(path)) from None
        raise


def no_room(path: str) -> str:
    """Say that `path`, or its name, is too long to have a sidecar beside it."""
    most = PATH_MAX - len("/" + CHECKSUM) - 1
    if (size := len(os.fsencode(path))) > most:
        return (
            f"{path}: a path of {size} bytes leaves no room for its sidecar ({most} do): cd to its directory"
        )
    size = len(os.path.basename(path).encode("utf-8", "surrogateescape"))
    return f"{path}: a name of {size} bytes leaves no room for its sidecar ({LONGEST_NAME} do): shorten it"


def _drop_index_of_old_pair(stem: str) -> None:
    # Seamless 1.x's pair of a directory that has become a file: its index would make a directory of it again.
    data = read_sidecar(stem + INDEX)
    if data is not None and read_sidecar(stem + CHECKSUM, 4096) == f"{hash_bytes(data)}\n".encode():
        os.unlink(stem + INDEX)


def write_directory_sidecars(
    path: str | os.PathLike[str], checksum: Checksum, index_bytes: bytes, durable: bool = False
) -> str:
    """Write the pair of a directory, making the directory if need be; return where its checksum is.

    The index goes first, so that a reader who finds the checksum finds its index. Forms of Seamless 1.x
    beside the directory are brought in line, where they exist.

    Raises
    ------
    SidecarError
        If a file of somebody else's bears the name of a sidecar.
    """
    stem = stem_of(os.fspath(path))
    os.makedirs(stem, exist_ok=True)
    prefixes = [stem + "/"]
    if _optional_checksum_of_pair(stem) is not None:
        prefixes.append(stem)
    for prefix in prefixes:
        _refuse_foreign(prefix)
    for prefix in reversed(prefixes):
        _write(stem, prefix + INDEX, index_bytes, durable)
        _write(stem, prefix + CHECKSUM, f"{checksum}\n".encode(), durable)
    return stem + "/" + CHECKSUM


def sync_sidecars(path: str | os.PathLike[str]) -> None:
    """Have the sidecars of `path` survive a power cut, whoever wrote them: what they name is about to go."""
    sidecar = find_sidecar(path)
    if sidecar is not None:
        for name in filter(None, (sidecar.index_path, sidecar.path)):
            sync_file(name)


def _optional_checksum_of_pair(stem: str) -> Checksum | None:
    data = read_sidecar(stem + CHECKSUM, 4096)
    return None if data is None else _parse_checksum(data)


def _refuse_foreign(prefix: str) -> None:
    """Keep a data file that happens to be called like a sidecar from being overwritten."""
    index, checksum = read_sidecar(prefix + INDEX), read_sidecar(prefix + CHECKSUM, 4096)
    if index is not None and not _parses(index):
        raise SidecarError(
            f"{prefix}{INDEX} is not a directory index of ours: move it away, its name is needed"
        )
    if checksum is not None and checksum.strip() and _parse_checksum(checksum) is None:
        raise SidecarError(f"{prefix}{CHECKSUM} is not a sidecar of ours: move it away, its name is needed")


def member_stand_in(path: str) -> Checksum | Future | None:
    """Return what the file at `path`, ``X.CHECKSUM`` or ``X.FUTURE``, says; None if it is ordinary data."""
    if path.endswith(CHECKSUM):
        data = read_sidecar(path, 4096)
        return None if data is None else _parse_checksum(data)
    return parse_future(read_sidecar(path, 1 << 20)) if path.endswith(FUTURE) else None


def index_stand_in(path: str) -> bytes | None:
    """Return the content of the ``.INDEX`` file at `path` if it is an index; None if it is ordinary data."""
    data = read_sidecar(path)
    return data if data is not None and _parses(data) else None
