"""Calling a function, in the process that was started for it: what few need is imported when it is needed."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from seamless_dask.code.loading import load as load_code
from seamless_dask.code.signatures import signature_of
from seamless_dask.values.loading import load
from seamless_dask.values.names import set_definitions
from seamless_dask.values.writing import encode, to_bytes

PLAIN = ("file", "directory")
"""Formats of what a function gets as a path, and may return as a handle."""


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
        ``arguments``: the inputs by their names, each with format and path below `root`.
    """
    root = os.path.abspath(root)
    set_definitions(_DefinitionsWhenNeeded())
    given: list[Any] = []
    inputs = {name: (kind, os.path.join(root, path)) for name, (kind, path) in told["arguments"].items()}
    try:
        function = load_code(
            _text(f"{root}/code"), _lines(f"{root}/lines"), lambda name, _: _argument(f"@{name}", inputs)
        )
        positional, keywords = _bound(function, inputs)
        given = [*positional, *keywords.values()]
        _write(function(*positional, **keywords), root)
    except SystemExit as error:
        print(f"the function called sys.exit({error.code!r})", file=sys.stderr)
        return error.code if isinstance(error.code, int) and 0 < error.code < 126 else 1
    except BaseException as error:
        if isinstance(error, FileNotFoundError) and error.filename in given:
            error.add_note(f"in a function files are what is passed as such: pass File({error.filename!r})")
        _show(error)
        if isinstance(error, Exception):
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


def _bound(function: Any, inputs: Mapping[str, tuple[str, str]]) -> tuple[list[Any], dict[str, Any]]:
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


def _argument(name: str, inputs: Mapping[str, tuple[str, str]]) -> Any:
    kind, path = inputs[name]
    if kind in PLAIN:
        from pathlib import Path

        return Path(path)
    holes: list[Any] = []
    while f"{name}/{len(holes)}" in inputs:
        holes.append(_argument(f"{name}/{len(holes)}", inputs))
    # whoever asked has named these very bytes
    return load(kind, path, trusted=True, holes=holes)


def _write(result: Any, root: str) -> None:
    target = f"{root}/value"
    tell = getattr(type(result), "__seamless_path__", None)
    if tell is not None:
        import shutil

        kind, path = tell(result)
        shutil.move(path, target)
    else:
        encoded = encode(result, "the result")
        kind = encoded.format
        with open(target, "wb") as file:
            encoded.write(file.write)
    with open(f"{root}/format", "w", encoding="ascii") as file:
        file.write(kind)


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
