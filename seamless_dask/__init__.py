"""Computations with an identity: what they are, how they run, and where their results are found again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from hashserver.checksum import Checksum

    from . import errors
    from .api import Transformation, bash
    from .client.client import Client
    from .client.connecting import connect
    from .decorators import delayed, direct
    from .functions import checksum_of, put
    from .graph.handles import Directory, File
    from .services.equip import equip
    from .values.registry import register

__all__ = [
    "Checksum", "Client", "Directory", "File", "Transformation", "__version__", "bash", "checksum_of",
    "connect", "delayed", "direct", "equip", "errors", "put", "register",
]  # fmt: skip

_MODULES = {
    ".api": ("Transformation", "bash"),
    ".client.client": ("Client",),
    ".client.connecting": ("connect",),
    ".decorators": ("delayed", "direct"),
    ".functions": ("Checksum", "checksum_of", "put"),
    ".graph.handles": ("Directory", "File"),
    ".services.equip": ("equip",),
    ".values.registry": ("register",),
}


def __getattr__(name: str) -> object:
    """Import what is asked for: the command line needs none of it."""
    from importlib import import_module

    if name == "errors":
        return import_module(".errors", __name__)
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module, __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
