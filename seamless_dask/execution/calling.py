"""Calling a function, in the process that was started for it: what few need is imported when it is needed."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from seamless_dask.code.loading import load_namespace
from seamless_dask.code.markers import FUNCTION
from seamless_dask.code.signatures import signature_of
from seamless_dask.values.loading import load
from seamless_dask.values.names import Definitions, definitions_within, set_definitions
from seamless_dask.values.writing import encode, to_bytes

PLAIN = ("file", "directory")
"""Formats of what a function gets as a path, and may return as a handle."""


class _DefinitionsWhenNeeded:
    """Classes and functions by their code: most calls meet none, and to read code takes many modules.

    Parameters
    ----------
    namespace
        Of the module among whose classes they are looked for; by default all that were made from text.
    """

    def __init__(self, namespace: Mapping[str, Any] | None = None) -> None:
        self._namespace = namespace
        self._made: Definitions | None = None

    def _by_code(self) -> Definitions:
        from seamless_dask.definitions import DefinitionsByCode, by_code

        if self._made is None:
            self._made = by_code if self._namespace is None else DefinitionsByCode(self._namespace)
        return self._made

    def text(self, definition: Any) -> str | None:
        return self._by_code().text(definition)

    def find(self, text: str) -> Any:
        return self._by_code().find(text)


def call(root: str, told: Mapping[str, Any]) -> int:
    """Load a function and its arguments, call it, write what it returns; the exit status.

    Parameters
    ----------
    root
        Where ``code`` and the inputs are, and ``value`` and ``format`` are written.
    told
        ``arguments``: the inputs by their names, each with format and path below `root`.
    """
    set_definitions(_DefinitionsWhenNeeded())
    try:
        status, said = attempt(root, told["arguments"])
    except KeyboardInterrupt as error:
        status, said = 1, _told(error)
    sys.stderr.write(said)
    return status


def attempt(root: str, arguments: Mapping[str, tuple[str, str]], here: bool = False) -> tuple[int, str]:
    """Do as `call`, and return what is to be said besides the exit status.

    Parameters
    ----------
    root, arguments
        As of `call`.
    here
        In a process that has other things to do: what it has of its own stays as it is.

    Raises
    ------
    KeyboardInterrupt
        When the function is interrupted.
    """
    root = os.path.abspath(root)
    given: list[Any] = []
    inputs = {name: (kind, os.path.join(root, path)) for name, (kind, path) in arguments.items()}

    def scope(namespace: Mapping[str, Any]) -> AbstractContextManager[None]:
        # classes of the text are others than those that it was made from, and what is passed must be of them
        return definitions_within(_DefinitionsWhenNeeded(namespace)) if here else nullcontext()

    def given_global(name: str, namespace: Mapping[str, Any]) -> Any:
        with scope(namespace):
            return _argument(f"@{name}", inputs)

    try:
        namespace = load_namespace(_text(f"{root}/code"), _lines(f"{root}/lines"), given_global)
        function = namespace[FUNCTION]
        with scope(namespace):
            positional, keywords = _bound(function, inputs)
        given = [*positional, *keywords.values()]
        result = function(*positional, **keywords)
        with scope(namespace):
            _write(result, root, keep=here)
    except KeyboardInterrupt:
        raise
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) and 0 < error.code < 126 else 1
        return status, f"the function called sys.exit({error.code!r})\n"
    except BaseException as error:
        if isinstance(error, FileNotFoundError) and error.filename in given:
            error.add_note(f"in a function files are what is passed as such: pass File({error.filename!r})")
        if isinstance(error, Exception):
            _write_exception(error, root)
        return 1, _told(error)
    return 0, ""


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


def _write(result: Any, root: str, keep: bool) -> None:
    target = f"{root}/value"
    tell = getattr(type(result), "__seamless_path__", None)
    if tell is not None:
        import shutil

        kind, path = tell(result)
        if not keep:
            shutil.move(path, target)
        elif os.path.isdir(path):
            shutil.copytree(path, target)
        else:
            shutil.copyfile(path, target)
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


def _told(error: BaseException) -> str:
    """Return a traceback without the frames that called the function."""
    import traceback

    ours = tuple(
        os.path.dirname(os.path.abspath(file)) for file in (__file__, load_namespace.__code__.co_filename)
    )
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(ours):
        frame = frame.tb_next
    return "".join(traceback.format_exception(type(error), error, frame))
