"""A model of a disk on which only what was synced is sure.

It promises no more than POSIX:

- The bytes of a file are sure once the file was synced. Of the writes since then any may be there.
- A name in a directory is sure once the directory was synced. Of the changes of names since then any may have
  happened, in any order, but a rename as a whole or not at all.
- A directory is there if its own name is.

What the file system under it does beyond that (one journal for all names, data before sizes) does not count.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

    from .recording import Call


class Write(NamedTuple):
    """A change of a file's bytes; without data the file is cut, or lengthened, to `start`."""

    start: int
    data: bytes | None


class Node:
    """A file or a directory."""

    def __init__(self, directory: bool) -> None:
        self.directory = directory
        self.sure = bytearray()
        self.now = bytearray()
        self.pending: list[Write] = []

    def change(self, write: Write) -> None:
        """Write to a file."""
        self.pending.append(write)
        apply(self.now, write)

    def sync(self) -> None:
        """Make all its bytes sure."""
        self.sure, self.pending = bytearray(self.now), []


def apply(content: bytearray, write: Write) -> None:
    """Change the bytes of a file."""
    if write.data is None:
        del content[write.start :]
        content.extend(bytes(write.start - len(content)))
        return
    content.extend(bytes(max(0, write.start - len(content))))
    content[write.start : write.start + len(write.data)] = write.data


class Rename(NamedTuple):
    """A change of names: each is a directory, a name in it, and what it names then (None: nothing)."""

    changes: tuple[tuple[Node, str, Node | None], ...]


Names = dict[tuple[Node, str], Node]


class Disk:
    """The part of a file system below one directory.

    Parameters
    ----------
    root
        The directory; what is in it at first is sure.
    """

    def __init__(self, root: Path) -> None:
        self.path = os.fspath(root)
        self.root = Node(directory=True)
        self.sure: Names = {}
        self.now: Names = {}
        self.pending: list[Rename] = []
        self._take_in(self.root, self.path)
        self.now = dict(self.sure)

    def _take_in(self, node: Node, path: str) -> None:
        for entry in os.scandir(path):
            inner = Node(entry.is_dir(follow_symlinks=False))
            self.sure[node, entry.name] = inner
            if inner.directory:
                self._take_in(inner, entry.path)
            elif entry.is_file(follow_symlinks=False):
                with open(entry.path, "rb") as file:
                    inner.now[:] = file.read()
                inner.sync()

    # ------------------------------------------------------------------ what programs do

    def place(self, path: str) -> tuple[Node, str] | None:
        """Return directory and name of a path, None if it is elsewhere."""
        if path != self.path and not path.startswith(self.path + "/"):
            return None
        *above, name = os.path.relpath(path, self.path).split("/")
        node = self.root
        for part in above:
            found = self.now.get((node, part))
            if found is None:
                return None
            node = found
        return node, name

    def find(self, path: str) -> Node | None:
        """Return what is at a path."""
        if path == self.path:
            return self.root
        place = self.place(path)
        return None if place is None else self.now.get(place)

    def rename(self, *changes: tuple[Node, str, Node | None]) -> None:
        """Change names, all of them at once."""
        self.pending.append(Rename(changes))
        for folder, name, node in changes:
            self._set(self.now, folder, name, node)

    @staticmethod
    def _set(names: Names, folder: Node, name: str, node: Node | None) -> None:
        if node is None:
            names.pop((folder, name), None)
        else:
            names[folder, name] = node

    def sync(self, node: Node) -> None:
        """Sync a file or a directory."""
        if not node.directory:
            node.sync()
            return
        left = []
        for rename in self.pending:
            # of a rename between directories one is enough: it happens as a whole
            if any(folder is node for folder, _, _ in rename.changes):
                for change in rename.changes:
                    self._set(self.sure, *change)
            else:
                left.append(rename)
        self.pending = left

    # ------------------------------------------------------------------ what a power cut leaves

    def crashes(self, chance: random.Random, most: int) -> Iterator[dict[str, bytes | None]]:
        """Yield what may be left: path → bytes of files, None for directories.

        All of it where that is little; else `most` cases, among them the extreme ones.
        """
        nodes = list({*self.now.values(), *self.sure.values()})
        torn = [node for node in nodes if node.pending]
        total = len(self.pending) + sum(len(node.pending) for node in torn)
        if 2**total <= most:
            choices: Iterator[list[bool]] = map(list, itertools.product((False, True), repeat=total))
        else:
            choices = self._sample(chance, total, most)
        for choice in choices:
            kept = iter(choice)
            names = dict(self.sure)
            for rename in self.pending:
                if next(kept):
                    for change in rename.changes:
                        self._set(names, *change)
            contents = {}
            for node in torn:
                content = bytearray(node.sure)
                for write in node.pending:
                    if next(kept):
                        apply(content, write)
                contents[node] = bytes(content)
            yield dict(self._tree(self.root, "", names, contents))

    def _sample(self, chance: random.Random, total: int, most: int) -> Iterator[list[bool]]:
        yield [False] * total
        yield [True] * total
        of_names = len(self.pending)
        yield [number < of_names for number in range(total)]  # all the names and none of the bytes
        yield [number >= of_names for number in range(total)]
        for _ in range(most - 4):
            likely = chance.choice((0.1, 0.5, 0.9))
            yield [chance.random() < likely for _ in range(total)]

    def _tree(
        self, node: Node, path: str, names: Names, contents: dict[Node, bytes]
    ) -> Iterator[tuple[str, bytes | None]]:
        for (folder, name), inner in names.items():
            if folder is node:
                below = f"{path}/{name}"
                if inner.directory:
                    yield below, None
                    yield from self._tree(inner, below, names, contents)
                else:
                    yield below, contents.get(inner, bytes(inner.sure))


def materialise(state: dict[str, bytes | None], target: Path) -> None:
    """Make the files of a state below `target`."""
    for path, content in state.items():
        place = os.path.join(target, path.lstrip("/"))
        if content is None:
            os.makedirs(place, mode=0o700, exist_ok=True)
        else:
            os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
            with open(place, "wb") as file:
                file.write(content)
            if len(os.path.basename(place)) == 64:
                os.chmod(place, 0o444)


class Replay:
    """Plays recorded calls on a `Disk`."""

    def __init__(self, disk: Disk, directory: Path) -> None:
        self.disk = disk
        self._start = os.fsencode(directory)
        self._group: dict[int, int] = {}
        self._cwd: dict[int, bytes] = {}
        self._fds: dict[int, dict[int, _Open]] = {}

    def play(self, call: Call) -> None:
        """Do what a call did."""
        method = getattr(self, "_" + call.name, None)
        if method is not None:
            method(call, self._table(call.process))

    def is_socket(self, call: Call) -> bool:
        """Say whether a call writes to a connection."""
        return call.name in ("sendto", "sendmsg") or (
            call.name in ("write", "writev") and number(call.arguments[0]) not in self._table(call.process)
        )

    def _table(self, process: int) -> dict[int, _Open]:
        return self._fds.setdefault(self._group.get(process, process), {})

    def _directory(self, process: int) -> bytes:
        return self._cwd.get(self._group.get(process, process), self._start)

    def _path(self, call: Call, at: str | bytes, path: str | bytes) -> str:
        assert isinstance(path, bytes)
        base = self._directory(call.process)
        if at != "AT_FDCWD" and (opened := self._table(call.process).get(number(at))):
            base = os.fsencode(opened.path)
        return os.fsdecode(os.path.normpath(os.path.join(base, path)))

    # ------------------------------------------------------------------ processes

    def _clone(self, call: Call, table: dict[int, _Open]) -> None:
        own = self._group.get(call.process, call.process)
        if any("CLONE_FILES" in str(word) for word in call.arguments):
            self._group[call.result] = own
        else:
            self._fds.setdefault(call.result, {}).update(table)
            self._cwd[call.result] = self._directory(call.process)

    _clone3 = _fork = _vfork = _clone

    def _execve(self, call: Call, table: dict[int, _Open]) -> None:
        for fd in [fd for fd, opened in table.items() if opened.closed_by_exec]:
            del table[fd]

    def _chdir(self, call: Call, _: object) -> None:
        own = self._group.get(call.process, call.process)
        self._cwd[own] = os.fsencode(self._path(call, "AT_FDCWD", call.arguments[0]))

    # ------------------------------------------------------------------ descriptors

    def _openat(self, call: Call, table: dict[int, _Open]) -> None:
        path, flags = self._path(call, *call.arguments[:2]), str(call.arguments[2])
        opened = _Open(path, None, "O_CLOEXEC" in flags, "O_APPEND" in flags)
        table[call.result] = opened
        if "O_TMPFILE" in flags:
            opened.node = Node(directory=False)
            return
        opened.node = self.disk.find(path)
        place = self.disk.place(path)
        if place is not None and opened.node is None and "O_CREAT" in flags:
            opened.node = Node(directory=False)
            self.disk.rename((*place, opened.node))
        elif opened.node is not None and "O_TRUNC" in flags and opened.node.now:
            opened.node.change(Write(0, None))

    def _close(self, call: Call, table: dict[int, _Open]) -> None:
        table.pop(number(call.arguments[0]), None)

    def _close_range(self, call: Call, table: dict[int, _Open]) -> None:
        first, last = number(call.arguments[0]), number(call.arguments[1])
        for fd in [fd for fd in table if first <= fd <= last]:
            if "CLOEXEC" in str(call.arguments[2:]):
                table[fd].closed_by_exec = True
            else:
                del table[fd]

    def _dup(self, call: Call, table: dict[int, _Open]) -> None:
        if opened := table.get(number(call.arguments[0])):
            table[call.result] = opened
        else:
            table.pop(call.result, None)

    _dup2 = _dup3 = _dup

    def _fcntl(self, call: Call, table: dict[int, _Open]) -> None:
        if "F_DUPFD" in str(call.arguments[1]):
            self._dup(call, table)

    def _socket(self, call: Call, table: dict[int, _Open]) -> None:
        table.pop(call.result, None)

    _accept = _accept4 = _socket

    # ------------------------------------------------------------------ bytes

    def _lseek(self, call: Call, table: dict[int, _Open]) -> None:
        if opened := table.get(number(call.arguments[0])):
            opened.position = call.result

    def _write(self, call: Call, table: dict[int, _Open]) -> None:
        opened = table.get(number(call.arguments[0]))
        if opened is None or opened.node is None or opened.node.directory:
            return
        data = call.arguments[1]
        assert isinstance(data, bytes)
        start = len(opened.node.now) if opened.append else opened.position
        opened.node.change(Write(start, data[: call.result]))
        opened.position = start + call.result

    def _pwrite64(self, call: Call, table: dict[int, _Open]) -> None:
        opened = table.get(number(call.arguments[0]))
        if opened is not None and opened.node is not None:
            data = call.arguments[1]
            assert isinstance(data, bytes)
            opened.node.change(Write(number(call.arguments[3]), data[: call.result]))

    def _ftruncate(self, call: Call, table: dict[int, _Open]) -> None:
        opened = table.get(number(call.arguments[0]))
        if opened is not None and opened.node is not None:
            opened.node.change(Write(number(call.arguments[1]), None))

    def _unexpected(self, call: Call, table: dict[int, _Open]) -> None:
        opened = table.get(number(call.arguments[0]))
        assert opened is None or opened.node is None, f"the model does not know {call.name}"

    _writev = _copy_file_range = _sendfile = _fallocate = _truncate = _unexpected

    def _fsync(self, call: Call, table: dict[int, _Open]) -> None:
        opened = table.get(number(call.arguments[0]))
        if opened is not None and opened.node is not None:
            self.disk.sync(opened.node)

    _fdatasync = _fsync

    # ------------------------------------------------------------------ names

    def _mkdir(self, call: Call, _: object) -> None:
        self._make(self._path(call, "AT_FDCWD", call.arguments[0]), directory=True)

    def _mkdirat(self, call: Call, _: object) -> None:
        self._make(self._path(call, *call.arguments[:2]), directory=True)

    def _mknod(self, call: Call, _: object) -> None:
        self._make(self._path(call, "AT_FDCWD", call.arguments[0]), directory=False)

    def _mknodat(self, call: Call, _: object) -> None:
        self._make(self._path(call, *call.arguments[:2]), directory=False)

    def _make(self, path: str, directory: bool) -> None:
        if place := self.disk.place(path):
            self.disk.rename((*place, Node(directory)))

    def _link(self, call: Call, _: object) -> None:
        self._link_paths(call, ("AT_FDCWD", call.arguments[0]), ("AT_FDCWD", call.arguments[1]))

    def _linkat(self, call: Call, _: object) -> None:
        words = call.arguments
        self._link_paths(call, (words[0], words[1]), (words[2], words[3]))

    def _link_paths(
        self, call: Call, old: tuple[str | bytes, str | bytes], new: tuple[str | bytes, str | bytes]
    ) -> None:
        source, place = self._path(call, *old), self.disk.place(self._path(call, *new))
        prefix = "/proc/self/fd/"
        if source.startswith(prefix):
            node = self._table(call.process)[int(source[len(prefix) :])].node
        else:
            node = self.disk.find(source)
        if place is not None:
            assert node is not None
            self.disk.rename((*place, node))

    def _unlink(self, call: Call, _: object) -> None:
        self._forget(self._path(call, "AT_FDCWD", call.arguments[0]))

    _rmdir = _unlink

    def _unlinkat(self, call: Call, _: object) -> None:
        self._forget(self._path(call, *call.arguments[:2]))

    def _forget(self, path: str) -> None:
        if place := self.disk.place(path):
            self.disk.rename((*place, None))

    def _rename(self, call: Call, _: object) -> None:
        self._rename_paths(
            self._path(call, "AT_FDCWD", call.arguments[0]), self._path(call, "AT_FDCWD", call.arguments[1])
        )

    def _renameat(self, call: Call, _: object) -> None:
        words = call.arguments
        self._rename_paths(self._path(call, *words[:2]), self._path(call, *words[2:4]))

    _renameat2 = _renameat

    def _rename_paths(self, old: str, new: str) -> None:
        source, target = self.disk.place(old), self.disk.place(new)
        if source is None or target is None:
            assert source is target, f"{old} is renamed to {new}"
            return
        self.disk.rename((*source, None), (*target, self.disk.now[source]))


class _Open:
    def __init__(self, path: str, node: Node | None, closed_by_exec: bool, append: bool) -> None:
        self.path, self.node = path, node
        self.closed_by_exec, self.append = closed_by_exec, append
        self.position = 0


def number(word: str | bytes) -> int:
    """Return the number that strace has written."""
    try:
        return int(word, 0) if isinstance(word, str) else -1
    except ValueError:
        return -1
