"""``seamless-fingertip CHECKSUM``: print the bytes of a checksum, recomputing them when they are gone."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from seamless_dask.errors import ComputationFailed

from ..console import ERROR, OK, Console, show_tail
from ..opening import open_context
from ..start import entry_point
from ..table import CONFIGURATION, QUIETLY, CommandTable
from .resolve import NAMED, TARGET

if TYPE_CHECKING:
    from ..table import ParsedArguments


TABLE = CommandTable(
    "Print the bytes of a checksum; when they are gone, run again what made them.",
    (TARGET, QUIETLY, CONFIGURATION),
    (NAMED,),
    examples=("seamless-fingertip table.txt.CHECKSUM -o table.txt",),
)


def execute(arguments: ParsedArguments, console: Console) -> int:
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


main = entry_point(TABLE, execute, "seamless-fingertip")
