"""What identifies a Python function: `identify`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .border import Border
from .composing import Text, compose
from .fallback import WEAKER, pickled, reason_of
from .items import Buffer, Describe, Hazard, Target, reachable
from .literals import Unprintable
from .markers import FUNCTION, INPUT
from .reach import Findings, Reach


class CodeWarning(UserWarning):
    """Something in a function that its identity does not see."""


@dataclass(frozen=True)
class Reached:
    """One thing that counts.

    Attributes
    ----------
    name
        What it is called in the text.
    kind
        ``function``, ``class``, ``value``, ``input``, ``import`` or ``module``.
    file, line
        Where it comes from; nothing for values and imports.
    value
        The object itself.
    """

    name: str
    kind: str
    file: str
    line: int
    value: Any


@dataclass(frozen=True)
class Code:
    """A function as text.

    Attributes
    ----------
    text
        One module of Python, which is both what counts and what runs.
    inputs
        Values that it reaches and that are not printed in it, by the name by which it asks for them.
    reached
        All that it took in, and from where.
    warnings
        What the identity does not see.
    lines
        The line table, plain data for ``json``: it does not count; tracebacks show the user's files by it.
    guard
        Tells whether all that was reached is still the same objects and code; if not, identify again.
    """

    text: str
    inputs: Mapping[str, Buffer]
    reached: tuple[Reached, ...]
    warnings: tuple[Hazard, ...]
    lines: Mapping[str, Any]
    guard: Callable[[], bool]


def identify(function: Any, border: Border | None = None, describe: Describe | None = None) -> Code:
    """Return what a function is: itself, and all of the user's own that it reaches.

    What the identity does not see is warned about, each place once in a process.

    Parameters
    ----------
    function
        A function, what decorators made of one, or a class.
    border
        What is the user's; by default what lies in neither the standard library nor ``site-packages``.
    describe
        Makes bytes of globals that are no plain values. Without it these are errors.

    Raises
    ------
    NoIdentity
        It reaches what is no value.
    """
    border = border or Border()
    known, before = Findings(), None
    while known != before:  # a later pass may see that something counts which an earlier one left out
        reach = Reach(border, describe, known)
        main = reach.start(function)
        known, before = reach.known(), known
    try:
        code = _code(compose(main), main, reach.checks.compiled())
    except (Unprintable, RecursionError) as error:
        code = _as_pickle(function, main, border, reason_of(error))
    _tell(code.warnings)
    return code


def _code(text: Text, main: Target, guard: Callable[[], bool]) -> Code:
    items = [item for item in reachable(main.item) if item.kind != "builtin"]
    return Code(
        text=text.text,
        inputs={text.names[item]: item.buffer for item in items if item.buffer is not None},
        reached=tuple(
            Reached(text.names[item], item.kind, item.file, item.line, item.value) for item in items
        ),
        warnings=tuple(hazard for item in items for hazard in item.hazards),
        lines=text.lines,
        guard=guard,
    )


def _as_pickle(function: Any, main: Target, border: Border, reason: str) -> Code:
    """Return a function by value as a whole."""
    name, file, line = main.item.name, main.item.file, main.item.line
    return Code(
        text=f"{FUNCTION} = {INPUT}({name!r})\n",
        inputs={name: pickled(function, border, name, reason)},
        reached=(Reached(name, "input", file, line, function),),
        warnings=(Hazard(file, line, WEAKER.format(name=name, reason=reason)),),
        lines={},
        guard=lambda: False,
    )


_told: set[Hazard] = set()


def _tell(hazards: tuple[Hazard, ...]) -> None:
    for hazard in hazards:
        if hazard not in _told:
            _told.add(hazard)
            warnings.warn_explicit(
                hazard.message, CodeWarning, hazard.file or FUNCTION, hazard.line, registry={}
            )
