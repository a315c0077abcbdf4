"""Modes and groups of what a store or a database makes in a directory: those of that directory.

A directory that is made where there is none is its user's alone (0700), unless it is made in one that a group
shares: one with the set-group-ID bit that the group may write to (``mkdir -m 2775``). What is made below
has the mode of the directory, whatever the umask of the process: a prefix directory that a colleague's umask
had narrowed would lock everybody else out of a 256th of the store.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from hashserver.durability import make_directories

TEMPORARY = ".tmp-"
"""Directories that begin so are being made; they are empty, and whoever finds one may remove it."""

_GROUP_SHARES = stat.S_ISGID | stat.S_IWGRP
_OURS = (".tmp", ".quarantine", ".references", ".links")


def is_shared(directory: str) -> bool:
    """Say whether others than its owner may enter a directory."""
    try:
        return bool(os.stat(directory).st_mode & 0o077)
    except OSError:
        return False


def new_file_mode(directory: str) -> int:
    """Return the mode of a new file of ours that is to be written again: 0600 but where a group shares."""
    mode = os.stat(directory).st_mode
    return 0o600 | mode & 0o064 if mode & _GROUP_SHARES == _GROUP_SHARES else 0o600


def make_root(path: str) -> None:
    """Make the directory of a store, and those above it that are missing; no error when it is there."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    while not os.path.exists(above):
        above = os.path.dirname(above)
    if os.stat(above).st_mode & _GROUP_SHARES == _GROUP_SHARES:
        make_below(above, path)
    else:
        make_directories(path)


def make_below(root: str, path: str) -> None:
    """Make the directory `path`, and those between, with the mode and group of `root`."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    if above != root:
        make_below(root, above)
    like = os.stat(root)
    if not like.st_mode & 0o077:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        return
    number = 0
    while not _make_whole(path, like, f"{above}/{TEMPORARY}{os.uname().nodename}-{os.getpid()}-{number}"):
        number += 1


def _make_whole(path: str, like: os.stat_result, temporary: str) -> bool:
    """Make a directory that has its mode when it appears; False if somebody removed it in between."""
    try:
        os.mkdir(temporary, 0o700)
    except FileExistsError:
        return False  # another thread's, or that of a dead process of our number
    try:
        adopt(temporary, like)
        os.rename(temporary, path)  # replaces an empty directory, which a rival has made the same way
    except FileNotFoundError:
        return False
    except OSError:
        with suppress(OSError):
            os.rmdir(temporary)
        if not os.path.isdir(path):  # else a rival was faster, and has filled it
            raise
    return True


def adopt(path: str, like: os.stat_result) -> None:
    """Give a directory of ours the mode and the group of another one."""
    mode = stat.S_IMODE(like.st_mode)
    if os.stat(path).st_gid != like.st_gid:
        try:
            os.chown(path, -1, like.st_gid)
        except OSError:  # not our group: the one it has instead gets what everybody gets
            mode = mode & ~0o2070 | (mode & 0o007) << 3
    os.chmod(path, mode)


def tidy(root: str) -> None:
    """Remove what dead processes left of `make_below`, and open to the others what is ours and too narrow."""
    try:
        like = os.stat(root)
        entries = list(os.scandir(root))
    except OSError:
        return
    for entry in entries:
        with suppress(OSError):
            if entry.name.startswith(TEMPORARY):
                os.rmdir(entry.path)
            elif like.st_mode & 0o077 and (len(entry.name) == 2 or entry.name in _OURS):
                _widen(entry.path, like)


def _widen(path: str, like: os.stat_result) -> None:
    state = os.lstat(path)
    if (
        stat.S_ISDIR(state.st_mode)
        and state.st_uid == os.geteuid()
        and like.st_mode & ~state.st_mode & 0o7777
    ):
        adopt(path, like)
