"""A copy of a result database to mail: one file, at one point in time, that opens anywhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hashserver.errors import DatabaseError
from hashserver.results.sources import ReadOnlyDatabase
from hashserver.results.sqlitefile import patiently, translate_os

if TYPE_CHECKING:
    import sqlite3


def export(source: str, target: str | os.PathLike[str]) -> None:
    """Write the copy beside `target`, make it durable and put it in place.

    Raises
    ------
    DatabaseError
        `target` is the database itself or a directory.
    NoSpace, ReadOnly
        The copy cannot be written; nothing of it is left.
    """
    path = os.path.abspath(os.fsdecode(target))
    if os.path.isdir(path):
        raise DatabaseError(f"{path} is a directory: name a file to export to")
    if os.path.exists(path) and os.path.samefile(source, path):
        raise DatabaseError(f"{path} is the database itself: name another file to export to")
    _remove_dead(path)
    part = f"{path}.{os.getpid()}.part"
    file = ReadOnlyDatabase(source)  # a connection of its own: look-ups go on
    try:
        file.read(lambda connection: patiently(lambda: _copy(connection, part), path))
        _settle(part)
        os.replace(part, path)
    except OSError as error:
        raise translate_os(error, path) from error
    finally:
        file.close()
        _remove(part)


def _copy(connection: sqlite3.Connection, part: str) -> None:
    _remove(part)  # of an attempt that was disturbed
    connection.execute("VACUUM INTO ?", (part,))  # in rollback mode, whatever the source is in


def _settle(part: str) -> None:
    descriptor = os.open(part, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(part: str) -> None:
    for name in (part, part + "-journal"):
        if os.path.lexists(name):
            os.unlink(name)


def _remove_dead(path: str) -> None:
    """Remove what exports to the same file left that were killed."""
    directory, name = os.path.split(path)
    try:
        entries = os.listdir(directory)
    except OSError:
        return
    for entry in entries:
        pid = entry.removeprefix(f"{name}.").removesuffix(".part")
        if entry == f"{name}.{pid}.part" and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            os.unlink(os.path.join(directory, entry))
