"""Running transformations, each in a fresh directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..context import Context
    from ..model.options import Options
    from ..model.records import Outcome
    from ..model.transformation import Description
    from .supervisor import Supervisor


def run(
    transformation: Description, context: Context, options: Options, supervisor: Supervisor | None = None
) -> Outcome:
    """Run a transformation, whatever its language; see `.bash.run_bash`."""
    if transformation.language == "bash":
        from .bash import run_bash

        return run_bash(transformation, context, options, supervisor)
    if options.run == "here":
        from .here import call_here

        return call_here(transformation, context, options, supervisor)
    from .python import run_python

    return run_python(transformation, context, options, supervisor)
