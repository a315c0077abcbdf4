"""Results of a run, by name, to where they are wanted: standard output, sidecars, files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hashserver.namedtuple import NamedTuple
from seamless_dask.errors import UsageError

from ..console import CommandError, Console, write_stdout
from ..data.deliver import deliver_directory, deliver_file, may_write_file, print_buffer, refuse_file
from ..data.identify import stat_path
from ..data.pending import alone, write_sidecar_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashserver.checksum import Checksum
    from seamless_dask.context import Context
    from seamless_dask.model.transformation import ResultSpec, Value


INLINE = 1 << 16
"""A result of up to this many bytes comes with the answer of the look-up."""


class OutputTarget(NamedTuple):
    """A declared result and where it is to go.

    ``name`` is None for standard output; ``local`` is None for what is printed.
    """

    name: str | None
    local: str | None


class DeliveryOptions(NamedTuple):
    """How results are delivered."""

    download: bool = True
    scratch: bool = False
    overwrite: bool = False


class Known(NamedTuple):
    """A result on record.

    Attributes
    ----------
    transformation : Checksum
        What was computed.
    value : Value
        What it gave.
    record : dict or None
        How.
    data : bytes or None
        The bytes, if they are few.
    """

    transformation: Checksum
    value: Value
    record: dict[str, Any] | None
    data: bytes | None = None


def look_up(context: Context, key: Checksum) -> Known | None:
    """Ask the database once; a small result comes with the answer."""
    from seamless_dask.model.transformation import Value

    database = context.database
    if context.embedded:
        pair = database.lookup(key)
        if pair is None:
            return None
        transformation, result = pair
        return Known(transformation, Value(result.format, result.checksum), result.record)
    found = database.get_inline(key, INLINE)  # type: ignore[union-attr]
    if found is None:
        return None
    value = Value(found.result.format, found.result.checksum)
    return Known(found.transformation, value, found.result.record, found.data)


def result_values(
    context: Context, spec: ResultSpec, value: Value, data: bytes | None = None
) -> dict[str | None, Value]:
    """Return the value of each declared result by its name (None: standard output).

    Parameters
    ----------
    data : bytes, optional
        The bytes of `value`, when they are known already.
    """
    if spec.number == 1:
        return {(*spec.paths, *spec.globs, None)[0]: value}
    from seamless_dask.model.values import parse_results

    results = parse_results(context.store.get(value.checksum) if data is None else data)
    found: dict[str | None, Value] = dict((results.paths | results.globs).items())
    if results.stdout is not None:
        found[None] = results.stdout
    return found


def check_targets(context: Context, wanted: Sequence[OutputTarget], manner: DeliveryOptions) -> None:
    """Raise `CommandError` when a result that is not known yet could not be delivered."""
    for item in wanted:
        if item.local is None:
            continue
        status = stat_path(item.local)
        if status is not None and (item.name is None or not os.path.isdir(item.local)):
            with alone(context, item.local):
                may_write_file(item.local, None, context.stat_cache, manner.overwrite)
        parent = os.path.dirname(os.path.abspath(item.local))
        while not os.path.isdir(parent):
            if os.path.lexists(parent):
                raise CommandError(f"{parent} is not a directory: {item.local} cannot be written there")
            parent = os.path.dirname(parent)
        if not os.access(parent, os.W_OK):
            raise CommandError(f"{parent} cannot be written: there is no place for {item.local}")


def refuse_printing(wanted: Sequence[OutputTarget], manner: DeliveryOptions) -> None:
    """Raise `UsageError` when a result is to be printed: with ``--qsubmit`` nobody is there to read it."""
    if manner.download and not manner.scratch and any(item.local is None for item in wanted):
        raise UsageError(
            "--qsubmit leaves standard output nowhere to go: --capture :FILE delivers it as FILE,"
            " -nd keeps it for a later seamless-run"
        )


def needs_bytes(wanted: Sequence[OutputTarget], manner: DeliveryOptions) -> bool:
    """Say whether delivery takes more than checksums."""
    outdated = any(item.local is not None and os.path.lexists(item.local) for item in wanted)
    return not manner.scratch and (manner.download or outdated)


def deliver_results(
    context: Context,
    wanted: Sequence[OutputTarget],
    values: dict[str | None, Value],
    manner: DeliveryOptions,
    console: Console,
    data: bytes | None = None,
) -> None:
    """Deliver every result.

    Parameters
    ----------
    data : bytes, optional
        The bytes of the only result, when they are known already.
    """
    for item in wanted:
        value = values[item.name]
        if item.local is None:
            _print(context, value, manner, console, data)
        else:
            with alone(context, item.local):
                _deliver(context, item.local, value, manner, console, data)


def _print(
    context: Context, value: Value, manner: DeliveryOptions, console: Console, data: bytes | None
) -> None:
    if manner.scratch or not manner.download:
        console.note(f"standard output is not printed: {value.checksum}")
    elif data is not None:
        write_stdout([data])
    else:
        print_buffer(context.store, value.checksum)


def _deliver(
    context: Context, path: str, value: Value, manner: DeliveryOptions, console: Console, data: bytes | None
) -> None:
    # Bytes before sidecar: a kill in between leaves a file that the next run finds to be right.
    if value.format == "directory":
        _deliver_directory(context, path, value, manner, console)
        return
    if manner.scratch or not (manner.download or os.path.lexists(path)):
        _clear_file(context, path, value, manner)
    else:
        # A local copy is brought up to date even with -nd: beside its new sidecar it would be "changed".
        deliver_file(context, value.checksum, path, manner.overwrite, data)
    write_sidecar_of(context, path, value)
    console.detail(f"{path}: {value.checksum}")


def _clear_file(context: Context, path: str, value: Value, manner: DeliveryOptions) -> None:
    """Remove a local copy of an older result, whose place only a checksum takes now."""
    if os.path.lexists(path) and may_write_file(path, value.checksum, context.stat_cache, manner.overwrite):
        os.unlink(path)


def _deliver_directory(
    context: Context, path: str, value: Value, manner: DeliveryOptions, console: Console
) -> None:
    from hashserver.workspace.tree import directory_state

    absent = not os.path.lexists(path) or (os.path.isdir(path) and directory_state(path) == "absent")
    if (manner.download or not absent) and not manner.scratch:
        deliver_directory(context, value.checksum, path, console, manner.overwrite)
        return
    refuse_file(path)
    write_sidecar_of(context, path, value)
