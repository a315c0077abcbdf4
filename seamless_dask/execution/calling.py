"""Calling a function, in the process that was started for it: what few need is imported when it is needed."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, NamedTuple

from seamless_dask.code.loading import load_namespace
from seamless_dask.code.markers import DECORATORS, FUNCTION, LOADED
from seamless_dask.code.signatures import signature_of
from seamless_dask.errors import UntrustedValue, UsageError
from seamless_dask.values.loading import load
from seamless_dask.values.names import Definitions, definitions_within, set_definitions
from seamless_dask.values.writing import Encoded, encode, to_bytes

from .call_files import PLAIN

if TYPE_CHECKING:
    from .call_files import CallFiles

_NOT_BESIDE = ("context", "ignore", "keep_inputs", "run", "version")
_PATH = re.compile(rb'Path",("(?:[^"\\]|\\.)*")')
"""A path in a tree."""


class _Input(NamedTuple):
    format: str
    source: str | bytes
    """Its path, or what it consists of."""
    trusted: bool
    """Whether its checksum was named by the user's own: an argument, or a result of the own database."""


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


def call(files: CallFiles, told: Mapping[str, Any]) -> int:
    """Load a function and its arguments, call it, write what it returns; the exit status.

    Parameters
    ----------
    files
        ``code`` and the inputs; ``value`` and ``format`` are written.
    told
        ``arguments``: the inputs by their names, each with format and path among `files`. ``foreign``: those
        of them whose checksums somebody else's database has named. ``format``: in which the result is to be
        kept; None: in that which it has.
    """
    set_definitions(_DefinitionsWhenNeeded())
    if isinstance(sys.stdout, TextIOWrapper):  # whoever waits sees each line at once
        sys.stdout.reconfigure(line_buffering=True)
    try:
        status, said = attempt(files, told)
    except KeyboardInterrupt as error:
        status, said = 1, _told(error)
    if said:
        _tell(said, files.root())
    return status


def _tell(said: str, root: str) -> None:
    """Say how it failed, beside what was printed: whoever sees that is given the exception itself."""
    try:
        with open(f"{root}/exception-text", "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(said)
    except OSError:
        sys.stderr.write(said)


def attempt(files: CallFiles, told: Mapping[str, Any], here: bool = False) -> tuple[int, str]:
    """Do as `call`, and return what is to be said besides the exit status.

    Parameters
    ----------
    files, told
        As of `call`.
    here
        In a process that has other things to do: what it has of its own stays as it is.

    Raises
    ------
    KeyboardInterrupt
        When the function is interrupted.
    """
    given: list[Any] = []
    foreign = frozenset(told.get("foreign", ()))
    inputs = {
        name: _Input(kind, files.source(path), name not in foreign)
        for name, (kind, path) in told["arguments"].items()
    }

    def scope(namespace: Mapping[str, Any]) -> AbstractContextManager[None]:
        # classes of the text are others than those that it was made from, and what is passed must be of them
        return definitions_within(_DefinitionsWhenNeeded(namespace)) if here else nullcontext()

    def given_global(name: str, namespace: Mapping[str, Any]) -> Any:
        with scope(namespace):
            return _argument(f"@{name}", inputs)

    try:
        lines = _lines(files)
        namespace = load_namespace(files.text("code"), lines, given_global)
        _ask(namespace, (lines or {}).get("asked", {}), delayed_only=here)
        with scope(namespace):
            positional, keywords = _bound(namespace[FUNCTION], inputs)
        given = [*positional, *keywords.values()]
        result = _called(_itself(namespace[FUNCTION]), positional, keywords)
        with scope(namespace):
            _write(result, files, told.get("format"), f"the result of {_name(namespace[FUNCTION])}()")
    except KeyboardInterrupt:
        raise
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) and 0 < error.code < 126 else 1
        return status, f"the function called sys.exit({error.code!r})\n"
    except BaseException as error:
        if isinstance(error, FileNotFoundError) and error.filename in given:
            error.add_note(f"in a function files are what is passed as such: pass File({error.filename!r})")
        for missing in (error, error.__cause__):  # by itself, or behind a value that needs it
            if isinstance(missing, ModuleNotFoundError) and not here:
                error.add_note(_where_missing(missing))
        if isinstance(error, Exception):
            _write_exception(error, files)
        return 1, _told(error)
    return 0, ""


def _ask(namespace: dict[str, Any], asked: Mapping[str, Any], *, delayed_only: bool) -> None:
    """Have the calls of some functions asked for, each a computation of its own that others find too.

    How comes from beside the text: it cannot make another function of one, nor tell what of it counts.
    """
    for name, how in asked.items():
        function = namespace.get(name)
        is_delayed = how["delayed"]
        is_code = is_delayed or bool(how.get("counts"))
        if function is None or _is_decorated(function) != is_code or (delayed_only and not is_code):
            continue
        decorators = import_module(DECORATORS)
        options = {key: value for key, value in how["options"].items() if key not in _NOT_BESIDE}
        decorate = decorators.delayed if is_delayed else decorators.direct
        namespace[name] = decorate(**options)(function)


def _is_decorated(function: Any) -> bool:
    return type(function).__module__.startswith("seamless_dask.") and hasattr(function, "plain")


def _itself(function: Any) -> Any:
    """Return what runs now: what a text imports may be decorated, and would ask for itself."""
    return function.plain if _is_decorated(function) else function


def _called(function: Any, positional: list[Any], keywords: Mapping[str, Any]) -> Any:
    """Call a function; a fork that it has made, and that comes back from it too, ends as in Python."""
    process = os.getpid()
    try:
        result = function(*positional, **keywords)
    except BaseException as error:
        if os.getpid() == process:
            raise
        if not isinstance(error, SystemExit):
            sys.stderr.write(_told(error))
            status = 1
        else:
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
    else:
        if os.getpid() == process:
            return result
        status = 0
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the function may have closed it
            stream.flush()
    os._exit(status & 0xFF)


def _lines(files: CallFiles) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = json.loads(files.text("lines"))
    except FileNotFoundError:
        return None
    return found


def _bound(function: Any, inputs: Mapping[str, _Input]) -> tuple[list[Any], dict[str, Any]]:
    """Return positional arguments and keywords."""
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for number, (name, parameter) in enumerate(signature_of(function).parameters.items()):
        match parameter.kind:
            case parameter.VAR_POSITIONAL:
                first = len(positional)
                while (further := str(len(positional) - first)) in inputs:
                    positional.append(_argument(further, inputs))
            case parameter.VAR_KEYWORD:
                collected = [each for each in inputs if each.startswith("**") and "/" not in each]
                keywords |= {each[2:]: _argument(each, inputs) for each in collected}
            case _ if name not in inputs:
                if parameter.default is parameter.empty:
                    raise TypeError(
                        f"argument {name!r} is not told: it does not count, ask where it was passed"
                    )
            case parameter.POSITIONAL_ONLY:
                positional.append(_argument(name, inputs))
            case parameter.POSITIONAL_OR_KEYWORD if number == len(positional):  # none before it is left out
                positional.append(_argument(name, inputs))
            case _:
                keywords[name] = _argument(name, inputs)
    return positional, keywords


def _argument(name: str, inputs: Mapping[str, _Input]) -> Any:
    kind, source, trusted = inputs[name]
    if kind in PLAIN:
        from pathlib import Path

        assert isinstance(source, str)
        return Path(source)
    holes: list[Any] = []
    while f"{name}/{len(holes)}" in inputs:
        holes.append(_argument(f"{name}/{len(holes)}", inputs))
    try:
        # a copy of its own: what a function does to an array, no other one sees
        return load(
            kind, source if isinstance(source, str) else bytearray(source), trusted=trusted, holes=holes
        )
    except UntrustedValue as error:
        raise UntrustedValue(
            f"argument {name!r} is a result that only a further database names: {error}; compute it here"
            " (fresh=True), or load it and pass the object"
        ) from None


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", None) or type(function).__name__)


def _write(result: Any, files: CallFiles, wanted: str | None, name: str) -> None:
    tell = getattr(type(result), "__seamless_path__", None)
    kind, path = (None, "") if tell is None else tell(result)
    if wanted is not None and (wanted in PLAIN or kind is not None) and wanted != kind:
        what = kind or f"a {type(result).__name__}"
        how = f"return {wanted.title()}(path)" if wanted in PLAIN else "return the object"
        raise UsageError(f"{name} is {what}, which is not kept as {wanted}: {how}, or change format=")
    if kind is not None:
        _take(path, files.root())
    else:
        encoded = _encoded(result, wanted, name)
        kind = encoded.format
        files.write("value", _looked_at(encoded.write, files) if kind == "json/1" else encoded.write)
    files.write("format", _writer(kind.encode("ascii")))


def _looked_at(write: Callable[[Any], object], files: CallFiles) -> Callable[[Any], object]:
    """Write a tree in which no path (a text may) lies in the directory of the run."""

    def written(sink: Callable[[Any], object]) -> None:
        def look(part: Any) -> None:
            for found in _PATH.finditer(part):
                if files.is_within(json.loads(found[1])):
                    raise UsageError(
                        "the result is, or has, a path in the directory of the run, which is over:"
                        " return File(path) in its place"
                    )
            sink(part)

        write(look)

    return written


def _encoded(result: Any, wanted: str | None, name: str) -> Encoded:
    if wanted is None:
        return encode(result, "the result")
    from seamless_dask.values.formats import encode_as

    return encode_as(wanted, result, name)


def _is_within(path: str, directory: str) -> bool:
    return os.path.realpath(path).startswith(os.path.join(os.path.realpath(directory), ""))


def _writer(data: bytes) -> Callable[[Callable[[bytes], object]], object]:
    return lambda sink: sink(data)


def _take(path: str, root: str) -> None:
    """Make a file or directory the value: what lies outside of the run is not ours, and is copied."""
    import shutil

    target = f"{root}/value"
    if _is_within(path, f"{root}/work"):
        shutil.move(path, target)
    elif os.path.isdir(path):
        shutil.copytree(path, target)
    else:
        shutil.copyfile(path, target)


def _write_exception(error: Exception, files: CallFiles) -> None:
    """Write an exception for whoever asked, if anything can stand for it."""
    with warnings.catch_warnings(), suppress(Exception):
        warnings.simplefilter("ignore")
        kind, data = to_bytes(error, "the exception")
        files.write("exception", _writer(data))
        files.write("exception-format", _writer(kind.encode("ascii")))


def _where_missing(error: ModuleNotFoundError) -> str:
    """Return what is to be done about a module that this interpreter has not."""
    is_conda = os.path.isdir(os.path.join(sys.prefix, "conda-meta"))
    place = f"the conda environment {sys.prefix}" if is_conda else sys.executable
    module = (error.name or "it").partition(".")[0]
    return (
        f"{module} is not installed for {place} on {os.uname().nodename}: install it there, or name an"
        " environment that has it (conda=, image=, modules=)"
    )


def _told(error: BaseException) -> str:
    """Return a traceback without the frames that called the function."""
    import traceback

    ours = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(ours):
        frame = frame.tb_next
    text = "".join(traceback.format_exception(type(error), error, frame))
    return re.sub(rf"\b{LOADED}[0-9a-f]{{16}}\.", "", text)  # their module is none that anybody knows
