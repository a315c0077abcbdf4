"""What a call of a function is given, and where it leaves what it gives."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .layout import ROOM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import BinaryIO

    from hashserver.checksum import Bytes

    Write = Callable[[Callable[[Bytes], object]], object]


PLAIN = ("file", "directory")
"""Formats of what a function gets as a path, and may return as a handle."""


class CallFiles:
    """The files of a call in the directory of its run.

    Parameters
    ----------
    root : str
        The directory.
    """

    def __init__(self, root: str) -> None:
        self._root = os.path.abspath(root)  # now: a function may go elsewhere

    def root(self) -> str:
        """Return the directory."""
        return self._root

    def is_within(self, path: str) -> bool:
        """Whether a path is one of the directory of the run."""
        return path.startswith(f"{self._root}/")

    def text(self, name: str) -> str:
        """Return what a file says; `FileNotFoundError` if there is none."""
        with open(f"{self._root}/{name}", encoding="utf-8") as file:
            return file.read()

    def source(self, name: str) -> str | bytes:
        """Return where an input is, or its bytes."""
        return os.path.join(self._root, name)

    def write(self, name: str, write: Write) -> None:
        """Have a file written, by what writes into a sink."""
        with open(f"{self._root}/{name}", "wb") as file:
            write(file.write)


class FilesInMemory(CallFiles):
    """The files of a call that is given little, and mostly gives little; else there is a directory after all.

    Parameters
    ----------
    given : dict
        Bytes by name.
    most : int
        Bytes of what the call gives that are kept in memory.
    make : callable
        Makes the directory and returns its path, at most once.

    Attributes
    ----------
    written : dict
        What it gave, as far as that is not in the directory.
    has_directory : bool
        Whether there is one.
    """

    def __init__(self, given: Mapping[str, bytes], most: int, make: Callable[[], str]) -> None:
        self._given, self._most, self._make = given, most, make
        self.written: dict[str, bytes] = {}
        self.has_directory = False

    def root(self) -> str:
        """Make the directory, if need be, and return it."""
        if not self.has_directory:
            self._root = os.path.abspath(self._make())
            self.has_directory = True
        return self._root

    def is_within(self, path: str) -> bool:
        """Whether a path is one of the directory of the run."""
        return self.has_directory and super().is_within(path)

    def text(self, name: str) -> str:
        """Return what was given; `FileNotFoundError` if there is no such thing."""
        if name not in self._given:
            raise FileNotFoundError(name)
        return self._given[name].decode()

    def source(self, name: str) -> str | bytes:
        """Return the bytes of an input."""
        return self._given[name]

    def write(self, name: str, write: Write) -> None:
        """Keep what is written, or write a file once it is not little any more."""
        with _Sink(self._most, lambda: f"{self.root()}/{name}") as sink:
            write(sink)
        if sink.file is None:
            self.written[name] = b"".join(sink.parts)


class SentFiles(CallFiles):
    """The files of a call in a fork: what was sent to it is none, nor is a small result, which is sent back.

    Parameters
    ----------
    root : str
        The directory of all others.
    carried : dict
        What was sent, by name, each byte a character.
    give : callable
        Sends a result back, of a format; false: it cannot any more.
    """

    def __init__(self, root: str, carried: Mapping[str, str], give: Callable[[str, bytes], bool]) -> None:
        super().__init__(root)
        self._carried, self._give = carried, give
        self._value: bytes | None = None

    def text(self, name: str) -> str:
        """Return what a file says; `FileNotFoundError` if there is none."""
        carried = self._carried.get(name)
        return super().text(name) if carried is None else carried.encode("latin-1").decode()

    def source(self, name: str) -> str | bytes:
        """Return where an input is, or its bytes."""
        carried = self._carried.get(name)
        return super().source(name) if carried is None else carried.encode("latin-1")

    def write(self, name: str, write: Write) -> None:
        """Have something written; the format of a result comes after it, and takes it along."""
        if name == "value":
            with _Sink(ROOM, lambda: f"{self._root}/{name}") as sink:
                write(sink)
            self._value = b"".join(sink.parts) if sink.file is None else None
            return
        value, self._value = self._value, None
        if name == "format" and value is not None:
            with _Sink(ROOM, lambda: f"{self._root}/{name}") as sink:
                write(sink)
            if self._give(b"".join(sink.parts).decode("ascii"), value):
                return
            super().write("value", lambda put: put(value))
        super().write(name, write)


class _Sink:
    """Keeps little in memory, and writes more to a file."""

    def __init__(self, most: int, path: Callable[[], str]) -> None:
        self.parts: list[bytes] = []
        self._room, self._path = most, path
        self.file: BinaryIO | None = None

    def __call__(self, part: Bytes) -> None:
        self._room -= part.nbytes if isinstance(part, memoryview) else len(part)
        if self.file is None and self._room >= 0:
            self.parts.append(bytes(part))
            return
        if self.file is None:
            self.file = open(self._path(), "wb")  # noqa: SIM115 - closed with the sink
            self.file.writelines(self.parts)
        self.file.write(part)

    def __enter__(self) -> _Sink:
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()
