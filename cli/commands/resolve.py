"""``seamless-resolve CHECKSUM``: print the bytes of a checksum."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from hashserver.checksum import Checksum
from hashserver.errors import BufferMissing, InvalidChecksum, SidecarError
from hashserver.workspace.sidecar import CHECKSUM, read_checksum

from ..console import OK, Console
from ..data.missing import named
from ..opening import open_context
from ..start import entry_point
from ..table import CONFIGURATION, FILE, QUIETLY, Argument, CommandTable, flag, group, value

if TYPE_CHECKING:
    from ..table import ParsedArguments


class Named(NamedTuple):
    """A checksum, and how it was named: by itself, or by a sidecar."""

    checksum: Checksum
    name: str


def checksum_argument(text: str) -> Named:
    """Parse an argument that must be a checksum, or a ``.CHECKSUM`` file that holds one."""
    try:
        return Named(Checksum(text.strip()), text.strip())
    except InvalidChecksum as error:
        if not text.endswith(CHECKSUM):
            hint = f": name its sidecar, {text}{CHECKSUM}" if os.path.exists(text + CHECKSUM) else ""
            raise ValueError(f"{error}{hint}") from None
    try:
        return Named(read_checksum(text), text.removesuffix(CHECKSUM).rstrip("/") or ".")
    except SidecarError as error:
        raise ValueError(str(error)) from None
    except FileNotFoundError:
        raise ValueError(f"{text}: no such file") from None


TARGET = group(
    "Where to",
    value("-o", "--output", metavar="FILE", help="write to FILE instead of standard output"),
    flag("--overwrite", help="replace FILE whatever is in it"),
)
NAMED = Argument(
    "named", "CHECKSUM", "what to print: a checksum, or X.CHECKSUM", convert=checksum_argument, completes=FILE
)

TABLE = CommandTable(
    "Print the bytes of a checksum; for a directory, its index.",
    (TARGET, QUIETLY, CONFIGURATION),
    (NAMED,),
    examples=(
        "seamless-resolve table.txt.CHECKSUM",
        "seamless-resolve $(cat table.txt.CHECKSUM) -o copy.txt",
    ),
)


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Print the bytes."""
    from ..data.deliver import hand_over

    with closing(open_context(arguments, console.note)) as context:
        try:
            hand_over(context, arguments.named.checksum, arguments.output, arguments.overwrite)
        except BufferMissing as error:
            raise named(context, error, arguments.named.name) from error
    return OK


main = entry_point(TABLE, execute, "seamless-resolve")
