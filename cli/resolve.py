"""``seamless-resolve CHECKSUM``: print the bytes of a checksum."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import TYPE_CHECKING

from hashserver.checksum import Checksum
from hashserver.errors import BufferMissing, InvalidChecksum

from .console import OK, CommandError, Console, add_common, new_parser, start
from .session import open_context

if TYPE_CHECKING:
    from collections.abc import Sequence


def checksum_argument(text: str) -> Checksum:
    """Parse an argument that must be a checksum."""
    try:
        return Checksum(text.strip())
    except InvalidChecksum as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_target(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the options that say where bytes go."""
    parser.add_argument("checksum", metavar="CHECKSUM", type=checksum_argument, help="what to print")
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE instead of standard output")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE whatever is in it")


def parser(prog: str = "seamless-resolve") -> argparse.ArgumentParser:
    """Command line of ``seamless-resolve``."""
    result = new_parser(prog, "Print the bytes of a checksum; for a directory, its index.")
    add_target(result)
    add_common(result)
    return result


def execute(arguments: argparse.Namespace, console: Console) -> int:
    """Print the bytes."""
    from .deliver import hand_over

    with closing(open_context(arguments, console.note)) as context:
        try:
            hand_over(context, arguments.checksum, arguments.output, arguments.overwrite)
        except BufferMissing as error:
            raise CommandError(f"{error}; seamless-fingertip recomputes it where that is possible") from error
    return OK


def main(argv: Sequence[str] | None = None, prog: str = "seamless-resolve") -> int:
    """Entry point."""
    return start(parser(prog), execute, argv)
