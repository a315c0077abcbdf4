"""Functions in Python as transformations: identified by what they compute, and found when it is known."""

from __future__ import annotations

import inspect
import json
import threading
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, ParamSpec, TypeVar, overload

from hashserver.checksum import CHUNK, Checksum, hash_bytes, set_resolver

from . import api
from .api import Output, Transformation
from .code.identity import Code, identify
from .definitions import by_code, describe
from .errors import UsageError
from .graph import handles
from .graph.handles import Handle
from .model.transformation import Deferred, Description, ResultSpec, Value
from .values import writing as values_writing
from .values.writing import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from hashserver.checksum import Bytes

    from .context import Context

P = ParamSpec("P")
T = TypeVar("T")

_REFUSED = ("writable", "executables", "direct_print", "lines")


class _IdentifiedCode(NamedTuple):
    """The code of a function, and what a call needs of it."""

    code: Code
    text: bytes
    lines: bytes
    lines_checksum: Checksum
    inputs: dict[str, Value]


class Function(Generic[P, T]):
    """A function whose calls are transformations.

    Attributes
    ----------
    function
        The plain one, for a debugger.
    """

    def __init__(
        self,
        function: Callable[P, T],
        options: dict[str, Any],
        context: Context | None,
        instance: tuple[object, ...] = (),
    ) -> None:
        self.function, self._options, self._context = function, options, context
        self._instance = instance
        self._signature = inspect.signature(function)
        self._lock = threading.Lock()
        self._code: _IdentifiedCode | None = None
        if refused := next((name for name in _REFUSED if name in options), None):
            raise UsageError(f"a function has no option {refused!r}")
        api._options({name: value for name, value in options.items() if name != "variables"})  # complains now
        update_wrapper(self, function)  # type: ignore[arg-type]

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} {getattr(self.function, '__qualname__', self.function)!s}>"

    @property
    def code(self) -> str:
        """The text that counts, and that runs."""
        return self._identified().code.text

    @property
    def reached(self) -> tuple[Any, ...]:
        """All of the user's own that the function took in, and from where."""
        return self._identified().code.reached

    def _identified(self) -> _IdentifiedCode:
        with self._lock:
            if self._code is None or not self._code.code.guard():
                code = identify(self.function, describe=describe)
                by_code.remember(each.value for each in code.reached if each.kind == "class")
                lines = json.dumps(code.lines, separators=(",", ":")).encode()
                inputs = {
                    f"@{name}": Value(each.format, hash_bytes(each.data))
                    for name, each in code.inputs.items()
                }
                self._code = _IdentifiedCode(code, code.text.encode(), lines, hash_bytes(lines), inputs)
            return self._code

    def transformation(self, *args: P.args, **kwargs: P.kwargs) -> Transformation:
        """Return a call as a transformation; nothing runs."""
        found = self._identified()
        if self._context is not None:
            handles.use(self._context)
        parts = api._Parts(self._context or handles.default_context(), found.text)
        parts.buffers += [found.lines, *(each.data for each in found.code.inputs.values())]
        inputs: dict[str, Value | Deferred] = dict(found.inputs)
        for name, item in self._arguments(*args, **kwargs):
            inputs |= _inputs(parts, name, item)
        options = {"lines": found.lines_checksum, **self._options}
        variables = options.pop("variables", None)
        options.setdefault("label", getattr(self.function, "__name__", None))
        description = Description(
            language="python",
            code=hash_bytes(parts.buffers[0]),
            result=ResultSpec(value=True),
            inputs=inputs,
            variables=api._variables(variables) if variables else None,
        )
        return api.made(description, options, self._context, parts)

    def _arguments(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, Any]]:
        """Yield all arguments by the names of inputs, those that were left out too."""
        bound = self._signature.bind(*self._instance, *args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            kind = self._signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                yield from ((str(number), item) for number, item in enumerate(value))
            elif kind is inspect.Parameter.VAR_KEYWORD:
                yield from ((f"**{keyword}", item) for keyword, item in value.items())
            else:
                yield name, value

    def __get__(self, instance: object, owner: object = None) -> Self:
        """Return what a method is: a call has the instance for its first argument."""
        if instance is None:
            return self
        return type(self)(self.function, self._options, self._context, (instance,))


class Direct(Function[P, T]):
    """A function that is called, or whose result is found; see `direct`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what it computes."""
        result: T = api.value_of(self.transformation(*args, **kwargs))
        return result

    @property
    def delayed(self) -> Delayed[P, T]:
        """The same with transformations for its calls."""
        return Delayed(self.function, self._options, self._context, self._instance)


class Delayed(Function[P, T]):
    """A function whose calls return transformations; see `delayed`."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Transformation:
        """Return the call as a transformation; nothing runs."""
        return self.transformation(*args, **kwargs)

    @property
    def direct(self) -> Direct[P, T]:
        """The same, called at once."""
        return Direct(self.function, self._options, self._context, self._instance)


def _inputs(parts: Any, name: str, item: Any) -> dict[str, Value | Deferred]:
    """Return the inputs for one argument."""
    if isinstance(item, Transformation | Output | Handle):
        return {name: parts.value(name, item)}
    found: dict[str, Value | Deferred] = {}
    numbers: dict[str, int] = {}
    inner: list[Any] = []

    def hole(each: Any) -> str | None:
        if not isinstance(each, Transformation | Output | Handle):
            return None
        value = parts.value(name, each)
        text = f"{type(value).__name__}{tuple(value)}"
        if text not in numbers:
            numbers[text] = len(numbers)
            inner.append(value)
        return text

    encoded = encode(item, f"argument {name!r}", hole)
    data: list[bytes] = []
    encoded.write(lambda part: data.append(bytes(part)))
    parts.buffers.append(b"".join(data))
    found[name] = Value(encoded.format, hash_bytes(parts.buffers[-1]))
    found |= {f"{name}/{number}": value for number, value in enumerate(inner)}
    return found


def put(value: Any, *, context: Context | None = None) -> Handle:
    """Store a value once, and return a handle that functions take in its place.

    Parameters
    ----------
    value
        Anything that can be an argument; it is not looked at again.
    context
        Store and database; by default those of the configuration.

    Raises
    ------
    NotAValue
        For what no bytes stand for.
    """
    if isinstance(value, Handle):
        return value
    if context is not None:
        handles.use(context)
    store = (context or handles.default_context()).store
    encoded = encode(value)
    with store.writer() as writer:
        encoded.write(lambda part: _in_slices(part, writer.write))
        checksum, _ = writer.commit()
    return handles.of(encoded.format, checksum)


def _in_slices(part: Bytes, write: Callable[[bytes], None]) -> None:
    view = memoryview(part).cast("B")
    for start in range(0, len(view), CHUNK):
        write(bytes(view[start : start + CHUNK]))


def checksum_of(value: Any) -> Checksum:
    """Return the checksum of a value: of a handle's bytes, or of those that stand for an object."""
    if isinstance(value, Handle):
        return value.checksum
    return values_writing.checksum_of(value)


def _resolved(checksum: Checksum, *, again: bool) -> bytes:
    context = handles.contexts_of_process()[0]
    if again:
        from .graph.fingertip import fingertip

        fingertip(context, checksum)
    data: bytes = context.store.get(checksum)
    return data


set_resolver(_resolved)


@overload
def direct(function: Callable[P, T], /) -> Direct[P, T]: ...
@overload
def direct(*, context: Context | None = None, **options: Any) -> Callable[[Callable[P, T]], Direct[P, T]]: ...
def direct(function: Any = None, /, *, context: Context | None = None, **options: Any) -> Any:
    """Make a function whose calls are found when anyone has computed them, and run otherwise.

    Parameters
    ----------
    function
        All of the user's own that it reaches counts: helpers, classes, constants.
    context
        Store and database; by default those of the configuration.
    **options
        As those of `bash`: ``cpus``, ``memory``, ``time_limit``, ``conda``, ``variables`` and so on.

    Raises
    ------
    UsageError
        For an option that does not exist.
    """
    if function is None:
        return lambda each: Direct(each, options, context)
    return Direct(function, options, context)


@overload
def delayed(function: Callable[P, T], /) -> Delayed[P, T]: ...
@overload
def delayed(
    *, context: Context | None = None, **options: Any
) -> Callable[[Callable[P, T]], Delayed[P, T]]: ...
def delayed(function: Any = None, /, *, context: Context | None = None, **options: Any) -> Any:
    """Make a function whose calls are transformations, which compute when Dask is asked; see `direct`."""
    if function is None:
        return lambda each: Delayed(each, options, context)
    return Delayed(function, options, context)
