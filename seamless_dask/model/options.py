"""How a transformation is to be run: what travels beside it and is no part of its identity."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

ISOLATIONS = ("auto", "bubblewrap", "none")
PLACES = ("process", "here")


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
    conda: str | None = None
    """Name or prefix of the conda environment that the command runs in."""
    image: str | None = None
    """Container image that the command runs in."""
    cpus: int | None = None
    gpus: int | None = None
    resources: dict[str, float] = {}  # noqa: RUF012 - never changed
    """Further resources of a worker that the command takes, by their names in Dask."""
    queue: str | None = None
    """Name of the queue of the cluster whose workers may run it."""
    node: str | None = None
    """Name of the host that must run it."""
    priority: int = 0
    """What waits with a higher one runs first."""
    memory: int | None = None
    """Limit on the memory of the whole process tree, in bytes."""
    time_limit: float | None = None
    """Limit on wall time, in seconds."""
    retries: int = 3
    """How often a lost worker is replaced."""
    writable: tuple[str, ...] = ()
    """Inputs that the command is going to modify: they are copied."""
    executables: tuple[str, ...] = ()
    """Inputs that can be executed though their content does not say so: where the line was typed they can."""
    scratch: bool = False
    """The result's bytes need not be kept."""
    fresh: bool = False
    """A result on record is not enough."""
    isolation: str = "auto"
    """One of `ISOLATIONS`."""
    run: str = "process"
    """One of `PLACES`: in a process of its own, or in the one that asks."""
    direct_print: bool = False
    lines: str | None = None
    """Checksum of the line table of a function's code, by which tracebacks show the user's files."""
    ignored: dict[str, list[str]] = {}  # noqa: RUF012 - never changed
    """Arguments of a function that are not part of the identity: format and checksum, by names of inputs."""
    source: str | None = None
    """Checksum of the code that runs, where a name and a version count in its place."""
    not_kept: tuple[str, ...] = ()
    """Inputs of a function that are handed over to this run only, and that no store is given."""
    handed: str | None = None
    """Directory of a store on this host in which they are while it runs."""
    label: str | None = None
    foreign: tuple[str, ...] = ()
    """Inputs of a function that only a further database has named: nothing that they name is run."""
    upstream: dict[str, str] = {}  # noqa: RUF012 - never changed
    """How those were asked for whose results it needs: options as JSON by key, where they name any."""

    def to_json(self) -> str:
        """Return the options as one line of JSON; what equals its default is left out."""
        if self == _PLAIN:  # those of most, of whom there may be very many
            return "{}"
        given = {name: value for name, value in self._asdict().items() if value != self._field_defaults[name]}
        return json.dumps(given, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Options:
        """Read what `to_json` wrote; raises `UsageError` for anything else."""
        if text == "{}":
            return _PLAIN
        try:
            given = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"execution options are not JSON: {error}") from None
        if not isinstance(given, dict):
            raise UsageError("execution options are not a JSON object")
        return cls(**{name: _checked(name, value) for name, value in given.items()})

    def environment(self) -> dict[str, Any]:
        """Return what of the environment was named: the part that a later hit is compared with."""
        named = {
            "prologue": list(self.prologue),
            "modules": list(self.modules),
            "conda": self.conda,
            "image": self.image,
        }
        return {name: value for name, value in named.items() if value}

    def kept(self) -> Options:
        """Return what still counts when somebody else asks: all but the wishes of this asker."""
        return self._replace(scratch=False, fresh=False, direct_print=False, handed=None)

    def beside(self) -> dict[str, Any]:
        """Return what a function is run with that its identity does not tell."""
        return {name: value for name in ("ignored", "source", "not_kept") if (value := getattr(self, name))}

    def of_upstream(self, key: str) -> Options:
        """Return how the transformation `key` is to be run when this one needs its result."""
        if key in self.upstream:
            return Options.from_json(self.upstream[key])._replace(run="process")
        return Options(isolation=self.isolation, retries=self.retries)


_PLAIN = Options()


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    # NaN is refused as well: no comparison with it holds
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")


def _is_above_zero(value: Any) -> bool:
    return _is_count(value) and value > 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


_TUPLES = {"prologue", "modules", "writable", "executables", "foreign", "not_kept"}
_MAPPINGS: dict[str, Callable[[Any], bool]] = {
    "metavars": lambda value: isinstance(value, str),
    "resources": _is_number,
    "ignored": lambda value: (
        isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) for text in value)
    ),
    "upstream": lambda value: isinstance(value, str),
}
_OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "conda": _is_text,
    "image": _is_text,
    "cpus": _is_above_zero,
    "gpus": _is_above_zero,
    "queue": _is_text,
    "node": _is_text,
    "memory": _is_above_zero,
    "time_limit": _is_number,
    "lines": _is_text,
    "source": _is_text,
    "handed": _is_text,
    "label": lambda value: isinstance(value, str),
}
_REQUIRED: dict[str, Callable[[Any], bool]] = {
    "priority": _is_count,
    "retries": lambda value: _is_count(value) and value >= 0,
    "scratch": _is_bool,
    "fresh": _is_bool,
    "isolation": ISOLATIONS.__contains__,
    "run": PLACES.__contains__,
    "direct_print": _is_bool,
}


def _checked(name: str, value: Any) -> Any:
    if name not in Options._fields:
        raise UsageError(f"unknown execution option {name!r}: its sender may have a newer seamless-dask")
    if name in _TUPLES:
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
    elif name in _MAPPINGS:
        if isinstance(value, dict) and all(map(_MAPPINGS[name], value.values())):
            return value
    elif (name in _OPTIONAL and value is None) or (_OPTIONAL | _REQUIRED)[name](value):
        return value
    raise UsageError(f"bad value for execution option {name!r}: {value!r}")
