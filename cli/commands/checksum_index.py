"""``seamless-checksum-index DIR``: write the index and the checksum of directories."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

from ..console import OK, CommandError, Console
from ..opening import open_context
from ..start import entry_point
from ..table import DIRECTORY, USUAL, Argument, CommandTable, group
from .checksum import REPLACE, identify, report, write_all

if TYPE_CHECKING:
    from ..table import ParsedArguments


TABLE = CommandTable(
    "Write DIR/.INDEX, the checksum of every file, and DIR/.CHECKSUM, the directory's own; seamless-upload"
    " then asks only for what is missing.",
    (group("Sidecars", REPLACE), *USUAL),
    (Argument("directories", "DIR", "directories to index", many=True, completes=DIRECTORY),),
    examples=("seamless-checksum-index measurements/",),
)


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Write the sidecars and print the checksums."""
    for path in arguments.directories:
        if not os.path.isdir(path):
            raise CommandError(f"{path}: not a directory (seamless-checksum --write is for files)")
    with closing(open_context(arguments, console.note)) as context:
        found = [identify(path, context, console) for path in arguments.directories]
        write_all(found, context, "seamless-checksum-index --replace", arguments.replace)
    report(found, console)
    return OK


main = entry_point(TABLE, execute, "seamless-checksum-index")
