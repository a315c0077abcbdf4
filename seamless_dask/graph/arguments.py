"""Arguments of functions on their way to a run: into the store, or handed over to that run alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from hashserver.checksum import CHUNK
from hashserver.namedtuple import NamedTuple

from ..errors import ArgumentNotKept, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from hashserver.checksum import Bytes, Checksum
    from hashserver.storage.store import Store

    from ..context import Context
    from ..model.options import Options
    from ..model.transformation import Description
    from .local_inputs import LocalInput

_HANDED = "handed-over"
"""Where in the cache directory arguments lie that are kept nowhere, while they are needed."""


class LargeArgument(NamedTuple):
    """An argument of which the bytes are not kept in memory: the object has them.

    Attributes
    ----------
    name : str
        Of the input.
    checksum : Checksum
        Of the bytes.
    write : callable
        Writes them into a sink.
    """

    name: str
    checksum: Checksum
    write: Callable[[Callable[[Bytes], None]], object]


def stored(store: Store, write: Callable[[Callable[[Bytes], None]], object]) -> Checksum:
    """Store what `write` writes into a sink, and return its checksum; nothing large is copied in memory."""
    with store.writer() as writer:

        def in_slices(part: Bytes) -> None:
            view = memoryview(part).cast("B")
            for start in range(0, len(view), CHUNK):
                writer.write(bytes(view[start : start + CHUNK]))

        write(in_slices)
        checksum, _ = writer.commit()
    return checksum


def of_source(name: str, source: LocalInput, context: Context) -> Iterator[LargeArgument]:
    """Yield what a local file or directory consists of."""
    for path, checksum, _ in source.files(context):
        yield LargeArgument(name, checksum, partial(_write_file, path))
    if (index := source.index(context)) is not None:
        yield LargeArgument(name, source.identify(context), partial(_write_data, index))


class HandedArguments:
    """Arguments that no store has (``keep_inputs=False``), on their way to one run; a pickle has the bytes.

    Parameters
    ----------
    arguments
        With what writes each.
    """

    def __init__(self, arguments: Iterable[LargeArgument]) -> None:
        self.arguments = tuple(arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, ([(one.name, one.checksum, bytes_of(one)) for one in self.arguments],)

    def __dask_tokenize__(self) -> tuple[str, ...]:
        return "seamless-handed", *(one.checksum for one in self.arguments)

    @contextmanager
    def placed(self, context: Context) -> Iterator[str]:
        """Write them to where a run on this host finds them; yields that directory, which goes afterwards.

        Raises
        ------
        UsageError
            One has changed since its checksum was computed.
        """
        import shutil
        import tempfile

        from hashserver.storage.directory import LocalStore

        from ..private import private_directory

        parent = private_directory(os.path.join(context.cache, _HANDED))
        _sweep(parent)
        place = tempfile.mkdtemp(prefix=_owner(os.getpid()), dir=parent)
        try:
            store = LocalStore(place)
            for one in self.arguments:
                if stored(store, one.write) != one.checksum:
                    raise _changed(one.name)
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _unpickled(arguments: list[tuple[str, Checksum, bytes]]) -> HandedArguments:
    return HandedArguments(
        LargeArgument(name, checksum, partial(_write_data, data)) for name, checksum, data in arguments
    )


def bytes_of(argument: LargeArgument) -> bytes:
    """Return the bytes of an argument; raises `UsageError` where it has changed."""
    from hashserver.checksum import hash_bytes

    parts: list[bytes] = []
    argument.write(lambda part: parts.append(bytes(part)))
    data = b"".join(parts)
    if hash_bytes(data) != argument.checksum:
        raise _changed(argument.name)
    return data


def _changed(name: str) -> UsageError:
    return UsageError(f"argument {name!r} has changed since the call, and is kept nowhere: call it again")


def _write_data(data: bytes, sink: Callable[[Bytes], None]) -> None:
    sink(data)


def _write_file(path: str, sink: Callable[[Bytes], None]) -> None:
    with open(path, "rb") as file:
        while part := file.read(CHUNK):
            sink(part)


def _owner(process: int) -> str:
    from ..locks import birth

    return f"{os.uname().nodename}-{process}-{birth(process)}-"


def _sweep(parent: str) -> None:
    """Remove what processes of this host have left that were killed."""
    import shutil

    from ..locks import birth

    for name in os.listdir(parent):
        host, process, born, _ = name.rsplit("-", 3)
        if host == os.uname().nodename and str(birth(int(process))) != born:
            shutil.rmtree(os.path.join(parent, name), ignore_errors=True)


def with_handed(context: Context, places: Iterable[str | None]) -> Context:
    """Return a context in which a run also finds what was handed over to it; it is written to as before.

    Parameters
    ----------
    places
        Directories of all who ask: one of them may withdraw, and take his away, before inputs are placed.
    """
    there = [place for place in dict.fromkeys(places) if place is not None and os.path.isdir(place)]
    if not there:
        return context
    from copy import copy

    from hashserver.storage.chain import StoreChain
    from hashserver.storage.directory import LocalStore

    class Handed(LocalStore):
        writable = False

    # opened once, for both
    _ = context.node_cache, context.stat_cache, context.database
    found = copy(context)
    found.__dict__["store"] = StoreChain([context.store, *map(Handed, there)])
    return found


def check_kept(
    context: Context, key: Checksum, transformation: Description, options: Options, gone: Checksum
) -> None:
    """Raise `ArgumentNotKept` where a buffer that is gone is an argument that was never stored."""
    from ..model.records import beside_of

    names = set(options.not_kept)
    known = context.database.get(key)
    if known is not None:
        names |= set(beside_of(known.record).not_kept)
    if not names:
        return
    inputs = {name: list(value) for name, value in transformation.inputs.items()} | options.ignored
    for name, (kind, checksum) in sorted(inputs.items()):
        if name in names and (checksum == gone or kind == "directory"):
            what = f"argument {name.partition('/')[0]!r} of {options.label or 'the function'}"
            raise ArgumentNotKept(
                gone, f"{what} was not kept (keep_inputs=False): call it with that again, fresh=True"
            )
