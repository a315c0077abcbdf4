"""Running transformations, each in a fresh directory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..context import Context
    from ..model.options import Options
    from ..model.records import Outcome
    from ..model.transformation import Description
    from .bash import run_bash
    from .supervisor import Supervisor

__all__ = ["run", "run_bash"]


def run(
    transformation: Description, context: Context, options: Options, supervisor: Supervisor | None = None
) -> Outcome:
    """Run a transformation, whatever its language; see `run_bash`."""
    if transformation.language == "bash":
        from .bash import run_bash

        return run_bash(transformation, context, options, supervisor)
    if options.run == "here":
        from .here import call_here

        return call_here(transformation, context, options, supervisor)
    from .python import run_python

    return run_python(transformation, context, options, supervisor)


def __getattr__(name: str) -> Any:
    """Import what is asked for: the process in which a function is called imports this package too."""
    if name != "run_bash":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .bash import run_bash

    return run_bash
