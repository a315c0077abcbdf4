"""Directories that are this user's alone: made so, tightened, or refused."""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from hashserver.durability import make_directories, sync_directory
from hashserver.printable import tell

from .errors import UsageError


def private_directory(path: str, named_by: str = "SEAMLESS_CACHE") -> str:
    """Make `path` with mode 0700 if it is not there, and return it; one of this user's gets that mode.

    Parameters
    ----------
    named_by
        The variable by which another place can be chosen.

    Raises
    ------
    UsageError
        When it cannot be made, is somebody else's, who could change what lies in it, or holds what others
        could have put there.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        _claim(path, named_by)
    except FileNotFoundError:
        try:
            make_directories(os.path.dirname(path), 0o777)
        except OSError as error:
            raise UsageError(f"cannot make {error.filename}: {error.strerror}") from None
        return private_directory(path, named_by)
    except OSError as error:
        raise UsageError(f"cannot make {path}: {error.strerror}; {named_by} names another place") from None
    else:
        sync_directory(os.path.dirname(path))  # what is about to be in it shall survive a power cut
    _warn_of_parent(path, named_by)
    return path


def is_mine_to_write(path: str) -> bool:
    """Whether this user wrote what a file holds: nobody else can write to it, or put another one there."""
    real = os.path.realpath(path)
    try:
        states = os.stat(real), os.stat(os.path.dirname(real))
    except OSError:
        return False
    return all(state.st_uid == os.geteuid() and not state.st_mode & 0o022 for state in states)


def _warn_of_parent(path: str, named_by: str) -> None:
    """Say so where others can take the directory away and put theirs in its place, whatever its mode is."""
    parent = os.path.dirname(os.path.realpath(path))
    if os.stat(parent).st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH and parent not in _told:
        _told.add(parent)
        with suppress(OSError, ValueError, AttributeError):  # nobody listens
            tell(
                f"seamless: everybody can replace what lies in {parent}, {os.path.basename(path)} too:"
                f" chmod o-w {parent}, or name another place by {named_by}"
            )


def warn_of_readers(path: str, secrets: str) -> None:
    """Say so, once, where others can read a file of this user's that has secrets."""
    if os.stat(path).st_mode & 0o077 and path not in _told:
        _told.add(path)
        with suppress(OSError, ValueError, AttributeError):  # nobody listens
            tell(f"seamless: others may read the {secrets} in {path}: chmod 600 {path}")


_told: set[str] = set()


def _claim(path: str, named_by: str) -> None:
    state = os.stat(path)
    if state.st_uid != os.geteuid() or os.lstat(path).st_uid not in (0, os.geteuid()):
        raise UsageError(f"{path} belongs to another user: {named_by} names another place")
    if not state.st_mode & 0o077:
        return
    os.chmod(path, 0o700)  # first, so that nothing comes in after the look
    if state.st_mode & 0o022 and (name := _planted(path)) is not None:
        os.chmod(path, stat.S_IMODE(state.st_mode))  # refused as long as nobody has looked at it
        raise UsageError(
            f"others could write to {path}, and {name!r} in it is not yours:"
            f" remove it, or name another place by {named_by}"
        )
    with suppress(OSError, ValueError, AttributeError):  # nobody listens
        able = "write to" if state.st_mode & 0o022 else "read"
        tell(f"seamless: others could {able} {path}: its mode is 0700 now")


def _planted(path: str) -> str | None:
    """Return the name of something that somebody else has put into a directory."""
    for entry in os.scandir(path):
        with suppress(FileNotFoundError):
            if entry.stat(follow_symlinks=False).st_uid not in (0, os.geteuid()):
                return entry.name
    return None
