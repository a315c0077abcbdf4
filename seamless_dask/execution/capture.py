"""What a command has written becomes values in the store."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import NoSpace, ServiceUnavailable, TreeError
from hashserver.retry import pauses
from hashserver.system_text import from_system, to_system
from hashserver.workspace.index import index_bytes
from seamless_dask.errors import ComputationFailed, ResultMissing, ResultNotStored
from seamless_dask.model.transformation import ResultSpec, Value
from seamless_dask.model.values import RESULTS, NamedValues

from .layout import ROOM

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeVar

    from hashserver.storage.store import Store

    from .layout import Layout

    T = TypeVar("T")

PAUSES, ATTEMPTS = (0.25, 32.0), 9
"""Seconds before it is tried again to store a result, which come to a minute, and how often it is tried."""


class CapturedResult(NamedTuple):
    """One declared result: a file, or the files of a directory by their paths in it."""

    file: str | None
    files: dict[str, str]


class Captured(NamedTuple):
    """The value of a run, every checksum inside it, and the small buffers that are not stored yet."""

    value: Value
    members: list[Checksum]
    buffers: list[bytes]


def glob_folder(pattern: str) -> str:
    """Return the directory that a pattern names before its first special character.

    >>> glob_folder("out/part-*.csv")
    'out'
    """
    parts = pattern.split("/")
    special = next(number for number, part in enumerate(parts) if set(part) & set("*?["))
    return "/".join(parts[:special]) or "."


class Capture:
    """Captures the results of one run, after all its processes have ended.

    Parameters
    ----------
    store : Store
        Where results go.
    outer, inner : Layout
        The directories of the run, as we see them and as the command did.
    mounted : mapping
        Path → checksum of inputs that only the command saw: in their place we see an empty file.
    keep : bool
        Whether bytes are kept; otherwise only checksums are computed.
    """

    def __init__(
        self, store: Store, outer: Layout, inner: Layout, mounted: Mapping[str, Checksum], keep: bool
    ) -> None:
        self._store, self._outer, self._inner, self._mounted, self._keep = store, outer, inner, mounted, keep
        self._held: list[bytes] = []
        self._room = ROOM

    def capture(self, spec: ResultSpec, stdout: str) -> Captured:
        """Return the value of what is declared.

        Parameters
        ----------
        spec
            What is declared.
        stdout
            The file with the command's standard output.

        Raises
        ------
        ResultMissing
            If a declared result is not there.
        ComputationFailed
            If it cannot be captured: a special file, a link out of the work directory.
        """
        found = [self._find(name) for name in spec.paths] + [self._find_all(glob) for glob in spec.globs]
        if spec.stdout:
            found.insert(0, CapturedResult(stdout, {}))
        known = self._checksums(found)
        values = iter([self._value(item, known) for item in found])
        results = NamedValues(
            next(values) if spec.stdout else None,
            {name: next(values) for name in spec.paths},
            {glob: next(values) for glob in spec.globs},
        )
        members = [known[path] for item in found for path in item.files.values()]
        if (only := results.only()) is not None:
            return Captured(only, list(dict.fromkeys(members)), self._held)
        members += [value.checksum for value in results.values]
        value = Value(RESULTS, self._put(results.to_bytes()))
        return Captured(value, list(dict.fromkeys(members)), self._held)

    def _find(self, name: str) -> CapturedResult:
        path = self._outer.path(name)
        if not os.path.lexists(path):
            raise ResultMissing(f"the command wrote no {name}, which is declared as a result")
        path = self._resolve(path, name)
        if os.path.isdir(path):
            return CapturedResult(None, self._files(path, name))
        self._check_regular(path, name)
        return CapturedResult(path, {})

    def _find_all(self, pattern: str) -> CapturedResult:
        """Return the files that match, by their paths below the pattern's own directory."""
        from .matches import matches

        files: dict[str, str] = {}
        folder = glob_folder(pattern)
        for match in matches(self._outer.work, to_system(pattern), self._enters):
            name = from_system(os.path.normpath(match))
            found = self._find(name)
            inner = os.path.relpath(name, folder)
            if found.file is not None:
                files[inner] = found.file
            files |= {f"{inner}/{below}": path for below, path in found.files.items()}
        if not files:
            raise ResultMissing(f"the command wrote nothing that matches {pattern}, declared as a result")
        return CapturedResult(None, files)

    def _enters(self, name: str) -> bool:
        """Say whether matches are looked for in a directory; a link out of the work directory is refused."""
        path = f"{self._outer.work}/{name}"
        self._translate(path)
        return os.path.isdir(path) and bool(self._resolve(path, from_system(name)))

    def _files(self, directory: str, name: str) -> dict[str, str]:
        from hashserver.workspace.scan import scan

        self._prepare(directory, name)
        try:
            members = scan(directory, literal=True).files
        except TreeError as error:
            message = str(error).replace(directory, name)
            raise ComputationFailed(f"the result {name} cannot be captured: {message}") from None
        return {relative: os.path.realpath(f"{directory}/{to_system(relative)}") for relative, _ in members}

    def _prepare(self, directory: str, name: str) -> None:
        """Make all directories readable, and judge the links."""
        for parent, folders, files in os.walk(directory):
            for entry in (*folders, *files):
                path = f"{parent}/{entry}"
                status = os.lstat(path)
                if stat.S_ISLNK(status.st_mode):
                    self._resolve(path, os.path.join(name, os.path.relpath(path, directory)))
                elif stat.S_ISDIR(status.st_mode) and status.st_mode & 0o500 != 0o500:
                    os.chmod(path, 0o700)

    def _resolve(self, path: str, name: str) -> str:
        """Return the path without links.

        A link out of the work directory is refused: we may see there what the command did not.
        """
        self._translate(path)
        found = os.path.realpath(path)
        if not self._is_inside(found):
            raise ComputationFailed(
                f"the result {name} is a link out of the work directory: let the command copy the file"
            )
        return found

    def _is_inside(self, path: str) -> bool:
        return path == self._outer.root or path.startswith(self._outer.root + "/")

    def _translate(self, path: str) -> None:
        """Let an absolute link that was made in the sandbox lead to the same file for us."""
        for _ in range(40):
            # what lies elsewhere is nothing of this command's
            if not os.path.islink(path) or not self._is_inside(os.path.realpath(os.path.dirname(path))):
                return
            target = os.readlink(path)
            if self._inner.root != self._outer.root and target.startswith(self._inner.root + "/"):
                target = self._outer.root + target.removeprefix(self._inner.root)
                os.unlink(path)
                os.symlink(target, path)
            path = os.path.join(os.path.dirname(path), target)

    def _check_regular(self, path: str, name: str) -> None:
        try:
            regular = stat.S_ISREG(os.stat(path).st_mode)
        except OSError:
            raise ComputationFailed(f"the result {name} is a link that leads nowhere") from None
        if not regular:
            raise ComputationFailed(f"the result {name} is neither a file nor a directory")

    def _checksums(self, found: Sequence[CapturedResult]) -> dict[str, Checksum]:
        """Return the checksum of each file, stored all at once."""
        paths = [path for item in found for path in (item.file, *item.files.values()) if path is not None]
        known = {path: self._mounted[path] for path in paths if path in self._mounted}
        rest = [path for path in dict.fromkeys(paths) if path not in known]
        size = 0
        for path in rest:
            state = os.stat(path)
            size += state.st_size
            if not state.st_mode & 0o400:
                os.chmod(path, state.st_mode | 0o400)
        return known | dict(zip(rest, self._put_all(rest, size), strict=True))

    def _put_all(self, paths: list[str], size: int) -> list[Checksum]:
        if self._keep and size <= self._room:
            return [self._put(_read(path)) for path in paths]
        if self._keep:
            return _lasting(lambda: self._store.put_files([(path, None) for path in paths]))
        from hashserver.hashing import hash_files

        return [hashed.checksum for hashed in hash_files(paths)]

    def _value(self, item: CapturedResult, known: Mapping[str, Checksum]) -> Value:
        if item.file is not None:
            return Value("file", known[item.file])
        index = index_bytes({name: known[path] for name, path in item.files.items()})
        return Value("directory", self._put(index) if self._keep else hash_bytes(index))

    def _put(self, data: bytes) -> Checksum:
        """Hold what is small for the record, store the rest."""
        if len(data) > self._room:
            return _lasting(lambda: self._store.put(data))
        self._room -= len(data)
        self._held.append(data)
        return hash_bytes(data)


def _lasting(store: Callable[[], T]) -> T:
    """Store something even when the server is away for a minute: what made it may have taken hours."""
    waits = pauses(*PAUSES, times=ATTEMPTS)
    while True:
        try:
            return store()
        except NoSpace as error:  # room seldom comes back within a minute
            raise ResultNotStored(f"the result could not be stored: {error}") from error
        except ServiceUnavailable:
            if not (pause := next(waits)):
                raise
        time.sleep(pause)


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()
