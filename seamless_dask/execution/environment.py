"""What surrounds a command: its variables, and what its shell runs before it."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from hashserver.system_text import to_system
from seamless_dask.errors import UsageError
from seamless_dask.model.variables import is_passed

from . import pipelines

if TYPE_CHECKING:
    from collections.abc import Mapping

    from seamless_dask.model.options import Options
    from seamless_dask.model.transformation import Description

    from .layout import Layout

SHELL_FLAGS = "-eo pipefail"

THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
)  # fmt: skip
"""Variables that follow the number of processors of the command."""

MARKER = "SEAMLESS_RUN"
"""Names the run in the environment of all its processes, so that none of them can hide."""

_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"
_MODULE_INITS = (
    "/usr/share/modules/init/bash",
    "/usr/share/Modules/init/bash",
    "/usr/share/lmod/lmod/init/bash",
    "/opt/apps/lmod/lmod/init/bash",
)

_LOOSELY = """\
__seamless_flags=$-
set +eu
"""
_STRICTLY = """\
case $__seamless_flags in *e*) set -e ;; esac
case $__seamless_flags in *u*) set -u ;; esac
"""

_LOAD_MODULES = """\
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
"""

# modules may have put their programs first
_ACTIVATE = """\
__seamless_phase conda
export PATH={programs}:"$PATH"
for __seamless_script in {scripts}; do
  . "$__seamless_script"
done
"""

_PROLOGUE = """\
__seamless_phase prologue
{prologue}
__seamless_status=$?
if [[ $__seamless_status != 0 ]]; then exit "$__seamless_status"; fi
"""


def variables(
    layout: Layout,
    transformation: Description,
    options: Options,
    source: Mapping[str, str],
    prefix: str | None = None,
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
    prefix
        Of the conda environment.

    Raises
    ------
    UsageError
        For a variable that no environment can hold.
    """
    found = {name: source[name] for name in source if is_passed(name)}
    found.setdefault("PATH", _DEFAULT_PATH)
    found |= {
        "HOME": layout.home,
        "TMPDIR": layout.tmp,
        "LANG": "C.UTF-8",
        "SHELL": "/bin/bash",
        "PYTHONNOUSERSITE": "1",
    }
    found |= dict.fromkeys(THREADS, str(options.cpus or 1))
    if options.conda and prefix:
        from . import conda

        found |= conda.variables(prefix, to_system(options.conda), found)
    found |= _possible(options.metavars) | _possible(transformation.variables or {})
    return found | {MARKER: layout.name}  # the last word: by another name nobody would find the processes


def _possible(given: Mapping[str, str]) -> dict[str, str]:
    """Return variables that were asked for, if an environment can hold them."""
    for name, value in given.items():
        if not name or "=" in name or "\0" in name + value:
            raise UsageError(f"no environment can hold the variable {name!r}, or its value: choose another")
    return {name: to_system(value) for name, value in given.items()}


def is_prepared(options: Options) -> bool:
    """Tell whether something that can fail goes before the command: its shell then tells how far it is."""
    return bool(options.prologue or options.modules or options.conda or options.image)


def shell_flags(transformation: Description) -> list[str]:
    """Return the words of the flags that the shell is started with."""
    flags = transformation.shell_flags
    return shlex.split(SHELL_FLAGS if flags is None else flags)


def prelude(
    options: Options, phase_file: str, marked: bool, source: Mapping[str, str], prefix: str | None = None
) -> str:
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
    prefix
        Of the conda environment.

    Raises
    ------
    UsageError
        If modules are asked for where there are none.
    """
    parts = []
    if is_prepared(options):
        parts.append(f'__seamless_phase() {{ printf "%s" "$1" >| {shlex.quote(phase_file)}; }}\n')
        if options.modules or options.conda:
            parts += [_LOOSELY, *_software(options, source, prefix), _STRICTLY]
        parts += [_PROLOGUE.format(prologue=to_system(text)) for text in options.prologue]
        parts.append("__seamless_phase command\n")
    if marked:
        parts.append(pipelines.PRELUDE)
    return "unset BASH_ENV\n" + "".join(parts) if parts else ""


def blame(phase: str, options: Options, said: str) -> str:
    """Return what went wrong before the command, where its shell got no further than `phase`."""
    host = os.uname().nodename
    if phase == "prologue":
        return f"the prologue failed on {host}{said}"
    if phase.startswith("module"):
        return f"{phase} could not be loaded on {host}{said}"
    if phase == "conda":
        return f"conda environment {options.conda} could not be activated on {host}{said}"
    if options.image:
        return f"image {options.image} could not be started on {host}{said}"
    return "these shell flags keep what goes before the command from being run: do without -p"


def _software(options: Options, source: Mapping[str, str], prefix: str | None) -> list[str]:
    parts = []
    if options.modules:
        init = shlex.quote(_module_init(source))
        parts.append(_LOAD_MODULES.format(init=init, modules=to_system(shlex.join(options.modules))))
    if prefix:
        from . import conda

        programs, scripts = shlex.quote(f"{prefix}/bin"), shlex.join(conda.scripts(prefix))
        parts.append(_ACTIVATE.format(programs=programs, scripts=scripts))
    return parts


def _module_init(source: Mapping[str, str]) -> str:
    homes = [source[name] for name in ("MODULESHOME", "LMOD_PKG") if source.get(name)]
    for path in (*(os.path.join(home, "init/bash") for home in homes), *_MODULE_INITS):
        if os.path.exists(path):
            return path
    raise UsageError(
        f"what is asked for needs environment modules, but {os.uname().nodename} has none"
        " (set MODULESHOME to where they are)"
    )
