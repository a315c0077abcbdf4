"""From the command line to the store and the database that it means, and to who runs computations."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seamless_dask.config import Config
    from seamless_dask.context import Context
    from seamless_dask.errors import Untrusted
    from seamless_dask.executors.base import Executor

    from .console import Console
    from .table import ParsedArguments

SETTINGS = ("profile", "daskserver", "hashserver", "store", "database", "token_file", "ca_file")


def load_config(arguments: ParsedArguments, tell: Callable[[str], None] | None = None) -> Config:
    """Return the configuration in force, without the places that only a scheduler knows.

    Parameters
    ----------
    tell
        Gets what a person should know who waits for a service that is being started.

    Raises
    ------
    UsageError
        It makes no sense, or is a project's that is not trusted.
    """
    from seamless_dask.config import load, load_embedded

    if getattr(arguments, "local", False):
        return with_trust(lambda: load_embedded({"profile": arguments.profile}, current_directory()))
    given = {name: getattr(arguments, name, None) for name in SETTINGS}
    config = with_trust(lambda: load(given, current_directory(), tell=tell))
    if any(store.startswith("memory://") for store in config.stores):
        from seamless_dask.errors import UsageError

        raise UsageError("a store in memory:// would end with the command: name a directory or a server")
    return config


def with_trust(load: Callable[[], Config]) -> Config:
    """Return what `load` returns; what a project's file wants is asked on a terminal."""
    from seamless_dask.errors import Untrusted

    try:
        return load()
    except Untrusted as error:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        _ask(error)
        return load()


def _ask(error: Untrusted) -> None:
    """Ask on the terminal whether a project's file is to be trusted as it was read, and record that.

    Raises
    ------
    Untrusted
        No: then it is not, and nothing is done.
    """
    from hashserver.printable import one_line
    from seamless_dask.trust import accept, wishes

    from .console import Console

    for line in (f"seamless: {error}", "it sets:", *(f"  {line}" for line in wishes(error.project))):
        sys.stderr.write(one_line(line) + "\n")
    if not Console().confirm("trust it, until it changes?"):
        raise error
    accept(error.project)


def current_directory() -> str:
    """Return the current directory; raises `UsageError` when it is there no more."""
    from seamless_dask.errors import UsageError

    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UsageError("the current directory was deleted: cd to another one") from None


def open_context(arguments: ParsedArguments, tell: Callable[[str], None] | None = None) -> Context:
    """Return store, database and stat cache as configured; nothing is opened before it is used."""
    from seamless_dask.config import is_address
    from seamless_dask.context import Context

    config = load_config(arguments, tell)
    if config.daskserver is None or not is_address(config.daskserver):
        return Context(config, tell)
    from seamless_dask.protocol.discovery import with_places

    return Context(config, tell, complete=with_places)


@contextmanager
def open_executor(context: Context, console: Console, *, bounded: bool = True) -> Iterator[Executor]:
    """Offer who runs computations; `bounded` as for `seamless_dask.executors.opening.executor`."""
    from contextlib import closing

    from seamless_dask.executors.opening import executor

    with closing(executor(context, console.note, bounded=bounded)) as opened:
        yield opened
