"""How a transformation is to be run: what travels beside it and is no part of its identity."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from .errors import UsageError

ISOLATIONS = ("auto", "bubblewrap", "none")


class Options(NamedTuple):
    """Execution options of one asker.

    Limits are kept by the `Supervisor`, because several askers of one computation may have set
    different ones; whoever runs the command leaves ``time_limit`` and ``memory`` alone.
    """

    prologue: tuple[str, ...] = ()
    """Shell commands that run before the command, in its shell."""
    modules: tuple[str, ...] = ()
    """Environment modules that are loaded before the command."""
    metavars: dict[str, str] = {}  # noqa: RUF012 - never changed
    """Variables in the command's environment that are not part of the identity."""
    cpus: int | None = None
    memory: int | None = None
    """Limit on the memory of the whole process tree, in bytes."""
    time_limit: float | None = None
    """Limit on wall time, in seconds."""
    retries: int = 3
    """How often a lost worker is replaced."""
    writable: tuple[str, ...] = ()
    """Inputs that the command is going to modify: they are copied."""
    scratch: bool = False
    """The result's bytes need not be kept."""
    isolation: str = "auto"
    """One of `ISOLATIONS`."""
    direct_print: bool = False
    label: str | None = None

    def to_json(self) -> str:
        """Return the options as one line of JSON; what equals its default is left out."""
        given = {name: value for name, value in self._asdict().items() if value != self._field_defaults[name]}
        return json.dumps(given, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Options:
        """Read what `to_json` wrote; raises `UsageError` for anything else."""
        try:
            given = json.loads(text)
        except ValueError as error:
            raise UsageError(f"execution options are not JSON: {error}") from None
        if not isinstance(given, dict):
            raise UsageError("execution options are not a JSON object")
        return cls(**{name: _checked(name, value) for name, value in given.items()})

    def environment(self) -> dict[str, Any]:
        """Return what of the environment was named: the part that a later hit is compared with."""
        named = {"prologue": list(self.prologue), "modules": list(self.modules)}
        return {name: value for name, value in named.items() if value}


_TUPLES = {"prologue", "modules", "writable"}
_TYPES: dict[str, tuple[type, ...]] = {
    "cpus": (int, type(None)),
    "memory": (int, type(None)),
    "time_limit": (int, float, type(None)),
    "retries": (int,),
    "scratch": (bool,),
    "isolation": (str,),
    "direct_print": (bool,),
    "label": (str, type(None)),
}


def _checked(name: str, value: Any) -> Any:
    if name in _TUPLES:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif name == "metavars":
        if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
            return value
    elif name not in _TYPES:
        raise UsageError(f"unknown execution option {name!r}")
    elif isinstance(value, _TYPES[name]) and (name != "isolation" or value in ISOLATIONS):
        return value
    raise UsageError(f"bad value for execution option {name!r}: {value!r}")
