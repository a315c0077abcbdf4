"""Results that an earlier version has recorded: found by what they were made from once that has been read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashserver.errors import ReadOnly

if TYPE_CHECKING:
    from seamless_dask.context import Context

    from ..console import Console

_SECONDS = 1.0


def catch_up(context: Context) -> bool:
    """Look into such results for a moment; say whether there are no more of them."""
    try:
        return context.database.catch_up(context.store, _SECONDS)
    except ReadOnly:
        return True


def note_rest(console: Console) -> None:
    """Tell that there are more of them."""
    console.note("not all results of an earlier version have been looked into: once more goes on with it")
