"""Which variables of a shell or a worker matter to a command; none of them holds a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config import KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

PASSED = (
    "PATH", "USER", "LOGNAME", "TZ",
    "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
    "MODULEPATH", "MODULESHOME", "LMOD_PKG", "LMOD_DIR", "LMOD_CMD",
    "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "CONDA_EXE", "CONDA_PYTHON_EXE", "CONDA_SHLVL",
    "MAMBA_EXE", "MAMBA_ROOT_PREFIX", "PYENV_ROOT", "PYENV_VERSION", "VIRTUAL_ENV",
)  # fmt: skip
"""Variables of the worker that a command sees, besides ``SLURM_*``."""

_PASSED = frozenset(PASSED)
_SECRETS = {"SLURM_JWT"}
_SETTINGS = {f"SEAMLESS_{key.upper()}" for key in (*KEYS, "profile")}
_PLACES = {"TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "APPTAINER_CACHEDIR", "SINGULARITY_CACHEDIR"}
_PLACES |= {"CONDA_ENVS_PATH", "CONDA_ENVS_DIRS"}


def is_slurms(name: str) -> bool:
    """Tell whether a variable is one of SLURM's that a command may see."""
    return name.startswith("SLURM_") and name not in _SECRETS


def is_passed(name: str) -> bool:
    """Tell whether a command sees this variable of the worker."""
    return name in _PASSED or is_slurms(name)


def of_submission(source: Mapping[str, str]) -> dict[str, str]:
    """Return what of a shell counts for a command that is submitted in it, to be run by another process."""
    return {name: value for name, value in source.items() if _counts(name)}


def put_in_force(submitted: Mapping[str, str], environment: MutableMapping[str, str]) -> None:
    """Make `environment` that of the shell of which `of_submission` gave `submitted`."""
    for name in [name for name in environment if _counts(name)]:
        del environment[name]
    environment.update(submitted)


def _counts(name: str) -> bool:
    return is_passed(name) or name in _SETTINGS or name in _PLACES
