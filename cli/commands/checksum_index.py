"""``seamless-checksum-index DIR``: write the index and the checksum of directories."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

from ..console import OK, CommandError, Console, add_common, new_parser, start
from ..opening import open_context
from .checksum import add_replace, identify, report, write_all

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def parser(prog: str = "seamless-checksum-index") -> argparse.ArgumentParser:
    """Command line of ``seamless-checksum-index``."""
    result = new_parser(
        prog,
        "Write DIR/.INDEX, the checksum of every file, and DIR/.CHECKSUM, the directory's own;"
        " seamless-upload then asks only for what is missing.",
    )
    result.add_argument("directories", metavar="DIR", nargs="+", help="directories to index")
    add_replace(result)
    add_common(result, json=True)
    return result


def execute(arguments: argparse.Namespace, console: Console) -> int:
    """Write the sidecars and print the checksums."""
    for path in arguments.directories:
        if not os.path.isdir(path):
            raise CommandError(f"{path}: not a directory (seamless-checksum --write is for files)")
    with closing(open_context(arguments, console.note)) as context:
        found = [identify(path, context, console) for path in arguments.directories]
        write_all(found, context, parser().prog + " --replace", arguments.replace)
    report(found, console)
    return OK


def main(argv: Sequence[str] | None = None, prog: str = "seamless-checksum-index") -> int:
    """Entry point."""
    return start(parser(prog), execute, argv)
