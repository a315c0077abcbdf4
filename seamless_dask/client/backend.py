"""Addresses that name a connection file, ``seamless://HOST:PORT/FILE``, for clients that know addresses only.

``distributed.Client(scheduler_file=…)`` reads nothing but an address, and has no certificates for it. This
one leads to them. Dask finds this module by the entry point ``distributed.comm.backends``.
"""

from __future__ import annotations

from typing import Any

from distributed.comm.addressing import parse_address
from distributed.comm.registry import Backend, get_backend

from .. import connection
from ..errors import UsageError
from .security import security_of


class ConnectionFileBackend(Backend):
    """Connects with what a connection file names; nobody listens there."""

    def get_connector(self) -> ConnectionFileConnector:
        """Return what connects."""
        return ConnectionFileConnector()

    def get_listener(self, *_: Any, **__: Any) -> Any:
        """Refuse: the file is there before anybody connects by it."""
        raise UsageError("nothing can listen at an address that names a connection file")

    def get_address_host(self, loc: str) -> Any:
        """Return the host."""
        return self.get_address_host_port(loc)[0]

    def get_address_host_port(self, loc: str) -> Any:
        """Return host and port."""
        backend: Any = get_backend("tls")
        return backend.get_address_host_port(loc.partition("/")[0])

    def resolve_address(self, loc: str) -> str:
        """Return the same."""
        return loc

    def get_local_address_for(self, loc: str) -> Any:
        """Return this host's address as the other one sees it."""
        backend: Any = get_backend("tls")
        return backend.get_local_address_for(loc.partition("/")[0])


class ConnectionFileConnector:
    """Reads the file anew each time: a daskserver that was started again has another port."""

    async def connect(self, address: str, deserialize: bool = True, **arguments: Any) -> Any:
        """Return a connection to the scheduler that the file names."""
        facts = connection.read("/" + address.partition("/")[2])
        scheme, place = parse_address(facts.scheduler)
        security = security_of(facts)
        own = {} if security is None else security.get_connection_args("client")
        connector: Any = get_backend(scheme).get_connector()
        return await connector.connect(place, deserialize=deserialize, **{**arguments, **own})
