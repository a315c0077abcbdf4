"""Results: what ``--capture`` and the last redirection declare, and which words are outputs."""

from __future__ import annotations

import os
from posixpath import normpath
from typing import TYPE_CHECKING

from hashserver.namedtuple import NamedTuple
from hashserver.workspace.sidecar import LONGEST_NAME, no_room
from seamless_dask.errors import UsageError
from seamless_dask.model.transformation import ResultSpec

from .globbing import pattern
from .word import is_glob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .hints import Hints
    from .names import Names, System
    from .syntax import Commandline


class CapturePattern(NamedTuple):
    """One declared result.

    Attributes
    ----------
    path : str
        Its name for the command, normalised; ``""`` is standard output.
    local : str
        Where it is delivered, as the user wrote it: relative to the current directory, or absolute.
    glob : bool
        `path` is a pattern, and the result a directory of its matches.
    implied : bool
        It comes from a redirection, not from ``--capture``.
    """

    path: str
    local: str
    glob: bool = False
    implied: bool = False


def parse_capture(text: str, base: str) -> CapturePattern:
    r"""Parse ``PATH[:LOCAL]``; a colon in a name is written ``\:``.

    Parameters
    ----------
    text : str
        The value of ``--capture``.
    base : str
        Directory below which an absolute PATH keeps its place.
    """
    path, colon, local = text.replace("\\:", "\0").partition(":")
    path, local = path.replace("\0", ":"), local.replace("\0", ":")
    if (not path.strip("/") and not local) or (colon and not local):
        raise UsageError(f"--capture takes PATH, PATH:LOCAL or :LOCAL, not {text!r}")
    if not path:
        return CapturePattern("", local)
    glob = is_glob(path) and not os.path.lexists(path)
    if glob and not local:
        local = _literal_directory(path)
        if not local:
            raise UsageError(f"--capture {path!r}: say where its matches go: --capture '{text}:DIRECTORY'")
    return CapturePattern(result_name(path, base), local or path.rstrip("/"), glob)


def _literal_directory(path: str) -> str:
    names: list[str] = []
    for name in path.split("/")[:-1]:
        if is_glob(name):
            break
        names.append(name)
    return "/".join(names)


def result_name(path: str, base: str) -> str:
    """Return the name under which the command writes `path`; raises `UsageError` when it has none."""
    name = normpath(path)
    if path.startswith("/"):
        place = base.rstrip("/") + "/"
        if not name.startswith(place):
            short = os.path.basename(name)
            raise UsageError(
                f"{path} is outside the directory that the command runs in:"
                f" let it write {short}, and --capture {short}:{path}"
            )
        name = name[len(place) :]
    if name.rpartition("/")[2] in (".", ".."):
        raise UsageError(f"{path} cannot be captured: name a file or a directory in it")
    return name


class Outputs:
    """What the command writes: never an input.

    Parameters
    ----------
    captures : iterable of CapturePattern
        Declared results.
    targets : iterable of str
        Targets of redirections, as values of their words.
    base : str
        Directory below which absolute paths keep their place.
    cwd : str, optional
        The current directory, where results are delivered; `base` by default.
    """

    def __init__(
        self, captures: Iterable[CapturePattern], targets: Iterable[str], base: str, cwd: str | None = None
    ) -> None:
        self._base, self._cwd = base.rstrip("/") + "/", cwd or base
        captures = list(captures)
        self.paths = {item.path for item in captures if item.path and not item.glob}
        self.paths |= {self.name(target) for target in targets}
        self._globs = [pattern(item.path) for item in captures if item.glob]
        self._delivered = {self._place(item.local) for item in captures}

    def name(self, value: str) -> str:
        """Return `value` normalised, and relative where it lies below the base."""
        name = normpath(value)
        return name[len(self._base) :] if name.startswith(self._base) else name

    def has(self, value: str) -> bool:
        """Tell whether `value` is an output, or lies inside of one."""
        name = self.name(value)
        if any(name == path or name.startswith(path + "/") for path in self.paths):
            return True
        return any(glob.fullmatch(name) for glob in self._globs)

    def delivers(self, value: str) -> bool:
        """Tell whether a result is delivered to `value`, or around it."""
        place = self._place(value)
        return any(place == local or place.startswith(local + "/") for local in self._delivered)

    def _place(self, value: str) -> str:
        return normpath(os.path.join(self._cwd, value))

    def of_directory(self, name: str, path: str) -> Callable[[str], bool] | None:
        """Return what tells of the members of an input directory whether they are results.

        Parameters
        ----------
        name, path : str
            Of the directory: for the command, and its absolute local path.

        Returns
        -------
        callable or None
            Takes a relative path; None when no result can lie there.
        """
        if not self._globs and not self.inside(name, path):
            return None
        below, place = name + "/", normpath(path) + "/"
        return lambda relative: self.has(below + relative) or self.delivers(place + relative)

    def inside(self, name: str, path: str) -> list[str]:
        """Return the local paths of results that lie in an input directory."""
        below, place = name + "/", normpath(path) + "/"
        written = (place + result[len(below) :] for result in self.paths if result.startswith(below))
        delivered = (local for local in self._delivered if local.startswith(place))
        return sorted({*written, *delivered})


def implied(
    line: Commandline, captures: list[CapturePattern], names: Names, system: System, hints: Hints
) -> CapturePattern | None:
    """Return the result that the last command's redirection declares."""
    redirection = line.captured
    target = None if redirection is None else redirection.target
    if redirection is None or target is None:
        return None
    if target.value is None or len(target.alternatives()) > 1 or target.glob:
        hints.note(f"{target.text} is not captured: its name is known only when the command runs")
        return None
    value = system.value(target)
    if Outputs(captures, (), names.base).has(value) or system.owns(normpath(value)):
        return None
    if any(start <= target.start < end for start, end in line.moves):
        hints.note(
            f"{value} is written after a change of directory, so it is not captured: name it with --capture"
        )
        return None
    if redirection.operator in (">>", "&>>"):
        hints.note(f"{value} is captured; >> adds to an empty file there, not to the local one")
    return CapturePattern(result_name(value, names.base), value, implied=True)


def lost(
    line: Commandline, captures: Iterable[CapturePattern], names: Names, system: System
) -> Iterator[str]:
    """Walk the targets of redirections that are not captured."""
    outputs = Outputs(captures, (), names.base)
    for redirection in line.redirections:
        target = redirection.target
        if not redirection.writes or target is None or redirection is line.captured:
            continue
        value = target.text if target.value is None else system.value(target)
        if not outputs.has(value) and not system.owns(normpath(value)):
            yield value


def check(captures: list[CapturePattern]) -> None:
    """Raise `UsageError` for results that get in each other's way, or whose sidecars could have no name."""
    for capture in captures:
        local = capture.local.rstrip("/")
        if len(os.path.basename(local).encode("utf-8", "surrogateescape")) > LONGEST_NAME:
            raise UsageError(f"{no_room(local)}, or deliver it elsewhere: --capture PATH:LOCAL")
    for attribute, what in (("path", "captured"), ("local", "delivered to")):
        seen: set[str] = set()
        for capture in captures:
            value = normpath(getattr(capture, attribute)) if getattr(capture, attribute) else ""
            if value in seen:
                raise UsageError(f"{value or 'standard output'} is {what} twice")
            seen.add(value)


def result_spec(captures: Iterable[CapturePattern]) -> ResultSpec:
    """Return what the transformation declares; without captures, standard output."""
    captures = list(captures)
    return ResultSpec(
        not captures or any(not item.path for item in captures),
        tuple(sorted(item.path for item in captures if item.path and not item.glob)),
        tuple(sorted(item.path for item in captures if item.glob)),
    )
