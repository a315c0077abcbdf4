"""``seamless-trust``: let a project's ``seamless.toml`` name places, or take that back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hashserver.printable import one_line

from ..console import ERROR, OK, Console
from ..start import entry_point
from ..table import COMMON, DIRECTORY, PROFILE, Argument, CommandTable, flag, group, value

if TYPE_CHECKING:
    from ..table import ParsedArguments


TABLE = CommandTable(
    "Let the seamless.toml that counts in a directory name servers, stores and files, as it is now. Without"
    " that it may only choose a profile of your own, stricter isolation and tighter bounds.",
    (
        group(
            "What to do",
            flag("--list", help="show what is trusted, and whether it has changed"),
            flag("--undo", help="trust it no more"),
            value("--profile", metavar="NAME", help="of its profiles show this one alone", completes=PROFILE),
        ),
        COMMON,
    ),
    (
        Argument(
            "directory",
            "[DIR]",
            "the current one by default",
            required=False,
            default=".",
            completes=DIRECTORY,
        ),
    ),
    examples=("seamless-trust", "seamless-trust --list"),
    notes="A change of the file, or of a certificate that it names, asks again.",
    exclusive=(("list", "undo"),),
)


def execute(arguments: ParsedArguments, console: Console) -> int:
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


main = entry_point(TABLE, execute, "seamless-trust")
