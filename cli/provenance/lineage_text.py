"""A lineage as lines, as facts and as a graph in the language of Graphviz."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hashserver.printable import one_line

from ..text import count_text
from . import wording

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hashserver.checksum import Checksum

    from .lineage import Lineage, LineageStep


_DEEPEST = 30


def facts_of(lineage: Lineage) -> list[dict[str, Any]]:
    """Return the runs of a lineage, for a program."""
    return [_facts(lineage, step) for step in lineage.steps.values()]


def _facts(lineage: Lineage, step: LineageStep) -> dict[str, Any]:
    result = step.run and step.run.result
    facts: dict[str, Any] = {
        "transformation": step.tf,
        "command": step.document and step.document.code,
        "record": step.run and step.run.record,
        "result": result and [result.format, result.checksum],
        "inputs": {name: list(value) for name, value in step.inputs.items()},
    }
    if step.tf in lineage.users:
        return facts | {"used_by": lineage.users[step.tf]}
    return facts | {"made_by": dict(_made_by(lineage, step))}


def _made_by(lineage: Lineage, step: LineageStep) -> Iterator[tuple[str, Checksum]]:
    """Yield the names of inputs, and of files in them, with the runs that made them."""
    for name, value in step.inputs.items():
        if value.checksum in lineage.makers:
            yield name, lineage.makers[value.checksum]
        for path, member in lineage.members.get(value.checksum, {}).items():
            yield f"{name}/{path}", lineage.makers[member]


def lines_upwards(lineage: Lineage, name: str, checksum: Checksum) -> list[str]:
    """Return a tree with the sources as its leaves; what stands in it already is not told again."""
    lines: list[str] = []
    shown: set[Checksum] = set()
    stack: list[tuple[int, str, Checksum]] = [(0, name, checksum)]
    while stack:
        depth, shown_name, one = stack.pop()
        maker = lineage.makers.get(one)
        lines.append(_line(depth, f"{shown_name}  {one[:8]}"))
        inner = [(depth + 1, path, member) for path, member in lineage.members.get(one, {}).items()]
        if maker is not None:
            step = lineage.steps.get(maker)
            above = ", told above" if maker in shown and step is not None else ""
            lines.append(_line(depth + 1, _run(step, maker) + above))
            if step is not None and maker not in shown:
                inner = [(depth + 2, path, value.checksum) for path, value in sorted(step.inputs.items())]
            shown.add(maker)
        stack += reversed(inner)
    return lines


def lines_downwards(lineage: Lineage, name: str, checksum: Checksum) -> list[str]:
    """Return a tree of the runs that used a thing, or what was made from it."""
    lines = [_line(0, f"{name}  {checksum[:8]}")]
    shown: set[Checksum] = set()
    stack: list[tuple[int, LineageStep | int]] = _users(lineage, checksum, 1)
    while stack:
        depth, step = stack.pop()
        if isinstance(step, int):
            lines.append(_line(depth, f"… and {count_text(step, 'more run')}"))
            continue
        above = ", told above" if step.tf in shown else ""
        lines.append(_line(depth, _run(step, step.tf) + above))
        stack += [] if above else _users(lineage, step.tf, depth + 1)
        shown.add(step.tf)
    return lines


def _users(lineage: Lineage, parent: Checksum, depth: int) -> list[tuple[int, LineageStep | int]]:
    """Return the runs that used a thing, the last one first, and before them how many were left out."""
    users = lineage.users.get(parent, [])
    known = [lineage.steps[tf] for tf in users if tf in lineage.steps]
    left_out = [(depth, len(users) - len(known))] if len(known) < len(users) else []
    return [*left_out, *((depth, step) for step in reversed(known))]


def _line(depth: int, text: str) -> str:
    """Return an indented line; how deep it stands is a number where that would fill the screen."""
    return f"{'  ' * min(depth, _DEEPEST)}{f'[{depth}] ' if depth > _DEEPEST else ''}{one_line(text)}"


def _run(step: LineageStep | None, tf: Checksum) -> str:
    if step is None:
        return f"… ({tf[:8]})"
    record = step.run.record if step.run else None
    result = step.run and step.run.result
    source = f", from {result.source}" if result and result.source else ""
    return f"{wording.command(step.document, record)}  ({tf[:8]}, {wording.when(record)}{source})"


def dot(lineage: Lineage, name: str, checksum: Checksum) -> list[str]:
    """Return a graph: runs are boxes, files ellipses, arrows lead from what was used to what was made."""
    lines = ["digraph provenance {", "  rankdir=LR;"]
    names = {checksum: name}
    arrows: dict[tuple[str, str], None] = {}
    for step in lineage.steps.values():
        record = step.run.record if step.run else None
        lines.append(
            f"  {_quoted(step.tf)} [shape=box, label={_quoted(wording.command(step.document, record))}];"
        )
        for path, value in step.inputs.items():
            names.setdefault(value.checksum, path)
            arrows[value.checksum, step.tf] = None
            for member, one in lineage.members.get(value.checksum, {}).items():
                names.setdefault(one, f"{path}/{member}")
                arrows[one, value.checksum] = None
    for one, maker in lineage.makers.items():
        if maker in lineage.steps:
            names.setdefault(one, one[:8])
            arrows[maker, one] = None
    for parent, users in lineage.users.items():
        if parent in lineage.steps:
            arrows |= {(parent, user): None for user in users if user in lineage.steps}
    lines += [f"  {_quoted(one)} [label={_quoted(text)}];" for one, text in names.items()]
    lines += [f"  {_quoted(tail)} -> {_quoted(head)};" for tail, head in arrows]
    return [*lines, "}"]


def _quoted(text: str) -> str:
    return json.dumps(one_line(text), ensure_ascii=False)
