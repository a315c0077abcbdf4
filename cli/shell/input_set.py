"""Inputs as they are found: each once, under the name that it has for the command."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from hashserver.namedtuple import NamedTuple
from hashserver.regular_file import read_regular
from hashserver.workspace.sidecar import CHECKSUM, INDEX
from seamless_dask.errors import UsageError

from .globbing import expand
from .word import is_glob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from hashserver.workspace.ignore import Apart
    from hashserver.workspace.index import Index
    from hashserver.workspace.sidecar import Future, Sidecar

    from .captures import Outputs
    from .hints import Hints
    from .names import Names
    from .path_lookup import Lookup, PathLookup


_MADE_WHEN_READ = ("/proc/", "/sys/")


class Input(NamedTuple):
    """One input.

    Attributes
    ----------
    name : str
        Its path for the command, relative and normalised.
    path : str
        Its absolute local path, whether or not something is there.
    shown : str
        The same as the user wrote it, for messages.
    kind : str
        ``"file"`` or ``"directory"``; of a pending result it is not known and said to be a file.
    exists : bool
        Whether bytes are at `path`. A directory may hold nothing but its own sidecars.
    sidecar : Sidecar or None
        What its sidecar says.
    future : Future or None
        The job that is to make it. It goes before the sidecar.
    literal : bool
        It is itself called like a sidecar: its own bytes are meant.
    members : dict or None
        Of a directory that is not here, what the index of a directory above says of it.
    apart : callable or None
        Tells of the members of a directory, by their relative paths, which are results and so no part of it.
    """

    name: str
    path: str
    shown: str
    kind: str
    exists: bool
    sidecar: Sidecar | None = None
    future: Future | None = None
    literal: bool = False
    members: Index | None = None
    apart: Apart | None = None


class Gather:
    """Takes paths as inputs.

    Parameters
    ----------
    names : Names
        What inputs are called for the command.
    lookup : Lookup
        What local paths stand for.
    outputs : Outputs
        What is never an input.
    hints : Hints
        What the user is told.
    """

    def __init__(self, names: Names, lookup: Lookup, outputs: Outputs, hints: Hints) -> None:
        self.names, self.lookup, self.outputs, self.hints = names, lookup, outputs, hints
        self.inputs: dict[str, Input] = {}
        self.executables: dict[str, None] = {}

    def find(self, path: str) -> tuple[PathLookup | None, bool]:
        """Return what an absolute path stands for, and whether it is a sidecar that is taken literally."""
        literal = path.endswith((CHECKSUM, INDEX))
        return (self.lookup.literal(path) if literal else self.lookup.find(path)), literal

    def take(self, value: str, path: str, found: PathLookup, literal: bool = False) -> str:
        """Add an input; returns its name."""
        if found.inside and found.sidecar is None and found.members is None:
            return self._take_enclosing(value, path, found)
        if literal:
            self.hints.literal(value)
        given = path if value.startswith("/") else value
        name = self.names.name(given, directory=found.kind == "directory")
        if self.names.mapping and self.outputs.has(name):
            raise UsageError(
                f"{value} would be called {name}, which is a result: call the result something else"
            )
        if name not in self.inputs:
            self.inputs[name] = Input(
                name,
                path,
                value,
                found.kind,
                found.exists,
                found.sidecar,
                found.future,
                literal,
                found.members,
            )
        return name

    def _take_enclosing(self, value: str, path: str, found: PathLookup) -> str:
        """Take the whole directory, since only that has a checksum."""
        whole = self.lookup.find(found.inside)
        if whole is None or self.names.mapping:
            raise UsageError(
                f"{value} is known only as a part of {found.inside}: seamless-download {value} first"
            )
        inside = os.path.relpath(found.inside, self.names.cwd)
        if inside == ".":
            raise UsageError(
                f"{value} is known only as a part of the current directory: seamless-download . first"
            )
        self.take(inside, found.inside, whole)
        return self.names.name(path if value.startswith("/") else value)

    def command(self, name: str, path: str) -> None:
        """Note that a command word can be executed here; that is no part of any identity."""
        if os.access(path, os.X_OK) and os.path.isfile(path):
            self.executables[name] = None

    def explicit(self, value: str, said: str = "") -> None:
        """Take what ``--input`` names; a pattern that names no file by itself is expanded.

        Parameters
        ----------
        said
            Where it was named, for errors.
        """
        path, said = self.names.local(value), said or f"--input {value}"
        if self.outputs.has(value):
            raise UsageError(f"{said}: it is a result of the command, too")
        if self.outputs.delivers(value):
            raise UsageError(f"{said}: a result is delivered there: call one of them something else")
        found, literal = self.find(path)
        if found is None and is_glob(value):
            matches = expand(value, frozenset(), self.lookup)
            for match in matches:
                if not self.outputs.has(match) and not self.outputs.delivers(match):
                    self.explicit(match, said)
            if matches:
                return
        if found is None:
            raise UsageError(f"{said}: no such file or directory, and no sidecar beside it")
        refuse_special(path, said)
        if found.kind == "directory" and not self.names.mapping and _holds(path, self.names.base):
            self._entries(path)
        else:
            self.take(value, path, found, literal)

    def _entries(self, folder: str) -> None:
        """Take what lies in the directory that the command runs in, or in one above it, piece by piece.

        Such a directory cannot be put into itself, and results that are delivered into it would change it.
        """
        from hashserver.workspace.ignore import LeaveOut, ignore_files

        pieces: dict[str, str] = {}
        self._pieces(folder, "", pieces)
        rules = [path for path in ignore_files(pieces) if os.path.isfile(pieces[path])]
        out = LeaveOut(rules, lambda path: _content(pieces[path]), True).of(pieces)
        for relative, path in pieces.items():
            value = os.path.relpath(path, self.names.cwd)
            if relative in out or os.path.basename(path).startswith("."):
                continue
            if self.outputs.has(value) or self.outputs.delivers(value):
                continue
            if (found := self.lookup.find(path)) is not None:
                self.take(value, path, found)
        if out:
            self.hints.left_out(os.path.relpath(folder, self.names.cwd), len(out))

    def _pieces(self, folder: str, prefix: str, pieces: dict[str, str]) -> None:
        for name in self.lookup.names(folder):
            path = os.path.join(folder, name)
            if not _holds(path, self.names.base):
                pieces[prefix + name + "/" * self.lookup.is_directory(path)] = path
            elif not name.startswith("."):
                self._pieces(path, f"{prefix}{name}/", pieces)

    def stdin(self, value: str) -> Input:
        """Return what ``--stdin`` names."""
        path = self.names.absolute(value)
        refuse_special(path, f"--stdin {value}")
        found = self.lookup.find(path)
        if found is None:
            raise UsageError(f"--stdin {value}: no such file, and no sidecar beside it")
        if found.kind == "directory":
            raise UsageError(f"--stdin {value}: a directory cannot be standard input")
        return Input("", path, value, "file", found.exists, found.sidecar, found.future)

    def fold(self) -> None:
        """Leave out what lies in a directory that is an input as a whole.

        What that might leave out stays, because it was named; `seamless_cli.run.job` knows whether it does.
        """
        folders = [item for item in self.inputs.values() if item.kind == "directory"]
        for name, item in list(self.inputs.items()):
            for folder in folders:
                if (
                    name.startswith(folder.name + "/")
                    and not item.literal
                    and not _through_link(item, folder)
                    and not self._may_be_left_out(item, folder)
                ):
                    del self.inputs[name]
                    break

    def _may_be_left_out(self, item: Input, folder: Input) -> bool:
        from hashserver.workspace.ignore import IGNORE_FILE, LeaveOut
        from hashserver.workspace.index import parent_folders

        relative = item.name[len(folder.name) + 1 :] + "/" * (item.kind == "directory")
        if LeaveOut((), _content, True).of([relative]):
            return True
        above = [folder.path, *(f"{folder.path}/{part}" for part in parent_folders([relative]))]
        return any(self.lookup.find(f"{part}/{IGNORE_FILE}") is not None for part in above)

    def writable(self, value: str) -> str:
        """Return the name of what ``--writable`` names."""
        path = self.names.absolute(value)
        for item in self.inputs.values():
            if path == item.path:
                return item.name
            if path.startswith(item.path + "/"):
                return item.name + path[len(item.path) :]
        raise UsageError(f"--writable {value}: it is no input of the command")


def listed(files: Iterable[str], cwd: str) -> Iterator[tuple[str, str]]:
    """Yield the paths that the files of ``--input-file`` list, one a line, each with where it stands.

    As in Seamless 1.x they are relative to the directory of the list; those of a pipe to the current one.
    """
    for name in files:
        place = os.path.join(cwd, name)
        folder = os.path.dirname(name) if name != "-" and os.path.isfile(place) else ""
        try:
            with open(0 if name == "-" else place, encoding="utf-8-sig") as lines:
                entries = [line.rstrip("\r\n") for line in lines]
        except OSError as error:
            raise UsageError(f"--input-file {name}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UsageError(f"--input-file {name}: not UTF-8") from None
        for number, entry in enumerate(entries, 1):
            if entry.strip():
                yield os.path.join(folder, entry), f"--input-file {name}, line {number}: {entry}"


def refuse_special(path: str, said: str) -> None:
    """Raise `UsageError` for what has no bytes that stay the same."""
    if path.startswith(_MADE_WHEN_READ):
        raise UsageError(f"{said}: the system makes it when it is read: save it in a file first")
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if path == os.devnull:
        raise UsageError(f"{said}: it is empty, and so is standard input without --stdin")
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise UsageError(f"{said}: no file, but a pipe, socket or device: save what comes from it in a file")


def _content(path: str) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None


def _holds(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _through_link(item: Input, folder: Input) -> bool:
    """Tell whether a path inside a directory leads by a link, which the directory's index leaves out."""
    path = item.path if item.kind == "directory" else os.path.dirname(item.path)
    while len(path) > len(folder.path):
        if os.path.islink(path):
            return True
        path = os.path.dirname(path)
    return False
