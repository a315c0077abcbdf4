"""``seamless-log FILE|CHECKSUM|KEY``: what made it, from what, when, at what cost; or the last runs."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

from hashserver.printable import one_line
from seamless_dask.errors import UsageError

from ..console import OK, CommandError, Console
from ..opening import open_context
from ..provenance import wording
from ..provenance.catching_up import catch_up, note_rest
from ..provenance.documents import documents
from ..provenance.history import facts_of, histories, lines_of, makers
from ..provenance.subject import subject_of
from ..run.option_table import count
from ..start import entry_point
from ..table import PATH, USUAL, Argument, CommandTable, flag, group, value
from ..text import count_text

if TYPE_CHECKING:
    from seamless_dask.context import Context

    from ..provenance.subject import Subject
    from ..table import ParsedArguments

_RUNS, _STEPS = 20, 1000

TABLE = CommandTable(
    "Say what made a file, from what, where and when, at what cost; without a name, list the last runs.",
    (
        group(
            "What is shown",
            flag("--tree", help="all runs that it comes from, up to the sources"),
            flag("--uses", help="all runs that it went into, down to the last results"),
            flag("--dot", help="that tree as a graph for Graphviz: dot -Tsvg"),
            value(
                "-n",
                dest="number",
                metavar="N",
                convert=count,
                help=f"so many runs ({_RUNS}; with --tree or --uses {_STEPS:,})",
            ),
        ),
        *USUAL,
    ),
    (
        Argument(
            "name",
            "FILE|CHECKSUM|KEY",
            "a file or directory here, X.CHECKSUM, X.FUTURE, a checksum, the key of a transformation",
            required=False,
            completes=PATH,
        ),
    ),
    examples=("seamless-log table.csv", "seamless-log --tree --dot table.csv | dot -Tsvg > table.svg"),
    exclusive=(("tree", "uses"),),
)


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Show what is on record."""
    follows = arguments.tree or arguments.uses or arguments.dot
    if arguments.name is None and follows:
        raise UsageError("--tree, --uses and --dot take a name: seamless-log --tree FILE")
    with closing(open_context(arguments, console.note)) as context:
        if arguments.name is None:
            return _last_runs(context, arguments.number or _RUNS, console)
        subject = subject_of(context, arguments.name, console)
        if follows:
            return _lineage(context, subject, arguments, console)
        return _made(context, subject, arguments, console)


def _made(context: Context, subject: Subject, arguments: ParsedArguments, console: Console) -> int:
    number = arguments.number or _RUNS
    found = makers(context, subject.checksum, number + 1)
    if not found:
        raise _unknown(subject)
    facts = [facts_of(context.store, run, subject.checksum) for run in histories(context, found[:number])]
    lines = [one_line(f"{subject.name}  {subject.checksum}")]
    for one in facts:
        lines += lines_of(one, whole_stderr=arguments.verbose > 0)
        lines.append("")
    if len(found) > number:
        lines.append(f"… and more runs that made it; -n N shows N of them, not {number:,}")
    found_facts = {"name": subject.name, "checksum": subject.checksum, "runs": facts}
    console.facts(found_facts | {"complete": len(found) <= number}, lines)
    return OK


def _unknown(subject: Subject, follows: bool = False) -> CommandError:
    if subject.is_job:
        return CommandError(f"{subject.name} is still to be made, by job {subject.checksum}")
    inside = f"; seamless-log --tree {subject.name} says what made the files in it"
    return CommandError(
        f"{subject.name}: no run on record made it ({subject.checksum})"
        + (inside if os.path.isdir(subject.name) and not follows else "")
    )


def _lineage(context: Context, subject: Subject, arguments: ParsedArguments, console: Console) -> int:
    from ..provenance import lineage_text
    from ..provenance.lineage import downwards, upwards

    limit, checksum = arguments.number or _STEPS, subject.checksum
    complete = catch_up(context)
    found = (downwards if arguments.uses else upwards)(context, checksum, limit)
    if not found.steps:
        raise (
            CommandError(f"{subject.name}: no run on record used it ({checksum})")
            if arguments.uses
            else _unknown(subject, True)
        )
    if arguments.dot and not console.json:
        lines = lineage_text.dot(found, subject.name, checksum)
    elif arguments.uses:
        lines = lineage_text.lines_downwards(found, subject.name, checksum)
    else:
        lines = lineage_text.lines_upwards(found, subject.name, checksum)
    runs = lineage_text.facts_of(found)
    facts = {"name": subject.name, "checksum": checksum, "runs": runs, "complete": found.complete}
    console.facts(facts, lines)
    if not found.complete:
        console.note(f"not all of it: this is {count_text(len(found.steps), 'run')}; -n N follows N")
    if not complete:
        note_rest(console)
    return OK


def _last_runs(context: Context, number: int, console: Console) -> int:
    catch_up(context)
    runs = context.database.recent(number)
    known = documents(context.store, [run.tf for run in runs])
    facts: list[dict[str, Any]] = []
    lines = []
    for run in runs:
        record, document = run.record or {}, known.get(run.tf)
        failed = run.result is None
        facts.append(
            {
                "transformation": run.tf,
                "state": "failed" if failed else "known",
                "command": document.code if document else None,
                "result": None if run.result is None else [run.result.format, run.result.checksum],
                "record": record,
            }
        )
        cost = "failed" if failed else wording.seconds(record.get("wall"))
        parts = (wording.when(record), f"{cost:>10}", str(record.get("host", "")), str(run.tf)[:8])
        lines.append(one_line("  ".join((*parts, wording.command(document, record)))))
    console.facts(facts, lines or ["no run is on record"])
    return OK


main = entry_point(TABLE, execute, "seamless-log")
