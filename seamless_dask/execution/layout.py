"""The directories of one run: where they are, how they are made, emptied and removed."""

from __future__ import annotations

import contextlib
import os
import stat
from posixpath import join, normpath
from typing import TYPE_CHECKING, NamedTuple

from hashserver.system_text import to_system

if TYPE_CHECKING:
    from collections.abc import Iterable


GATEWAY = "daskserver"
"""What a command has in its control directory to ask for computations; its maker looks after it."""
ROOM = 64 << 10
"""Bytes of inputs that a call may be given without a file, and of a value that may travel with its record."""


class Layout(NamedTuple):
    """Where the directories of a run are: as we see them, or as the command does.

    ``root`` holds the inputs; ``work`` is the working directory, as deep below it as ``../`` inputs need.
    """

    name: str
    root: str
    work: str
    home: str
    tmp: str
    control: str
    stdout: str

    def path(self, name: str) -> str:
        """Return the path of an input or result; never outside ``root``, given the depth."""
        found = normpath(join(self.work, to_system(name)))
        if found != self.root and not found.startswith(self.root + "/"):
            raise ValueError(f"{name!r} leads out of the work directory")
        return found


def layout(name: str, base: str, depth: int) -> Layout:
    """Return the layout of a run below `base`."""
    root = f"{base}/work"
    work = root + "/work" * depth
    home, tmp, control, stdout = (f"{base}/{part}" for part in ("home", "tmp", "control", "stdout"))
    return Layout(name, root, work, home, tmp, control, stdout)


def depth_of(names: Iterable[str]) -> int:
    """Return how many levels above the working directory the highest of `names` lies."""
    return max((normpath(name).split("/").count("..") for name in names), default=0)


def make(directories: Layout, path: str) -> None:
    """Make the directories of a run below `path`, which must not exist."""
    os.mkdir(path, 0o700)
    for directory in (directories.root, directories.home, directories.tmp):
        os.mkdir(directory)
    if directories.work != directories.root:
        os.makedirs(directories.work)


class Freshness(NamedTuple):
    """What the directories were like when they were made; a command can change more than their content."""

    states: list[tuple[int, int, int, int]]
    attributes: list[list[str]]

    @classmethod
    def of(cls, path: str) -> Freshness:
        """Return what they are like now."""
        found = layout("", path, 0)
        return cls.of_each(found.root, found.home, found.tmp)

    @classmethod
    def of_each(cls, *directories: str) -> Freshness:
        """Return what some directories are like now."""
        states = [os.lstat(directory) for directory in directories]
        attributes = [_attributes(directory) for directory in directories]
        # of many a file system the size tells whether a directory has ever held much
        return cls([(s.st_mode, s.st_ino, s.st_uid, s.st_size) for s in states], attributes)


def emptied(path: str, fresh: Freshness) -> bool:
    """Empty the directories of a run, whose processes have all ended, of what most runs leave.

    Returns
    -------
    bool
        Whether they are as fresh as they were when they were made. When not, they are to be removed.
    """
    found = layout("", path, 0)
    try:
        if Freshness.of(path) != fresh or any(map(os.listdir, (found.root, found.home, found.tmp))):
            return False
        for name in set(os.listdir(path)) - {"work", "home", "tmp"}:
            below = f"{path}/{name}"
            if name == "control" and os.listdir(below) == [GATEWAY]:
                continue
            if stat.S_ISDIR(os.lstat(below).st_mode):
                remove(below)
            else:
                os.unlink(below)
    except OSError:
        return False
    return True


def remove(path: str) -> None:
    """Remove a tree, also where the command took away the permission to do so."""
    import shutil

    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        return
    except OSError:
        with contextlib.suppress(OSError):
            os.chmod(path, 0o700)
        for directory, names, _ in os.walk(path):
            for name in names:
                below = join(directory, name)
                if not os.path.islink(below):
                    with contextlib.suppress(OSError):
                        os.chmod(below, 0o700)
        shutil.rmtree(path, ignore_errors=True)


def remove_run(path: str) -> None:
    """Remove the directories of a run; those in which nothing is left at a tenth of the cost."""
    left = layout("", path, 0)
    try:
        os.unlink(left.stdout)
        for directory in (left.tmp, left.home, left.work, path):
            os.rmdir(directory)
    except OSError:
        remove(path)


def _attributes(path: str) -> list[str]:
    """Return the names of extended attributes, access lists among them."""
    try:
        return sorted(os.listxattr(path))
    except OSError:  # a file system without them
        return []
