"""Buffers by their SHA-256, and the results of computations by theirs: store, database, server and client."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .checksum import Checksum
    from .opening import connect, open_database, open_store

__all__ = ["Checksum", "connect", "open_database", "open_store"]


def __getattr__(name: str) -> object:
    """Import what is asked for: the command line imports modules by their names."""
    from importlib import import_module

    if name in __all__:
        module = ".checksum" if name == "Checksum" else ".opening"
        return getattr(import_module(module, __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
