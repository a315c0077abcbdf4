"""Container images: the command runs in one by Apptainer or Singularity, in the directories of its run."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from seamless_dask.errors import UsageError
from seamless_dask.model.variables import is_slurms

from .environment import MARKER

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from .layout import Layout

PROGRAMS = ("apptainer", "singularity")

# of the worker's variables those that mean the same inside
_MEANT_INSIDE = (
    "USER", "LOGNAME", "TZ", "LANG", "SHELL", "PYTHONNOUSERSITE", "TMPDIR", "BASH_ENV", MARKER,
    "SEAMLESS_DASKSERVER",
    "CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
)  # fmt: skip
# what the program itself needs, to start an image and to fetch one
_OUTSIDE = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
)  # fmt: skip


def program(image: str, path: str | None) -> str:
    """Return the program that runs images on this host.

    Parameters
    ----------
    image
        A file, a directory, or an address such as ``docker://debian:13``.
    path
        The search path of the worker.

    Raises
    ------
    UsageError
        If there is none, or no such image.
    """
    from .shell import find_program

    search = os.environ.get("PATH", "") if path is None else path
    host = os.uname().nodename
    if image.startswith("-"):
        raise UsageError(f"{image} is no image: it would be taken for an option of the program that runs it")
    found = next((found for name in PROGRAMS if (found := find_program(name, search))), None)
    if found is None:
        raise UsageError(f"a container image needs apptainer or singularity, and {host} has neither")
    if "://" not in image and not os.path.exists(image):
        raise UsageError(f"there is no image {image} on {host}")
    return found


def absolute(image: str) -> str:
    """Return the image as any directory understands it."""
    return image if "://" in image else os.path.abspath(image)


def container(runtime: str, image: str, path: str, layout: Layout) -> list[str]:
    """Return the words that a command is prefixed with.

    Of the host the container sees the directories of the run (`path`), at the same place, and devices.
    """
    words = [runtime, "--silent", "exec", "--containall", "--home", f"{layout.home}:{layout.home}"]
    words += ["--bind", path, "--pwd", layout.work]
    words += ["--nv"] if os.path.exists("/dev/nvidiactl") else []
    words += ["--rocm"] if os.path.exists("/dev/kfd") else []
    return [*words, image]


def variables(
    runtime: str,
    env: Mapping[str, str],
    own: Collection[str],
    threads: Sequence[str],
    source: Mapping[str, str],
) -> dict[str, str]:
    """Return the environment of the program that runs the image.

    Parameters
    ----------
    runtime
        The program.
    env
        The environment of the command as it would be without an image.
    own
        The names in it that come from the user: they go in whatever they are.
    threads
        The names in it that speak of processors.
    source
        The environment of the worker.
    """
    prefix = f"{os.path.basename(runtime).upper()}ENV_"
    meant = {*_MEANT_INSIDE, *threads, *own} - {"HOME"}
    inside = {name: value for name, value in env.items() if name in meant or is_slurms(name)}
    outside = {name: source[name] for name in _OUTSIDE if name in source}
    settings = {name: value for name, value in source.items() if _is_setting(name)}
    return (
        outside | settings | {MARKER: env[MARKER]} | {prefix + name: value for name, value in inside.items()}
    )


def _is_setting(name: str) -> bool:
    return name.startswith(("APPTAINER_", "SINGULARITY_"))
