"""``seamless-run-transformation CHECKSUM|FILE``: run by identity, print the result checksum."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

from hashserver.checksum import Checksum
from hashserver.errors import BufferMissing, InvalidChecksum
from hashserver.regular_file import read_regular
from hashserver.workspace.sidecar import CHECKSUM, read_checksum
from seamless_dask.errors import ComputationFailed

from ..console import OK, CommandError, Console, show_tail
from ..opening import open_context
from ..run.option_table import duration, size
from ..start import entry_point
from ..table import FILE, USUAL, Argument, CommandTable, flag, group, value, values

if TYPE_CHECKING:
    from seamless_dask.context import Context
    from seamless_dask.model.transformation import Value

    from ..table import ParsedArguments


TABLE = CommandTable(
    "Run a transformation given by its checksum or its document, and print the checksum of the result.",
    (
        group(
            "Manner",
            flag("--scratch", help="record the result, do not keep its bytes"),
            flag("--fingertip", help="see to it that the bytes are there, too"),
            values("--module", metavar="NAME", help="environment module to load"),
            values("--prologue", metavar="CMD", help="runs before the command"),
            value("--memory", metavar="SIZE", help="limit of the whole process tree", convert=size),
            value("--time-limit", metavar="TIME", help="limit of wall time", convert=duration),
        ),
        *USUAL,
    ),
    (
        Argument(
            "transformation", "CHECKSUM|FILE", "checksum, or file with the canonical JSON", completes=FILE
        ),
    ),
    examples=("seamless-run-transformation transformation.json",),
)


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Look the transformation up, or run it."""
    with closing(open_context(arguments, console.note)) as context:
        key = identity(context, arguments.transformation)
        known = None if arguments.fingertip else context.database.lookup(key)
        if known is not None:
            from seamless_dask.model.transformation import Value

            value = Value(known[1].format, known[1].checksum)
        else:
            value = run(context, key, arguments, console)
    facts = {"key": key, "format": value.format, "checksum": value.checksum, "cached": known is not None}
    console.facts(facts, [value.checksum])
    return OK


def identity(context: Context, text: str) -> Checksum:
    """Return the key of what an argument names: a checksum, or a file with a document, which is stored.

    Raises
    ------
    CommandError
        The document of a checksum is not in the store.
    InvalidTransformation
        It is not a transformation.
    """
    from seamless_dask.model.transformation import parse

    try:
        key = Checksum(text)
    except InvalidChecksum:
        held = read_checksum(text) if text.endswith(CHECKSUM) and os.path.exists(text) else None
        if held is None:
            return _from_file(context, text)
        key = held
    try:
        parse(context.store.get(key))
    except BufferMissing as error:
        if context.database.lookup(key) is not None:
            return key
        raise CommandError(f"the store has no transformation {key}") from error
    return key


def _from_file(context: Context, path: str) -> Checksum:
    from seamless_dask.model.transformation import parse

    try:
        document = read_regular(path)
    except FileNotFoundError:
        raise CommandError(f"{path}: neither a checksum (64 lower-case hex digits) nor a file") from None
    key = parse(document).key
    context.store.put(document)
    return key


def run(context: Context, key: Checksum, arguments: ParsedArguments, console: Console) -> Value:
    """Run a transformation."""
    from seamless_dask.jobs.request import JobRequest
    from seamless_dask.model.options import Options

    from ..opening import open_executor

    options = Options(
        prologue=tuple(arguments.prologue),
        modules=tuple(arguments.module),
        memory=arguments.memory,
        time_limit=arguments.time_limit,
        scratch=arguments.scratch,
        isolation=context.config.isolation,
    )
    console.detail(f"running {key}")
    try:
        with open_executor(context, console) as executor, console.spinner("transformation") as spinner:
            return executor.run(JobRequest(key, options, arguments.fingertip), tick=spinner.state)
    except ComputationFailed as error:
        show_tail(error.stderr)
        raise


main = entry_point(TABLE, execute, "seamless-run-transformation")
