"""``seamless-log FILE|CHECKSUM|KEY``: what made it, from what, when, at what cost; or the last runs."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from hashserver.printable import one_line

from ..console import OK, CommandError, Console
from ..opening import open_context
from ..provenance import told
from ..provenance.documents import documents
from ..provenance.history import facts_of, histories, lines_of, makers
from ..provenance.subject import subject_of
from ..run.explain import catch_up
from ..run.option_table import count
from ..start import entry_point
from ..table import PATH, USUAL, Argument, CommandTable, group, value
from ..text import count_text

if TYPE_CHECKING:
    from seamless_dask.context import Context

    from ..table import ParsedArguments

_LAST = 20

TABLE = CommandTable(
    "Say what made a file, from what, where and when, at what cost; without a name, list the last runs.",
    (
        group(
            "What is shown",
            value("-n", dest="number", metavar="N", convert=count, help="so many runs (20)"),
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
    examples=("seamless-log table.csv", "seamless-log -n 5"),
)


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Show what is on record."""
    with closing(open_context(arguments, console.note)) as context:
        if arguments.name is None:
            return _last_runs(context, arguments.number or _LAST, console)
        return _made(context, arguments, console)


def _made(context: Context, arguments: ParsedArguments, console: Console) -> int:
    subject = subject_of(context, arguments.name, console)
    found = makers(context, subject.checksum)
    if not found:
        how = "is still to be made, by job" if subject.is_job else "no run on record made it; it is"
        raise CommandError(f"{subject.name}: {how} {subject.checksum}")
    runs = histories(context, found)
    shown = runs[: arguments.number or len(runs)]
    facts = [facts_of(context.store, run, subject.checksum) for run in shown]
    lines = [f"{one_line(subject.name)}  {subject.checksum}"]
    for one in facts:
        lines += lines_of(one, "", whole_stderr=arguments.verbose > 0)
        lines.append("")
    if len(runs) > len(shown):
        lines.append(f"… and {count_text(len(runs) - len(shown), 'more run')} that made it")
    console.facts({"name": subject.name, "checksum": subject.checksum, "runs": facts}, lines)
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
        cost = "failed" if failed else told.seconds(record.get("wall"))
        parts = (told.when(record), f"{cost:>10}", str(record.get("host", "")), str(run.tf)[:8])
        lines.append(one_line("  ".join((*parts, told.command(document, record)))))
    console.facts(facts, lines or ["no run is on record"])
    return OK


main = entry_point(TABLE, execute, "seamless-log")
