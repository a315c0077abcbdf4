"""In what two computations differ, down to the word of a command and the file in a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashserver.namedtuple import NamedTuple
from seamless_dask.model.transformation import Value

from ..text import count_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from hashserver.checksum import Checksum
    from seamless_dask.model.transformation import Input

    from .documents import Document

    Members = Callable[[Checksum], Mapping[str, Checksum] | None]
    """Returns the files of a directory; None where its index is gone."""

MOST = 20
"""Differences of one kind that are told."""


class Difference(NamedTuple):
    """One thing that is not as it was.

    Attributes
    ----------
    kind : str
        ``code``, ``input``, ``variable``, ``standard input``, ``shell flags`` or ``results``.
    name : str
        Which one.
    text : str
        A clause that says it.
    """

    kind: str
    name: str
    text: str


def distance(then: Document, now: Document) -> tuple[int, int]:
    """Return how far apart two computations are: in words of the code, and in anything else."""
    before, after = then.description, now.description
    inputs = before.inputs.keys() | after.inputs.keys()
    variables = (before.variables or {}), (after.variables or {})
    others = sum(before.inputs.get(name) != after.inputs.get(name) for name in inputs)
    others += sum(variables[0].get(n) != variables[1].get(n) for n in variables[0].keys() | variables[1])
    others += (before.stdin != after.stdin) + (before.shell_flags != after.shell_flags)
    others += before.result != after.result
    return _words_apart(then, now), others


def _words_apart(then: Document, now: Document) -> int:
    if then.description.code == now.description.code:
        return 0
    return max(1, len(set((then.code or "").split()) ^ set((now.code or "").split())))


def differences(then: Document, now: Document, members: Members) -> list[Difference]:
    """Return in what a computation differs from an earlier one."""
    before, after = then.description, now.description
    found = list(_of_code(then, now))
    found += _of_inputs(before.inputs, after.inputs, members)
    if before.stdin != after.stdin:
        found.append(Difference("standard input", "", _of_stdin(before.stdin, after.stdin)))
    found += _of_variables(before.variables or {}, after.variables or {})
    if before.shell_flags != after.shell_flags:
        text = f"the shell flags are {_flags(after.shell_flags)}, not {_flags(before.shell_flags)}"
        found.append(Difference("shell flags", "", text))
    if before.result != after.result:
        found.append(Difference("results", "", "other results are asked for (--capture)"))
    return found


def _flags(flags: str | None) -> str:
    return "the usual ones" if flags is None else repr(flags)


def _of_code(then: Document, now: Document) -> Iterator[Difference]:
    if then.description.code == now.description.code:
        return
    if then.code is None or now.code is None:
        yield Difference("code", "", "its text is another one (the earlier one is in no store)")
        return
    from difflib import SequenceMatcher

    is_long = "\n" in then.code.strip() or "\n" in now.code.strip()
    old, new = (text.splitlines() if is_long else text.split() for text in (then.code, now.code))
    changes = [
        (" ".join(old[a:b]).strip(), " ".join(new[c:d]).strip())
        for operation, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        if operation != "equal"
    ]
    if not changes:
        yield Difference("code", "", "its text has other blanks")
    for was, is_now in changes[:MOST]:
        yield Difference("code", was or is_now, _change(was, is_now))
    yield from _rest("code", len(changes) - MOST, "other place in its text")


def _change(was: str, is_now: str) -> str:
    if not was:
        return f"it says {is_now!r} too"
    if not is_now:
        return f"it says {was!r} no more"
    return f"it says {is_now!r}, not {was!r}"


def _rest(kind: str, number: int, noun: str) -> Iterator[Difference]:
    if number > 0:
        yield Difference(kind, "", f"and {count_text(number, noun)}")


def _of_inputs(
    before: Mapping[str, Input], after: Mapping[str, Input], members: Members
) -> Iterator[Difference]:
    gone = {name: value for name, value in before.items() if name not in after}
    told = 0
    differing = [name for name in sorted(before.keys() | after) if before.get(name) != after.get(name)]
    for name in differing:
        was, is_now = before.get(name), after.get(name)
        if was is None:
            earlier = next((old for old, value in gone.items() if value == is_now), None)
            gone.pop(earlier or "", None)
            text = f"{name} was called {earlier}" if earlier else f"{name} is an input now"
            found = [Difference("input", name, text)]
        elif is_now is None:
            found = [Difference("input", name, f"{name} is no input any more")] if name in gone else []
        else:
            found = _of_value(name, was, is_now, members)
        yield from found[: max(0, MOST - told)]
        told += len(found)
    yield from _rest("input", told - MOST, "other input")


def _of_value(name: str, was: Input, is_now: Input, members: Members) -> list[Difference]:
    if not isinstance(is_now, Value):
        return [Difference("input", name, f"{name} is still to be made by a job")]
    if not isinstance(was, Value) or was.format != is_now.format:
        kind = was.format if isinstance(was, Value) else "result of a job"
        return [Difference("input", name, f"{name} is a {is_now.format}, it was a {kind}")]
    if was.format != "directory":
        return [Difference("input", name, f"{name} differs")]
    old, new = members(was.checksum), members(is_now.checksum)
    if old is None or new is None:
        return [Difference("input", name, f"{name} differs (its index is in no store)")]
    return [
        Difference("input", f"{name}/{path}", f"{name}/{path} {_of_member(old.get(path), new.get(path))}")
        for path in sorted(old.keys() | new)
        if old.get(path) != new.get(path)
    ]


def _of_member(was: str | None, is_now: str | None) -> str:
    return "differs" if was and is_now else "is new" if is_now else "is gone"


def _of_stdin(was: Input | None, is_now: Input | None) -> str:
    if was is None:
        return "there is a standard input now"
    return "standard input differs" if is_now is not None else "there is no standard input any more"


def _of_variables(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Difference]:
    for name in sorted(before.keys() | after):
        was, is_now = before.get(name), after.get(name)
        if was != is_now:
            told = f"{name}={is_now}" if is_now is not None else f"{name} is not set"
            yield Difference(
                "variable", name, f"variable {told}, it was {was if was is not None else 'unset'}"
            )
