"""The command ``hashserver``: buffers and results over HTTP."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hashserver.errors import HashserverError, InvalidRequest
from hashserver.printable import tell
from hashserver.ready_file import ReadyFile, read_ready, write_ready
from hashserver.system_text import ensure_utf8

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Sequence

    from hashserver.server.service import Service

DEFAULT_PORTS = "5577-5676"
SHUTDOWN_SECONDS = 3.0
"""What is on its way when the server is told to stop gets so long to finish."""


class ServerOptions(NamedTuple):
    """What the server is started with; see ``hashserver --help``."""

    store: str
    database: str
    host: str
    port: str
    token_file: str | None
    read_only: bool
    tls_cert: str | None
    tls_key: str | None
    max_size: int | None
    store_timeout: float
    storage_options: str | None
    ready_file: str | None


def _size(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    if text is None:
        return None
    factor = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}.get(text[-1:].upper(), 1)
    digits = text[:-1] if factor > 1 else text
    if not digits.isascii() or not digits.isdecimal():
        raise click.BadParameter(f"not a size: {text}")
    return int(digits) * factor


def _in_full(name: str) -> str:
    """Return the only option that begins so."""
    names = [*(field.replace("_", "-") for field in ServerOptions._fields), "help"]
    found = [name] if name in names else [full for full in names if full.startswith(name)]
    return found[0] if len(found) == 1 else name


@click.command(
    "hashserver",
    context_settings={"help_option_names": ["-h", "--help"], "token_normalize_func": _in_full},
    epilog="Every request but GET /healthcheck needs a token of the token file. SIGTERM ends the server.\n\n"
    "\b\nExample:\n  hashserver --store /data/buffers --database /data/seamless.db",
)
@click.option(
    "--store", required=True, metavar="URL", help="Where buffers are: a directory, s3://…, sftp://…"
)
@click.option("--database", required=True, metavar="FILE", help="The result database; made if missing.")
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address; others than loopback need TLS."
)
@click.option(
    "--port", default=DEFAULT_PORTS, show_default=True, metavar="N|A-B",
    help="Port, or range of which the first free one is taken; 0 takes any.",
)  # fmt: skip
@click.option("--token-file", metavar="FILE", help="Made if missing, with two tokens (DATABASE.tokens).")
@click.option("--read-only", is_flag=True, help="Take no data and no results, whatever the token.")
@click.option("--tls-cert", metavar="FILE", help="Certificate chain, PEM.")
@click.option("--tls-key", metavar="FILE", help="Its private key, PEM, without a password.")
@click.option(
    "--max-size", callback=_size, metavar="SIZE", help="Longest buffer to take, such as 500M (no limit)."
)
@click.option(
    "--store-timeout", type=float, default=60.0, show_default=True, metavar="SECONDS",
    help="For how long nothing may move in a request to a store such as s3://.",
)  # fmt: skip
@click.option(
    "--storage-options", metavar="FILE",
    help='What fsspec is told about --store: JSON such as {"URL": {…}} that only you can read.',
)  # fmt: skip
@click.option(
    "--ready-file", metavar="FILE", help="JSON with URL and process, there while the server listens."
)
def command(**options: Any) -> int:
    """Keep buffers under their checksums, and results of transformations; serve both by HTTP."""
    return _run(ServerOptions(**options))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is told to stop; return the exit status."""
    if argv is None:
        ensure_utf8()
    try:
        return int(command.main(argv, "hashserver", standalone_mode=False) or 0)
    except click.UsageError as error:
        tell(f"hashserver: {error.format_message().rstrip('.')}; hashserver --help lists the options")
        return 2
    except click.Abort:  # Ctrl-C before there is a server
        return 130
    except HashserverError as error:
        tell(f"hashserver: {error}")
        return 2 if isinstance(error, InvalidRequest) else 1
    except OSError as error:
        tell(f"hashserver: {error}")
        return 1


def _store_options(options: ServerOptions) -> dict[str, Any]:
    """Return what a store behind fsspec is told; one on this host or another server has no use for it."""
    from hashserver.storage.options import find, read

    found = find(read(options.storage_options), options.store) if options.storage_options else None
    if options.storage_options and found is None:
        raise InvalidRequest(f"nothing in {options.storage_options} is for the place that --store names")
    scheme, separator, _ = options.store.partition("://")
    is_remote = separator and scheme not in ("file", "http", "https", "unix")
    return {"seconds": options.store_timeout, **(found.arguments if found else {})} if is_remote else {}


def _run(options: ServerOptions) -> int:
    tls = _tls(options.tls_cert, options.tls_key)
    ports = _ports(options.port)
    token_file = _token_file(options)
    listener = _listen(options.host, ports, tls is not None)
    with listener:
        service = _service(options, token_file)
        try:
            return asyncio.run(_serve(options, service, listener, tls, token_file))
        finally:
            service.close()


def _tls(certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise InvalidRequest("--tls-cert and --tls-key belong together")
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(
            certificate, key, password=""
        )  # a key behind a password is refused, not asked for
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise InvalidRequest(
            f"cannot use the certificate {certificate} with the key {key}: {reason}"
        ) from None
    return context


def _ports(text: str) -> range:
    first, _, last = text.partition("-")
    last = last or first
    if not (first.isascii() and last.isascii() and first.isdecimal() and last.isdecimal()):
        raise InvalidRequest(f"--port is a number or a range such as 8000-8100, not {text!r}")
    ports = range(int(first), int(last) + 1)
    if not ports or ports[-1] > 65535:
        raise InvalidRequest(f"--port {text}: there are no such ports")
    return ports


def _token_file(options: ServerOptions) -> str:
    """Return the path of the token file, which is made if it is missing."""
    from hashserver.auth import create_token_file

    path: str = options.token_file or os.path.abspath(options.database) + ".tokens"
    try:
        create_token_file(path)
    except FileExistsError:
        pass
    except OSError as error:
        raise InvalidRequest(f"cannot make the token file {path}: {error.strerror}") from None
    else:
        tell(f"hashserver: new tokens in {path}")
    return path


def _listen(host: str, ports: range, tls: bool) -> socket.socket:
    import socket

    try:
        family, _, _, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InvalidRequest(f"--host {host!r}: {getattr(error, 'strerror', 'not a host name')}") from None
    if not tls and not _is_loopback(str(address[0])):
        raise InvalidRequest(f"--host {host} is open to the network: give --tls-cert and --tls-key")
    for port in ports:
        try:
            return _bind(family, str(address[0]), port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise InvalidRequest(f"cannot listen on {host}:{port}: {error.strerror}") from None
    shown = f"port {ports[0]} is" if len(ports) == 1 else f"all ports {ports[0]}-{ports[-1]} are"
    raise InvalidRequest(f"{shown} in use: give another --port")


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"


def _bind(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    import socket

    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # after a restart the port is free at once; a port that somebody listens on is refused all the same
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(512)
    except BaseException:
        sock.close()
        raise
    return sock


def _service(options: ServerOptions, token_file: str) -> Service:
    from hashserver.auth import read_token_file
    from hashserver.checksum import Checksum
    from hashserver.opening import open_store
    from hashserver.results.database import Database
    from hashserver.server.service import Service

    tokens = read_token_file(token_file)
    if options.store.startswith(("http://", "https://")):
        raise InvalidRequest("--store is where the buffers lie; another hashserver cannot be one")
    store = open_store(options.store, **_store_options(options))
    try:
        store.has([Checksum("0" * 64)])  # a store that cannot be reached shall be known now
        if not options.read_only:
            store.clean()
        database = Database(options.database, read_only=options.read_only)
        database.counts()
    except BaseException:
        store.close()
        raise
    for warning in database.warnings:
        tell(f"hashserver: {warning}")
    return Service(store, database, tokens, options.read_only, options.max_size)


async def _serve(
    options: ServerOptions,
    service: Service,
    listener: socket.socket,
    tls: ssl.SSLContext | None,
    token_file: str,
) -> int:
    from hashserver.server.accepting import Acceptor, raise_limit
    from hashserver.server.application import HashserverApplication

    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    protocols = HashserverApplication(service).protocol_factory()
    accepting = loop.create_task(Acceptor(listener, protocols, tls, raise_limit()).run())
    url = _url(options.host, listener, tls is not None)
    if options.ready_file is not None:
        _tell_ready(options.ready_file, url, token_file, getattr(service.store, "root", None))
    tell(f"hashserver: listening on {url}")
    try:
        await stop.wait()
    finally:
        if options.ready_file is not None:
            _remove_ready(options.ready_file)
        accepting.cancel()
        await protocols.shutdown(SHUTDOWN_SECONDS)
    return 0


def _url(host: str, listener: socket.socket, tls: bool) -> str:
    import socket

    name = socket.getfqdn() if host in ("0.0.0.0", "::") else host  # noqa: S104
    name = f"[{name}]" if ":" in name else name
    return f"{'https' if tls else 'http'}://{name}:{listener.getsockname()[1]}"


def _tell_ready(path: str, url: str, token_file: str, store: str | None) -> None:
    ready = ReadyFile(url, os.getpid(), os.uname().nodename, os.path.abspath(token_file), store)
    try:
        write_ready(path, ready)
    except OSError as error:
        raise InvalidRequest(f"cannot write the ready file {path}: {error.strerror}") from None


def _remove_ready(path: str) -> None:
    """Remove the ready file, unless another server has replaced it."""
    found = read_ready(path)
    if found is not None and found.pid == os.getpid():
        with suppress(OSError):  # somebody else was faster
            os.unlink(path)


if __name__ == "__main__":
    sys.exit(main())
