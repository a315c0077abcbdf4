"""``seamless-init``: start a hashserver for this host's store, or stop it.

The server is a process of its own, detached from the terminal. It starts before anything else is
imported here; a lock keeps two of these commands from starting two servers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from hashserver.ready_file import read_ready
from seamless_dask import daemon
from seamless_dask.config import READY_FILE as READY
from seamless_dask.config import is_hashserver
from seamless_dask.locks import locked

from ..console import OK, CommandError, Console
from ..start import entry_point
from ..table import USUAL, CommandTable, flag, group, value

if TYPE_CHECKING:
    from hashserver.ready_file import ReadyFile
    from hashserver.storage.options import StorageOptions
    from seamless_dask.config import Config

    from ..table import ParsedArguments

LOG, LOCK, TOKEN = "hashserver.log", "hashserver.lock", "token"
OPTIONS = "hashserver.storage-options.json"
START_LIMIT, STOP_LIMIT = 30.0, 20.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class InitSettings(NamedTuple):
    """What a server is started with; all paths are absolute."""

    cache: str
    store: str
    database: str
    token_file: str
    host: str
    port: str
    more: tuple[str, ...]
    options: tuple[StorageOptions, ...]
    """What is told about the store."""

    def file(self, name: str) -> str:
        """Path of a file of the cache."""
        return os.path.join(self.cache, name)


TABLE = CommandTable(
    "Start a hashserver for the store and database of this host; commands of this account use it from then"
    " on. Safe to repeat: a server that runs is reported.",
    (
        group(
            "Server",
            flag("--stop", help="stop the server"),
            value(
                "--host",
                metavar="HOST",
                default="127.0.0.1",
                help="address to listen at; another than loopback needs TLS",
            ),
            value(
                "--port", metavar="N|A-B", default="0", help="port or range of ports; any free one by default"
            ),
            value("--tls-cert", metavar="FILE", help="certificate"),
            value("--tls-key", metavar="FILE", help="key of the certificate"),
            flag("--read-only", help="nothing can be stored"),
            value("--max-size", metavar="SIZE", help="largest buffer that is taken"),
        ),
        *USUAL,
    ),
    examples=("seamless-init", "seamless-init --stop"),
)


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Start, report or stop the server."""
    settings = _settings(arguments)
    with locked(settings.file(LOCK)):
        running = running_server(settings.cache)
        if arguments.stop:
            return _stop(running, settings, console)
        fresh = running is None
        server = _start(settings) if running is None else running
    _report(server, settings, fresh, console)
    return OK


def _settings(arguments: ParsedArguments) -> InitSettings:
    """Return what a server is started with; a server that runs already is no answer to that."""
    if arguments.hashserver:
        raise CommandError(
            "--hashserver names a server; seamless-init starts one (--host and --port say where)"
        )
    config = _config(arguments)
    from hashserver.storage.options import without_password
    from seamless_dask.private import private_directory

    private_directory(config.cache)
    store, database = config.stores[0], config.database
    if store.startswith(("http://", "https://")):
        store = os.path.join(config.cache, "buffers")
    if database.startswith(("http://", "https://")):
        database = os.path.join(config.cache, "seamless.db")
    store, options = without_password(store, config.options_of(store))
    return InitSettings(
        config.cache,
        store,
        database,
        config.token_file or os.path.join(config.cache, TOKEN),
        arguments.host,
        arguments.port,
        (*_more(arguments), "--store-timeout", str(config.store_timeout)),
        options,
    )


def _config(arguments: ParsedArguments) -> Config:
    from ..opening import load_config

    return load_config(arguments)


def _more(arguments: ParsedArguments) -> tuple[str, ...]:
    words: list[str] = ["--read-only"] if arguments.read_only else []
    for option in ("tls_cert", "tls_key", "max_size"):
        value = getattr(arguments, option)
        if value is not None:
            value = os.path.abspath(value) if option.startswith("tls") else value
            words += ["--" + option.replace("_", "-"), value]
    return tuple(words)


def running_server(cache: str) -> ReadyFile | None:
    """Return the server of `cache` if it lives; the ready file of a dead one is removed.

    Raises
    ------
    CommandError
        It was started on another host, where this one cannot see it.
    """
    server = read_ready(os.path.join(cache, READY))
    if server is None:
        return None
    if not server.is_here:
        raise CommandError(
            f"a hashserver for {cache} was started on {server.host}: stop it there (seamless-init --stop),"
            f" or remove {os.path.join(cache, READY)} if that host is gone"
        )
    if is_hashserver(server.pid):
        return server
    os.unlink(os.path.join(cache, READY))
    return None


def _start(settings: InitSettings) -> ReadyFile:
    from hashserver.storage.options import write

    _make_token(settings.token_file)
    options = write(settings.file(OPTIONS), settings.options)
    words = daemon.command(
        *("hashserver", "--store", settings.store, "--database", settings.database),
        *("--host", settings.host, "--port", settings.port),
        *("--token-file", settings.token_file, "--ready-file", settings.file(READY)),
        *settings.more,
        *(("--storage-options", options) if options else ()),
    )

    def serves(pid: int) -> ReadyFile | None:
        server = read_ready(settings.file(READY))
        return server if server is not None and server.pid == pid else None

    return daemon.start("the hashserver", words, settings.file(LOG), serves, START_LIMIT)


def _make_token(path: str) -> None:
    if not os.path.exists(path):
        from hashserver.auth import create_token_file

        create_token_file(path)


def _stop(server: ReadyFile | None, settings: InitSettings, console: Console) -> int:
    import select
    import signal

    if server is None:
        console.note("no hashserver is running")
        console.facts({"running": False}) if console.json else None
        return OK
    fd = os.pidfd_open(server.pid)
    try:
        signal.pidfd_send_signal(fd, signal.SIGTERM)
        if not select.select([fd], [], [], STOP_LIMIT)[0]:
            raise CommandError(
                f"the hashserver (process {server.pid}) does not stop; see {settings.file(LOG)}"
            )
    finally:
        os.close(fd)
    running_server(settings.cache)  # removes the ready file of a server that could not
    console.note(f"stopped the hashserver at {server.url}")
    if console.json:
        console.facts({"running": False})
    return OK


def _report(server: ReadyFile, settings: InitSettings, fresh: bool, console: Console) -> None:
    state = "started" if fresh else "is running already"
    console.note(f"the hashserver {state}; commands of this account on this host use it")
    lines = [
        f"url         {server.url}",
        f"token file  {server.token_file}",
        f"store       {settings.store}",
        f"database    {settings.database}",
        f"log         {settings.file(LOG)}",
        f"elsewhere   export SEAMLESS_HASHSERVER={server.url} SEAMLESS_TOKEN_FILE=<copy of the token file>",
        "stop        seamless-init --stop",
    ]
    facts = {"running": True, "started": fresh, **server._asdict()}
    facts |= {"store": settings.store, "database": settings.database, "log": settings.file(LOG)}
    if console.json or console.verbosity > -1:
        console.facts(facts, lines)


main = entry_point(TABLE, execute, "seamless-init")
