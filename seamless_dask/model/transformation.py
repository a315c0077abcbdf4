"""What is computed: the canonical form of a transformation, its checksum, and its deferred key.

A transformation is an immutable description: code, inputs, variables and declared result. Its canonical
form is JSON with sorted keys, without spaces, in UTF-8; the SHA-256 of that is its identity. What was not
given is absent from the form, so that it differs from the same thing given with its default value.

An input may refer to a result that is not known yet (`Deferred`). Then the SHA-256 is a structural *key*,
which depends on the references only and never on what is already known; `Description.resolve` puts
values in their place and thus gives a transformation that has a *checksum*.
"""

from __future__ import annotations

import json
import re
from posixpath import normpath
from typing import TYPE_CHECKING, Any

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import InvalidChecksum
from hashserver.namedtuple import NamedTuple

from ..errors import InvalidTransformation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

VERSION = 1
LANGUAGES = ("bash", "python")
FIELDS = {
    "seamless", "language", "code", "inputs", "stdin", "variables", "shell_flags", "result",
}  # fmt: skip

ARGUMENT = re.compile(r"([^\W\d]\w*|0|[1-9][0-9]*|\*\*[^/\0]+)(?:/(0|[1-9][0-9]*))?|@[^\W\d]\w*")
"""What inputs of a function are called: a parameter by its name, a further positional argument by its
number, a further keyword behind ``**``; what was left out of one of them and is an input of its own by a
number behind ``/``; what the code itself asks for behind ``@``."""
_FORMAT = re.compile(r"[a-z][a-z0-9-]*(/[0-9]+)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Value(NamedTuple):
    """The name of a piece of data: ``file``, ``directory``, ``results`` or another format, and a checksum."""

    format: str
    checksum: Checksum


class Deferred(NamedTuple):
    """A result that is not known yet.

    ``of`` is the key of the transformation that makes it, ``path`` the declared result that is meant, or
    something below it when that is a directory; None is its standard output, or its only result.
    """

    of: Checksum
    path: str | None = None


Input = Value | Deferred


class ResultSpec(NamedTuple):
    """What a transformation is asked for.

    Of a command standard output, named paths, directories of glob matches; of a function the value that it
    returns, and nothing else, in whatever format it has or in one that is named.
    """

    stdout: bool = False
    paths: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    value: bool = False
    format: str | None = None

    @property
    def number(self) -> int:
        """How many results are declared; with exactly one, that one's value is the result."""
        return int(self.stdout) + len(self.paths) + len(self.globs) + int(self.value)


class Description(NamedTuple):
    """One computation; see the module's docstring.

    Attributes
    ----------
    language : str
        One of `LANGUAGES`.
    code : Checksum
        Checksum of the code text, which is a buffer of its own.
    result : ResultSpec
        What is asked for; at least one thing.
    inputs : dict
        Of a command: normalised relative POSIX path (leading ``..`` allowed) → value. Of a function: the
        name of a parameter, or what `ARGUMENT` says → value.
    stdin : Value or Deferred or None
        None: standard input is empty.
    variables : dict or None
        Environment variables of the command.
    shell_flags : str or None
        None: those of the system.
    """

    language: str
    code: Checksum
    result: ResultSpec
    inputs: dict[str, Input] = {}  # noqa: RUF012 - never changed
    stdin: Input | None = None
    variables: dict[str, str] | None = None
    shell_flags: str | None = None

    def document(self) -> dict[str, Any]:
        """Return what its canonical form says."""
        document: dict[str, Any] = {
            "seamless": VERSION,
            "language": self.language,
            "code": self.code,
            "result": _result_document(self.result),
        }
        if self.inputs:
            document["inputs"] = {name: _input_document(value) for name, value in self.inputs.items()}
        if self.stdin is not None:
            document["stdin"] = _input_document(self.stdin)
        if self.variables:
            document["variables"] = self.variables
        if self.shell_flags is not None:
            document["shell_flags"] = self.shell_flags
        return document

    def canonical(self) -> bytes:
        """Return the canonical form; raises `InvalidTransformation` when there is none."""
        document = self.document()
        _check_rules(self)
        return _encode(document)

    @property
    def key(self) -> Checksum:
        """SHA-256 of the canonical form: the checksum, or the structural key of a deferred one."""
        return hash_bytes(self.canonical())

    @property
    def references(self) -> list[Deferred]:
        """What it waits for, each once, in the order of input names, stdin last."""
        found = {value: None for _, value in sorted(self.inputs.items()) if isinstance(value, Deferred)}
        if isinstance(self.stdin, Deferred):
            found[self.stdin] = None
        return list(found)

    @property
    def upstream(self) -> list[Checksum]:
        """Keys of the transformations that it refers to, each once."""
        return list(dict.fromkeys(reference.of for reference in self.references))

    @property
    def deferred(self) -> bool:
        """Whether it waits for any result."""
        return bool(self.references)

    @property
    def values(self) -> Iterator[Value]:
        """Every value it needs (what is deferred is not among them)."""
        for value in (*self.inputs.values(), self.stdin):
            if isinstance(value, Value):
                yield value

    def resolve(self, known: Mapping[Deferred, Value]) -> Description:
        """Put values in the place of references; raises KeyError for one that is not known."""

        def resolved(value: Input) -> Value:
            return known[value] if isinstance(value, Deferred) else value

        return self._replace(
            inputs={name: resolved(value) for name, value in self.inputs.items()},
            stdin=None if self.stdin is None else resolved(self.stdin),
        )


def parse(data: bytes) -> Description:
    """Read a canonical form.

    Raises
    ------
    InvalidTransformation
        For anything that `Description.canonical` would not have written, byte for byte: another
        spelling of the same content would have another checksum.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidTransformation(f"not a transformation: {error}") from None
    if not isinstance(document, dict) or "seamless" not in document:
        raise InvalidTransformation("not a transformation: no JSON object with a 'seamless' version")
    if document["seamless"] is True or document["seamless"] != VERSION:
        raise InvalidTransformation(
            f"transformation of version {document['seamless']!r}, but this program reads version {VERSION}:"
            " a newer seamless-dask may be needed"
        )
    try:
        transformation = _from_document(document)
    except InvalidChecksum as error:
        raise InvalidTransformation(f"not a transformation: {error}") from None
    if transformation.canonical() != data:
        raise InvalidTransformation(
            "not in canonical form: keys must be sorted, without spaces, empty or repeated members, in UTF-8"
        )
    return transformation


def check_name(name: str, what: str = "input") -> None:
    """Raise `InvalidTransformation` unless `name` is a normalised relative POSIX path."""
    problem = ""
    if not name:
        problem = "is empty"
    elif "\0" in name:
        problem = "contains a NUL"
    elif name.startswith("/"):
        problem = "is absolute"
    elif normpath(name) != name:
        problem = f"is not normalised ({normpath(name)!r} is)"
    if problem:
        raise InvalidTransformation(f"the {what} path {name!r} {problem}")


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _encode(document: dict[str, Any]) -> bytes:
    text = _ENCODER.encode(document)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidTransformation(
            f"text that is not UTF-8 in a transformation: {error.object!r:.200}"
        ) from None


def _input_document(value: Input) -> Any:
    if isinstance(value, Value):
        return [value.format, value.checksum]
    return {"of": value.of} if value.path is None else {"of": value.of, "path": value.path}


def _result_document(result: ResultSpec) -> dict[str, Any]:
    document: dict[str, Any] = {}
    if result.stdout:
        document["stdout"] = True
    if result.paths:
        document["paths"] = sorted(result.paths)
    if result.globs:
        document["globs"] = sorted(result.globs)
    if result.value:
        document["value"] = True
    if result.format is not None:
        document["format"] = result.format
    return document


def _from_document(document: dict[str, Any]) -> Description:
    _members(document, FIELDS, "the transformation")
    for name in ("language", "code", "result"):
        if name not in document:
            raise InvalidTransformation(f"not a transformation: {name!r} is missing")
    inputs = document.get("inputs", {})
    _expect(isinstance(inputs, dict), "'inputs' is not an object")
    variables = document.get("variables")
    _expect(variables is None or isinstance(variables, dict), "'variables' is not an object")
    stdin = document.get("stdin")
    return Description(
        language=document["language"],
        code=_checksum(document["code"]),
        result=_parse_result(document["result"]),
        inputs={name: _parse_input(name, value) for name, value in inputs.items()},
        stdin=None if stdin is None else _parse_input("stdin", stdin),
        variables=variables,
        shell_flags=document.get("shell_flags"),
    )


def _parse_input(name: str, value: Any) -> Input:
    if isinstance(value, dict):
        _members(value, {"of", "path"}, f"input {name!r}")
        path = value.get("path")
        _expect("of" in value, f"input {name!r} has no 'of'")
        _expect(path is None or isinstance(path, str), f"the path of input {name!r} is not text")
        return Deferred(_checksum(value["of"]), path)
    _expect(isinstance(value, list) and len(value) == 2, f"input {name!r} is not [format, checksum]")
    _expect(isinstance(value[0], str), f"the format of input {name!r} is not text")
    return Value(value[0], _checksum(value[1]))


def _parse_result(document: Any) -> ResultSpec:
    _expect(isinstance(document, dict), "'result' is not an object")
    _members(document, {"stdout", "paths", "globs", "value", "format"}, "'result'")
    for name in ("paths", "globs"):
        items = document.get(name, [])
        good = isinstance(items, list) and all(isinstance(item, str) for item in items)
        _expect(good, f"{name!r} of 'result' is not a list of texts")
    for name in ("stdout", "value"):
        _expect(document.get(name, True) is True, f"{name!r} of 'result' can only be true")
    kept = document.get("format", "")
    _expect(isinstance(kept, str), "the format of 'result' is not text")
    paths, globs = tuple(document.get("paths", ())), tuple(document.get("globs", ()))
    return ResultSpec("stdout" in document, paths, globs, "value" in document, document.get("format"))


def _checksum(text: Any) -> Checksum:
    _expect(isinstance(text, str), f"not a checksum: {text!r}")
    return Checksum(text)


def _members(document: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(document) - known)
    _expect(not unknown, f"unknown member {', '.join(unknown)} in {where}")


def _expect(good: bool, problem: str) -> None:
    if not good:
        raise InvalidTransformation(f"not a transformation: {problem}")


def _check_rules(transformation: Description) -> None:
    """Raise `InvalidTransformation` for what has the right shape and cannot be meant."""
    _expect(transformation.language in LANGUAGES, f"unknown language {transformation.language!r}")
    if transformation.language == "python":
        _check_function(transformation)
    else:
        _check_command(transformation)
    for name, value in transformation.inputs.items():
        _check_value(name, value)
    for name, text in (transformation.variables or {}).items():
        _expect(_VARIABLE.fullmatch(name) is not None, f"{name!r} cannot be the name of a variable")
        _expect(isinstance(text, str) and "\0" not in text, f"variable {name!r} is not text, or has a NUL")


def _check_command(transformation: Description) -> None:
    flags, result = transformation.shell_flags, transformation.result
    _expect(flags is None or (isinstance(flags, str) and "\0" not in flags), "bad 'shell_flags'")
    _expect(not result.value and result.format is None, "a command gives no value")
    _expect(result.number > 0, "no result is declared")
    for name in (*result.paths, *result.globs):
        check_name(name, "result")
        _expect(name.rpartition("/")[2] not in (".", ".."), f"{name!r} cannot be a result")
    _expect(len(set(result.paths)) == len(result.paths), "a result path is declared twice")
    _expect(len(set(result.globs)) == len(result.globs), "a result glob is declared twice")
    for name in transformation.inputs:
        check_name(name)
        _check_parents(name, transformation.inputs)
    if transformation.stdin is not None:
        _check_value("stdin", transformation.stdin)
        is_directory = isinstance(transformation.stdin, Value) and transformation.stdin.format == "directory"
        _expect(not is_directory, "stdin cannot be a directory")


def _check_function(transformation: Description) -> None:
    kept = transformation.result.format
    declared = ResultSpec(value=True, format=kept)
    _expect(transformation.result == declared, "a function has a value for its result")
    _expect(kept is None or _FORMAT.fullmatch(kept) is not None, f"bad format {kept!r} of the result")
    _expect(transformation.stdin is None, "a function has no standard input")
    _expect(transformation.shell_flags is None, "a function has no shell flags")
    inputs = transformation.inputs
    for name in inputs:
        found = ARGUMENT.fullmatch(name)
        _expect(found is not None, f"{name!r} cannot be an argument of a function")
        assert found is not None
        if (number := found[2]) is not None:
            argument = inputs.get(found[1])
            _expect(isinstance(argument, Value), f"input {name!r} is in no argument")
            before = number == "0" or f"{found[1]}/{int(number) - 1}" in inputs
            _expect(before, f"the inputs in argument {found[1]!r} are not numbered from 0")


def _check_value(name: str, value: Input) -> None:
    if isinstance(value, Value):
        _expect(_FORMAT.fullmatch(value.format) is not None, f"bad format {value.format!r} of {name!r}")
    elif value.path is not None:
        check_name(value.path, f"upstream result (of {name!r})")


def _check_parents(name: str, inputs: Mapping[str, Input]) -> None:
    parent = name.rpartition("/")[0]
    while parent:
        above = inputs.get(parent)
        clash = isinstance(above, Value) and above.format != "directory"
        _expect(not clash, f"input {name!r} lies below {parent!r}, which is a file")
        parent = parent.rpartition("/")[0]
