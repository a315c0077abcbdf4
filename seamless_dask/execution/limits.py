"""Each asker's limits hold for that asker: a command goes on for those who allow it more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .supervisor import Stop

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..model.options import Options
    from .supervisor import Usage


def over_limits(askers: Mapping[str, Options], usage: Usage) -> tuple[Stop | None, dict[str, str]]:
    """Judge a running command by the limits of each asker.

    Returns
    -------
    Stop or None
        Why it must end: everybody's limits are exceeded.
    dict of str to str
        Those whose limits are, with what to tell them, while it goes on for the others.
    """
    over = {name: reason for name, options in askers.items() if (reason := exceeded(options, usage))}
    if over and len(over) == len(askers):
        return Stop(next(iter(over.values())), limit=True), {}
    return None, {name: f"{reason}, which only you had set" for name, reason in over.items()}


def exceeded(options: Options, usage: Usage) -> str | None:
    """Return a line that names the limit of one asker that is exceeded."""
    if options.time_limit is not None and usage.wall > options.time_limit:
        return f"the command ran longer than its time limit of {options.time_limit:g} s"
    if options.memory is not None and usage.memory > options.memory:
        return f"the command used {_mib(usage.memory)}, more than its limit of {_mib(options.memory)}"
    return None


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.4g} MiB"
