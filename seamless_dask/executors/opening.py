"""Who runs computations: this host, or a scheduler's jobserver by HTTP or by Dask's own protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config import is_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..context import Context
    from .base import Executor


def executor(
    context: Context,
    notify: Callable[[str], None] | None = None,
    *,
    bounded: bool = True,
    kept: bool = False,
) -> Executor:
    """Return who runs computations in `context`; to be closed.

    Parameters
    ----------
    notify
        Gets what a person who waits should know, one line each.
    bounded
        On this host no more commands run at a time than it has processors; false: the caller sees to that.
    kept
        On this host the processes that run computations are kept for the next ones.
    """
    server = context.config.daskserver
    if server is None:
        from .embedded import Embedded

        return Embedded(context, bounded=bounded, kept=kept)
    if is_address(server):
        from .dask import DaskExecutor

        return DaskExecutor(context, server, notify)
    from .http import JobserverExecutor

    return JobserverExecutor(context, server, notify)
