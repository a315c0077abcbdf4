"""``seamless-checksum PATH…``: print the checksums of files and directories."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from hashserver.errors import BufferMissing, SidecarError
from hashserver.workspace.sidecar import find_sidecar, write_directory_sidecars, write_file_sidecar

from ..console import OK, Console
from ..data.identify import PathIdentity, identify_local, identify_sidecar, no_such_path
from ..opening import open_context
from ..start import entry_point
from ..table import PATH, USUAL, Argument, CommandTable, flag, group

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashserver.checksum import Checksum
    from hashserver.storage.store import Store
    from seamless_dask.context import Context

    from ..table import ParsedArguments


REPLACE = flag("--replace", help="write an index even if files that it named go from it")
"""Lets an index lose members."""

TABLE = CommandTable(
    "Print the checksums of files and directories, one a line as sha256sum does: CHECKSUM  PATH.",
    (
        group("Sidecars", flag("--write", help="write sidecars too, without uploading anything"), REPLACE),
        *USUAL,
    ),
    (Argument("paths", "PATH", "files and directories", many=True, completes=PATH),),
    examples=("seamless-checksum --write data.csv measurements/",),
)


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Print the checksums."""
    with closing(open_context(arguments, console.note)) as context:
        found = [identify(path, context, console) for path in arguments.paths]
        if arguments.write:
            write_all(found, context, "seamless-checksum --write --replace", arguments.replace)
    report(found, console)
    return OK


def identify(path: str, context: Context, console: Console) -> PathIdentity:
    """Return what `path` is; what is not here is what its sidecar says."""
    found = identify_local(path, context, console) or identify_sidecar(path)
    if found is None:
        raise no_such_path(path)
    if not found.here:
        console.detail(f"{path} is not here; its checksum is that of its sidecar")
    return found


def write_all(found: Sequence[PathIdentity], context: Context, command: str, replace: bool) -> None:
    """Write the sidecars of all paths, or of none, when some of them would lose track of files."""
    if not replace:
        for identity in found:
            check_loss(identity, context.store, command)
    for identity in found:
        write_sidecars(identity)


def check_loss(identity: PathIdentity, store: Store, command: str) -> None:
    """Raise `SidecarError` when the sidecars to be replaced name files that the new ones do not."""
    if not identity.here or _are_right(identity):
        return
    from hashserver.workspace.pending import LIMIT
    from hashserver.workspace.replacement import refuse_loss, refuse_loss_by_file

    def fetch(checksum: Checksum) -> bytes:
        size = store.has([checksum])[0]
        if size < 0:
            raise BufferMissing(checksum)
        return store.get(checksum) if size <= LIMIT else b""  # too long for an index

    command = f"{command} {identity.path}"
    if identity.tree is None:
        refuse_loss_by_file(identity.path, command)
    else:
        refuse_loss(identity.path, identity.tree.index, fetch, command)


def write_sidecars(identity: PathIdentity, durable: bool = False) -> None:
    """Write the sidecars of a path that is here, unless they are right already."""
    if not identity.here or _are_right(identity):
        return
    if identity.tree is None:
        write_file_sidecar(identity.path, identity.checksum, durable)
    else:
        write_directory_sidecars(identity.path, identity.checksum, identity.tree.data, durable)


def _are_right(identity: PathIdentity) -> bool:
    """Say whether the sidecars stand as they would be written."""
    try:
        sidecar = find_sidecar(identity.path)
    except SidecarError:
        return False  # damaged: they are about to be written anew
    if sidecar is None or (sidecar.kind, sidecar.checksum) != (identity.kind, identity.checksum):
        return False
    return identity.tree is None or (sidecar.index_path or "").endswith("/.INDEX")


def report(found: Sequence[PathIdentity], console: Console) -> None:
    """Print checksums and paths."""
    facts = [
        {"path": item.path, "kind": item.kind, "checksum": item.checksum, "size": item.size} for item in found
    ]
    console.facts(facts, [_line(item) for item in found])


def _line(item: PathIdentity) -> str:
    """One line as sha256sum writes it: a name with a newline or a backslash is escaped, and marked so."""
    if "\n" not in item.path and "\\" not in item.path:
        return f"{item.checksum}  {item.path}"
    name = item.path.replace("\\", "\\\\").replace("\n", "\\n")
    return f"\\{item.checksum}  {name}"


main = entry_point(TABLE, execute, "seamless-checksum")
