"""The index of a directory: relative POSIX path → checksum of the file."""

from __future__ import annotations

import json
import os
import re
from functools import cache
from json.encoder import encode_basestring
from typing import TYPE_CHECKING

from hashserver.checksum import Checksum, is_checksum, make_checksum
from hashserver.errors import InvalidIndex
from hashserver.system_text import to_system

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import NoReturn

Index = dict[str, Checksum]

_COMPONENT = r"(?!\.{1,2}(?:/|\Z))[^/\0]+"


@cache  # on first use: a cached run of single files needs none
def _safe() -> Callable[[str], object]:
    return re.compile(f"{_COMPONENT}(?:/{_COMPONENT})*").fullmatch


def index_bytes(index: Mapping[str, str]) -> bytes:
    """Return the canonical form of `index`, whose SHA-256 is the checksum of the directory.

    It is what ``json.dumps(index, sort_keys=True, indent=2, ensure_ascii=False)`` writes, and a newline, as
    UTF-8: the form of Seamless 1.x.
    """
    if not index:
        return b"{}\n"
    # json.dumps with an indent runs in Python; this is five times faster for thousands of files.
    lines = [f'  {encode_basestring(path)}: "{index[path]}"' for path in sorted(index)]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def members_below(index: Index, folder: str) -> Index:
    """Return the index of a folder in a directory; empty where it has no such folder."""
    prefix = f"{folder}/"
    return {path[len(prefix) :]: checksum for path, checksum in index.items() if path.startswith(prefix)}


def parse_index(data: bytes, path: str = "") -> Index:
    """Read an index, from a stranger perhaps.

    Parameters
    ----------
    data
        JSON; its layout does not matter.
    path
        The directory that it is said to be of, for messages.

    Raises
    ------
    InvalidIndex
        If it is not an object from safe relative paths to checksums: one that leaves the directory, that is
        both a file and a directory, or that cannot be a file name.
    """
    try:
        return _parse(data)
    except InvalidIndex as error:
        raise (InvalidIndex(f"{path}: {error}") if path else error) from None


def _parse(data: bytes) -> Index:
    try:
        pairs = json.loads(data.decode(), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise InvalidIndex(f"not a directory index: {_reason(error)}") from None
    if type(pairs) is not _Pairs:
        raise InvalidIndex("not a directory index: it must be a JSON object")
    safe = _safe()
    # All at once, since an index may have a hundred thousand members; then one by one to name the bad one.
    index = {
        path: make_checksum(text)
        for path, text in pairs
        if type(text) is str and is_checksum(text) and safe(path)
    }
    if len(index) != len(pairs) or not _is_utf8("".join(index)):
        _complain(pairs)
    _check_folders(index)
    return index


def _complain(pairs: _Pairs) -> NoReturn:
    for path, text in pairs:
        check_path(path)
        if type(text) is not str or not is_checksum(text):
            raise InvalidIndex(f"directory index: {path!r:.200} has no valid checksum")
    raise InvalidIndex("directory index: a path occurs twice")


class _Pairs(list[tuple[str, str]]):
    """The members of a JSON object in order, duplicates included."""


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return "it is not JSON"


def check_path(path: str) -> None:
    """Refuse a path that is not relative, normalised, and a possible name of a file.

    Raises
    ------
    InvalidIndex
        If it is absolute, empty, has empty components, ``.`` or ``..``, a NUL, or is no UTF-8.
    """
    if _safe()(path) is None or not (path.isascii() or _is_utf8(path)):
        raise InvalidIndex(f"directory index: the path {path!r:.200} is not a plain relative path")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def parent_folders(paths: Iterable[str]) -> set[str]:
    """Return every folder that one of the relative `paths` lies in, the top one excluded."""
    folders: set[str] = set()
    for path in paths:
        end = path.rfind("/")
        while end > 0 and (folder := path[:end]) not in folders:
            folders.add(folder)
            end = path.rfind("/", 0, end)
    return folders


def _check_folders(index: Index) -> None:
    for folder in parent_folders(index):
        if folder in index:
            raise InvalidIndex(f"directory index: {folder!r} is both a file and a directory")


def safe_join(root: str, relative: str) -> str:
    """Return the path of member `relative` below `root`.

    Raises
    ------
    InvalidIndex
        If `relative` could lead out of `root`.
    """
    check_path(relative)
    return os.path.join(root, to_system(relative))


def is_executable(head: bytes) -> bool:
    """Tell whether a file that starts with `head` (four bytes suffice) is made executable."""
    return head.startswith((b"#!", b"\x7fELF"))
