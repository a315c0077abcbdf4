"""What is on record of runs: facts, and lines for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hashserver.errors import HashserverError
from hashserver.namedtuple import NamedTuple
from hashserver.printable import one_line

from ..console import STDERR_LINES
from ..text import count_text
from . import wording
from .documents import Document, documents, index_in, present

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hashserver.checksum import Checksum
    from hashserver.results.result import Record, Result
    from hashserver.storage.store import Store
    from seamless_dask.context import Context
    from seamless_dask.model.transformation import Deferred, Value

Facts = dict[str, Any]

KNOWN, CONTESTED, FAILED, PENDING = "known", "contested", "failed", "not run"


class RunHistory(NamedTuple):
    """All that is on record of one transformation.

    Attributes
    ----------
    tf : Checksum
        The transformation.
    state : str
        `KNOWN`, `CONTESTED` (its result does not count any more), `FAILED` (it never had one) or `PENDING`.
    result : Result or None
        What it gave, with the record.
    document : Document or None
        What is computed, if that is still in a store.
    failures : list of dict
        Records of failed runs, oldest first.
    """

    tf: Checksum
    state: str
    result: Result | None
    document: Document | None
    failures: list[Record]

    @property
    def record(self) -> Record:
        """How its result was made, or how it failed last."""
        if self.result is None:
            return self.failures[-1] if self.failures else {}
        record = self.result.record
        return record if isinstance(record, dict) else {}  # somebody else's may be anything

    @property
    def begun(self) -> str:
        """When, for sorting."""
        return str(self.record.get("started", ""))


def histories(context: Context, tfs: Iterable[Checksum]) -> list[RunHistory]:
    """Return what is on record of some transformations, newest first."""
    listed = list(tfs)
    known = documents(context.store, listed)
    found = [_history(context, tf, known.get(tf)) for tf in listed]
    return sorted(found, key=lambda history: history.begun, reverse=True)


def _history(context: Context, tf: Checksum, document: Document | None) -> RunHistory:
    database = context.database
    result, state = database.get(tf), KNOWN
    if result is None:
        others = database.irreproducible(tf)
        result, state = (others[-1], CONTESTED) if others else (None, FAILED)
    failures = database.failures(tf)
    if result is None and not failures:
        state = PENDING
    return RunHistory(tf, state, result, document, failures)


def makers(context: Context, checksum: Checksum, limit: int) -> list[Checksum]:
    """Return the transformation that a checksum is the key of, or up to `limit` that gave it."""
    database = context.database
    found = database.lookup(checksum)
    if found is not None:
        return [found[0]]
    if database.failures(checksum) or database.irreproducible(checksum):
        return [checksum]
    found_many = database.producers_of([checksum], limit).get(checksum)
    return found_many or [*documents(context.store, [checksum])]


def whole_path(store: Store, history: RunHistory, checksum: Checksum) -> str | None:
    """Return where in what a run gave a buffer lies: a path, or the name of one of several results."""
    result = history.result
    if result is None or result.checksum == checksum or checksum == history.tf:
        return None
    return next((name for name, value in parts(store, result).items() if value == checksum), None)


def parts(store: Store, result: Result) -> dict[str, Checksum]:
    """Return what a result consists of, by path; nothing for a file, or where its bytes are gone."""
    if result.format == "directory":
        return index_in(store, result.checksum) or {}
    if result.format != "results":
        return {}
    found: dict[str, Checksum] = {}
    for name, value in named_results(store, result).items():
        found[name] = value.checksum
        if value.format == "directory":
            members = index_in(store, value.checksum) or {}
            found |= {f"{name}/{path}": one for path, one in members.items()}
    return found


def named_results(store: Store, result: Result) -> dict[str, Value]:
    """Return several results by their names; nothing where the bytes that say so are gone."""
    from seamless_dask.model.values import parse_results

    data = present(store, [result.checksum]).get(result.checksum)
    try:
        found = parse_results(data) if data is not None else None
    except (HashserverError, ValueError):
        return {}
    if found is None:
        return {}
    own = {} if found.stdout is None else {"standard output": found.stdout}
    return own | found.paths | found.globs


def facts_of(store: Store, history: RunHistory, checksum: Checksum) -> Facts:
    """Return what there is to say of a run, for a program."""
    result, document, record = history.result, history.document, dict(history.record)
    facts: Facts = {"transformation": history.tf, "state": history.state}
    if document is not None:
        what = document.description
        facts |= {"language": what.language, "command": document.code, "code": what.code}
        facts["inputs"] = {name: _named(value) for name, value in sorted(what.inputs.items())}
        facts |= {"stdin": _named(what.stdin)} if what.stdin else {}
        facts |= {"variables": what.variables} if what.variables else {}
        facts |= {"shell_flags": what.shell_flags} if what.shell_flags is not None else {}
    if result is not None:
        facts["result"] = [result.format, result.checksum]
        if result.format == "results":
            facts["results"] = {name: list(value) for name, value in named_results(store, result).items()}
        facts |= {"within": path} if (path := whole_path(store, history, checksum)) else {}
        facts |= {"source": result.source} if result.source else {}
    facts["stderr"] = str(record.pop("stderr", None) or "")
    return facts | {"record": record, "failures": history.failures}


def _named(value: Value | Deferred | None) -> Any:
    if value is None or hasattr(value, "checksum"):
        return value and list(value)
    return {"of": value.of, "path": value.path}


def lines_of(facts: Facts, whole_stderr: bool = False) -> list[str]:
    """Return the same for a person; nothing in it can move a terminal's cursor."""
    record = facts["record"]
    lines = [("made by" if facts["state"] == KNOWN else facts["state"], _command(facts))]
    lines += [("transformation", facts["transformation"])]
    lines += [("result", _result(facts))] if "result" in facts else []
    lines += [("result", f"{part}  {' '.join(value)}") for part, value in facts.get("results", {}).items()]
    lines += [("known from", facts["source"])] if "source" in facts else []
    inputs = [*facts.get("inputs", {}).items()]
    inputs += [("standard input", facts["stdin"])] if "stdin" in facts else []
    lines += [("from", f"{path}  {_shown(value)}") for path, value in inputs]
    lines += [("variable", f"{key}={text}") for key, text in sorted(facts.get("variables", {}).items())]
    lines += [("shell flags", facts["shell_flags"])] if "shell_flags" in facts else []
    lines += [("when", wording.when(record)), ("took", _cost(record)), ("where", str(record.get("host", "")))]
    lines += _environment(record)
    lines += [("failed before", _failure(one)) for one in facts["failures"]]
    told_lines = [f"  {title:14}  {one_line(text)}" for title, text in lines if text]
    return told_lines + _stderr(facts["stderr"], whole_stderr)


def _command(facts: Facts) -> str:
    record = facts["record"]
    label = str(record.get("label") or "")
    if facts.get("language") == "python":
        from seamless_dask.graph.names import label_of

        return f"{label or label_of(facts['command'] or '')}(…), a function in Python"
    if facts.get("command") is None:
        return f"{label or 'a command'} (its {'text' if 'code' in facts else 'document'} is in no store)"
    return str(facts["command"])


def _result(facts: Facts) -> str:
    text = " ".join(facts["result"])
    return f"{facts['within']} in {text}" if "within" in facts else text


def _shown(value: Sequence[str] | Mapping[str, str | None]) -> str:
    if isinstance(value, dict):
        return f"result {value['path'] or ''} of {value['of']}"
    return " ".join(value)


def _cost(record: Record) -> str:
    found = {
        "": wording.seconds(record.get("wall")),
        "processor ": wording.seconds(record.get("cpu")),
        "peak memory ": wording.memory(record),
    }
    return ", ".join(name + text for name, text in found.items() if text)


def _environment(record: Record) -> list[tuple[str, str]]:
    from seamless_dask.model.records import environment_of

    found = environment_of(record)
    lines = [
        ("environment", f"{name} {value if isinstance(value, str) else ', '.join(value)}")
        for name, value in found.items()
    ]
    more = [("isolation", record.get("isolation")), ("seamless-dask", record.get("version"))]
    lines += [(name, str(value)) for name, value in more if value]
    return lines + [("program", text) for text in _programs(record.get("programs"))]


def _programs(found: object) -> list[str]:
    """Return the programs that a record names; what other versions of it say is passed over."""
    if isinstance(found, list):
        return [_joined(about) for about in found]
    if not isinstance(found, dict):
        return []
    return [f"{name}  {_joined(about)}" for name, about in found.items()]


def _joined(about: object) -> str:
    return "  ".join(map(str, about.values())) if isinstance(about, dict) else str(about)


def _failure(record: Record) -> str:
    return f"{wording.when(record)} on {record.get('host', 'an unknown host')}: {wording.failure(record)}"


def _stderr(text: str, whole: bool) -> list[str]:
    lines = text.splitlines()
    left = 0 if whole else max(0, len(lines) - STDERR_LINES)
    more = [f"[… {count_text(left, 'more line')}: -v shows all]"] if left else []
    return ["  standard error:"] * bool(lines) + [f"    {one_line(line)}" for line in more + lines[left:]]
