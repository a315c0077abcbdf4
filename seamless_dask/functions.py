"""Functions in Python as transformations: identified by what they compute, and found when it is known."""

from __future__ import annotations

import inspect
import json
import os
import sys
import threading
import types
import warnings
from functools import partial, update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, NamedTuple, ParamSpec, Self, TypeVar, overload

from hashserver.checksum import Checksum, hash_bytes, set_resolver

from . import api
from .api import Transformation
from .code.border import Border
from .code.guards import same_defaults
from .code.identity import Code, CodeWarning, identify
from .code.signatures import signature_of
from .code.unwrapping import signed, why_no_result
from .definitions import by_code, describe
from .errors import NoIdentity, NotAValue, UsageError
from .execution.call import ANSWERS, INSIDE
from .graph import handles
from .graph.arguments import bytes_of, stored
from .graph.handles import Handle
from .graph.local_inputs import keep_all
from .graph.names import LABEL, dask_key, fresh_key, label_of
from .graph.objects import trimmed
from .model.call_form import CallForm
from .model.transformation import Deferred, Description, ResultSpec, Value
from .submitted import (
    FunctionFacts,
    NoDefault,
    OwnArgument,
    SubmittedFunction,
    arguments_of,
    beside_of,
    check_identity,
    inputs_of,
)
from .values import writing as values_writing
from .values.writing import encode, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .context import Context
    from .model.options import Options

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")

_OWN = ("ignore", "version", "variables", "format", "keep_inputs")
"""Options that say what counts."""
_REFUSED = ("writable", "executables", "direct_print")
"""Options of commands only."""
_OF_FUNCTIONS = ("__code__", "__defaults__", "__kwdefaults__")
"""What of a plain function can be asked of ours, too."""
_VALUE = ResultSpec(value=True)


class _IdentifiedCode(NamedTuple):
    """The code of a function, and what a call needs of it: `common` is what all calls are described by."""

    code: Code
    text: bytes
    checksum: Checksum
    lines: bytes
    lines_checksum: Checksum
    inputs: dict[str, Value]
    common: Description
    signature: inspect.Signature
    has_defaults: Callable[[], bool]
    form: CallForm | None


class _DescribedCall(NamedTuple):
    """A call: its identity, what is to be stored for it, and what only a run needs."""

    description: Description
    parts: api.Parts
    found: _IdentifiedCode
    ignored: dict[str, list[str]]

    @property
    def key(self) -> Checksum:
        """The key of its description."""
        form = self.found.form
        return (None if form is None else form.key(self.description.inputs)) or self.description.key


class Function(Generic[P, T]):
    """A function whose calls are transformations."""

    def __init__(
        self,
        function: Callable[P, T],
        options: dict[str, Any],
        context: Context | None,
        instance: tuple[object, ...] = (),
    ) -> None:
        if isinstance(function, Function):
            options = {**function._given, **options}
            context, instance = context or function._context, instance or function._instance
            function = function._decorated
        plain: Callable[P, T] = _plain(function)
        update_wrapper(self, plain, updated=())  # type: ignore[arg-type]
        self._given, self._context, self._instance = options, context, instance
        self._options = api.options_of(
            {name: value for name, value in options.items() if name not in _OWN},
            "a function",
            refused=_REFUSED,
            further=_OWN,
        )
        variables = options.get("variables")
        self._variables = api.variables_of(variables) if variables else None
        self._decorated = function
        self._tells_defaults = bool(signed(plain))
        self._ignored = _ignored(plain, signature_of(plain), options.get("ignore", ()))
        self._keeps_inputs = _keeps_inputs(options.get("keep_inputs", True))
        self._result = _declared(options.get("format"))
        version = options.get("version")
        self._identity = None if version is None else _versioned(plain, str(version)).encode()
        self._lock = threading.Lock()
        self._code: _IdentifiedCode | None = None
        self._submitted: tuple[_IdentifiedCode, SubmittedFunction] | None = None
        self._origin: Function[..., Any] | None = None
        self._function = plain

    def __setattr__(self, name: str, value: Any) -> None:
        """Set what is not ours on the function, where it counts: ``fit.step = 2``."""
        function = vars(self).get("_function")
        if function is not None and name in ("function", "__wrapped__"):
            raise AttributeError(f"{name} of {self!r} cannot be replaced: decorate the other function")
        is_ours = name in vars(self) or hasattr(type(self), name)
        if is_ours or not isinstance(function, types.FunctionType):
            super().__setattr__(name, value)
        else:
            setattr(function, name, value)

    if not TYPE_CHECKING:  # a name that is misspelt is to be told

        def __getattr__(self, name: str) -> Any:
            """Return what the function has by a name."""
            function = vars(self).get("_function")
            has_it = name in getattr(function, "__dict__", ()) and not name.startswith("__")
            if has_it or (name in _OF_FUNCTIONS and isinstance(function, types.FunctionType)):
                return getattr(function, name)
            raise AttributeError(f"{self!r} has no attribute {name!r}", name=name, obj=self)

    @property
    def function(self) -> Callable[P, T]:
        """The plain one, for a debugger."""
        return self._function

    @property
    def plain(self) -> Callable[..., T]:
        """The plain function, with the instance of a method."""
        function: Callable[..., T] = self.function
        return partial(function, *self._instance) if self._instance else function

    @property
    def asked(self) -> dict[str, Any] | None:
        """How a function that runs asks for calls of this one; None: it calls the plain one.

        ``counts`` is part of its text: what a call gives depends on that.
        """
        is_delayed = isinstance(self, Delayed)
        counts: dict[str, Any] = (
            {"variables": dict(sorted(self._variables.items()))} if self._variables else {}
        )
        if is_delayed and self._ignored:
            counts["ignore"] = tuple(sorted(self._ignored))
        beside = ("ignore", "version", "run")
        is_plain = not self._keeps_inputs or any(self._given.get(name) for name in beside)
        if self._instance or (is_plain and not is_delayed and not counts):
            return None
        options = {name: value for name, value in self._given.items() if name not in ("variables", *beside)}
        return {"delayed": is_delayed, "options": options, "counts": counts}

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
        if self._origin is not None:  # of all instances the code is one
            return self._origin._identified()
        with self._lock:
            if self._code is None or not (self._code.has_defaults() and self._code.code.guard()):
                config = (self._context or handles.default_context()).config
                border = Border(config.own_modules, config.library_modules)
                by_code.use(border)
                code = self._found_code(border)
                by_code.remember(each.value for each in code.reached if each.kind == "class")
                lines = json.dumps(code.lines, separators=(",", ":"), default=str).encode()
                inputs = {
                    f"@{name}": Value(each.format, hash_bytes(each.data))
                    for name, each in code.inputs.items()
                }
                text = code.text.encode()
                checksum = hash_bytes(text)
                common = self._common(checksum, inputs)
                signature, has_defaults = signature_of(self.function), same_defaults(signed(self.function))
                form = CallForm.of(common, signature, self._ignored) if self._tells_defaults else None
                self._code = _IdentifiedCode(
                    code,
                    text,
                    checksum,
                    lines,
                    hash_bytes(lines),
                    inputs,
                    common,
                    signature,
                    has_defaults,
                    form,
                )
            return self._code

    def _common(self, code: Checksum, inputs: Mapping[str, Value]) -> Description:
        """Return what all calls have in common; a version stands for the code and what that reads."""
        if self._identity is not None:
            code, inputs = hash_bytes(self._identity), {}
        return Description("python", code, self._result, dict(inputs), variables=self._variables)

    def _found_code(self, border: Border) -> Code:
        if self._identity is None:
            return identify(self.function, border, describe)
        try:
            with warnings.catch_warnings():
                # what code does not tell is what a version is for
                warnings.simplefilter("ignore", CodeWarning)
                return identify(self.function, border, describe)
        except NoIdentity:
            return Code(self._identity.decode(), {}, (), (), {}, lambda: True)  # which imports it

    def transformation(self, /, *args: P.args, **kwargs: P.kwargs) -> Transformation:
        """Return a call as a transformation; nothing runs."""
        return self._made(self._described(self._place(), args, kwargs))

    def _as_raised(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exception:
        """Return an error as a call is to raise it: without frames of ours, unless it is a fault of ours."""
        if isinstance(error, TypeError):
            try:
                signature_of(self.function).bind(*self._instance, *args, **kwargs)
            except TypeError as wrong:
                told = TypeError(f"{_name_of(self.function) or 'the function'}: {wrong}")
                told.__suppress_context__ = True
                return told
        return trimmed(error)

    def _place(self) -> Context:
        """Return where results are looked up."""
        if self._context is None:
            return handles.default_context()
        handles.use(self._context)
        return self._context

    def _described(self, context: Context, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _DescribedCall:
        """Return what a call is; nothing is made that only a run needs."""
        found = self._identified()
        parts = api.Parts(context, self._identity or found.text, keeps_inputs=self._keeps_inputs)
        parts.buffers += self._buffers(found)
        inputs = dict(found.common.inputs)
        beside: dict[str, Value | Deferred] = {} if self._identity is None else dict(found.inputs)
        for name, item, counts in self._arguments(found, args, kwargs):
            (inputs if counts else beside).update(inputs_of(parts, name, item))
        ignored = {name: beside_of(name, value) for name, value in beside.items()} if beside else {}
        return _DescribedCall(found.common._replace(inputs=inputs), parts, found, ignored)

    def _made(self, call: _DescribedCall) -> Transformation:
        """Return the transformation of a call."""
        found, parts = call.found, call.parts
        parts.store_large()
        options = self._options_of(found)._replace(
            ignored=call.ignored, not_kept=tuple(sorted({each.name for each in parts.handed}))
        )
        return api.made(call.description, options, self._context, parts)

    def _options_of(self, found: _IdentifiedCode) -> Options:
        """Return how all calls are run."""
        label = self._options.label
        return self._options._replace(
            lines=found.lines_checksum,
            label=_name_of(self.function) if label is None else label,
            source=None if self._identity is None else found.checksum,
        )

    def _arguments(
        self, found: _IdentifiedCode, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[tuple[str, Any, bool]]:
        """Yield all arguments, also those left out: by the name of an input, and whether it counts."""
        yield from arguments_of(
            found.signature,
            found.form,
            self._ignored,
            (*self._instance, *args),
            kwargs,
            lambda bound: self._fill(bound, found),
        )

    def _fill(self, bound: inspect.BoundArguments, found: _IdentifiedCode) -> None:
        if self._tells_defaults:
            given = set(bound.arguments)
            bound.apply_defaults()
            if all(each.kind == "import" for each in found.code.reached):
                _leave_out(bound.arguments, set(bound.arguments) - given)

    def _buffers(self, found: _IdentifiedCode) -> list[bytes]:
        """Return what all calls need in the store beside the text that identifies them."""
        text = [] if self._identity is None else [found.text]
        return [found.lines, *(each.data for each in found.code.inputs.values()), *text]

    # -------------------------------------------------- what a client of Dask asks of a function

    def keys(self, /, *iterables: Any, **kwargs: Any) -> list[str]:
        """Return names of tasks that tell what they compute: ``client.map(fit, xs, key=fit.keys(xs))``.

        Parameters
        ----------
        *iterables, **kwargs
            As ``map`` is given them.
        """
        context, found = self._place(), self._identified()
        label, name = label_of((self._identity or found.text).decode()), self._name
        return [name(self._key(context, args, kwargs), label) for args in zip(*iterables, strict=False)]

    @property
    def _name(self) -> Callable[[Checksum, str], str]:
        return fresh_key if self._options.fresh else dask_key

    def _key(self, context: Context, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Checksum:
        form = self._identified().form
        key = None if form is None else form.plain_key((*self._instance, *args), kwargs)
        return key or self._described(context, args, kwargs).key

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        if "distributed" in sys.modules:  # a client of it may be about to submit this
            from .graph.dask_client import hand_over_objects

            hand_over_objects()
        submitted = self.submitted()
        if self._options.fresh:
            return "seamless", os.urandom(8).hex()
        facts = submitted.facts._replace(buffers=())  # all of them have checksums in the rest
        return "seamless", *(getattr(facts, name) for name in facts._fields)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        del memo
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return self.submitted().__reduce__()

    def submitted(self) -> SubmittedFunction:
        """Return what stands for it in a graph of Dask's."""
        found = self._identified()
        if self._submitted is not None and self._submitted[0] is found:
            return self._submitted[1]
        context = self._place()
        parts = api.Parts(context, self._identity or found.text)
        parts.buffers += self._buffers(found)
        is_import = all(each.kind == "import" for each in found.code.reached)
        parameters = tuple(
            (name, int(each.kind), self._own_default(parts, each, is_import))
            for name, each in found.signature.parameters.items()
        )
        instance = tuple(_own(parts, "self", each) for each in self._instance)
        keep_all(context, parts.sources)
        beside = {} if self._identity is None else found.inputs
        facts = FunctionFacts(
            _name_of(self.function) or LABEL,
            found.common.canonical(),
            self._options_of(found).to_json(),
            parameters,
            self._tells_defaults,
            instance,
            tuple(sorted(self._ignored)),
            {name: (value.format, str(value.checksum)) for name, value in beside.items()},
            self._keeps_inputs,
            parts.buffers[0],
            (*parts.buffers[1:], *(bytes_of(each) for each in parts.large)),
        )
        made = SubmittedFunction(facts)
        if not instance and not any(isinstance(default, OwnArgument) for _, _, default in parameters):
            self._submitted = found, made  # nobody can change what a plain value is
        return made

    def _own_default(self, parts: api.Parts, parameter: inspect.Parameter, is_import: bool) -> Any:
        default = parameter.default
        if default is parameter.empty or plain(default) is not None:
            return default
        if not self._tells_defaults:
            return NoDefault()
        try:
            return _own(parts, parameter.name, default)
        except NotAValue as error:
            return NoDefault(None if is_import else str(error))

    def _bound(self, instance: object, owner: object) -> Any:
        """Return what a method is: a call has the instance, or the class, for its first argument."""
        first = owner if isinstance(self._decorated, classmethod) else instance
        if first is None or isinstance(self._decorated, staticmethod):
            return self
        method = self.same()
        method._instance = (first,)
        return method

    def same(self) -> Self:
        """Return one of the same code, for whoever is to call it in another way."""
        other = object.__new__(type(self))
        vars(other).update(vars(self))
        other._origin, other._submitted = self._origin or self, None
        return other


class Direct(Function[P, T]):
    """A function that is called, or whose result is found; see `direct`."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what it computes, which a function that runs asks for where somebody answers."""
        is_inside = INSIDE in os.environ
        if is_inside and not (ANSWERS in os.environ and self._keeps_inputs):
            return self.plain(*args, **kwargs)
        __tracebackhide__ = True  # for IPython and pytest; others show this one frame of ours
        try:
            return self._found_or_run(args, kwargs)
        except Exception as error:
            if is_inside and isinstance(error, NotAValue | NoIdentity):  # nobody else could be told of it
                return self.plain(*args, **kwargs)
            raise self._as_raised(error, args, kwargs)  # noqa: B904 - it is the same

    def _found_or_run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        context = self._place()
        form = self._identified().form
        key = None if form is None else form.plain_key((*self._instance, *args), kwargs)
        call = None
        if key is None:
            call = self._described(context, args, kwargs)
            key = call.key
        known = None if self._options.fresh else context.database.find(key)
        result: T = (
            self._made(call or self._described(context, args, kwargs)).compute()
            if known is None
            else api.value_of(key, known, context, named=self._context is not None)
        )
        return result

    @overload
    # a function for an instance: mypy takes what a property returns for a descriptor, too
    def __get__(self, instance: Function[..., Any] | None, owner: type) -> Direct[P, T]: ...
    @overload
    def __get__(
        self: Direct[Concatenate[Any, Q], T], instance: object, owner: type | None = None
    ) -> Direct[Q, T]: ...
    def __get__(self, instance: object, owner: object = None) -> Any:
        """Return the method of an instance or a class."""
        return self._bound(instance, owner)

    @property
    def delayed(self) -> Delayed[P, T]:
        """The same with transformations for its calls."""
        return Delayed(self._decorated, self._given, self._context, self._instance)


class Delayed(Function[P, T]):
    """A function whose calls return transformations; see `delayed`."""

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Transformation:
        """Return the call as a transformation; nothing runs."""
        __tracebackhide__ = True
        try:
            return self.transformation(*args, **kwargs)
        except Exception as error:
            raise self._as_raised(error, args, kwargs)  # noqa: B904 - it is the same

    @overload
    # a function for an instance: mypy takes what a property returns for a descriptor, too
    def __get__(self, instance: Function[..., Any] | None, owner: type) -> Delayed[P, T]: ...
    @overload
    def __get__(
        self: Delayed[Concatenate[Any, Q], T], instance: object, owner: type | None = None
    ) -> Delayed[Q, T]: ...
    def __get__(self, instance: object, owner: object = None) -> Any:
        """Return the method of an instance or a class."""
        return self._bound(instance, owner)

    @property
    def direct(self) -> Direct[P, T]:
        """The same, called at once."""
        return Direct(self._decorated, self._given, self._context, self._instance)


def _plain(function: Any) -> Any:
    """Return the function that is to be called; what none can be made of is refused.

    Raises
    ------
    UsageError
        It is no function, or its results cannot be kept.
    """
    if isinstance(function, staticmethod | classmethod):
        function = function.__func__
    if not callable(function):
        raise UsageError(f"{function!r} is not a function")
    if why := why_no_result(function):
        raise UsageError(f"{_name_of(function)} {why}")
    return function


def _name_of(function: Any) -> str | None:
    name = getattr(function, "__name__", None) or getattr(getattr(function, "func", None), "__name__", None)
    return name if isinstance(name, str) else None


def _ignored(function: Any, signature: inspect.Signature, names: Any) -> frozenset[str]:
    """Return the names of the arguments that do not count; one that is no argument is an error."""
    names = (names,) if isinstance(names, str) else tuple(names)
    parameters = signature.parameters
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    if wrong := [name for name in names if name not in parameters and not takes_any]:
        known = ", ".join(parameters) or "none"
        raise UsageError(
            f"ignore: {_name_of(function)} has no argument {wrong[0]!r}; its arguments are: {known}"
        )
    return frozenset(names)


def _keeps_inputs(given: Any) -> bool:
    if not isinstance(given, bool):
        raise UsageError(f"keep_inputs must be True or False, not {given!r}")
    return given


def _declared(format: Any) -> ResultSpec:  # noqa: A002 - the option's name
    """Return what is asked of a function, in the format that its result is to be kept in.

    Raises
    ------
    UsageError
        There is no such format.
    """
    if format is None:
        return _VALUE
    from .values.formats import FORMATS

    if format not in (known := (*FORMATS, "file", "directory")):
        raise UsageError(f"format: there is no {format!r}; there are {', '.join(known)}")
    return ResultSpec(value=True, format=format)


def _leave_out(arguments: dict[str, Any], names: set[str]) -> None:
    """Leave out the defaults of a library's function that no bytes stand for: it has them itself."""
    for name in names:
        try:
            check_identity(name, arguments[name])
            encode(arguments[name])
        except NotAValue:
            del arguments[name]


def _own(parts: api.Parts, name: str, item: Any) -> OwnArgument:
    """Return what stands for an argument that a function has by itself."""
    values = inputs_of(parts, name, item).values()
    if not all(isinstance(value, Value) for value in values):
        raise NotAValue(f"argument {name!r} has a transformation for its default: pass it in the call")
    return OwnArgument(tuple((value.format, str(value.checksum)) for value in values))  # type: ignore[union-attr]


def _versioned(function: Any, version: str) -> str:
    """Return what identifies a function by its name and a version: a text that imports it.

    Raises
    ------
    UsageError
        It has no name by which it is told from all others.
    """
    owner = getattr(function, "__self__", None)
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    module = _script() if module == "__main__" else module
    parts = [*str(module).split("."), *str(name).split(".")]
    is_bound = owner is not None and not isinstance(owner, types.ModuleType)
    if is_bound or not all(part.isidentifier() for part in parts) or None in (module, name):
        raise UsageError(
            f"version: {name or function!r} has no name of its own: define it with `def` at the top of a file"
        )
    first = str(name).partition(".")[0]
    return f"# version {json.dumps(version)}\nfrom {module} import {first}\n\n__function__ = {name}\n"


def _script() -> str | None:
    """Return the name by which the module that runs would be imported; None in a notebook."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    return None if file is None else os.path.splitext(os.path.basename(file))[0]


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
    return handles.of(encoded.format, stored(store, encoded.write))


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
