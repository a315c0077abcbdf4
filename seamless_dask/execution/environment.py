"""What surrounds a command: its variables, and what its shell runs before it."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from seamless_dask.errors import UsageError

from . import pipelines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seamless_dask.options import Options
    from seamless_dask.transformation import Description

    from .workdir import Layout

SHELL_FLAGS = "-eo pipefail"

PASSED = (
    "PATH", "USER", "LOGNAME", "TZ",
    "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
    "MODULEPATH", "MODULESHOME", "LMOD_PKG", "LMOD_DIR", "LMOD_CMD",
    "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "CONDA_EXE", "CONDA_PYTHON_EXE", "CONDA_SHLVL",
    "MAMBA_EXE", "MAMBA_ROOT_PREFIX", "PYENV_ROOT", "PYENV_VERSION", "VIRTUAL_ENV",
)  # fmt: skip
"""Variables of the worker that a command sees, besides ``SLURM_*``."""

THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
)  # fmt: skip
"""Variables that follow the number of processors of the command."""

MARKER = "SEAMLESS_RUN"
"""Names the run in the environment of all its processes, so that none of them can hide."""

_SECRETS = {"SLURM_JWT"}
_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_MODULE_INITS = (
    "/usr/share/modules/init/bash",
    "/usr/share/Modules/init/bash",
    "/usr/share/lmod/lmod/init/bash",
    "/opt/apps/lmod/lmod/init/bash",
)

_LOAD_MODULES = """\
__seamless_flags=$-
set +eu
__seamless_phase modules
. {init}
for __seamless_module in {modules}; do
  __seamless_phase "module $__seamless_module"
  module load "$__seamless_module" || exit 1
  # old versions return 0 whatever happened
  case ":$LOADEDMODULES:" in
    *":$__seamless_module:"* | *":$__seamless_module/"*) ;;
    *) exit 1 ;;
  esac
done
case $__seamless_flags in *e*) set -e ;; esac
case $__seamless_flags in *u*) set -u ;; esac
"""

_PROLOGUE = """\
__seamless_phase prologue
{prologue}
__seamless_status=$?
if [[ $__seamless_status != 0 ]]; then exit "$__seamless_status"; fi
"""


def variables(
    layout: Layout, transformation: Description, options: Options, source: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of a command.

    Parameters
    ----------
    layout
        Where its directories are, as it sees them.
    transformation, options
        What is run; the variables of both are in the environment.
    source
        The environment of the worker.
    """
    names = [
        name for name in source if name in PASSED or (name.startswith("SLURM_") and name not in _SECRETS)
    ]
    found = {name: source[name] for name in names}
    found.setdefault("PATH", _DEFAULT_PATH)
    found |= {
        "HOME": layout.home,
        "TMPDIR": layout.tmp,
        "LANG": "C.UTF-8",
        "SHELL": "/bin/bash",
        "PYTHONNOUSERSITE": "1",
        MARKER: layout.name,
    }
    found |= dict.fromkeys(THREADS, str(options.cpus or 1))
    return found | options.metavars | (transformation.variables or {})


def shell_flags(transformation: Description) -> list[str]:
    """Return the words of the flags that the shell is started with."""
    flags = transformation.shell_flags
    return shlex.split(SHELL_FLAGS if flags is None else flags)


def prelude(options: Options, phase_file: str, marked: bool, source: Mapping[str, str]) -> str:
    """Return what the shell runs before the command; empty when there is nothing.

    Parameters
    ----------
    options
        Names modules and prologue.
    phase_file
        Where the shell writes how far it has come, as the command sees it.
    marked
        Whether the command's pipelines are marked.
    source
        The environment of the worker.

    Raises
    ------
    UsageError
        If modules are asked for where there are none.
    """
    parts = []
    if options.modules:
        init = shlex.quote(_module_init(source))
        parts.append(_LOAD_MODULES.format(init=init, modules=shlex.join(options.modules)))
    parts += [_PROLOGUE.format(prologue=text) for text in options.prologue]
    if parts:
        file = shlex.quote(phase_file)
        parts.insert(0, f'__seamless_phase() {{ printf "%s" "$1" >| {file}; }}\n')
        parts.append("__seamless_phase command\n")
    if marked:
        parts.append(pipelines.PRELUDE)
    return "unset BASH_ENV\n" + "".join(parts) if parts else ""


def _module_init(source: Mapping[str, str]) -> str:
    homes = [source[name] for name in ("MODULESHOME", "LMOD_PKG") if source.get(name)]
    for path in (*(os.path.join(home, "init/bash") for home in homes), *_MODULE_INITS):
        if os.path.exists(path):
            return path
    raise UsageError(
        f"--module needs environment modules, but {os.uname().nodename} has none"
        " (set MODULESHOME to where they are)"
    )
