"""Conda environments: found on this host, and activated without the help of conda or mamba."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from seamless_dask.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_INSTALLATIONS = (
    "~/miniforge3", "~/mambaforge", "~/miniconda3", "~/anaconda3", "~/micromamba", "~/.local/share/mamba",
    "~/.conda", "/opt/conda", "/opt/miniforge3", "/opt/miniconda3", "/opt/anaconda3",
)  # fmt: skip


def find(name: str, source: Mapping[str, str]) -> str:
    """Return the prefix of an environment.

    Parameters
    ----------
    name
        Its name, or its prefix: what has a slash in it.
    source
        The environment of the worker.

    Raises
    ------
    UsageError
        If it is not on this host.
    """
    candidates = [name] if "/" in name else list(_named(name, source))
    for prefix in candidates:
        if os.path.isdir(os.path.join(prefix, "bin")):
            return os.path.abspath(prefix)
    where = "" if "/" in name else f" (no {name}/bin in {', '.join(_parents(source)) or 'any known place'})"
    raise UsageError(f"there is no conda environment {name} on {os.uname().nodename}{where}")


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
    # where conda and mamba write down every environment that they make
    try:
        with open(os.path.expanduser("~/.conda/environments.txt"), encoding="utf-8") as file:
            listed = file.read().splitlines()
    except (OSError, UnicodeDecodeError):
        return
    yield from (prefix for prefix in listed if os.path.basename(prefix.rstrip("/")) == name)


def _parents(source: Mapping[str, str]) -> list[str]:
    """Return the directories that environments may lie in."""
    named = [source.get(name, "") for name in ("CONDA_ENVS_PATH", "CONDA_ENVS_DIRS")]
    found = [path for text in named for path in text.split(":") if path]
    found += [os.path.join(root, "envs") for root in _roots(source)]
    return [path for path in dict.fromkeys(found) if os.path.isdir(path)]


def _roots(source: Mapping[str, str]) -> list[str]:
    """Return where conda or mamba may be installed."""
    import shutil

    found = [source.get("MAMBA_ROOT_PREFIX", "")]
    programs = (source.get("CONDA_EXE"), shutil.which("conda", path=source.get("PATH")))
    found += [os.path.dirname(os.path.dirname(program)) for program in programs if program]
    if active := source.get("CONDA_PREFIX", ""):
        parent = os.path.dirname(active)
        found.append(os.path.dirname(parent) if os.path.basename(parent) == "envs" else active)
    found += [os.path.expanduser(path) for path in _INSTALLATIONS]
    return [path for path in dict.fromkeys(found) if path and os.path.isdir(path)]
