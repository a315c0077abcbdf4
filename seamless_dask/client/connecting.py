"""Connecting to a daskserver: by its name, its connection file, or the address of its scheduler."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from distributed import Security

from .. import connection
from ..config import is_address, load
from ..context import Context
from ..errors import UsageError
from .client import NO_SECURITY, Client
from .security import security_of

if TYPE_CHECKING:
    from collections.abc import Iterator


def connect(
    daskserver: str | os.PathLike[str] | None = None, *, security: Security | None = None, **options: Any
) -> Client:
    """Return a client of a daskserver.

    Parameters
    ----------
    daskserver
        Its name on this host, its connection file, or the address of its scheduler; by default that of the
        configuration.
    security
        As of `distributed.Client`; needed for an address only.
    **options
        All others of `distributed.Client`.

    Raises
    ------
    UsageError
        There is no such daskserver, or what opens it is missing.
    """
    place = _place(daskserver)
    if not is_address(place):
        return _of_file(place, security, options)
    if security is None and place.startswith("tls://"):
        file = next((file for file in _own_files() if _scheduler_of(file) == place), None)
        if file is not None:
            return _of_file(file, None, options)
        if Security().get_connection_args("client").get("ssl_context") is None:
            raise UsageError(NO_SECURITY)
    return Client(place, security=security, **options)


def _place(daskserver: str | os.PathLike[str] | None) -> str:
    if daskserver is None:
        configured = load().daskserver
        if configured is None:
            raise UsageError(
                "the configuration names no daskserver: connect() takes a name, a connection file or an"
                " address; seamless-daskserver start starts one"
            )
        return configured
    text = os.fspath(daskserver)
    # a file that lies here by chance, or came with an archive, is not what a name means
    if is_address(text) or os.sep in text or text.endswith(".json"):
        return text
    file = os.path.join(connection.directory_of(load(remote=False).cache, text), connection.FILE)
    if not os.path.exists(file) and not connection.is_held(file):
        raise UsageError(
            f"no daskserver called {text!r} runs here: seamless-daskserver start --name {text}, or pass its"
            f" connection file (./{text} if that is one) or address"
        )
    return file


def _of_file(path: str, security: Security | None, options: dict[str, Any]) -> Client:
    facts = connection.read_when_started(os.path.abspath(path))
    context = Context(load({"daskserver": os.path.abspath(path)}))
    client = Client(facts.scheduler, security=security or security_of(facts), places=context, **options)
    client.dashboard = f"{facts.jobserver}/status"
    return client


def _own_files() -> Iterator[str]:
    directory = os.path.dirname(connection.directory_of(load(remote=False).cache, "any"))
    with suppress(OSError):
        for name in sorted(os.listdir(directory)):
            yield os.path.join(directory, name, connection.FILE)


def _scheduler_of(file: str) -> str | None:
    with suppress(UsageError):
        return connection.read(file).scheduler
    return None
