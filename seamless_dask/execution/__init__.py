"""Running commands: a fresh directory, placed inputs, a watched process tree, captured results."""

from .bash import run_bash

__all__ = ["run_bash"]
