"""From local paths to checksums: sidecar, stat cache, or the bytes themselves."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from hashserver.namedtuple import NamedTuple
from hashserver.statcache import checksum_of
from hashserver.workspace.sidecar import find_sidecar, read_future

from ..console import CommandError, Console, os_error_text
from ..text import count_text

if TYPE_CHECKING:
    from hashserver.checksum import Checksum
    from hashserver.workspace.sidecar import Sidecar
    from hashserver.workspace.tree import Tree
    from seamless_dask.context import Context


class LocalFile(NamedTuple):
    """A local file whose checksum is known, in the state in which it had that checksum."""

    path: str
    checksum: Checksum
    status: os.stat_result


class PathIdentity(NamedTuple):
    """What a local path is.

    ``here`` is false when only a sidecar stands for the path; then there is no status and no tree.
    """

    path: str
    kind: str
    checksum: Checksum
    size: int = 0
    status: os.stat_result | None = None
    tree: Tree | None = None
    here: bool = True


def stat_path(path: str) -> os.stat_result | None:
    """Return the status of what `path` leads to, None when there is nothing.

    Raises
    ------
    CommandError
        A broken or circular link, a special file, or a path that cannot be looked at.
    """
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(path):
            raise CommandError(f"{path}: a broken symbolic link (to {os.readlink(path)})") from None
        return None
    except OSError as error:
        raise CommandError(os_error_text(error)) from error
    except ValueError:
        raise CommandError(f"{path!r}: not a file name") from None
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise CommandError(f"{path}: neither a file nor a directory")
    return status


def identify_local(path: str, context: Context, console: Console) -> PathIdentity | None:
    """Return what the bytes at `path` are, without a look at its sidecar.

    Returns
    -------
    Identity or None
        None when nothing is there, or a directory that holds nothing but its own sidecars.
    """
    status = stat_path(path)
    if status is None:
        return None
    if stat.S_ISDIR(status.st_mode):
        return identify_directory(path, context, console)
    checksum, status = checksum_of(path, context.stat_cache)
    return PathIdentity(path, "file", checksum, status.st_size, status)


def identify_directory(path: str, context: Context, console: Console) -> PathIdentity | None:
    """`identify_local` for a directory."""
    from hashserver.workspace.tree import build, state_after_upload

    if state_after_upload(path, context.store.get) == "absent":
        return None
    tree = build(path, context.stat_cache, fetch=context.store.get)
    return directory_identity(path, tree, console)


def directory_identity(path: str, tree: Tree, console: Console) -> PathIdentity:
    """Return the identity of a directory whose tree is built; tells what is odd about it."""
    for warning in tree.scan.warnings:
        console.warn(f"{path}: {warning}")
    if tree.left_out:
        console.note(f"{path}: {count_text(tree.left_out, 'file')} left out, as .seamlessignore says")
    return PathIdentity(path, "directory", tree.checksum, sum(tree.sizes.values()), tree=tree)


def identify_sidecar(path: str) -> PathIdentity | None:
    """Return what the sidecar of `path` says it is, None without one."""
    sidecar: Sidecar | None = find_sidecar(path)
    return None if sidecar is None else PathIdentity(path, sidecar.kind, sidecar.checksum, here=False)


def no_such_path(path: str) -> CommandError:
    """Return the error for a path that is neither there nor has a sidecar."""
    if path.endswith((".CHECKSUM", ".INDEX", ".FUTURE")):
        return CommandError(f"{path}: no such file (name the file itself, not its sidecar)")
    if read_future(path) is not None:
        return CommandError(f"{path} is still to be made by a job: seamless-download {path} waits for it")
    return CommandError(f"{path}: no such file or directory, and no sidecar beside it")


def literal_sidecar_warning(path: str, console: Console) -> None:
    """Warn when `path` is itself a sidecar: it is taken literally."""
    if path.endswith((".CHECKSUM", ".INDEX")):
        console.warn(
            f"{path} is taken literally, as a file of its own: did you mean {path.rpartition('.')[0]}?"
        )
