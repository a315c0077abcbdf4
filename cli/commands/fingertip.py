"""``seamless-fingertip CHECKSUM``: print the bytes of a checksum, recomputing them when they are gone."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from seamless_dask.errors import ComputationFailed

from ..console import ERROR, OK, Console, add_common, new_parser, show_tail, start
from ..opening import open_context
from .resolve import add_target

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def parser(prog: str = "seamless-fingertip") -> argparse.ArgumentParser:
    """Command line of ``seamless-fingertip``."""
    result = new_parser(prog, "Print the bytes of a checksum; when they are gone, run again what made them.")
    add_target(result)
    add_common(result)
    return result


def execute(arguments: argparse.Namespace, console: Console) -> int:
    """Make the bytes again if need be, and print them."""
    from ..data.deliver import hand_over

    with closing(open_context(arguments, console.note)) as context:
        if context.store.has([arguments.named.checksum])[0] < 0:
            from seamless_dask.graph.fingertip import fingertip

            from ..opening import open_executor

            console.detail("the bytes are gone: running again what made them")
            try:
                with open_executor(context, console) as executor, console.spinner("producer") as spinner:
                    fingertip(context, arguments.named.checksum, executor, tick=spinner.state)
            except ComputationFailed as error:
                show_tail(error.stderr)
                console.error(str(error))
                return ERROR
        hand_over(context, arguments.named.checksum, arguments.output, arguments.overwrite)
    return OK


def main(argv: Sequence[str] | None = None, prog: str = "seamless-fingertip") -> int:
    """Entry point."""
    return start(parser(prog), execute, argv)
