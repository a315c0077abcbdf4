"""Running transformations, each in a fresh directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .bash import run_bash

if TYPE_CHECKING:
    from ..context import Context
    from ..model.options import Options
    from ..model.records import Outcome
    from ..model.transformation import Description
    from .supervisor import Supervisor

__all__ = ["run", "run_bash"]


def run(
    transformation: Description, context: Context, options: Options, supervisor: Supervisor | None = None
) -> Outcome:
    """Run a transformation, whatever its language; see `run_bash`."""
    if transformation.language == "bash":
        return run_bash(transformation, context, options, supervisor)
    from .python import run_python

    return run_python(transformation, context, options, supervisor)
