"""How a command that runs on this host, for this host's own job system, asks for computations itself.

The process that runs it answers: it has the store, the database and the environment of whoever asked for the
command. It begins to serve when the command connects; most commands never do, and pay for a socket only.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
from typing import TYPE_CHECKING

from seamless_dask.execution.layout import GATEWAY

if TYPE_CHECKING:
    from hashserver.checksum import Checksum
    from seamless_dask.context import Context
    from seamless_dask.model.options import Options

    from .command_socket import CommandSocket
    from .serving import Serving

_MOST_UNUSED = 4
_unused: dict[str, CommandSocket] = {}
"""Sockets to which no command has connected, by their directories."""


class LocalGateway:
    """The files of one run, and what answers behind them.

    Parameters
    ----------
    context : Context
        Store and database.
    bounded : bool
        What is asked for waits for a processor of this host, as others do.
    outer : Checksum
        The job whose command it is.
    given : Options
        How the command was asked for, which bounds what it can ask for itself.
    place : CommandSocket
        Where it asks.
    """

    def __init__(
        self, context: Context, bounded: bool, outer: Checksum, given: Options, place: CommandSocket
    ) -> None:
        self._made_of = context, bounded, outer, given
        self._place = place
        self._serving: Serving | None = None
        self._poll = select.poll()
        self._poll.register(place.socket.fileno(), select.POLLIN)
        self.variables = place.variables

    @property
    def waiting(self) -> bool:
        """Whether the command waits for something that it has asked for."""
        return self._serving is not None and self._serving.gateway.waiting

    def look(self) -> None:
        """Begin to serve as soon as somebody connects."""
        if self._serving is None and self._poll.poll(0):
            from .serving import Serving

            self._serving = Serving(*self._made_of, self._place)

    def close(self) -> None:
        """Answer no more, and withdraw what the command still waits for."""
        if self._serving is not None:
            self._serving.close()
        elif not self._poll.poll(0):  # nobody has come, nor will: the next command may have it
            _keep(self._place)
            return
        self._place.close()


def open_gateway(
    context: Context, bounded: bool, outer: Checksum, given: Options, control: str, inner: str
) -> LocalGateway | None:
    """Make the files of one run; None where there is no way for that.

    Parameters
    ----------
    context, bounded, outer, given
        As of `LocalGateway`.
    control, inner
        Directory of the run, made if need be, as we see it and as the command does.
    """
    if sys.platform != "linux":
        return None
    from .command_socket import CommandSocket

    directory, inner = f"{control}/{GATEWAY}", f"{inner}/{GATEWAY}"
    place = _unused.pop(directory, None)
    if place is None or place.inner != inner or not place.renew():
        if place is not None:
            place.close()
        shutil.rmtree(directory, ignore_errors=True)  # of the attempt before
        os.makedirs(control, exist_ok=True)
        place = CommandSocket(directory, inner)
    return LocalGateway(context, bounded, outer, given, place)


def _keep(place: CommandSocket) -> None:
    _unused[place.directory] = place
    while len(_unused) > _MOST_UNUSED:
        _unused.pop(next(iter(_unused))).close()
