"""``seamless-resolve CHECKSUM``: print the bytes of a checksum."""

from __future__ import annotations

import argparse
import os
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from hashserver.checksum import Checksum
from hashserver.errors import BufferMissing, InvalidChecksum, SidecarError
from hashserver.workspace.sidecar import CHECKSUM, read_checksum

from ..console import OK, Console, add_common, new_parser, start
from ..data.missing import named
from ..opening import open_context

if TYPE_CHECKING:
    from collections.abc import Sequence


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
            raise argparse.ArgumentTypeError(f"{error}{hint}") from None
    try:
        return Named(read_checksum(text), text.removesuffix(CHECKSUM).rstrip("/") or ".")
    except SidecarError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    except FileNotFoundError:
        raise argparse.ArgumentTypeError(f"{text}: no such file") from None


def add_target(parser: argparse.ArgumentParser) -> None:
    """Give `parser` the options that say where bytes go."""
    parser.add_argument(
        "named", metavar="CHECKSUM", type=checksum_argument, help="what to print: a checksum, or X.CHECKSUM"
    )
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
    from ..data.deliver import hand_over

    with closing(open_context(arguments, console.note)) as context:
        try:
            hand_over(context, arguments.named.checksum, arguments.output, arguments.overwrite)
        except BufferMissing as error:
            raise named(context, error, arguments.named.name) from error
    return OK


def main(argv: Sequence[str] | None = None, prog: str = "seamless-resolve") -> int:
    """Entry point."""
    return start(parser(prog), execute, argv)
