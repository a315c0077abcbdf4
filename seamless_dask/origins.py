"""Which secret goes to which server: a credential is bound to one origin, and sent to no other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hashserver.namedtuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SERVERS = ("http://", "https://")
_UNIX = "unix://"


class Credential(NamedTuple):
    """What opens one server, and what it is known by."""

    origin: str | None
    """``https://host:port``, the address of a scheduler, or None for none at all."""
    token_file: str | None = None
    ca_file: str | None = None


def origin(url: str) -> str | None:
    """Return scheme, host and port of a server, each written in one way only; None for any other place.

    They are split as `hashserver.client.transport.Transport` splits them, which connects.
    """
    if url.startswith(_UNIX):
        return url
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.lower() not in ("http", "https"):
        return None
    from hashserver.client.transport import split
    from hashserver.errors import InvalidRequest

    try:
        tls, host, port, _ = split(f"{scheme.lower()}://{rest}")
    except InvalidRequest:
        return None
    return f"http{'s' if tls else ''}://{_host(host)}:{port}"


def _host(host: str) -> str:
    if ":" not in host:
        return host.lower()
    import socket

    try:
        return f"[{socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host))}]"
    except OSError:
        return f"[{host.lower()}]"


class Bindings:
    """Credentials in the order in which they count: what was bound first stays."""

    def __init__(self) -> None:
        self._tokens: dict[str, str] = {}
        self._authorities: dict[str, str] = {}

    def bind(self, origins: Iterable[str | None], token_file: str | None, ca_file: str | None) -> None:
        """Bind what is not None."""
        for one in origins:
            if one is not None and token_file is not None:
                self._tokens.setdefault(one, token_file)
            if one is not None and ca_file is not None:
                self._authorities.setdefault(one, ca_file)

    def vouch(self, origins: Iterable[str | None], ca_file: str | None) -> None:
        """Let a project's certificates vouch for servers, but for none that is sent a secret."""
        self.bind([one for one in origins if one not in self._tokens], None, ca_file)

    def all(self) -> tuple[Credential, ...]:
        """Return one for each origin."""
        return tuple(
            Credential(one, self._tokens.get(one), self._authorities.get(one))
            for one in sorted(self._tokens | self._authorities)
        )


def servers(found: Mapping[str, Any]) -> list[str]:
    """Return the URLs of servers in what settings say, that first which a token beside them is meant for."""
    named = (found.get("hashserver"), found.get("database"), *(found.get("store") or ()))
    return [place for place in named if place is not None and place.startswith((*_SERVERS, _UNIX))]


def of(credentials: Iterable[Credential], url: str | None) -> Credential:
    """Return what is bound to the origin of `url`."""
    wanted = None if url is None else origin(url)
    if wanted is not None:
        for one in credentials:
            if one.origin == wanted:
                return one
    return Credential(wanted)


def lies_in(path: str, directory: str) -> bool:
    """Say whether a file lies below a directory, whatever links lead there."""
    return os.path.realpath(path).startswith(os.path.realpath(directory).rstrip("/") + "/")
