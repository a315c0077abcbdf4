"""Conda environments: found on this host, and activated without the help of conda or mamba."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from seamless_dask.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_INSTALLATIONS = (
    "~/miniforge3", "~/mambaforge", "~/miniconda3", "~/anaconda3", "~/micromamba", "~/.local/share/mamba",
    "~/.conda", "/opt/conda", "/opt/miniforge3", "/opt/miniconda3", "/opt/anaconda3",
)  # fmt: skip


def find(name: str, source: Mapping[str, str], *, known: bool = False) -> str:
    """Return the prefix of an environment.

    Parameters
    ----------
    name
        Its name, or its prefix: what has a slash in it.
    source
        The environment of the worker.
    known
        Only one that conda or mamba of this host know of: who asks for it does not say what a sandbox shows.

    Raises
    ------
    UsageError
        If it is not on this host, or not known to it.
    """
    by_path, host = "/" in name, os.uname().nodename
    places = _Known.on_this_host(source) if known else None
    for prefix in map(os.path.abspath, [name] if by_path else _named(name, source)):
        if places is not None and not places.have(prefix):
            continue  # before it is looked at: nor is it told whether something is there
        if os.path.isdir(os.path.join(prefix, "bin")):
            return prefix
    if not by_path:
        where = f" (no {name}/bin in {', '.join(_parents(source)) or 'any known place'})"
    elif known:
        where = (
            " that its conda knows of: list it in ~/.conda/environments.txt there, or name its directory in"
            " CONDA_ENVS_PATH, for a sandbox to show it"
        )
    else:
        where = ""
    raise UsageError(f"there is no conda environment {name} on {host}{where}")


class _Known(NamedTuple):
    """Where the environments of a host are: directories of them, and single ones."""

    parents: frozenset[str]
    prefixes: frozenset[str]

    @classmethod
    def on_this_host(cls, source: Mapping[str, str]) -> _Known:
        """Return those that the environment of the worker, and conda's own list, name."""
        active = [path for path in (source.get("CONDA_PREFIX"),) if path]
        prefixes = (*_roots(source), *active, *_listed())
        return cls(frozenset(map(_real, _parents(source))), frozenset(map(_real, prefixes)))

    def have(self, prefix: str) -> bool:
        """Say whether `prefix` is one of them."""
        # itself, not what it leads to: a link in there is the host's own
        place = os.path.join(_real(os.path.dirname(prefix)), os.path.basename(prefix))
        return os.path.dirname(place) in self.parents or _real(prefix) in self.prefixes


def _real(path: str) -> str:
    return os.path.realpath(path)


def variables(prefix: str, name: str, source: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that activation sets."""
    found = {
        "PATH": f"{prefix}/bin:{source['PATH']}" if source.get("PATH") else f"{prefix}/bin",
        "CONDA_PREFIX": prefix,
        "CONDA_DEFAULT_ENV": name,
        "CONDA_SHLVL": "1",
    }
    return found | dict(_configured(prefix))


def scripts(prefix: str) -> list[str]:
    """Return what activation sources, in this order."""
    directory = os.path.join(prefix, "etc/conda/activate.d")
    return [os.path.join(directory, name) for name in _names(directory) if name.endswith(".sh")]


def _configured(prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the variables that packages (``env_vars.d``) and the user (``state``) have set in it."""
    directory = os.path.join(prefix, "etc/conda/env_vars.d")
    files = [os.path.join(directory, name) for name in _names(directory)]
    for path in (*files, os.path.join(prefix, "conda-meta/state")):
        try:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
            values = document.get("env_vars", {}) if path.endswith("state") else document
            yield from ((str(name), str(value)) for name, value in values.items())
        except FileNotFoundError:
            continue
        except (OSError, ValueError, AttributeError) as error:
            raise UsageError(f"{path} cannot be read: {error}") from None


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _named(name: str, source: Mapping[str, str]) -> Iterator[str]:
    if name in ("base", "root"):
        yield from (root for root in _roots(source) if os.path.isdir(os.path.join(root, "conda-meta")))
    yield from (os.path.join(parent, name) for parent in _parents(source))
    yield from (prefix for prefix in _listed() if os.path.basename(prefix.rstrip("/")) == name)


def _listed() -> list[str]:
    """Return the prefixes that conda and mamba have written down: every environment that they have made."""
    try:
        with open(os.path.expanduser("~/.conda/environments.txt"), encoding="utf-8") as file:
            return [line.strip() for line in file if os.path.isabs(line.strip())]
    except (OSError, UnicodeDecodeError):
        return []


def _parents(source: Mapping[str, str]) -> list[str]:
    """Return the directories that environments may lie in."""
    named = [source.get(name, "") for name in ("CONDA_ENVS_PATH", "CONDA_ENVS_DIRS")]
    found = [path for text in named for path in text.split(":") if path]
    found += [os.path.join(root, "envs") for root in _roots(source)]
    return [path for path in dict.fromkeys(found) if os.path.isdir(path)]


def _roots(source: Mapping[str, str]) -> list[str]:
    """Return where conda or mamba may be installed."""
    from .shell import find_program

    found = [source.get("MAMBA_ROOT_PREFIX", "")]
    programs = (source.get("CONDA_EXE"), find_program("conda", source.get("PATH", os.defpath)))
    found += [os.path.dirname(os.path.dirname(program)) for program in programs if program]
    if active := source.get("CONDA_PREFIX", ""):
        parent = os.path.dirname(active)
        found.append(os.path.dirname(parent) if os.path.basename(parent) == "envs" else active)
    found += [os.path.expanduser(path) for path in _INSTALLATIONS]
    return [path for path in dict.fromkeys(found) if path and os.path.isdir(path)]
