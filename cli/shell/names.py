"""Names of inputs for the command: where a local path lies in the directory that it runs in."""

from __future__ import annotations

import os
import sys
from posixpath import basename, normpath, relpath, splitext
from typing import TYPE_CHECKING

from seamless_dask.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .word import Word

_SYSTEM = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/opt", "/proc", "/run",
    "/sbin", "/snap", "/sys", "/usr",
)  # fmt: skip
_DATA = ("/dev/shm",)  # noqa: S108 - a place where people put data
_COMPRESSED = frozenset((".gz", ".bz2", ".xz", ".zst", ".lz4", ".Z"))


class Names:
    """Gives inputs their names.

    Parameters
    ----------
    cwd : str
        The current directory.
    workdir : str or None
        Directory that names are relative to instead (``-w``, ``-W``).
    mapping : str or None
        ``"strip"`` (``-ms``) or ``"extension"`` (``-mx``).
    env : mapping
        Environment: PWD names the current directory as the user sees it.
    """

    def __init__(self, cwd: str, workdir: str | None, mapping: str | None, env: Mapping[str, str]) -> None:
        self.cwd, self.mapping = cwd, mapping
        self.base = normpath(os.path.join(cwd, workdir)) if workdir else cwd
        if workdir and not os.path.isdir(self.base):
            raise UsageError(f"-w {workdir}: no such directory")
        self._given: dict[str, str] = {}
        self._owner: dict[str, str] = {}
        self._files = 0
        self._logical = env.get("PWD", "").rstrip("/")

    def absolute(self, value: str) -> str:
        """Return the absolute form of `value`."""
        return normpath(os.path.join(self.cwd, value))

    def local(self, value: str) -> str:
        """Return the absolute path of `value`, by the true name of the current directory."""
        path = self.absolute(value)
        if value.startswith("/") and not self.below_base(path) and self._logical != self.cwd:
            inside = self._logical + "/"
            if self._logical and path.startswith(inside) and _same(self._logical, self.cwd):
                return os.path.join(self.cwd, path[len(inside) :])
        return path

    def below_base(self, path: str) -> bool:
        """Tell whether an absolute path lies below the directory that names are relative to."""
        return path.startswith(self.base.rstrip("/") + "/")

    def name(self, value: str, directory: bool = False) -> str:
        """Return the name of the input `value`.

        Parameters
        ----------
        directory
            It is one, which keeps its name where files are renamed.

        Raises
        ------
        UsageError
            For an absolute path outside, and when two inputs would have one name.
        """
        path = self.absolute(value)
        if path not in self._given:
            name = self._new(path, value, directory)
            if self._owner.setdefault(name, path) != path:
                raise UsageError(
                    f"{value} and {relpath(self._owner[name], self.cwd)} would both be called {name}:"
                    " use -mx, or names that differ"
                )
            self._given[path] = name
        return self._given[path]

    def _new(self, path: str, value: str, directory: bool) -> str:
        if self.mapping == "strip" or (self.mapping and directory):
            return basename(path)
        if self.mapping == "extension":
            self._files += 1
            return f"file{self._files}{extension(path)}"
        if value.startswith("/") and not self.below_base(path):
            raise UsageError(
                f"{value} is outside the directory that the command runs in: name it by a relative path"
                f" ({relpath(path, self.cwd)}), or use -ms, -mx or -w DIR"
            )
        return relpath(path, self.base)

    def keeps(self, value: str, name: str) -> bool:
        """Tell whether `value` already means `name` for the command."""
        parts = [part for part in value.split("/") if part not in ("", ".")]
        ups = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
        return not value.startswith("/") and ".." not in parts[ups:] and normpath(value) == name


def extension(path: str) -> str:
    """Return the extension of a path: ``.csv``, ``.tar.gz``; empty without one."""
    stem, last = splitext(basename(path))
    if last in _COMPRESSED:
        return splitext(stem)[1] + last
    return last


class System:
    """Directories whose files are never inputs, unless one is in them.

    Parameters
    ----------
    cwd : str
        The current directory.
    env : mapping
        Environment: names the active conda or virtual environment, and HOME.
    """

    def __init__(self, cwd: str, env: Mapping[str, str]) -> None:
        active = {sys.prefix, sys.base_prefix, env.get("CONDA_PREFIX", ""), env.get("VIRTUAL_ENV", "")}
        roots = [*_SYSTEM, *(root for root in active if root.startswith("/") and root != "/")]
        self._roots = [root.rstrip("/") for root in roots if not _is_inside(cwd, root)]
        self.home = env.get("HOME", "")
        places = {"/", "/tmp", "/var/tmp", env.get("TMPDIR", "/")}  # noqa: S108 - they are never inputs
        self._explicit = {*places, normpath(self.home)} if self.home else places
        self._above = [cwd, self.home]

    def expanded(self, value: str, tilde: bool) -> str:
        """Put the home directory in place of a leading tilde."""
        if tilde and self.home and (value == "~" or value.startswith("~/")):
            return self.home + value[1:]
        return value

    def value(self, word: Word) -> str:
        """Return the value of a resolved word, with the home directory in place of a tilde."""
        return self.expanded(word.value or "", word.tilde)

    def owns(self, path: str) -> bool:
        """Tell whether a normalised path is absolute, and the system's or the active environment's."""
        return any(_is_inside(path, root) for root in self._roots) and not any(
            _is_inside(path, d) for d in _DATA
        )

    def only_explicit(self, path: str) -> bool:
        """Tell whether a path needs ``--input``: ``.`` and all above it, HOME and all above it, ``/tmp``."""
        return path in self._explicit or any(place and _is_inside(place, path) for place in self._above)


def _is_inside(path: str, root: str) -> bool:
    return path == root or path.startswith(root.rstrip("/") + "/")


def _same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
