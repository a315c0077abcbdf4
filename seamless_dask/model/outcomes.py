"""How a computation ended, as JSON that one process writes and another one reads."""

from __future__ import annotations

from typing import Any

from hashserver import errors as data
from hashserver.checksum import Checksum

from .. import errors
from .transformation import Value

Outcome = dict[str, Any]

AGAIN: Outcome = {"again": True}
"""Ask once more: this end was not meant for you."""


def _name(kind: type[BaseException]) -> str:
    """Return the name of an error."""
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


_FAILURES = {
    _name(kind): kind for kind in (errors.ComputationFailed, errors.ResultMissing, errors.LimitExceeded)
}
_BUFFERS = {
    _name(kind): kind
    for kind in (
        errors.ArgumentNotKept,
        data.BufferMissing,
        data.BufferCorrupt,
        data.OriginalChanged,
        data.FileChanged,
    )
}
_PLAIN: dict[str, type[Exception]] = {
    _name(kind): kind
    for kind in (
        errors.Cancelled,
        errors.InputModified,
        errors.InvalidTransformation,
        errors.NoRoomThere,
        errors.ResultNotStored,
        errors.UsageError,
        errors.WorkerLost,
        data.AuthenticationFailed,
        data.DatabaseError,
        data.InvalidChecksum,
        data.InvalidIndex,
        data.InvalidPack,
        data.NoSpace,
        data.ReadOnly,
        data.ServiceUnavailable,
        data.TooLarge,
        data.InvalidRequest,
    )
}
_PLAIN["hashserver.UsageError"] = data.InvalidRequest  # as journals of earlier versions have it


def success(value: Value) -> Outcome:
    """Return the outcome of a computation that gave `value`."""
    return {"value": list(value)}


def failure(error: BaseException) -> Outcome:
    """Return the outcome of a computation that ended with `error`."""
    outcome: Outcome = {"error": _name(type(error)), "message": str(error)}
    if isinstance(error, errors.ComputationFailed):
        outcome |= {"exit_status": error.exit_status, "stderr": error.stderr}
        outcome |= {"exception": list(error.exception)} if error.exception else {}
    if isinstance(error, data.BufferFailure):
        outcome |= {"checksum": error.checksum}
    if isinstance(error, data.Irreproducible):
        outcome |= {"results": [error.transformation, error.known, error.found]}
    return outcome


def result(outcome: Outcome) -> Value:
    """Return the value of an outcome, or raise its error."""
    if "value" in outcome:
        name, checksum = outcome["value"]
        return Value(name, Checksum(checksum))
    raise error_of(outcome)


def error_of(outcome: Outcome) -> Exception:
    """Return the error of an outcome."""
    kind, message = outcome["error"], outcome["message"]
    if kind in _FAILURES:
        exception = outcome.get("exception")
        named = None if exception is None else (str(exception[0]), str(Checksum(exception[1])))
        return _FAILURES[kind](message, outcome["exit_status"], outcome["stderr"], named)
    if kind in _BUFFERS:
        return _BUFFERS[kind](outcome["checksum"], message)
    if kind == _name(data.Irreproducible):
        return data.Irreproducible(*outcome["results"])
    if kind in _PLAIN:
        return _PLAIN[kind](message)
    return errors.SeamlessError(f"{kind}: {message}")
