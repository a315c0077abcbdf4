"""``seamless-upload PATH…``: store files and directories, and write their sidecars."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from hashserver.errors import HashserverError, ServiceUnavailable
from hashserver.workspace.sidecar import sync_sidecars

from ..console import ERROR, OK, CommandError, Console, error_text
from ..data.identify import PathIdentity, identify_sidecar, literal_sidecar_warning, no_such_path, stat_path
from ..data.transfer import COPY, HARDLINK, IN_PLACE, Sent, Uploader
from ..opening import open_context
from ..start import entry_point
from ..table import PATH, USUAL, Argument, CommandTable, flag, group
from .checksum import REPLACE, check_loss, write_sidecars

if TYPE_CHECKING:
    from hashserver.checksum import Checksum
    from hashserver.storage.store import Store

    from ..table import ParsedArguments


class Uploaded(NamedTuple):
    """What became of one path."""

    identity: PathIdentity
    sent: Sent


TABLE = CommandTable(
    "Store files and directories and write their sidecars (FILE.CHECKSUM, DIR/.CHECKSUM, DIR/.INDEX). What"
    " the store has already is not sent again.",
    (
        group(
            "Manner",
            flag("--hardlink", help="link files into a store of the same file system"),
            flag("--in-place", help="record files where they are; no byte is copied"),
            flag("--move", help="delete what was uploaded once the store has it, verified"),
            REPLACE,
        ),
        *USUAL,
    ),
    (Argument("paths", "PATH", "files and directories", many=True, completes=PATH),),
    examples=("seamless-upload --move measurements/ notes.txt",),
    exclusive=(("hardlink", "in_place"),),
)


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Upload; what fails is told, the rest goes on."""
    if arguments.move and arguments.in_place:
        raise _usage("--move would delete the only copy that --in-place keeps; leave one of them out")
    manner = HARDLINK if arguments.hardlink else IN_PLACE if arguments.in_place else COPY
    done: list[Uploaded] = []
    status = OK
    with closing(open_context(arguments, console.note)) as context:
        uploader = Uploader(context, console, manner)
        for path in arguments.paths:
            try:
                done.append(_upload(uploader, path, arguments, console))
            except ServiceUnavailable:
                raise  # the next path would meet the same
            except (CommandError, HashserverError, OSError) as error:
                console.error(error_text(error))
                status = ERROR
    if console.json:
        console.facts([_facts(item) for item in done])
    return status


def _usage(text: str) -> Exception:
    from seamless_dask.errors import UsageError

    return UsageError(text)


def _upload(uploader: Uploader, path: str, arguments: ParsedArguments, console: Console) -> Uploaded:
    literal_sidecar_warning(path, console)
    if _is_away(path, uploader.store):
        return _already_uploaded(uploader.store, path, console)
    identity, sent = uploader.upload(path)
    if not arguments.replace:
        check_loss(identity, uploader.store, "seamless-upload --replace")
    write_sidecars(identity, durable=True)
    console.note(f"{path}: {sent} stored" if sent.files else f"{path}: the store has it already")
    if arguments.move:
        _remove(identity, uploader.store, fresh=bool(sent.files) and identity.tree is None)
    return Uploaded(identity, sent)


def _is_away(path: str, store: Store) -> bool:
    """Say whether nothing is at `path`, perhaps because it was uploaded and deleted."""
    from hashserver.workspace.tree import state_after_upload

    status = stat_path(path)
    return status is None or (os.path.isdir(path) and state_after_upload(path, store.get) == "absent")


def _already_uploaded(store: Store, path: str, console: Console) -> Uploaded:
    """Return what the sidecar says, if the store has all of it."""
    from ..data.deliver import load_index

    identity = identify_sidecar(path)
    if identity is None:
        raise (
            CommandError(f"{path}: an empty directory has no identity")
            if os.path.isdir(path)
            else no_such_path(path)
        )
    needed = [identity.checksum]
    if identity.kind == "directory":
        needed += load_index(store, identity.checksum, path)[1].values()
    if min(store.has(needed)) < 0:
        raise CommandError(f"{path} is not here, and the store does not have what its sidecar names")
    console.note(f"{path}: the store has it already")
    return Uploaded(identity, Sent())


def _remove(identity: PathIdentity, store: Store, fresh: bool) -> None:
    """Delete the local files of an upload; what was no part of it stays, and so do sidecars of members.

    Parameters
    ----------
    fresh : bool
        The bytes have just been sent and so verified; others are read back from the store first.
    """
    if not fresh:
        _verify(store, identity)
    sync_sidecars(identity.path)
    if identity.tree is None:
        _remove_file(identity.path, identity.status)
        return
    for name, status in identity.tree.scan.files:
        _remove_file(os.path.join(identity.path, name), status)
    from ..data.deliver import remove_folders

    remove_folders(identity.path, [name for name, _ in identity.tree.scan.files])


def _remove_file(path: str, status: os.stat_result | None) -> None:
    now = os.stat(path)
    if status and (now.st_ino, now.st_size, now.st_mtime_ns) != (
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
    ):
        raise CommandError(f"{path} changed while it was uploaded: it is not deleted")
    os.unlink(path)


def _verify(store: Store, identity: PathIdentity) -> None:
    tree = identity.tree
    names: dict[Checksum, str] = {identity.checksum: identity.path}
    if tree is not None:
        names |= {tree.index[name]: os.path.join(identity.path, name) for name, _ in tree.scan.files}
    for checksum, path in names.items():
        if not store.verify(checksum):
            raise CommandError(f"{path}: the store's copy was corrupt; upload it again (it is not deleted)")
        if store.in_place(checksum):
            _own(store, checksum, path)


def _own(store: Store, checksum: Checksum, path: str) -> None:
    """Have the store keep the bytes itself: it had recorded a file where it is, perhaps this one."""
    if os.path.isfile(path):
        store.put_file(path, checksum)
        store.verify(checksum)
    if store.in_place(checksum):
        raise CommandError(
            f"{path}: the store only knows a file where it is, perhaps this one:"
            " it is not deleted (upload it to another store)"
        )


def _facts(item: Uploaded) -> dict[str, object]:
    identity, sent = item
    return {
        "path": identity.path,
        "kind": identity.kind,
        "checksum": identity.checksum,
        "size": identity.size,
        "files_sent": sent.files,
        "bytes_sent": sent.size,
    }


main = entry_point(TABLE, execute, "seamless-upload")
