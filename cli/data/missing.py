"""Bytes that are gone: which file's, and what brings them back."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from hashserver.checksum import Checksum
from hashserver.errors import BufferMissing, HashserverError

from ..console import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hashserver.storage.store import Store
    from seamless_dask.context import Context
    from seamless_dask.model.transformation import Deferred, Value


def named(context: Context, error: BufferMissing, path: str) -> CommandError:
    """Return the error for bytes that are gone of a file, or of one in a directory.

    Parameters
    ----------
    path : str
        Where they were wanted.
    """
    checksum = Checksum(error.checksum)
    producers: list[Checksum] = []
    with suppress(HashserverError):
        producers = list(context.database.producers(checksum))
    what = str(error) if path in str(error) else f"{path}: its bytes ({checksum}) are in none of the stores"
    if producers:
        return CommandError(f"{what}; seamless-fingertip {checksum} makes them again")
    return CommandError(f"{what}, and nothing is known to make them; seamless-upload it where it still is")


def input_path(store: Store, inputs: Mapping[str, Value | Deferred], checksum: str) -> str | None:
    """Return which input of a command, or which file in one, has a checksum; None if none has."""
    from hashserver.workspace.index import parse_index

    for name, value in inputs.items():
        given = getattr(value, "checksum", None)
        if given == checksum:
            return name
        if given is not None and getattr(value, "format", "") == "directory":
            with suppress(HashserverError):
                for member, says in parse_index(store.get(given)).items():
                    if says == checksum:
                        return f"{name}/{member}"
    return None
