"""Objects of any class: the class by its name or code, and its state as values; pickled where that cannot be.

What an object consists of is what it tells pickle (``__reduce_ex__``); what is written of it is a tree,
which, unlike a pickle, depends neither on which of its parts are one object nor on how the interpreter
interns text.
"""

from __future__ import annotations

import copyreg
import enum
import functools
import io
import pickle
import types
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from typing import TYPE_CHECKING, Any

from hashserver.printable import one_line

from ..errors import InvalidValue, WeakIdentity
from .names import code_of, found_by_code, importable, is_found, read_code, read_name, write_name
from .refused import refuse
from .tree import Endless, Unwalkable, Unwritable, tag, write_pairs

if TYPE_CHECKING:
    from collections.abc import Callable

    from .tree import ValueWriter
    from .tree_reader import ValueReader

_COLLECTIONS = (Counter, OrderedDict, defaultdict, deque)
"""What is called with plain data from anywhere."""
_GIVEN = (list, tuple, dict, int, type(None), type)
_DEFINITIONS = (type, types.FunctionType, types.BuiltinFunctionType)
_COPYREG: Any = copyreg
_NEW, _NEW_EX = _COPYREG.__newobj__, _COPYREG.__newobj_ex__


def write_object(writer: ValueWriter, value: Any) -> Any:
    """Return the tree of an object that is no plain data and of no library that has a module here."""
    _class_of(writer, value)
    parts, left_out = len(writer.parts), writer.left_out
    outermost = writer.objects == 0
    writer.objects += 1
    try:
        with writer.inside(value):
            return _walk(writer, value)
    except Unwalkable as error:
        # What goes round is pickled as a whole; anything else as the smallest part that cannot be walked.
        if isinstance(error, Endless) and not outermost:
            raise
        del writer.parts[parts:]
        if writer.left_out > left_out:
            raise _with_a_transformation(error.reason) from None
        return write_pickled(writer, value, error.reason)
    finally:
        writer.objects -= 1


class _Class:
    """What has to be known of a class, for all of its objects in a value.

    Attributes
    ----------
    type
        Which is kept, so that no other class gets its id.
    sets_state
        Whether it says itself how it takes its state.
    caches
        Names, and whether such an attribute is what a property has remembered.
    """

    __slots__ = ("caches", "sets_state", "type")

    def __init__(self, kind: type) -> None:
        self.type = kind
        self.sets_state = hasattr(kind, "__setstate__") and not issubclass(kind, BaseException)
        self.caches: dict[str, bool] = {}


def _class_of(writer: ValueWriter, value: Any) -> _Class:
    """Return what has to be known of an object's class; one that is no value is refused."""
    kind = type(value)
    found: _Class | None = writer.classes.get(id(kind))
    if found is None:
        refuse(value)
        found = writer.classes[id(kind)] = _Class(kind)
    return found


def _with_a_transformation(reason: str) -> Unwritable:
    return Unwritable(f"{reason}, with a transformation inside: pass that by itself")


def _walk(writer: ValueWriter, value: Any) -> Any:
    if isinstance(value, _DEFINITIONS) and (isinstance(value, type) or not _is_bound(value)):
        return write_name(writer, value)
    if isinstance(value, enum.Enum):
        # One that a flag combines has no name of its own; the number of another one is part of what it is.
        name = None if isinstance(value, enum.Flag) else value.name
        return tag("object:enum", write_name(writer, type(value)), name, writer.named("value", value.value))
    reduced = _reduce(value)
    if isinstance(reduced, str):
        return _global(value, reduced)
    return _written(writer, value, *reduced)


def _is_bound(value: Any) -> bool:
    """Tell whether a built-in function is the method of something."""
    owner = getattr(value, "__self__", None)
    return owner is not None and not isinstance(owner, types.ModuleType)


def _global(value: Any, name: str) -> Any:
    """Return the tree of what pickle would look up by a name."""
    module = pickle.whichmodule(value, name)  # type: ignore[attr-defined]
    if module == "__main__" or not is_found(value, module, name):
        raise Unwalkable("cannot be imported by its name")
    return tag("object:name", f"{module}:{name}")


def _reduce(value: Any) -> Any:
    # Of exceptions Dask has others tell (tblib): what they are shall not depend on whether it is imported.
    reduce = None if isinstance(value, BaseException) else copyreg.dispatch_table.get(type(value))
    try:
        reduced = value.__reduce_ex__(4) if reduce is None else reduce(value)
    except Unwritable:
        raise
    except Exception as error:
        raise Unwalkable(
            f"does not tell what it consists of ({type(error).__name__}: {error!s:.200})"
        ) from None
    if isinstance(reduced, str) or (isinstance(reduced, tuple) and 2 <= len(reduced) <= 6):
        return reduced
    raise Unwalkable("does not tell what it consists of")


def _written(
    writer: ValueWriter,
    value: Any,
    make: Any,
    arguments: tuple[Any, ...],
    state: Any = None,
    items: Any = None,
    pairs: Any = None,
    setter: Any = None,
) -> Any:
    """Return the tree of what an object tells pickle."""
    rest = [
        _state(writer, value, state),
        None if items is None else writer.items(items),
        None if pairs is None else write_pairs(writer, pairs),
        None if setter is None else write_name(writer, setter),
    ]
    while rest and rest[-1] is None:
        rest.pop()
    if make is _NEW:
        kind, *arguments_of = arguments
        return tag("object:new", write_name(writer, kind), writer.items(arguments_of), {}, *rest)
    if make is _NEW_EX:
        kind, arguments_of, named = arguments
        names = {name: writer.named(name, named[name]) for name in sorted(named)}
        return tag("object:new", write_name(writer, kind), writer.items(arguments_of), names, *rest)
    if isinstance(value, set | frozenset) and len(arguments) == 1 and isinstance(arguments[0], list):
        # A subclass tells its members in an order that differs between processes.
        return tag("object:call", write_name(writer, make), [writer.sorted_items(arguments[0])], *rest)
    return tag("object:call", _maker(writer, make), writer.items(arguments), *rest)


def _maker(writer: ValueWriter, make: Any) -> Any:
    """Return the tree of what is called: a function or class, or an object with such a method."""
    return write_name(writer, make) if importable(make) else writer.tree(make)


def _state(writer: ValueWriter, value: Any, state: Any) -> Any:
    """Return the tree of an object's state, attributes sorted by name: their order is how it came about."""
    kind = _class_of(writer, value)
    if kind.sets_state:
        return None if state is None else writer.tree(state)
    if isinstance(state, tuple) and len(state) == 2:
        return tag("tuple", [_attributes(writer, kind, part) for part in state])
    return _attributes(writer, kind, state)


def _attributes(writer: ValueWriter, kind: _Class, state: Any) -> Any:
    if type(state) is not dict or not all(type(name) is str for name in state):
        return None if state is None else writer.tree(state)
    if not state:
        return None
    names = [name for name in sorted(state) if not _is_cache(kind, name)]
    found = {name: writer.named(name, state[name]) for name in names}
    return found if "@" not in found else tag("dict", [[name, found[name]] for name in names])


def _is_cache(kind: _Class, name: str) -> bool:
    """Tell whether an attribute is what a property has remembered: it is there once somebody has looked."""
    found = kind.caches.get(name)
    if found is None:
        found = isinstance(getattr(kind.type, name, None), functools.cached_property)
        kind.caches[name] = found
    return found


def write_pickled(writer: ValueWriter, value: Any, reason: str) -> Any:
    """Put a pickle beside the tree, with a warning."""
    data = _pickle(writer, value, reason)
    warnings.warn(
        f"a {type(value).__qualname__} is pickled: it {reason}. Equal ones may count as different",
        WeakIdentity,
        stacklevel=2,
    )
    return writer.part("pickle", lambda sink: sink(data))


def _pickle(writer: ValueWriter, value: Any, reason: str) -> bytes:
    import cloudpickle

    class Whole(cloudpickle.Pickler):  # type: ignore[misc]
        def persistent_id(self, member: Any) -> None:
            if writer.is_left_out(member):  # the walk ended before it came there
                raise _with_a_transformation(reason)

    return _dumped(Whole, value)


def pickled(value: Any) -> bytes:
    """Return the pickle of an object that is asked for as one; classes by their code where they have some.

    Raises
    ------
    Unwritable
        When it cannot be pickled.
    """
    import cloudpickle

    class ByCode(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, member: Any) -> Any:
            text = code_of(member) if isinstance(member, _DEFINITIONS) else None
            return super().reducer_override(member) if text is None else (found_by_code, (text,))

    return _dumped(ByCode, value)


def _dumped(pickler: Any, value: Any) -> bytes:
    stream = io.BytesIO()
    try:
        pickler(stream, protocol=5).dump(value)
    except Unwritable:
        raise
    except Exception as error:
        raise Unwritable(
            f"is a {type(value).__qualname__}, which cannot be stored: {type(error).__name__}: {error!s:.200}"
        ) from None
    return stream.getvalue()


def load_pickle(data: Any) -> Any:
    """Return the object of a pickle that the caller trusts."""
    try:
        return pickle.loads(data)  # noqa: S301 - trusted
    except (ImportError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise InvalidValue(one_line(f"the pickle cannot be read here: {error!s:.200}")) from error


def reader(name: str) -> Callable[..., Any]:
    """Return what reads the fields behind a tag; raises `KeyError`."""
    return _READERS[name]


def _read_enum(reader: ValueReader, kind: Any, name: str | None, value: Any) -> Any:
    found = reader.value(kind)
    reader.trust(found)
    return found(reader.value(value)) if name is None else found[name]


def _read_new(reader: ValueReader, kind: Any, arguments: list[Any], named: dict[str, Any], *rest: Any) -> Any:
    found = reader.value(kind)
    reader.trust(found)
    made = found.__new__(
        found, *reader.values(arguments), **{name: reader.value(tree) for name, tree in named.items()}
    )
    return _completed(reader, made, *rest)


def _read_call(reader: ValueReader, make: Any, arguments: list[Any], *rest: Any) -> Any:
    found, given = reader.value(make), reader.values(arguments)
    # What only says how long it is (a range, an index of pandas) would be written out here.
    plain = all(type(one) in _GIVEN for one in given)
    if not plain or not any(found is known for known in _COLLECTIONS):
        reader.trust(found)
    return _completed(reader, _called(found, given), *rest)


def _called(make: Any, given: list[Any]) -> Any:
    """Call what makes an object.

    An exception tells as its arguments those of the built-in class that it comes from; its own ``__init__``
    may take others, or make a message of what is one already.
    """
    if not isinstance(make, type) or not issubclass(make, BaseException):
        return make(*given)
    teller = next(kind for kind in make.__mro__ if "__reduce__" in vars(kind))
    if teller.__module__ != "builtins":
        return make(*given)
    built_in: Any = next(kind for kind in make.__mro__ if kind.__module__ == "builtins")
    made = make.__new__(make, *given)
    built_in.__init__(made, *given)
    return made


def _completed(
    reader: ValueReader,
    made: Any,
    state: Any = None,
    items: Any = None,
    pairs: Any = None,
    setter: Any = None,
) -> Any:
    """Give a new object its state and members, as pickle does."""
    if setter is not None:
        reader.value(setter)(made, reader.value(state))
    elif state is not None:
        _set_state(made, reader.value(state))
    if items is not None:
        members = reader.values(items)
        made.extend(members) if hasattr(made, "extend") else [made.append(member) for member in members]
    for name, member in pairs or ():
        made[reader.value(name)] = reader.value(member)
    return made


def _set_state(made: Any, state: Any) -> None:
    if hasattr(made, "__setstate__"):
        made.__setstate__(state)
        return
    slots = None
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    if state:
        vars(made).update(state)
    for name, value in (slots or {}).items():
        object.__setattr__(made, name, value)


_READERS: dict[str, Callable[..., Any]] = {
    "name": read_name,
    "code": read_code,
    "enum": _read_enum,
    "new": _read_new,
    "call": _read_call,
}
