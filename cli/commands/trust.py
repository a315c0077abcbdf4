"""``seamless-trust``: let a project's ``seamless.toml`` name places, or take that back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashserver.printable import one_line

from ..console import ERROR, OK, Console, new_parser, start

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def parser(prog: str = "seamless-trust") -> argparse.ArgumentParser:
    """Command line of ``seamless-trust``."""
    result = new_parser(
        prog,
        "Let the seamless.toml that counts in a directory name servers, stores and files, as it is now."
        " Without that it may only choose a profile of your own, stricter isolation and tighter bounds.",
        epilog="A change of the file, or of a certificate that it names, asks again.",
    )
    result.add_argument("directory", metavar="DIR", nargs="?", default=".", help="the current one by default")
    action = result.add_mutually_exclusive_group()
    action.add_argument(
        "--list", action="store_true", help="show what is trusted, and whether it has changed"
    )
    action.add_argument("--undo", action="store_true", help="trust it no more")
    group = result.add_argument_group("common options")
    group.add_argument("-v", "--verbose", action="count", default=0, help="say more; -vv shows tracebacks")
    group.add_argument("-q", "--quiet", action="count", default=0, help="say less; -qq hides warnings too")
    group.add_argument("--profile", metavar="NAME", help="of its profiles show this one alone")
    group.add_argument("--json", action="store_true", help="print facts as JSON")
    return result


def execute(arguments: argparse.Namespace, console: Console) -> int:
    """Do what is asked."""
    from seamless_dask import trust

    if arguments.list:
        return _list(console)
    if arguments.undo:
        path = trust.forget(arguments.directory)
        if path is None:
            console.error(f"nothing is trusted in {arguments.directory} or above it")
            return ERROR
        console.note(f"{path} is not trusted any more")
        facts = {"path": path, "trusted": False}
    else:
        project = trust.trust(arguments.directory, arguments.profile)
        path = project.path
        console.note(f"{path} is trusted from now on, until it changes; it sets:")
        for line in trust.wishes(project, arguments.profile):
            console.note(f"  {line}")
        facts = {"path": path, "trusted": True}
    if console.json:
        console.facts(facts)
    return OK


def _list(console: Console) -> int:
    from seamless_dask import trust

    found = trust.records()
    facts = [{"path": record.path, "state": state, "trusted": record.trusted} for record, state in found]
    console.facts(facts, [f"{state:8} {one_line(record.path)}" for record, state in found])
    return OK


def main(argv: Sequence[str] | None = None, prog: str = "seamless-trust") -> int:
    """Entry point."""
    return start(parser(prog), execute, argv)
