"""What is no value: it belongs to one process, or gives what it has only once."""

from __future__ import annotations

from typing import Any

from .tree import Unwritable

_ONCE = "gives what it has only once: pass a list of it"
_HERE = "means something in this process only"
_LATER = "is not computed yet: pass its result"
_REASONS: dict[tuple[str, str], str] = {
    ("builtins", "generator"): f"is a generator, which {_ONCE}",
    ("builtins", "async_generator"): f"is an asynchronous generator, which {_ONCE}",
    ("builtins", "coroutine"): "is a coroutine, which nobody has awaited: pass its result",
    ("builtins", "memoryview"): "is a view of another object's memory: pass that, or bytes of it",
    ("builtins", "module"): "is a module: import it inside the function",
    ("builtins", "frame"): f"is a frame, which {_HERE}",
    ("builtins", "traceback"): f"is a traceback, which {_HERE}",
    ("concurrent.futures", "Future"): f"is a future, which {_LATER}",
    ("concurrent.futures", "Executor"): f"is an executor, which {_HERE}",
    ("asyncio", "Future"): f"is a future, which {_LATER}",
    ("asyncio", "AbstractEventLoop"): f"is an event loop, which {_HERE}",
    ("distributed", "Future"): f"is a future, which {_LATER}",
    ("distributed", "Client"): f"is a client, which {_HERE}: use get_client() inside the function",
    ("threading", "Thread"): f"is a thread, which {_HERE}",
    ("socket", "socket"): f"is a socket, which {_HERE}: connect inside the function",
    ("sqlite3", "Connection"): f"is a connection, which {_HERE}: connect inside the function",
    ("subprocess", "Popen"): f"is a process, which {_HERE}",
}
_LOCKS = frozenset(
    {"lock", "RLock", "Lock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier"}
)
_LOCK_MODULES = ("_thread", "threading", "multiprocessing", "asyncio", "distributed", "filelock", "dask")
_ITERATORS = frozenset({"map", "zip", "filter", "enumerate", "reversed"})
_IN_MEMORY = frozenset({"BytesIO", "StringIO"})


def refuse(value: Any) -> None:
    """Raise `Unwritable` for what is no value.

    What is told by the names of its class and of the classes that it is derived from, so that no library is
    imported to ask it.
    """
    for base in type(value).__mro__:
        module, name = base.__module__, base.__name__
        library = module.partition(".")[0]
        reason = _REASONS.get((library, name)) or _REASONS.get((_public(module), name))
        if reason is None:
            reason = _lock_or_iterator(library, name) or _file(base, value)
        if reason is not None:
            raise Unwritable(reason)
    if _is_collection(value):
        raise Unwritable("is a Dask collection: pass what compute() gives, or make it inside the function")


def _public(module: str) -> str:
    """Return the package that people know for where a class is defined."""
    for name in ("concurrent.futures", "asyncio", "socket", "sqlite3"):
        if module.startswith((name, f"_{name}")):
            return name
    return module


def _lock_or_iterator(library: str, name: str) -> str | None:
    if name in _LOCKS and library in _LOCK_MODULES:
        return f"is a lock, which {_HERE}"
    if (
        library == "builtins" and (name in _ITERATORS or name.endswith("_iterator"))
    ) or library == "itertools":
        return f"is an iterator, which {_ONCE}"
    return None


def _file(base: type, value: Any) -> str | None:
    if base.__name__ == "_IOBase" and base.__module__ in ("_io", "io"):
        if type(value).__name__ in _IN_MEMORY:
            return None
        return "is an open file: pass its path as a File, or what was read from it"
    return None


def _is_collection(value: Any) -> bool:
    if isinstance(value, type) or getattr(type(value), "__dask_graph__", None) is None:
        return False
    # A data set of xarray is one only when its arrays are Dask's; any other has no graph to be asked for.
    return type(value).__module__.partition(".")[0] != "xarray" or value.__dask_graph__() is not None
