"""From the command line to the store and the database that it means."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from seamless_dask.config import Config
    from seamless_dask.context import Context

SETTINGS = ("profile", "hashserver", "store", "database", "token_file", "ca_file")


def load_config(arguments: argparse.Namespace) -> Config:
    """Return the configuration in force; raises `UsageError` for one that makes no sense."""
    from seamless_dask.config import embedded, load

    given = {name: getattr(arguments, name, None) for name in SETTINGS}
    config = load(
        {name: value for name, value in given.items() if value is not None}, os.getcwd(), os.environ
    )
    return embedded(config) if getattr(arguments, "local", False) else config


def open_context(arguments: argparse.Namespace) -> Context:
    """Return store, database and stat cache as configured; nothing is opened before it is used."""
    from seamless_dask.context import Context

    return Context(load_config(arguments))
