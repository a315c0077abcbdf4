"""Computations with an identity: what they are, how they run, and where their results are found again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from .api import Transformation, bash
    from .graph.handles import Directory, File

__all__ = ["Directory", "File", "Transformation", "__version__", "bash"]


def __getattr__(name: str) -> object:
    """Import what is asked for: the command line needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = ".graph.handles" if name in ("File", "Directory") else ".api"
    return getattr(import_module(module, __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
