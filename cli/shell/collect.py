"""Words and options → inputs, results, and the shell text as the command will see it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hashserver.namedtuple import NamedTuple

from .captures import CapturePattern, Outputs, check, implied, lost, parse_capture, result_spec
from .commandline import parse, replace
from .hints import Hints
from .input_set import Gather, Input, listed
from .input_words import Reader
from .names import Names, System
from .path_lookup import Lookup
from .syntax import Commandline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from seamless_dask.model.transformation import ResultSpec

    from ..table import ParsedArguments

__all__ = ["CapturePattern", "Count", "Input", "Inputs", "collect", "count"]


class Count(NamedTuple):
    """Number of files, and their bytes."""

    files: int
    size: int


class Inputs(NamedTuple):
    """What a command line means.

    Attributes
    ----------
    text : str
        The shell text for the command: as given, but for words whose inputs have other names there.
    inputs : dict
        Name for the command → input.
    stdin : Input or None
        What ``--stdin`` names.
    captures : tuple of CapturePattern
        Declared results; empty when standard output is to be printed.
    writable : tuple of str
        Names of inputs that the command is going to modify.
    executables : tuple of str
        Names of command words that can be executed here.
    notes, warnings : tuple of str
        One line each for the user.
    """

    text: str
    inputs: dict[str, Input]
    stdin: Input | None
    captures: tuple[CapturePattern, ...]
    writable: tuple[str, ...]
    executables: tuple[str, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def result(self) -> ResultSpec:
        """What the transformation declares."""
        return result_spec(self.captures)

    @property
    def all(self) -> list[Input]:
        """Every input, standard input last."""
        return [*self.inputs.values(), *([] if self.stdin is None else [self.stdin])]


def collect(text: str | Commandline, options: ParsedArguments) -> Inputs:
    """Find out what a command line reads and writes.

    Parameters
    ----------
    text : str or Commandline
        Shell text.
    options : ParsedArguments
        What `options.parse` returned.

    Raises
    ------
    seamless_dask.errors.UsageError
        For a line that cannot be meant: syntax, absolute paths outside, two inputs of one name, a named
        input that is not there.
    hashserver.errors.SidecarError
        For a damaged sidecar.
    """
    line = parse(text) if isinstance(text, str) else text
    env, cwd = os.environ, os.getcwd()
    hints, system, names = Hints(), System(cwd, env), Names(cwd, options.workdir, options.mapping, env)
    captures = _captures(line, options, names, system, hints)
    outputs = Outputs(captures, [system.value(word) for word in line.targets], names.base, cwd)
    gather = Gather(names, Lookup(cwd), outputs, hints)
    reader = Reader(line, options, gather, system)
    reader.read()
    for path in options.input:
        gather.explicit(path)
    for path, said in listed(options.input_file, cwd):
        gather.explicit(path, said)
    stdin = None if options.stdin is None else gather.stdin(options.stdin)
    gather.fold()
    writable = tuple(gather.writable(path) for path in options.writable)
    hints.lost = dict.fromkeys(lost(line, captures, names, system))
    _set_apart(gather, outputs, hints)
    hints.finish(line)
    return Inputs(
        replace(line.text, reader.changes) if reader.changes else line.text,
        gather.inputs, stdin, tuple(captures), writable, tuple(gather.executables),
        tuple(hints.notes), tuple(hints.warnings),
    )  # fmt: skip


def _set_apart(gather: Gather, outputs: Outputs, hints: Hints) -> None:
    """Have results that lie in input directories be no part of them, so that the second run is a hit."""
    for name, item in gather.inputs.items():
        if item.kind == "directory" and (apart := outputs.of_directory(name, item.path)) is not None:
            gather.inputs[name] = item._replace(apart=apart)
            for path in outputs.inside(name, item.path):
                if gather.lookup.is_there(path):
                    hints.within(os.path.relpath(path, gather.names.cwd), item.shown)


def _captures(
    line: Commandline, options: ParsedArguments, names: Names, system: System, hints: Hints
) -> list[CapturePattern]:
    captures = list(dict.fromkeys(parse_capture(text, names.base) for text in options.capture))
    more = implied(line, captures, names, system, hints)
    captures += [] if more is None else [more]
    check(captures)
    return captures


def count(inputs: Iterable[Input]) -> Count:
    """Count the local files of `inputs` that no sidecar names; the caller leaves out what the store has."""
    files = size = 0
    for item in inputs:
        if item.sidecar is None and item.future is None and item.exists:
            for status in _statuses(item):
                files, size = files + 1, size + status.st_size
    return Count(files, size)


def _statuses(item: Input) -> Iterable[os.stat_result]:
    if item.kind == "file":
        yield os.stat(item.path)
        return
    folders = [item.path]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.is_file():
                    yield entry.stat()
