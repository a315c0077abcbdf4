"""Calling a function, in the process that was started for it: what few need is imported when it is needed."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from seamless_dask.code.loading import load as load_code
from seamless_dask.code.signatures import signature_of
from seamless_dask.errors import UntrustedValue
from seamless_dask.values.loading import load
from seamless_dask.values.names import set_definitions
from seamless_dask.values.writing import encode, to_bytes

PLAIN = ("file", "directory")
"""Formats of what a function gets as a path, and may return as a handle."""


class _Input(NamedTuple):
    format: str
    path: str
    trusted: bool
    """Whether its checksum was named by the user's own: an argument, or a result of the own database."""


class _DefinitionsWhenNeeded:
    """Classes and functions by their code: most calls meet none, and to read code takes many modules."""

    def text(self, definition: Any) -> str | None:
        from seamless_dask.definitions import by_code

        return by_code.text(definition)

    def find(self, text: str) -> Any:
        from seamless_dask.definitions import by_code

        return by_code.find(text)


def call(root: str, told: Mapping[str, Any]) -> int:
    """Load a function and its arguments, call it, write what it returns; the exit status.

    Parameters
    ----------
    root
        Where ``code`` and the inputs are, and ``value`` and ``format`` are written.
    told
        ``arguments``: the inputs by their names, each with format and path below `root`. ``foreign``: those
        of them whose checksums somebody else's database has named.
    """
    root, process = os.path.abspath(root), os.getpid()
    set_definitions(_DefinitionsWhenNeeded())
    given: list[Any] = []
    foreign = frozenset(told.get("foreign", ()))
    inputs = {
        name: _Input(kind, os.path.join(root, path), name not in foreign)
        for name, (kind, path) in told["arguments"].items()
    }
    try:
        function = load_code(
            _text(f"{root}/code"), _lines(f"{root}/lines"), lambda name, _: _argument(f"@{name}", inputs)
        )
        positional, keywords = _bound(function, inputs)
        given = [*positional, *keywords.values()]
        result = function(*positional, **keywords)
        if os.getpid() == process:  # else a fork that the function has made came back from it too
            _write(result, root)
    except SystemExit as error:
        if os.getpid() != process:
            raise
        print(f"the function called sys.exit({error.code!r})", file=sys.stderr)
        return error.code if isinstance(error.code, int) and 0 < error.code < 126 else 1
    except BaseException as error:
        if isinstance(error, FileNotFoundError) and error.filename in given:
            error.add_note(f"in a function files are what is passed as such: pass File({error.filename!r})")
        _show(error)
        if isinstance(error, Exception) and os.getpid() == process:
            _write_exception(error, root)
        return 1
    return 0


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _lines(path: str) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = json.loads(_text(path))
    except FileNotFoundError:
        return None
    return found


def _bound(function: Any, inputs: Mapping[str, _Input]) -> tuple[list[Any], dict[str, Any]]:
    """Return positional arguments and keywords."""
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for name, parameter in signature_of(function).parameters.items():
        match parameter.kind:
            case parameter.VAR_POSITIONAL:
                first = len(positional)
                while (number := str(len(positional) - first)) in inputs:
                    positional.append(_argument(number, inputs))
            case parameter.VAR_KEYWORD:
                further = [each for each in inputs if each.startswith("**") and "/" not in each]
                keywords |= {each[2:]: _argument(each, inputs) for each in further}
            case _ if name not in inputs:
                if parameter.default is parameter.empty:
                    raise TypeError(
                        f"argument {name!r} is not told: it does not count, ask where it was passed"
                    )
            case parameter.POSITIONAL_ONLY:
                positional.append(_argument(name, inputs))
            case parameter.POSITIONAL_OR_KEYWORD if _is_next(function, name, len(positional)):
                positional.append(_argument(name, inputs))
            case _:
                keywords[name] = _argument(name, inputs)
    return positional, keywords


def _is_next(function: Any, name: str, number: int) -> bool:
    """Tell whether a parameter is the first one that nothing has been passed for."""
    return list(signature_of(function).parameters).index(name) == number


def _argument(name: str, inputs: Mapping[str, _Input]) -> Any:
    kind, path, trusted = inputs[name]
    if kind in PLAIN:
        from pathlib import Path

        return Path(path)
    holes: list[Any] = []
    while f"{name}/{len(holes)}" in inputs:
        holes.append(_argument(f"{name}/{len(holes)}", inputs))
    try:
        return load(kind, path, trusted=trusted, holes=holes)
    except UntrustedValue as error:
        raise UntrustedValue(
            f"argument {name!r} is a result that only a further database names: {error}; compute it here"
            " (fresh=True), or load it and pass the object"
        ) from None


def _write(result: Any, root: str) -> None:
    target = f"{root}/value"
    tell = getattr(type(result), "__seamless_path__", None)
    if tell is not None:
        kind, path = tell(result)
        _take(path, target, root)
    else:
        encoded = encode(result, "the result")
        kind = encoded.format
        with open(target, "wb") as file:
            encoded.write(file.write)
    with open(f"{root}/format", "w", encoding="ascii") as file:
        file.write(kind)


def _take(path: str, target: str, root: str) -> None:
    """Make a file or directory the value: what lies outside of the run is not ours, and is copied."""
    import shutil

    work = os.path.join(os.path.realpath(root), "work", "")
    if os.path.realpath(path).startswith(work):
        shutil.move(path, target)
    elif os.path.isdir(path):
        shutil.copytree(path, target)
    else:
        shutil.copyfile(path, target)


def _write_exception(error: Exception, root: str) -> None:
    """Write an exception for whoever asked, if anything can stand for it."""
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        kind, data = to_bytes(error, "the exception")
        with open(f"{root}/exception", "wb") as file:
            file.write(data)
        with open(f"{root}/exception-format", "w", encoding="ascii") as text:
            text.write(kind)


def _show(error: BaseException) -> None:
    """Print a traceback without the frames that called the function."""
    import traceback

    ours = tuple(
        os.path.dirname(os.path.abspath(file)) for file in (__file__, load_code.__code__.co_filename)
    )
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(ours):
        frame = frame.tb_next
    traceback.print_exception(type(error), error, frame)
