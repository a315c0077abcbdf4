"""From the command line to the store and the database that it means, and to who runs computations."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from seamless_dask.config import Config
    from seamless_dask.context import Context
    from seamless_dask.executors import Executor

    from .console import Console

SETTINGS = ("profile", "daskserver", "hashserver", "store", "database", "token_file", "ca_file")


def load_config(arguments: argparse.Namespace, tell: Callable[[str], None] | None = None) -> Config:
    """Return the configuration in force; raises `UsageError` for one that makes no sense.

    Parameters
    ----------
    tell
        Gets what a person should know who waits for a service that is being started.
    """
    from seamless_dask.config import embedded, is_address, load

    if getattr(arguments, "local", False):
        return embedded(load({"profile": arguments.profile}, os.getcwd(), os.environ, remote=False))
    given = {name: getattr(arguments, name, None) for name in SETTINGS}
    said = {name: value for name, value in given.items() if value is not None}
    config = load(said, os.getcwd(), os.environ, tell=tell)
    if config.daskserver is not None and is_address(config.daskserver):
        from seamless_dask.services.places import with_places

        return with_places(config)
    return config


def open_context(arguments: argparse.Namespace, tell: Callable[[str], None] | None = None) -> Context:
    """Return store, database and stat cache as configured; nothing is opened before it is used."""
    from seamless_dask.context import Context

    return Context(load_config(arguments, tell), tell)


@contextmanager
def open_executor(context: Context, console: Console) -> Iterator[Executor]:
    """Offer who runs computations."""
    from contextlib import closing

    from seamless_dask.executors import executor

    with closing(executor(context, console.note)) as opened:
        yield opened
