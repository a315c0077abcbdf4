"""What is the user's and what is a library's.

The user's is read and counts as code; a library's counts by its name. Neither the standard library nor
``site-packages`` is the user's; an editable install lies elsewhere, and so is.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType

from .markers import LOADED

_OURS = ("hashserver", "seamless_dask", "seamless_cli")
_INSTALLED = {"site-packages", "dist-packages"}


@dataclass(frozen=True)
class Border:
    """Whose a module is.

    Parameters
    ----------
    add, remove
        Names of modules, with all below them, that are the user's or a library's wherever they lie; the
        longest that fits decides.
    """

    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()

    @cached_property
    def _known(self) -> dict[str, tuple[ModuleType | None, bool]]:
        return {}

    def owns(self, name: str | None) -> bool:
        """Tell whether the module of a name is the user's."""
        if not name:
            return False
        module = sys.modules.get(name)
        known = self._known.get(name)
        if known is None or known[0] is not module:
            known = self._known[name] = module, self._decide(name, module)
        return known[1]

    def would_own(self, name: str) -> bool:
        """Tell whether a module would be the user's that nothing may have imported yet."""
        listed = self._listed(name)
        if listed is not None:
            return listed
        top = name.partition(".")[0]
        return self.owns(top) if top in sys.modules else _would_be_users(top)

    def _decide(self, name: str, module: ModuleType | None) -> bool:
        listed = self._listed(name)
        if listed is not None:
            return listed
        return name == "__main__" or name.startswith(LOADED) or _is_users(module)

    def _listed(self, name: str) -> bool | None:
        """Return whose a module is by its name alone, None where its place decides."""
        if is_ours(name):
            return False
        fitting = [(len(each), True) for each in self.add if _is_below(name, each)]
        fitting += [(len(each), False) for each in self.remove if _is_below(name, each)]
        return max(fitting)[1] if fitting else None


def is_ours(module: object) -> bool:
    """Tell whether the name of a module is one of ours; objects say of theirs what they like."""
    return isinstance(module, str) and module.partition(".")[0] in _OURS


def _is_below(name: str, top: str) -> bool:
    return name == top or name.startswith(top + ".")


def _is_users(module: ModuleType | None) -> bool:
    place = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    return bool(place) and not _is_library_file(str(place))


def _would_be_users(top: str) -> bool:
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    places = [spec.origin] if spec.has_location else list(spec.submodule_search_locations or ())
    return any(place and not _is_library_file(place) for place in places)


def _is_library_file(path: str) -> bool:
    """Tell whether a file belongs to the standard library or to something installed."""
    path = os.path.realpath(path)
    parts = path.split(os.sep)
    is_packed = f"python{sys.version_info[0]}{sys.version_info[1]}.zip" in parts
    return is_packed or not _INSTALLED.isdisjoint(parts) or path.startswith(_standard_library())


def _standard_library() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    places = {paths["stdlib"], paths["platstdlib"], os.path.dirname(os.__file__)}
    return tuple(os.path.realpath(place) + os.sep for place in places)
