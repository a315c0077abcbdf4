"""The configuration of this process, put together again only when something that it is made of has changed.

A look-up takes some ten microseconds, and to read files and variables several times as long. What counts is
compared at each call: the environment, Dask's configuration, the current directory, and the files that were
read or looked for.
What also depends on more than that (a server that runs in the cache, whose file is among those looked for, a
daskserver, a project's file that is trusted or not) is put together at every call.
"""

from __future__ import annotations

import copy
import os
import time
from typing import TYPE_CHECKING, Any

from .config import READY_FILE, load
from .settings import candidates, dask_section, users_directory

if TYPE_CHECKING:
    from .config import Config

_TICK = 1.0
"""Seconds for which a file that has just changed could change again without looking different."""

_cached: _CachedConfig | None = None


class _CachedConfig:
    """A configuration, and what it was made of.

    Parameters
    ----------
    config
        The configuration.
    environment, section, directory, settings
        Of which it was made: variables, what Dask's configuration said, current directory, path of the user's
        file and how that looked.
    absent
        Files that were looked for and were not there.
    """

    def __init__(
        self,
        config: Config,
        environment: object,
        section: object,
        directory: str,
        settings: tuple[str, tuple[int, ...] | None],
        absent: list[str],
    ) -> None:
        self.config = config
        self._environment, self._section = environment, section
        self._directory, self._absent = directory, absent
        self._path, self._settings = settings

    def holds(self) -> bool:
        """Say whether it would be put together in the same way."""
        if _variables() != self._environment or dask_section() != self._section:
            return False
        if os.getcwd() != self._directory:
            return False
        access = os.access
        for path in self._absent:
            if access(path, os.F_OK):
                return False
        return self._settings is None or self._settings == _looks(self._path)


def load_cached() -> Config:
    """Return what `config.load` does, which is called when anything has changed since.

    Raises
    ------
    UsageError, Untrusted
        As `config.load`.
    """
    global _cached
    cached = _cached
    if cached is not None and cached.holds():
        return cached.config
    _cached = None
    # Looked at before it is read: what changes in between is another one at the next call.
    environment, section, directory = dict(_variables()), copy.deepcopy(dask_section()), os.getcwd()
    path = os.path.join(users_directory(os.environ), "config.toml")
    settings = _looks(path)
    config = load()
    absent = [*candidates(directory), os.path.join(config.cache, READY_FILE)]
    absent += [] if settings else [path]
    if _stands_alone(config, settings):
        cached = _CachedConfig(config, environment, section, directory, (path, settings), absent)
        if cached.holds():
            _cached = cached
    return config


def _stands_alone(config: Config, settings: tuple[int, ...] | None) -> bool:
    """Say whether nothing else was read for a configuration, and nothing that has changed just now."""
    if config.daskserver is not None or config.storage_options:  # whose files are not compared
        return False
    return settings is None or max(settings[-2:]) < time.time_ns() - int(_TICK * 1e9)


def _variables() -> Any:
    """Return the environment as a dictionary that is compared quickly: that of its bytes."""
    return getattr(os.environ, "_data", os.environ)


def _looks(path: str) -> tuple[int, ...] | None:
    """Return what tells one state of a file from another; None where there is no file."""
    try:
        state = os.stat(path)
    except OSError:
        return None
    owner = state.st_mode, state.st_uid
    return state.st_dev, state.st_ino, *owner, state.st_size, state.st_mtime_ns, state.st_ctime_ns
