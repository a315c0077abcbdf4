"""What is kept of an execution beside its result: when, where, in which environment, at what cost.

A record is a JSON object. Members, as far as they are known::

    started       when, ISO 8601, UTC         wall, cpu    seconds
    host          where                       max_rss      bytes, over the process tree
    exit_status   as a shell reports it       stderr       its tail, at most 64 KiB
    environment   {"prologue": [...], "modules": [...], "conda", "image"} as far as it was named
    beside        {"ignored", "source", "not_kept"} as of `Options`: what a function ran with that does not
                  count, and which arguments no store was given: without these it cannot be made again
    isolation     bubblewrap, image or none   placement    how inputs were placed
    version       of seamless-dask            cpus, label  as asked for
    error         {"kind", "message"}, in the record of a failure
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import UsageError
from .transformation import Value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hashserver.checksum import Checksum

    from ..errors import ComputationFailed
    from .options import Options

Record = dict[str, Any]


class Outcome(NamedTuple):
    """What one execution gave.

    Attributes
    ----------
    value : Value
        The result.
    record : dict
        What was measured.
    members : sequence of Checksum
        Checksums inside the value (files of directories, parts of ``results``), by which a lost one is
        traced back to this computation even when the bytes of the index are gone.
    buffers : sequence of bytes
        Small buffers of the value that are not in the store yet: they travel with the record.
    """

    value: Value
    record: Record
    members: Sequence[Checksum] = ()
    buffers: Sequence[bytes] = ()


def timestamp(seconds: float | None = None) -> str:
    """Return a moment (seconds since 1970, now by default) as ISO 8601 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def complete(record: Mapping[str, Any], options: Options) -> Record:
    """Return `record` with what is known without measuring; what was measured stays."""
    from ..version import __version__

    known: Record = {
        "started": timestamp(),
        "host": os.uname().nodename,
        "environment": options.environment(),
        "version": __version__,
    }
    if beside := options.beside():
        known["beside"] = beside
    known |= {name: value for name in ("cpus", "label") if (value := getattr(options, name)) is not None}
    return known | {name: value for name, value in record.items() if value is not None}


def failure(error: ComputationFailed, options: Options) -> Record:
    """Return the record of a computation that failed with `error`."""
    measured: Record = dict(error.record)
    measured["error"] = {"kind": type(error).__name__, "message": str(error)}
    measured.setdefault("exit_status", error.exit_status)
    measured.setdefault("stderr", error.stderr)
    return complete(measured, options)


def environment_of(record: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the environment that a record says a result was made in, as `Options.environment` would."""
    found = (record or {}).get("environment")
    if not isinstance(found, dict):
        return {}
    lists = {
        name: [str(item) for item in found[name]]
        for name in ("prologue", "modules")
        if isinstance(found.get(name), list) and found[name]
    }
    texts = {name: found[name] for name in ("conda", "image") if isinstance(found.get(name), str)}
    return lists | texts


def beside_of(record: Mapping[str, Any] | None) -> Options:
    """Return what a record says that a function ran with beside its identity."""
    from .options import Options

    found = (record or {}).get("beside")
    named = (
        {name: found[name] for name in ("ignored", "source", "not_kept") if name in found}
        if isinstance(found, dict)
        else {}
    )
    try:
        return Options.from_json(json.dumps(named))
    except UsageError:
        return Options()


def environment_mismatch(record: Mapping[str, Any] | None, named: Options) -> str | None:
    """Compare the environment of a known result with the one that was named for this request.

    Returns
    -------
    str or None
        One line that tells the difference; None when the two agree, or when none was named.
    """
    recorded = environment_of(record)
    differences = [
        f"{name} {_shown(recorded.get(name))}, not {_shown(value)}"
        for name, value in named.environment().items()
        if recorded.get(name) != value
    ]
    if not differences:
        return None
    return f"the known result was computed with {'; '.join(differences)} (--same-environment runs it again)"


def _shown(value: Sequence[str] | str | None) -> str:
    return value if isinstance(value, str) else ", ".join(value or ["(none)"])
