"""What stands in another host's connection file, and what becomes of it here."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import ssl
import tarfile
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from hashserver.atomic import write_atomic

from ... import connection
from ...connection import ConnectionFile
from ...errors import UsageError
from .ssh import Ssh
from .target import TunnelTarget

_COPIES = {
    "token_file": "token",
    "hashserver_token_file": "hashserver-token",
    "hashserver_ca_file": "hashserver-ca.pem",
    "ca_file": "ca.pem",
    "cert_file": "cert.pem",
    "key_file": "key.pem",
}
FOLDER = "remote"
"""Where the copies are, in the connection's own directory."""
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PROBE_LIMIT = 30.0
"""Seconds."""

WATCH = (
    "uname -n; cache=${SEAMLESS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/seamless}; "
    'file="$cache/daskserver/$1/connection.json"; '
    'while :; do { tr "\\n" " " < "$file"; } 2> /dev/null; echo || exit; '
    "sleep 5 < /dev/null > /dev/null 2>&1; done & cat > /dev/null; kill $!"
)
"""Shell script: the host's name, and then the connection file again and again, on one line each time.

It ends with its standard input.
"""
_TAR = 'exec tar -chf - -C / -- "$@"'


def parse(target: TunnelTarget, host: str, line: str) -> ConnectionFile:
    """Return what a line of `WATCH` says.

    Raises
    ------
    UsageError
        There is no daskserver, or none that can be reached by way of this host.
    """
    name = target.remote_name
    if not line:
        raise UsageError(
            f"no daskserver called {name} is running on {host}: seamless-daskserver start, there"
        )
    remote = connection.parse(f"{target.destination}: the connection file", line.encode())
    if remote.host != host and any(_host(url) in LOOPBACK for url in (remote.jobserver, remote.scheduler)):
        raise UsageError(
            f"the daskserver {remote.name!r} listens on loopback of {remote.host}, and this is {host}:"
            f" connect to {remote.host}, by --jump {target.destination} perhaps"
        )
    return remote


def is_public(remote: ConnectionFile) -> bool:
    """Whether the hashserver is one that others run and that verifies under its own name only."""
    own = remote.hashserver_token_file == remote.token_file or _host(remote.hashserver) in LOOPBACK
    return not own and remote.hashserver.startswith("https://")


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


async def copy_files(ssh: Ssh, remote: ConnectionFile) -> ConnectionFile:
    """Bring the files that a connection file names; return it with the names of the copies."""
    paths = {name: path for name in _COPIES if (path := getattr(remote, name))}
    data = await ssh.script(_TAR, *dict.fromkeys(path.lstrip("/") for path in paths.values()))
    folder = ssh.target.file(FOLDER)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    copies: dict[str, Any] = {}
    for name, content in _unpack(paths, data, ssh.target.destination).items():
        copies[name] = os.path.join(folder, _COPIES[name])
        write_atomic(copies[name], content, 0o600)
    return remote._replace(**copies)


def _unpack(paths: dict[str, str], data: bytes, host: str) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for name, path in paths.items():
                member = archive.extractfile(path.lstrip("/"))
                if member is None:
                    raise UsageError(f"{host}: {path} is no file")
                found[name] = member.read()
    except (tarfile.TarError, KeyError) as error:
        raise UsageError(f"{host}: tar does not bring {', '.join(paths.values())}: {error}") from None
    return found


async def probe(target: TunnelTarget, facts: ConnectionFile) -> None:
    """See whether the daskserver answers through the tunnel, with the certificate that it should have.

    Raises
    ------
    UsageError
        It has died, or ssh there does not let ports through.
    """
    url = urlsplit(facts.jobserver)
    trust = ssl.create_default_context(cafile=facts.ca_file) if url.scheme == "https" else None
    try:
        async with asyncio.timeout(PROBE_LIMIT):
            reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=trust)
            try:
                writer.write(b"GET /health HTTP/1.0\r\n\r\n")
                if not (await reader.readline()).startswith(b"HTTP/"):
                    raise ConnectionError("it hangs up")
            finally:
                writer.transport.abort()
    except (OSError, ValueError) as error:
        reason = str(error) or "it is silent"
        raise UsageError(
            f"the daskserver {facts.name!r} on {target.destination} does not answer ({reason}): has it died?"
            " seamless-daskserver status, there; or does sshd there not forward ports (AllowTcpForwarding)?"
        ) from None


def write(target: TunnelTarget, facts: ConnectionFile) -> None:
    """Write the local connection file."""
    here = facts._replace(
        name=target.name,
        host=os.uname().nodename,
        pid=os.getpid(),
        store=f"{target.destination}:{facts.store}",
    )
    connection.write(target.file(connection.FILE), here)


def is_ours(target: TunnelTarget, facts: ConnectionFile) -> bool:
    """Whether a connection file is one that `write` has written."""
    return facts.token_file.startswith(target.file(FOLDER))


def forget(directory: str) -> None:
    """Remove what was copied here."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, connection.FILE))
    shutil.rmtree(os.path.join(directory, FOLDER), ignore_errors=True)
