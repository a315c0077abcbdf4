"""Questions to a daskserver's HTTP services that never take long: what is asked may hang."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from hashserver.auth import read_token_file
from hashserver.client.transport import Transport

if TYPE_CHECKING:
    from ...connection import ConnectionFile

PATH = "/seamless/daskserver.json"
"""GET tells how a daskserver is, DELETE ends it."""
PATIENCE = 10.0
"""Seconds that an answer may take."""


def ask(url: str, token_file: str, ca_file: str | None, path: str, method: str = "GET") -> tuple[int, bytes]:
    """Return status and body of an answer.

    Raises
    ------
    HashserverError
        There is none, or the token file cannot be used.
    """
    token = read_token_file(token_file)[0].secret
    transport = Transport(url, token, ca_file, idle_seconds=PATIENCE)
    # one attempt: whoever asks wants to know how it is now
    with closing(transport), transport.request(method, path, replay=False) as response:
        return response.status, response.read()


def ask_daskserver(facts: ConnectionFile, method: str = "GET") -> tuple[int, bytes]:
    """Ask a daskserver how it is, or with ``DELETE`` to end; raises as `ask` does."""
    return ask(facts.jobserver, facts.token_file, facts.ca_file, PATH, method)
