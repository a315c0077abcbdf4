"""What counts in a directory: a scan without what is left out, and whether it still is so."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import BufferMissing, FileChanged, TreeError
from hashserver.regular_file import read_regular
from hashserver.system_text import to_system
from hashserver.workspace.ignore import LeaveOut, ignore_files, may_concern
from hashserver.workspace.index import index_bytes, parse_index
from hashserver.workspace.scan import Scan, folder_state, scan_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hashserver.workspace.ignore import Apart
    from hashserver.workspace.index import Index

    Fetch = Callable[[Checksum], bytes]

LONGEST_RULES = 1 << 20
"""Bytes of a ``.seamlessignore``."""


class Survey(NamedTuple):
    """What counts in a directory.

    Attributes
    ----------
    scan
        Without what is left out.
    judge
        Tells what is left out, of other paths too.
    left_out
        How many files and sidecars are left out.
    rules
        The content of each ``.seamlessignore`` that was read, by its checksum and relative path.
    """

    scan: Scan
    judge: LeaveOut
    left_out: int
    rules: dict[str, Checksum]


def survey(root: str, fetch: Fetch | None, by_products: bool, apart: Apart | None = None) -> Survey:
    """Look at what counts in the directory `root`.

    Parameters
    ----------
    root
        The directory.
    fetch
        Returns the bytes of a checksum: a ``.seamlessignore`` of which only the sidecar is here.
    by_products
        Leave out by-products, as the inputs of a run do.
    apart
        Tells what is no part of the directory in any case.

    Raises
    ------
    TreeError, SidecarError
        If what counts has no identity: see `hashserver.workspace.scan.scan`.
    """
    found = scan_all(root)
    rules: dict[str, Checksum] = {}
    read = _reader(root, found.stand_ins, fetch, rules)
    names = ignore_files([*(path for path, _ in found.files), *found.stand_ins])
    judge = LeaveOut(names, read, by_products, apart)
    kept, number = _without(found, judge)
    for problem in kept.problems.values():
        raise problem
    return Survey(kept, judge, number, rules)


def _without(found: Scan, judge: LeaveOut) -> tuple[Scan, int]:
    members = [*(path for path, _ in found.files), *found.stand_ins, *found.futures]
    folders = [f"{path}/" for path in found.folders if path]
    out = judge.of([*members, *found.problems, *found.remarks, *folders])
    if not out:
        return found, 0
    return found._replace(
        files=[member for member in found.files if member[0] not in out],
        stand_ins={path: says for path, says in found.stand_ins.items() if path not in out},
        futures={path: says for path, says in found.futures.items() if path not in out},
        problems={path: problem for path, problem in found.problems.items() if path not in out},
        remarks={path: text for path, text in found.remarks.items() if path not in out},
        folders={path: state for path, state in found.folders.items() if f"{path}/" not in out},
    ), judge.number(path for path in members if path in out)


def _reader(
    root: str, stand_ins: Mapping[str, Checksum], fetch: Fetch | None, rules: dict[str, Checksum]
) -> Callable[[str], bytes]:
    def read(relative: str) -> bytes:
        path = os.path.join(root, to_system(relative))
        if relative in stand_ins:
            return fetch_rules(path, stand_ins[relative], fetch)
        try:
            data = _bounded(path, read_regular(path, LONGEST_RULES + 1))
        except OSError as error:
            raise TreeError(f"cannot read {path}: {error.strerror}") from None
        rules[relative] = hash_bytes(data)
        return data

    return read


def fetch_rules(path: str, checksum: Checksum, fetch: Fetch | None) -> bytes:
    """Return the content of a ``.seamlessignore`` that is known by its checksum only.

    Raises
    ------
    BufferMissing
        If no store has it.
    """
    message = f"{path} says what does not count, but its bytes are in no store: restore it and upload it"
    if fetch is None:
        raise BufferMissing(checksum, message)
    try:
        return _bounded(path, fetch(checksum))
    except BufferMissing:
        raise BufferMissing(checksum, message) from None


def _bounded(path: str, data: bytes) -> bytes:
    """Refuse rules longer than anybody writes: they are a stranger's, and each file is held against them."""
    if len(data) > LONGEST_RULES:
        raise TreeError(f"{path} is longer than rules may be ({LONGEST_RULES >> 20} MiB)")
    return data


def check_settled(root: str, found: Survey, index: Index, again: Callable[[], Survey]) -> None:
    """Make sure that a directory still holds what it held when it was surveyed.

    What is removed or added between the listing of one folder and of the next would otherwise give an index
    of a directory that never was. A folder's time changes with by-products and our own sidecars too, so it
    only says that one has to look again.

    Raises
    ------
    FileChanged
        If it does not.
    """
    for relative, checksum in found.rules.items():
        if index.get(relative, checksum) != checksum:
            path = os.path.join(root, to_system(relative))
            raise FileChanged(checksum, f"{path} changed while it was read: try again")
    folders = found.scan.folders.items()
    if all(folder_state(os.path.join(root, to_system(folder))) == state for folder, state in folders):
        return
    if _members(again().scan) != _members(found.scan):
        raise FileChanged("", f"{root} changed while it was read: wait until its writer is done")


def _members(found: Scan) -> set[str]:
    return {*(path for path, _ in found.files), *found.stand_ins, *found.futures}


class Slim(NamedTuple):
    """An index without what is left out: its canonical bytes, their checksum, how many members that are."""

    data: bytes
    checksum: Checksum
    left_out: int


def slim_index(
    path: str,
    data: bytes,
    checksum: Checksum,
    fetch: Fetch | None,
    by_products: bool,
    apart: Apart | None = None,
) -> Slim:
    """Leave out of the index of a directory what does not count.

    Parameters
    ----------
    path
        The directory, for messages, and for the rules where the files that hold them are here.
    data, checksum
        Its index.
    fetch
        Returns the bytes of a checksum: those of its ``.seamlessignore`` files.
    by_products
        Leave out by-products, too.
    apart
        Tells what is no part of the directory in any case.
    """
    if apart is None and not may_concern(data, by_products):
        return Slim(data, checksum, 0)
    index = parse_index(data, path)
    judge = judge_of(path, index, fetch, by_products, apart)
    out = judge.of(index)
    if not out:
        return Slim(data, checksum, 0)
    slim = index_bytes({member: says for member, says in index.items() if member not in out})
    return Slim(slim, hash_bytes(slim), judge.number(out))


def judge_of(
    path: str, index: Index, fetch: Fetch | None, by_products: bool, apart: Apart | None = None
) -> LeaveOut:
    """Return what tells what is left out of a directory of which the index is known."""

    def read(relative: str) -> bytes:
        local = os.path.join(path, to_system(relative))
        try:
            data = read_regular(local, LONGEST_RULES + 1)
            if hash_bytes(data) == index[relative]:
                return data
        except OSError:
            pass  # it was deleted after its upload
        return fetch_rules(local, index[relative], fetch)

    return LeaveOut(ignore_files(index), read, by_products, apart)
