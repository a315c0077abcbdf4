"""``seamless-run CMD ARGS…``: run a command, or find its result.

Everything up to the delivery of a known result is on the way that people take all day: what only a
computation needs is imported when there is one (`seamless_cli.run.compute`).
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from hashserver.errors import BufferCorrupt, BufferMissing
from hashserver.workspace.pending import remove_future

from ..console import OK, CommandError, Console
from ..opening import open_context
from ..shell.collect import collect
from ..start import start
from .job import CommandJob, build, names_environment, options_of
from .option_table import TABLE
from .options import read_plain
from .results import (
    DeliveryOptions,
    Known,
    deliver_results,
    look_up,
    needs_bytes,
    refuse_printing,
    result_values,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seamless_dask.context import Context
    from seamless_dask.model.transformation import Value

    from ..table import ParsedArguments


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Run the command, or find its result."""
    for note in arguments.notes:
        console.note(note)
    with closing(open_context(arguments, console.note)) as context:
        meant = collect(arguments.text, arguments)
        for note in meant.notes:
            console.note(note)
        for warning in meant.warnings:
            console.warn(warning)
        job = build(context, meant, arguments, console, waits=not arguments.explain)
        return _settle(context, job, arguments, console)


def _settle(context: Context, job: CommandJob, arguments: ParsedArguments, console: Console) -> int:
    if arguments.undo:
        return _undo(context, job, console)
    if arguments.write_job:
        from .write_job import write_job

        return write_job(context, job, arguments, console)
    if arguments.explain:
        from .explain import explain

        return explain(context, job, look_up(context, job.key), arguments, console)
    manner = DeliveryOptions(not arguments.no_download, arguments.scratch, arguments.overwrite)
    if arguments.qsubmit:
        refuse_printing(job.wanted, manner)
    known = look_up(context, job.key)
    if arguments.dry_run:
        return _dry_run(job, known, console)
    on_record = known is not None
    if known is not None and _serves(context, known, job, arguments, console):
        if arguments.fingertip or (needs_bytes(job.wanted, manner) and known.data is None):
            known = _with_bytes(context, known, job, manner, arguments.fingertip)
        if known is not None:
            try:
                return deliver(context, job, known, manner, console, cached=True)
            except (BufferCorrupt, BufferMissing) as error:
                console.detail(f"{error}: computing it again")
    if arguments.qsubmit:
        from .submit import enqueue

        return enqueue(context, job, arguments, manner, console)
    from .compute import compute

    value = compute(context, job, arguments, manner, console, known=on_record)
    if value is None:
        return _detached(job, console)
    return deliver(context, job, Known(job.key, value, None), manner, console, cached=False)


def _serves(
    context: Context, known: Known, job: CommandJob, arguments: ParsedArguments, console: Console
) -> bool:
    """Say whether a known result is good enough for the environment that was named."""
    if not names_environment(arguments):
        return True
    from seamless_dask.model.records import environment_mismatch

    text = environment_mismatch(known.record, options_of(arguments, job, context.config.isolation))
    if text is None:
        return True
    if arguments.same_environment:
        console.detail("the known result comes from another environment: running again")
        return False
    console.note(text)
    return True


def _with_bytes(
    context: Context, known: Known, job: CommandJob, manner: DeliveryOptions, all_bytes: bool
) -> Known | None:
    """Return `known` if the store has the bytes that delivery takes; None when they must be made again."""
    spec = job.transformation.result
    if spec.number == 1 and known.value.format == "file" and not all_bytes:
        return known if context.store.has([known.value.checksum])[0] >= 0 else None
    from seamless_dask.model.values import missing

    return None if missing(context.store, [known.value]) else known


def deliver(
    context: Context, job: CommandJob, known: Known, manner: DeliveryOptions, console: Console, cached: bool
) -> int:
    """Deliver the results and say what they are."""
    values = result_values(context, job.transformation.result, known.value, known.data)
    only = known.data if len(values) == 1 and known.value.format == "file" else None
    wanted = [item for item in job.wanted if item.local is not None] if console.json else job.wanted
    if cached:
        console.detail(f"the result was known ({known.transformation})")
    deliver_results(context, wanted, values, manner, console, only)
    for item in wanted:
        if item.local is not None:
            # A known result takes the place of whatever was pending there before; a job's own result leaves
            # alone what a later job has announced.
            was_pending = remove_future(item.local, None if cached else job.key)
            if was_pending or not cached:
                from seamless_dask.jobs import request_log

                request_log.forget(context.config.cache, job.key)
    if console.json:
        console.facts(_facts(job, known, values, cached))
    return OK


def _facts(job: CommandJob, known: Known, values: dict[str | None, Value], cached: bool) -> dict[str, object]:
    results = [
        {"name": item.name, "local": item.local, "format": values[item.name].format}
        | {"checksum": values[item.name].checksum}
        for item in job.wanted
    ]
    return {"key": job.key, "transformation": known.transformation, "cached": cached, "results": results}


def _detached(job: CommandJob, console: Console) -> int:
    """Say what runs on without us."""
    names = [item.local for item in job.wanted if item.local is not None]
    then = f"seamless-download {' '.join(names)} waits" if names else "the same command without -d waits"
    console.note(f"started ({job.key}); {then} for it")
    if console.json:
        console.facts({"key": job.key, "cached": False, "detached": True})
    return OK


def _undo(context: Context, job: CommandJob, console: Console) -> int:
    """Contest the known result."""
    known = context.database.lookup(job.key)
    contested = None if known is None else context.database.contest(known[0])
    if known is None or contested is None:
        raise CommandError("there is no result to undo: this command has none on record")
    console.note(f"result {contested.checksum} is contested: the next run computes it again")
    if console.json:
        console.facts({"transformation": known[0], "contested": contested.checksum})
    return OK


def _dry_run(job: CommandJob, known: Known | None, console: Console) -> int:
    """Show what would be run."""
    transformation = job.transformation
    lines = [f"command         {job.text}", f"transformation  {job.key}"]
    lines += [
        f"input           {name}  {_shown(value)}" for name, value in sorted(transformation.inputs.items())
    ]
    lines += [f"stdin           {_shown(transformation.stdin)}"] if transformation.stdin else []
    lines += [
        f"variable        {name}={text}" for name, text in sorted((transformation.variables or {}).items())
    ]
    for item in job.wanted:
        lines.append(f"result          {item.name or 'standard output'} -> {item.local or 'standard output'}")
    lines.append(f"known           {known.value.checksum if known else 'no: it would be run'}")
    import json

    facts = {"transformation": json.loads(job.document), "key": job.key, "command": job.text}
    facts |= {"known": None if known is None else list(known.value)}
    console.facts(facts, [line.replace("\n", "\\n") for line in lines])
    return OK


def _shown(value: object) -> str:
    if hasattr(value, "checksum"):
        return f"{value.format} {value.checksum}"  # type: ignore[attr-defined]
    return f"result of {value.of}"  # type: ignore[attr-defined]


def main(argv: Sequence[str] | None = None, prog: str = "seamless-run") -> int:
    """Entry point."""
    return start(TABLE, execute, argv, prog, read_plain)
