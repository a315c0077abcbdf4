"""What an index knows that is about to be replaced, and what would go with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import BufferMissing, InvalidChecksum, InvalidIndex, SidecarError
from hashserver.workspace.index import parse_index
from hashserver.workspace.pending import read_sidecar, stem_of
from hashserver.workspace.sidecar import CHECKSUM, INDEX

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hashserver.workspace.index import Index

    Fetch = Callable[[Checksum], bytes]

SHOWN = 3
"""Names in a message; the rest is counted."""


def told(names: Sequence[str], noun: str = "file") -> str:
    """Return some names as a person is told of them: their number, and the first of them."""
    shown = ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
    return f"{len(names):,} {noun}{'' if len(names) == 1 else 's'} ({shown})"


def refuse_loss(path: str, new: Index, fetch: Fetch, command: str) -> None:
    """Make sure that the sidecars of a directory may be replaced without losing track of anything.

    A deleted file and one that was never fetched look the same, and an index may be the only record of data
    that are elsewhere. So whatever the sidecars beside or inside name, damaged as they may be, has to be
    named by the new ones. A file that has another name now is not lost.

    Parameters
    ----------
    path
        The directory.
    new
        What its index is going to be.
    fetch
        Returns the bytes of a checksum: an index that is not here.
    command
        What replaces it in spite of that, for the message.

    Raises
    ------
    SidecarError
        If members would go.
    """
    for prefix in dict.fromkeys((stem_of(path) + "/", stem_of(path))):
        old = _known(prefix, fetch, new)
        if old is None:
            raise SidecarError(
                f"{prefix}{CHECKSUM} names a directory whose index is neither here nor in the store:"
                f" what would be lost is not known; restore {prefix}{INDEX}, or {command} to write both anew"
            )
        lost = lost_members(old, new)
        if lost:
            raise SidecarError(
                f"{path}: {told(lost)} that its index names would go from it: seamless-download brings back"
                f" what is not here, {command} lets it go"
            )


def refuse_loss_by_file(path: str, command: str) -> None:
    """Do what `refuse_loss` does, where a file has taken the place of a directory of Seamless 1.x."""
    stem = stem_of(path)
    data, checksum = read_sidecar(stem + INDEX), _checksum(stem)
    if data is not None and hash_bytes(data) == checksum and (index := _parsed(data)):
        raise SidecarError(
            f"{path} is a file now, and {stem}{INDEX} names {told(sorted(index))} of a directory that was"
            f" there: move that pair away, or {command} lets it go"
        )


def lost_members(old: Mapping[str, Checksum], new: Mapping[str, Checksum]) -> list[str]:
    """Return the members of `old` that `new` has neither by that name nor, one for one, by a new name."""
    gone = sorted(old.keys() - new.keys())
    if not gone:
        return []
    fresh: dict[Checksum, int] = {}
    for name in new.keys() - old.keys():
        fresh[new[name]] = fresh.get(new[name], 0) + 1
    lost = []
    for name in gone:
        if fresh.get(old[name], 0):
            fresh[old[name]] -= 1
        else:
            lost.append(name)
    return lost


def _known(prefix: str, fetch: Fetch, new: Index) -> Index | None:
    """Return what the pair with this prefix names, nothing if there is none; None if nobody can tell."""
    data, checksum = read_sidecar(prefix + INDEX), _checksum(prefix)
    known = None if data is None else _parsed(data)
    if known is not None:
        if checksum is None or checksum == hash_bytes(data or b""):
            return known
        # They do not belong together: what either names is not to be lost.
        return known | (_fetched(checksum, fetch) or {})
    return {} if checksum is None else _fetched(checksum, fetch)


def _checksum(prefix: str) -> Checksum | None:
    text = read_sidecar(prefix + CHECKSUM, 4096)
    try:
        return None if text is None else Checksum(text.strip().decode("ascii"))
    except (InvalidChecksum, UnicodeDecodeError):
        return None


def _fetched(checksum: Checksum, fetch: Fetch) -> Index | None:
    """Return an index from the store; nothing for what is no index, None for what is not there."""
    try:
        return _parsed(fetch(checksum)) or {}
    except BufferMissing:
        return None


def _parsed(data: bytes) -> Index | None:
    try:
        return parse_index(data)
    except InvalidIndex:
        return None
