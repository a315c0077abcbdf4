"""From the handle of a Python object to the object, for whoever has asked for it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hashserver.errors import BufferMissing, HashserverError, ServiceUnavailable
from hashserver.namedtuple import NamedTuple

from ..errors import ComputationFailed, SeamlessError, UntrustedValue
from . import handles

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from hashserver.checksum import Checksum
    from hashserver.results.result import Result

    from ..context import Context
    from .handles import Object


SMALL = 64 << 10
"""Bytes of an object up to which it comes together with others."""


def loaded(found: Object, key: Checksum, context: Context | None = None, known: Result | None = None) -> Any:
    """Return the object that a transformation has given.

    What names code to be imported is loaded only where a database or server of the user's own has named it.

    Parameters
    ----------
    key
        Of the transformation.
    context
        Store and database; by default those of this process.
    known
        What its database has said, where it has been asked.

    Raises
    ------
    UntrustedValue
        When nobody who is trusted has named it.
    """
    contexts = [context] if context is not None else handles.contexts_of_process()
    try:
        return loaded_if_there(found, key, contexts, known)
    except BufferMissing:
        _restore(contexts[0], found)
        return loaded_if_there(found, key, contexts, known)


def small_buffers(context: Context, checksums: Iterable[Checksum]) -> dict[Checksum, bytes]:
    """Return those of some buffers that are small and there, in two requests."""
    wanted = list(dict.fromkeys(checksums))
    found: dict[Checksum, bytes] = {}
    sizes = zip(wanted, context.store.has(wanted), strict=True)
    with suppress(BufferMissing):  # whoever loads it alone has it made again, or is told why not
        found.update(context.store.get_many([one for one, size in sizes if 0 <= size <= SMALL]))
    return found


def loaded_many(found: Sequence[tuple[Object, Checksum]]) -> Iterator[Any]:
    """Yield the objects that transformations have given, or what loading one has raised.

    Parameters
    ----------
    found
        Handles, and the keys of the transformations.
    """
    contexts = handles.contexts_of_process()
    unseen = [one.checksum for one, _ in found if tuple(one.value) not in handles.constants]
    buffers: dict[Checksum, bytes] = {}
    if len(unseen) > 1:
        with suppress(HashserverError):  # told to whoever needs it
            buffers = small_buffers(contexts[0], unseen)
    for one, key in found:
        constant = handles.constants.get((one.format, one.checksum), handles.UNSEEN)
        try:
            if constant is not handles.UNSEEN:
                yield constant
            elif (data := buffers.get(one.checksum)) is not None:
                yield one.load(data=data)
            else:
                yield loaded(one, key)
        except UntrustedValue:
            yield _tried(one, key)
        except Exception as error:  # whatever it is, others are to be loaded
            yield FailedLoad(error)


class FailedLoad(NamedTuple):
    """What is in the place of an object that could not be loaded."""

    error: Exception


def _tried(found: Object, key: Checksum) -> Any:
    try:
        return loaded(found, key)
    except Exception as error:  # as above
        return FailedLoad(error)


def loaded_if_there(found: Object, key: Checksum, contexts: list[Context], known: Result | None) -> Any:
    """Return the same, unless its bytes are gone: then raises `BufferMissing`."""
    try:
        return found.load()
    except UntrustedValue as error:
        told = [known] if known is not None else _told(contexts, key, error)
        if not any(one and one.source is None and one.checksum == found.checksum for one in told):
            raise
        return found.load(trusted=True)


def _restore(context: Context, found: Object) -> None:
    """Have the bytes made again: a worker does so itself, since its scheduler waits for it."""
    from .current_worker import equipped
    from .fingertip import fingertip_value
    from .perform import ensure

    worker = equipped()
    if worker is None:
        fingertip_value(context, found.value)
    else:
        ensure(worker, [found.value])


def _told(contexts: list[Context], key: Checksum, error: UntrustedValue) -> Iterator[Result | None]:
    """Yield what each place says of a transformation; one that does not answer is noted on the error."""
    for context in contexts:
        try:
            found = context.database.lookup(key)
        except ServiceUnavailable as silent:
            error.add_note(f"could not be asked whether it named this: {silent}")
        else:
            yield None if found is None else found[1]


def raised(failure: ComputationFailed) -> Exception:
    """Return the exception that a function has raised, or what is known of it."""
    if failure.exception is None:
        return failure
    try:
        # no stranger's: whoever computes for us has just told of it
        found = handles.Object(*failure.exception).load(trusted=True)
    except (HashserverError, SeamlessError):
        return failure
    if not isinstance(found, Exception):
        return failure
    found.add_note(_FailureNote(f"{failure}:\n{failure.stderr.rstrip()}"))
    return found


class _FailureNote(str):
    """The note by which the exception of a function is known that ran elsewhere; a text to others."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str(self),)


def trimmed(error: Exception) -> Exception:
    """Return an error as the outermost of our functions is to raise it: without the frames of ours.

    In their place come those of the user's function, where it has run elsewhere. What is no error that
    somebody is told on purpose is a fault of ours, and keeps its traceback.
    """
    notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, _FailureNote)]
    if notes:
        from .tracebacks import traceback_of

        return error.with_traceback(traceback_of(notes[-1]))
    return error.with_traceback(None) if isinstance(error, SeamlessError | HashserverError) else error
