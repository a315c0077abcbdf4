"""Bubblewrap: the command sees the system, its own files, and no network.

What is visible follows from the environment of whoever executes, and from nothing that was asked for: a
variable of the command, or the name of an environment, makes nothing appear.
"""

from __future__ import annotations

import os
import time
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from .shell import find_program

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .layout import Layout

INNER = "/seamless"
"""Where a sandboxed command finds the directories of its run: the same place every time."""

_SYSTEM = (
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/sys",
    "/nix/store", "/gnu/store", "/run/current-system", "/cvmfs",
    "/var/lib/texmf", "/var/cache/fontconfig",
)  # fmt: skip
_DEVICES = ("/dev/dri", "/dev/kfd")
# what may lie directly in a prefix such as ~/.local; the rest of it is nobody's business
_SEARCHED = ("PATH", "MODULEPATH", "CONDA_PREFIX", "PYENV_ROOT")
_A_WHILE = 5.0
_PREFIX_PARTS = ("bin", "sbin", "lib", "lib64", "libexec", "include")
_PRIVATE = {"/", "/home", "/root", "/var", "/mnt", "/media", "/srv", "/run", "/proc", "/dev"}
_PRIVATE |= {"/tmp", "/var/tmp"}  # noqa: S108

MOST_VARIABLES = 2000
"""Variables that a sandboxed command can have: bubblewrap takes 9,000 arguments, three for each."""


class Unavailable(Exception):
    """The sandbox did not come about; the text says why."""


def program() -> str | None:
    """Return the path of bubblewrap, None where it is not installed."""
    search = os.environ.get("PATH", "")
    found = _programs.get(search)
    if found is None or not os.access(found, os.X_OK):
        # not to be found is no reason to do without: the search path may be any. What is in the current
        # directory is somebody's data.
        found = find_program("bwrap", f"{search}:/usr/bin:/usr/local/bin:/bin")
        if found is not None:
            _programs[search] = found
    return found


_programs: dict[str, str] = {}


def sandbox(
    bwrap: str,
    outer: Layout,
    inner: Layout,
    mounted: Iterable[tuple[str, str]],
    shown: Sequence[str],
    private: Sequence[str] = (),
) -> list[str]:
    """Return the words that a command is prefixed with.

    Parameters
    ----------
    bwrap
        The program.
    outer, inner
        The directories of the run, as we see them and as the command does.
    mounted
        Pairs of a file, and the path as the command sees it, where it can be read.
    shown
        Further directories that it sees, at their own places; see `visible`.
    private
        Directories that it sees empty, where they lie in what it sees: what is installed in a home is shown,
        the home is not, wherever it is.
    """
    words = [bwrap, *_bare()]
    words += ["--bind", outer.tmp, "/tmp", "--dir", "/var", "--symlink", "../tmp", "/var/tmp"]  # noqa: S108
    words += _emptied(path for path in private if _covered(path, _SYSTEM))
    for path in shown:
        words += ["--ro-bind-try", path, path]
    words += _emptied(path for path in private if _covered(path, shown))
    words += ["--bind", outer.root, inner.root, "--bind", outer.home, inner.home]
    words += ["--bind-try", outer.control, inner.control]
    for source, target in mounted:
        words += ["--ro-bind", source, target]
    return [*words, "--chdir", inner.work, "--"]


def _emptied(paths: Iterable[str]) -> list[str]:
    # an account may have a directory of the system's for its home, or none
    return [
        word for path in paths if path not in _SYSTEM and os.path.isdir(path) for word in ("--tmpfs", path)
    ]


def _bare() -> list[str]:
    """Return the words for what every sandbox is and shows."""
    words = ["--unshare-all", "--die-with-parent", "--cap-drop", "ALL", *_system()]
    return [*words, "--proc", "/proc", "--dev", "/dev", *_devices()]


def why_not(bwrap: str, shell: str) -> str | None:
    """Return why no sandbox comes about on this host; None if one does.

    What one run has asked for may keep its own sandbox from being made. That must be no reason to do without
    for others, and so this tries one in which nothing of any run's is.
    """
    import subprocess

    words = [bwrap, *_bare(), "--", shell, "-c", ":"]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, check=False, env={}, cwd="/", timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bwrap: {error}"
    if done.returncode == 0:
        return None
    said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    return said or f"bwrap exited with status {done.returncode}"


def visible(source: Mapping[str, str], *prefixes: str) -> list[str]:
    """Return the directories outside the system's that commands see.

    Parameters
    ----------
    source
        The environment of whoever executes: where its search paths lead to.
    *prefixes
        Environments that it knows of, see `seamless_dask.execution.conda.find`, and that are asked for.
    """
    values = tuple(source.get(name, "") for name in _SEARCHED)
    found = _lately(values, int(time.monotonic() / _A_WHILE))
    return found + [path for path in prefixes if not _is_private(path) and not _is_systems(path)]


@cache
def _system() -> list[str]:
    words: list[str] = []
    for path in _SYSTEM:
        if os.path.islink(path):
            words += ["--symlink", os.readlink(path), path]
        elif os.path.isdir(path):
            words += ["--ro-bind", path, path]
    return words


@cache
def _devices() -> list[str]:
    try:
        graphics = [f"/dev/{name}" for name in os.listdir("/dev") if name.startswith("nvidia")]
    except OSError:
        graphics = []
    found = [path for path in (*graphics, *_DEVICES) if os.path.exists(path)]
    return [word for path in found for word in ("--dev-bind", path, path)]


@lru_cache(maxsize=32)
def _lately(values: tuple[str, ...], _: int) -> list[str]:
    """Return `software` as it was a moment ago: to look at all these directories costs half a millisecond."""
    return software(dict(zip(_SEARCHED, values, strict=True)))


def software(env: Mapping[str, str]) -> list[str]:
    """Return the directories outside the system's that the search paths in `env` lead to.

    An environment (venv, conda, pyenv) is visible as a whole, of another prefix such as ``~/.local`` its
    programs and libraries, of a home directory never more than the directory below it that is named: a search
    path that leads to the home itself, or above it, shows nothing of it.
    """
    found: dict[str, None] = {}
    for directory in env.get("PATH", "").split(":"):
        for path in _parts_of(directory):
            found.setdefault(path)
    for directory in env.get("MODULEPATH", "").split(":"):
        if os.path.isdir(directory) and not _is_private(os.path.realpath(directory)):
            found.setdefault(_module_root(os.path.realpath(directory)))
    for prefix in (env.get("CONDA_PREFIX", ""), env.get("PYENV_ROOT", "")):
        if os.path.isabs(prefix) and os.path.isdir(prefix) and not _is_private(prefix):
            found.setdefault(prefix)
    shown = [path for path in sorted(found) if not _is_systems(path) and os.access(path, os.R_OK | os.X_OK)]
    return [path for path in shown if not any(path.startswith(other + "/") for other in shown)]


def _parts_of(directory: str) -> list[str]:
    """Return what must be visible so that the programs in one directory of the search path work."""
    if not os.path.isabs(directory) or not os.path.isdir(directory) or _is_systems(directory):
        return []
    if _is_private(os.path.normpath(directory)):
        return []
    prefix = os.path.dirname(directory.rstrip("/"))
    if os.path.exists(f"{prefix}/pyvenv.cfg"):
        return [prefix, *_base_of(f"{prefix}/pyvenv.cfg")]
    if os.path.isdir(f"{prefix}/shims"):
        return [prefix]
    return [directory] if _is_private(prefix) else [directory, *_software_in(prefix)]


def _is_systems(path: str) -> bool:
    """Tell whether a path is visible in any case: not in a home that lies below /opt."""
    return _covered(path, _SYSTEM) and not _covered(path, [os.path.realpath(os.path.expanduser("~"))])


def _is_private(prefix: str) -> bool:
    """Tell whether other things lie there than software: a directory of the system's, a home or above one."""
    home, real = os.path.realpath(os.path.expanduser("~")), os.path.realpath(prefix)
    return bool({os.path.normpath(prefix), real} & _PRIVATE) or _covered(home, [real])


def _base_of(configuration: str) -> list[str]:
    """Return the installation that a virtual environment was made from."""
    try:
        with open(configuration, encoding="utf-8") as file:
            lines = [line.partition("=") for line in file]
    except (OSError, UnicodeDecodeError):
        return []
    homes = [value.strip() for name, _, value in lines if name.strip() == "home"]
    found = {path for home in homes for path in (home, os.path.realpath(f"{home}/python3"))}
    prefixes = {os.path.dirname(home) for home in homes}
    prefixes |= {os.path.dirname(os.path.dirname(path)) for path in found if os.path.isfile(path)}
    return [part for path in sorted(prefixes) if not _is_private(path) for part in _software_in(path)]


def _software_in(prefix: str) -> list[str]:
    """Return the directories of a prefix with programs and libraries: of an environment all of it."""
    if os.path.isdir(f"{prefix}/conda-meta"):
        return [prefix]
    return [f"{prefix}/{part}" for part in _PREFIX_PARTS if os.path.isdir(f"{prefix}/{part}")]


def _module_root(path: str) -> str:
    """Return the tree that module files most likely speak of: ``/software/modules`` → ``/software``."""
    top = "/" + path.split("/")[1]
    return path if top in _PRIVATE else top


def _covered(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(place + "/") for place in places)
