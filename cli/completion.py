"""What a shell is offered when a line is completed; how the shell asks is click's business."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class

from .table import DIRECTORY, FILE, JOB, PATH, PROFILE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .table import Argument, Option

PATIENCE = 2.0
"""Seconds after which a shell is told that nothing is known of running jobs."""


class _MixedBash(BashComplete):
    """click's script for bash offers files or other words, not both; ours also what only sidecars know.

    Where a release of click has another script, that one is taken as it is.
    """

    name = "bash"
    source_template = BashComplete.source_template.replace(
        """\
            COMPREPLY=()
            compopt -o default
""",
        """\
            if ((${#COMPREPLY[@]})); then
                COMPREPLY+=($(compgen -f -X "*.CHECKSUM" -- "${COMP_WORDS[COMP_CWORD]}"))
                compopt -o filenames
            else
                compopt -o default
            fi
""",
    )


def enable() -> None:
    """Have click answer shells by our rules; for processes of our own commands, not for Dask's."""
    add_completion_class(_MixedBash)


def script(prog: str, shell: str) -> str:
    """Return what a shell reads to complete the lines of a program."""
    enable()
    made_by = get_completion_class(shell)
    assert made_by is not None
    maker = made_by(click.Command(prog), {}, prog, f"_{prog.replace('-', '_').upper()}_COMPLETE")
    return maker.source_template % maker.source_vars()


def offers(entry: Option | Argument, incomplete: str, said: Mapping[str, Any]) -> list[CompletionItem]:
    """Return what an incomplete value may become; `said` are the options that stand on the line already."""
    if entry.choices:
        return _starting(iter(entry.choices), incomplete)
    with suppress(Exception), _patience():  # whatever is wrong, a shell has no use for a message
        if entry.completes == JOB:
            return _jobs(incomplete, said)
        return _OFFERS[entry.completes](incomplete) if entry.completes else []
    return []


def _starting(names: Iterator[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in sorted(set(names)) if name.startswith(incomplete)]


def _paths(incomplete: str) -> list[CompletionItem]:
    return [*_away(incomplete, ".CHECKSUM", ".FUTURE"), CompletionItem(incomplete, type="file")]


def _away(incomplete: str, *suffixes: str) -> list[CompletionItem]:
    """Return what is not here, and has a sidecar."""
    folder = incomplete.rpartition("/")[0] + "/" if "/" in incomplete else ""
    found = set()
    for entry in os.scandir(os.path.expanduser(folder) or "."):
        for suffix in suffixes:
            name = entry.name.removesuffix(suffix)
            if name and name != entry.name and not os.path.lexists(entry.path.removesuffix(suffix)):
                found.add(folder + name)
    return _starting(iter(found), incomplete)


def _profiles(incomplete: str) -> list[CompletionItem]:
    from seamless_dask.settings import project_settings, users_settings

    found: set[str] = set()
    for settings in (users_settings(os.environ), project_settings(os.getcwd())):
        found |= settings.profiles.keys() if settings else set()
    return _starting(iter(found), incomplete)


def _jobs(incomplete: str, said: Mapping[str, Any]) -> list[CompletionItem]:
    """Return the keys of what waits or runs, and paths that are made."""
    found = _away(incomplete, ".FUTURE")
    with suppress(Exception):
        found += _keys(incomplete, said)
    return found or [CompletionItem(incomplete, type="file")]


def _keys(incomplete: str, said: Mapping[str, Any]) -> list[CompletionItem]:
    from contextlib import closing

    from seamless_dask.config import load, load_embedded
    from seamless_dask.context import Context
    from seamless_dask.executors.opening import executor

    from .opening import SETTINGS

    given = {name: said.get(name) for name in SETTINGS}
    # Not by `opening`, which would ask whether a project is trusted.
    config = load_embedded({"profile": given["profile"]}, os.getcwd()) if said.get("local") else load(given)
    with closing(Context(config)) as context, closing(executor(context)) as opened:
        jobs = [job for job in opened.jobs() if job.key.startswith(incomplete)]
    return [CompletionItem(job.key, help=job.label or job.state) for job in jobs]


@contextmanager
def _patience() -> Iterator[None]:
    """Give up what takes too long: somebody has pressed a key and waits."""

    def give_up(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


_OFFERS: dict[str, Callable[[str], list[CompletionItem]]] = {
    FILE: lambda incomplete: [CompletionItem(incomplete, type="file")],
    DIRECTORY: lambda incomplete: [CompletionItem(incomplete, type="dir")],
    PATH: _paths,
    PROFILE: _profiles,
}
