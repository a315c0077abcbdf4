"""``--explain``, and ``seamless-why``: whether a line is known, and what sets it apart from what is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hashserver.printable import one_line
from seamless_dask.model.values import missing

from ..console import OK
from ..provenance import wording
from ..provenance.catching_up import catch_up, note_rest
from ..provenance.documents import Document
from ..provenance.nearest import nearest
from .job import label_of, names_environment, options_of

if TYPE_CHECKING:
    from hashserver.results.result import Record
    from seamless_dask.context import Context

    from ..console import Console
    from ..provenance.nearest import NearestRun
    from ..table import ParsedArguments
    from .job import CommandJob
    from .results import Known

Facts = dict[str, Any]


def explain(
    context: Context, job: CommandJob, known: Known | None, arguments: ParsedArguments, console: Console
) -> int:
    """Say whether a line is known, or in what it differs from a run that is; nothing is run or recorded."""
    facts: Facts = {"key": job.key, "known": None, "nearest": None}
    if known is not None:
        facts["known"] = _known_facts(context, known, job, arguments)
        console.facts(facts, _known_lines(facts["known"]))
        return OK
    database = context.database
    facts["contested"] = [result.record for result in database.irreproducible(job.key)]
    facts["failures"] = database.failures(job.key)
    complete = catch_up(context)
    document = Document(job.transformation, job.text)
    names = [label_of(job.text), *job.transformation.result.paths, *job.transformation.result.globs]
    near = nearest(context, job.key, document, names, job.indices)
    facts["nearest"] = nearest_facts(near)
    if near is not None:
        named = options_of(arguments, job, context.config.isolation).environment()
        facts["nearest"]["environment"] = environment_text(near.run.record, named)
    console.facts(facts, _unknown_lines(facts))
    if not complete:
        note_rest(console)
    return OK


def _known_facts(context: Context, known: Known, job: CommandJob, arguments: ParsedArguments) -> Facts:
    from seamless_dask.model.records import environment_mismatch

    result = context.database.get(known.transformation)
    mismatch = None
    if names_environment(arguments):
        mismatch = environment_mismatch(known.record, options_of(arguments, job, context.config.isolation))
    return {
        "transformation": known.transformation,
        "result": list(known.value),
        "present": known.data is not None or not missing(context.store, [known.value]),
        "record": known.record,
        "source": None if result is None else result.source,
        "environment": mismatch,
        "runs_again": mismatch is not None and arguments.same_environment,
    }


def _known_lines(known: Facts) -> list[str]:
    record: Record = known["record"] if isinstance(known["record"], dict) else {}
    took = wording.seconds(record.get("wall"))
    where = f" on {record['host']}" if record.get("host") else ""
    text = f"known since {wording.when(record)}: ran {took}{where}" if took else "known"
    text += f", says {known['source']}" if known["source"] else ""
    lines = [f"{text} ({known['transformation']})"]
    if not known["present"]:
        lines.append("but its bytes are in no store: what needs them makes it run again")
    if known["runs_again"]:
        lines.append(f"but it would run, with --same-environment: {known['environment']}")
    elif known["environment"]:
        lines.append(known["environment"])
    return list(map(one_line, lines))


def nearest_facts(near: NearestRun | None) -> Facts | None:
    """Return what there is to say of the nearest run, for a program."""
    if near is None:
        return None
    run, found = near
    return {
        "transformation": run.tf,
        "record": run.record,
        "source": run.result and run.result.source,
        "differences": None if found is None else [one._asdict() for one in found],
    }


def environment_text(record: Record | None, named: dict[str, Any]) -> str | None:
    """Return in what the environment that is named differs from that of a run; None if it does not."""
    from seamless_dask.model.records import environment_of

    was = environment_of(record)
    changed = [
        f"{name} is {_shown(named.get(name))}, it was {_shown(was.get(name))}"
        for name in sorted(was.keys() | named)
        if named.get(name) != was.get(name)
    ]
    return f"the environment, which does not count: {'; '.join(changed)}" if changed else None


def _shown(value: Any) -> str:
    return "not named" if not value else value if isinstance(value, str) else ", ".join(map(str, value))


def _unknown_lines(facts: Facts) -> list[str]:
    lines = []
    if facts["contested"]:
        when = wording.when(facts["contested"][-1])
        lines.append(f"not known: its result of {when} was withdrawn (--undo) or did not come back the same")
    if facts["failures"]:
        last = facts["failures"][-1]
        lines.append(f"not known: it failed when it ran, {wording.when(last)}: {wording.failure(last)}")
    if facts["nearest"] is None:
        return list(map(one_line, lines or ["not known, and nothing on record is like it: it would run"]))
    return list(map(one_line, lines)) + nearest_lines(facts["nearest"])


def nearest_lines(near: Facts) -> list[str]:
    """Return the same for a person."""
    when = wording.when(near["record"])
    run = f"as the run of {when}" + (f" in {near['source']}" if near["source"] else "")
    environment = near.get("environment")
    found = near["differences"]
    if found is None:
        return [one_line(f"{run}, whose document is in no store: what differs cannot be said")]
    texts = [one["text"] for one in found] + ([environment] if environment else [])
    if len(texts) == 1:
        return [one_line(f"{run}, but {texts[0]}")]
    if not texts:
        return [one_line(f"{run}")]
    return [one_line(f"{run}, but:"), *(f"  {one_line(text)}" for text in texts)]
