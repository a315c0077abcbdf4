"""What kind of file system a path lies on, and where this host keeps private local files."""

from __future__ import annotations

import os
import re
import stat
from functools import cache

from hashserver.namedtuple import NamedTuple

MOUNTS = "/proc/self/mountinfo"

# Those of one host. What is not among them counts as of several: nobody can know all that there are.
_LOCAL = frozenset(
    (
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "zfs", "f2fs", "jfs", "nilfs2", "reiserfs"),
        *("tmpfs", "ramfs", "rootfs", "overlay", "aufs", "devtmpfs", "hugetlbfs"),
        *("vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "hfs", "hfsplus", "apfs", "ufs", "minix"),
        *("squashfs", "erofs", "iso9660", "udf", "cramfs", "romfs"),
        *("fuse.encfs", "fuse.ext2", "fuse.fuse-overlayfs", "fuse.gocryptfs", "fuse.lxcfs", "fuse.mergerfs"),
        *("fuse.ntfs", "fuse.ntfs-3g", "fuse.portal", "fuse.squashfuse", "fuse.zfs"),
    )
)

_TICK = 20_000_000
"""Two ticks of the slowest kernel clock (100 Hz) that stamps files of a local file system."""
_COARSE = 2_000_000_000
"""The step of FAT; more than that of HFS+, ext3 and NFS version 2."""
_REMOTE = 3_000_000_000
"""A server's clock is not ours, and a client may serve attributes from its cache for three seconds."""
_COARSE_TYPES = frozenset(
    ("vfat", "msdos", "exfat", "hfs", "hfsplus", "ext2", "ext3", "minix", "fuseblk", "udf", "iso9660")
)


class Mount(NamedTuple):
    """Where a file system is mounted, and its type as the kernel calls it."""

    point: str
    type: str


def mounts() -> list[Mount]:
    """Return the mounts this process sees, later ones above earlier ones; none where they are not told."""
    try:
        with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as file:
            return [_parse(line) for line in file]
    except OSError:
        return []


def _parse(line: str) -> Mount:
    left, _, right = line.partition(" - ")
    point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), left.split(" ")[4])
    return Mount(point, right.split(" ", 1)[0])


@cache
def _table(_source: str) -> tuple[Mount, ...]:
    return tuple(reversed(mounts()))


def filesystem_type(path: str | os.PathLike[str]) -> str:
    """Return the type of the file system that holds `path` (which need not exist), or an empty text."""
    real = os.path.realpath(path)
    best = Mount("", "")
    for mount in _table(MOUNTS):
        if len(mount.point) > len(best.point) and _below(real, mount.point):
            best = mount
    return best.type


def _below(path: str, point: str) -> bool:
    return path == point or point == "/" or path.startswith(point + "/")


def is_network_filesystem(path: str | os.PathLike[str]) -> bool:
    """Tell whether `path` may lie on a file system of several hosts, where SQLite's WAL must not be used."""
    return filesystem_type(path) not in _LOCAL


def timestamp_step_ns(path: str | os.PathLike[str]) -> int:
    """Return within how many nanoseconds two changes of a file at `path` may bear the same time."""
    if is_network_filesystem(path):
        return _REMOTE
    return _COARSE if filesystem_type(path) in _COARSE_TYPES else _TICK


def local_directory() -> str | None:
    """Return a directory of this user's on the local disk of this host, that nobody else can enter.

    It is ``/var/tmp/seamless-<uid>`` or, where that cannot be had, one in ``$XDG_RUNTIME_DIR`` or ``/tmp``;
    None where all fail. It is made with mode 0700; one that somebody else made is not used.
    """
    name = f"seamless-{os.geteuid()}"
    for parent in ("/var/tmp", os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp"):  # noqa: S108 (ownership is checked)
        if parent and not is_network_filesystem(parent):
            path = private_directory(os.path.join(parent, name))
            if path is not None:
                return path
    return None


def private_directory(path: str) -> str | None:
    """Make the directory `path` with mode 0700; None if that fails or it is not this user's alone."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError:
        return None
    try:
        # lstat: in a directory that all may write somebody else could have put a link there.
        status = os.lstat(path)
    except OSError:
        return None
    private = stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077
    return path if private else None
