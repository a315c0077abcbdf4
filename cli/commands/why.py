"""``seamless-why LINE``: whether a line of ``seamless-run`` is known, or how it differs from one that is."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from hashserver.printable import one_line

from ..console import OK, Console
from ..opening import open_context
from ..provenance import wording
from ..provenance.catching_up import catch_up
from ..provenance.documents import documents
from ..provenance.nearest import nearest
from ..run.command import execute as execute_run
from ..run.explain import nearest_facts, nearest_lines
from ..run.option_table import TABLE as RUN
from ..run.options import read_optional
from ..start import start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..table import ParsedArguments

TABLE = RUN._replace(
    description="Say whether a line of seamless-run is known, or in what it differs from the nearest run on"
    " record; without a line, why the last run was one. Nothing is run, uploaded or recorded.",
    examples=("seamless-why sort data.csv --capture :sorted.csv", "seamless-why"),
    notes="The line is that of seamless-run, with its options; seamless-run --explain does the same.",
    usage="[OPTION…] [COMMAND [ARGUMENT…] [OPTION…]]",
    click_class=".run.by_click:WhyCommand",
)
READ = read_optional
"""Reads plain lines of the command."""
_LOOKED_AT = 20


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Explain a line, or the last run."""
    if arguments.text:
        arguments.explain = True
        return execute_run(arguments, console)
    with closing(open_context(arguments, console.note)) as context:
        catch_up(context)
        runs = [run for run in context.database.recent(_LOOKED_AT) if run.result is not None]
        known = documents(context.store, [run.tf for run in runs])
        last = next((run for run in runs if run.tf in known), None)
        if last is None:
            console.facts({"last": None, "nearest": None}, ["no run is on record"])
            return OK
        document, record = known[last.tf], last.record or {}
        result = document.description.result
        names = [str(record.get("label") or ""), *result.paths, *result.globs]
        near = nearest_facts(nearest(context, last.tf, document, names))
        line = f"the last run, {wording.when(record)}: {wording.command(document, record)}"
        like = ["nothing else on record is like it"] if near is None else nearest_lines(near)
        console.facts({"last": last.tf, "record": record, "nearest": near}, [one_line(line), *like])
    return OK


def main(argv: Sequence[str] | None = None, prog: str = "seamless-why") -> int:
    """Entry point."""
    return start(TABLE, execute, argv, prog, READ)
