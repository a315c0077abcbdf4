"""Inputs are placed into the work directory: in the cheapest way that keeps the store safe.

In this order: a reflink; a read-only bind mount (in a sandbox); a copy. Never a hard link: who owns one can
write to it in place and put its times and mode back, and the next task would read other bytes under the same
checksum. Files below 4 MiB are copied: that costs less than a mount, of which there are 64 at most, because
each makes the next one slower. What comes from another host is taken from the node cache, so that it is
fetched once, unless it is too small to be worth it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from hashserver.atomic import write_all
from hashserver.checksum import Checksum
from hashserver.errors import BufferCorrupt, BufferMissing
from hashserver.system_text import to_system
from hashserver.workspace.index import is_executable, parse_index
from seamless_dask.errors import InputModified, UsageError
from seamless_dask.model.transformation import Value

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hashserver.storage.cache import Pin
    from hashserver.storage.store import Store
    from seamless_dask.context import Context
    from seamless_dask.model.transformation import Description

    from .layout import Layout

LARGE = 4 << 20
MAX_LATE = 64 << 20
"""Bytes that are copied to where no more can be mounted: for more another sandbox takes less time."""
MAX_MOUNTS = 64
WORTH_CACHING = 64 << 10

_BATCH = 32 << 20


class TooLate(Exception):
    """A file would have to be mounted in a sandbox that is there already."""


class FileState(NamedTuple):
    """What must not change of a file that is mounted, and that others could write to meanwhile."""

    inode: int
    size: int
    mtime_ns: int
    mode: int

    @classmethod
    def of(cls, path: str) -> FileState:
        """Return the present state."""
        status = os.stat(path)
        return cls(status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)


class Shared(NamedTuple):
    """A file that the command sees: where, and in which state it was (None: the node cache knows)."""

    checksum: Checksum
    path: str
    state: FileState | None


class PlacedFile(NamedTuple):
    """One file to be placed; ``copy`` when the command is to have one of its own."""

    target: str
    checksum: Checksum
    copy: bool


class Placement:
    """Places the inputs of one run.

    Parameters
    ----------
    context : Context
        Store and node cache.
    layout : Layout
        Where to.
    mounts : bool
        Whether there is a sandbox to mount files in.
    copies : bool
        Copy everything: the command has modified an input before.
    late : bool, optional
        The sandbox is there already: instead of mounts there are copies, and `TooLate` above `MAX_LATE`.

    Attributes
    ----------
    mounted : dict
        Target → (source, checksum) of what the sandbox is to mount.
    counts : dict
        How many files were placed in which way.
    """

    def __init__(
        self, context: Context, layout: Layout, mounts: bool, copies: bool, *, late: bool = False
    ) -> None:
        self._context, self._layout, self._mounts, self._copies = context, layout, mounts, copies
        self._late, self._late_bytes = late, 0
        self._shared: list[Shared] = []
        self._folders: set[str] = set()
        self._no_reflink: set[tuple[int, int]] = set()
        self._pins: dict[Checksum, Pin] = {}
        self.mounted: dict[str, tuple[str, Checksum]] = {}
        self.counts: dict[str, int] = {}

    @property
    def shared(self) -> bool:
        """Whether the command sees any file that is not its own."""
        return bool(self._shared)

    def close(self) -> None:
        """Let go of what the node cache was asked to keep."""
        for pin in self._pins.values():
            pin.release()

    def place(
        self, transformation: Description, writable: Sequence[str], executables: Sequence[str] = ()
    ) -> None:
        """Place all inputs.

        Parameters
        ----------
        writable
            Paths of inputs, or above or below them, that are copied.
        executables
            Paths of files that can be executed, whatever their content is.
        """
        # a mount would show the mode of the stored file
        members = self._members(transformation, (*writable, *executables))
        unique = list(dict.fromkeys(member.checksum for member in members))
        lengths = lengths_of(self._context.store, unique)
        missing = [checksum for checksum in unique if lengths[checksum] < 0]
        if missing:
            self._context.store.local_path(missing[0])  # may know better: an original that has changed
            raise BufferMissing(missing[0], _missing_message(missing))
        for member in members:
            self._make_folder(os.path.dirname(member.target))
        small = [member for member in members if lengths[member.checksum] < LARGE]
        remote = {checksum for checksum in unique if WORTH_CACHING <= lengths[checksum] < LARGE}
        remote = {checksum for checksum in remote if self._context.store.local_path(checksum) is None}
        self._place_small([member for member in small if member.checksum not in remote], lengths)
        for member in small:
            if member.checksum in remote:
                self._copy(member.checksum, member.target)
        for member in members:
            if lengths[member.checksum] >= LARGE:
                self._place_large(member)
        placed = {member.target for member in members}
        for target in placed.intersection(map(self._layout.path, executables)):
            mode = os.stat(target).st_mode
            os.chmod(target, mode | (mode & 0o444) >> 2)  # for those who may read it

    def make_parents(self, names: Iterable[str]) -> None:
        """Make the directories that results are to be written to."""
        for name in names:
            try:
                self._make_folder(os.path.dirname(self._layout.path(name)))
            except (FileExistsError, NotADirectoryError):
                raise UsageError(f"the result {name} lies below an input that is a file") from None

    def check(self) -> None:
        """Raise `InputModified` if a shared file is not what it was; what the cache has of it is dropped."""
        modified = [shared for shared in self._shared if not self._unchanged(shared)]
        for shared in modified:
            if shared.state is None:
                self._context.node_cache.drop(shared.checksum)
            else:
                self._context.store.verify(shared.checksum)
        if modified:
            raise InputModified(f"the command modified the input with checksum {modified[0].checksum}")

    def open_stdin(self, value: Value) -> int:
        """Return a descriptor of the file that the command is to read."""
        path = os.path.join(os.path.dirname(self._layout.root), "stdin")
        self._copy(value.checksum, path)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def _members(self, transformation: Description, writable: Sequence[str]) -> list[PlacedFile]:
        found: dict[str, PlacedFile] = {}
        # directories first: a file that is named on its own may lie in one of them
        for name, value in sorted(transformation.inputs.items(), key=_directories_first):
            assert isinstance(value, Value)
            target = self._layout.path(name)
            copied = self._copies or any(_related(name, other) for other in writable)
            if value.format != "directory":
                found[target] = PlacedFile(target, value.checksum, copied)
                continue
            self._make_folder(target)
            for inner, checksum in parse_index(self._context.store.get(value.checksum), name).items():
                path = f"{target}/{to_system(inner)}"
                copied = self._copies or any(_related(f"{name}/{inner}", other) for other in writable)
                found[path] = PlacedFile(path, checksum, copied)
        return list(found.values())

    def _make_folder(self, path: str) -> None:
        if path not in self._folders:
            os.makedirs(path, exist_ok=True)
            self._folders.add(path)

    def _place_small(self, members: list[PlacedFile], lengths: dict[Checksum, int]) -> None:
        targets: dict[Checksum, list[str]] = {}
        for member in members:
            targets.setdefault(member.checksum, []).append(member.target)
        for batch in _batches(targets, lengths):
            for checksum, data in self._context.store.get_many(batch):
                for target in targets[checksum]:
                    _write(target, data)
        self._count("copy", len(members))

    def _place_large(self, member: PlacedFile) -> None:
        path, cached = self._local(member.checksum)
        if self._reflink(path, member.target):
            self._count("reflink")
        elif member.copy:
            self._copy(member.checksum, member.target)
        elif self._late and self._mounts:
            self._late_bytes += os.path.getsize(path)
            if self._late_bytes > MAX_LATE:
                raise TooLate
            self._copy(member.checksum, member.target)
        elif self._mounts and len(self.mounted) < MAX_MOUNTS:
            if not cached and not _has_right_mode(path):
                path, cached = self._pinned(member.checksum), True
            self.mounted[member.target] = (path, member.checksum)
            _write(member.target, b"")
            self._share(member, path, cached)
            self._count("bind")
        else:
            self._copy(member.checksum, member.target)

    def _local(self, checksum: Checksum) -> tuple[str, bool]:
        """Return a verified file on this host with the bytes, and whether it is the node cache's."""
        path = self._context.store.local_path(checksum)
        if path is None:
            return self._pinned(checksum), True
        from hashserver.statcache import checksum_of

        # read once, and not again while it does not change
        if checksum_of(path, self._context.stat_cache)[0] != checksum:
            self._context.store.verify(checksum)
            raise BufferCorrupt(checksum, f"buffer {checksum} in {self._context.store.url} is corrupt")
        return path, False

    def _pinned(self, checksum: Checksum) -> str:
        if checksum not in self._pins:
            self._pins[checksum] = self._context.node_cache.pin(checksum)
        return self._pins[checksum].path

    def _reflink(self, source: str, target: str) -> bool:
        from hashserver.storage.files import clone

        reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            devices = os.fstat(reader).st_dev, os.stat(os.path.dirname(target)).st_dev
            if devices in self._no_reflink:
                return False
            writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _mode(reader))
            try:
                done = clone(reader, writer)
            finally:
                os.close(writer)
        finally:
            os.close(reader)
        if not done:
            self._no_reflink.add(devices)
            os.unlink(target)
        return done

    def _share(self, member: PlacedFile, path: str, cached: bool) -> None:
        self._shared.append(Shared(member.checksum, path, None if cached else FileState.of(path)))

    def _unchanged(self, shared: Shared) -> bool:
        if shared.state is None:
            return self._context.node_cache.unchanged(shared.checksum)
        try:
            return FileState.of(shared.path) == shared.state
        except FileNotFoundError:
            return True  # deleted from the store; what the command saw is still what it was
        except OSError:
            return False

    def _copy(self, checksum: Checksum, target: str) -> None:
        """Copy a buffer, verified: from the store, or from the node cache, which has verified it."""
        if self._context.store.local_path(checksum) is not None:
            self._context.store.get_file(checksum, target)
        else:
            source = self._pinned(checksum)
            _write(target, b"", os.stat(source).st_mode & 0o111 != 0)
            _copy_bytes(source, target)
        self._count("copy")

    def _count(self, way: str, number: int = 1) -> None:
        if number:
            self.counts[way] = self.counts.get(way, 0) + number


def lengths_of(store: Store, checksums: Sequence[Checksum]) -> dict[Checksum, int]:
    """Return the lengths of buffers, -1 for those that are missing; few are asked for."""
    lengths = {checksum: store.at_hand(checksum) for checksum in checksums}
    rest = [checksum for checksum, length in lengths.items() if length < 0]
    return lengths | dict(zip(rest, store.has(rest) if rest else (), strict=True))


def _related(name: str, other: str) -> bool:
    """Say whether one path is the other, or lies in it."""
    return name == other or name.startswith(other + "/") or other.startswith(name + "/") or other == "."


def _directories_first(item: tuple[str, object]) -> tuple[bool, str]:
    name, value = item
    return not (isinstance(value, Value) and value.format == "directory"), name


def _batches(checksums: Iterable[Checksum], lengths: dict[Checksum, int]) -> Iterable[list[Checksum]]:
    """Divide what is fetched at once, so that memory stays bounded."""
    batch: list[Checksum] = []
    total = 0
    for checksum in checksums:
        batch.append(checksum)
        total += lengths[checksum]
        if total >= _BATCH:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch


def _write(path: str, data: bytes, executable: bool | None = None) -> None:
    executable = is_executable(data[:4]) if executable is None else executable
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o777 if executable else 0o666)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)


def _copy_bytes(source: str, target: str) -> None:
    from shutil import copyfile

    copyfile(source, target)


def _has_right_mode(path: str) -> bool:
    """Say whether a file can be executed if and only if its content says so; a mount shows its mode."""
    with open(path, "rb", buffering=0) as file:
        return is_executable(file.read(4)) == bool(os.fstat(file.fileno()).st_mode & 0o100)


def _mode(reader: int) -> int:
    return 0o777 if is_executable(os.pread(reader, 4, 0)) else 0o666


def _missing_message(missing: Sequence[Checksum]) -> str:
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    return f"input {missing[0]}{more} is in none of the stores: upload it again, or run what makes it"
