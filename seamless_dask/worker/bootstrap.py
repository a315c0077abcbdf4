"""What a worker without this package gets instead of our plugin.

The source of this module travels as text and is executed on the worker: it may use nothing of this package
beyond what it looks for itself.

Tasks and values of others may mention this package: a function that names `File`, a list with a handle in
it. A worker that cannot unpickle these closes itself, or waits for ever for what it cannot receive. Therefore
`StandIns`: what they import can be unpickled and goes on to others as what it stands for; only who uses it is
told that this cannot be.
"""

from __future__ import annotations

import copyreg
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, NoReturn

PACKAGES = ("seamless_dask", "hashserver")
MAKERS = ("of", "_unpickled")
"""Functions that pickles call, beside classes of errors."""
REFUSED = (
    "call", "eq", "ne", "lt", "le", "gt", "ge", "bool", "len", "iter", "next", "getitem", "contains", "enter",
    "exit", "str", "format", "bytes", "fspath", "int", "index", "add", "radd", "mod", "rmod",
)  # fmt: skip
"""What cannot be done with a stand-in: all but to hash, show and pickle it."""


def arrive(places: dict[str, Any], version: str, protocol: int) -> Any:
    """Return the plugin, or one that says why there is none."""
    if (stubs := stand_ins()) is not None:
        return unequipped(stubs.why, version)
    try:
        from seamless_dask.graph.task import PROTOCOL
        from seamless_dask.version import __version__
        from seamless_dask.worker.data_locations import DataLocations
        from seamless_dask.worker.plugin import Equipment

        if protocol == PROTOCOL:
            return Equipment(DataLocations.from_json(places))
    except Exception as error:  # whatever it is, the worker has other work to do
        return unequipped(
            f"it has no usable seamless-dask ({error}): install seamless-dask {version} there", version
        )
    return unequipped(
        f"it has seamless-dask {__version__}, which speaks protocol {PROTOCOL}, the scheduler {version}"
        f" with protocol {protocol}: install the same version on both",
        version,
    )


def unequipped(reason: str, version: str) -> Any:
    """Return a plugin that tells worker and scheduler why nothing of ours can run there."""
    from distributed import WorkerPlugin

    class Unequipped(WorkerPlugin):
        name = "seamless"

        def setup(self, worker: Any) -> None:
            import logging

            text = "this worker runs no transformations of seamless-dask: " + reason
            logging.getLogger("distributed.worker").error(text)
            if stand_ins() is None and not _can_be_unpickled():
                sys.meta_path.insert(0, StandIns(reason))
            event = {"action": "unequipped", "worker": worker.address, "message": reason, "version": version}
            worker.log_event("seamless", event)

    return Unequipped()


# ------------------------------------------------------------------------ what stands for the package


class StandIns:
    """Imports modules of this package where it is not usable, for the life of a process.

    Parameters
    ----------
    why : str
        What is wrong with the package.
    """

    def __init__(self, why: str) -> None:
        self.why = why

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Answer for all modules of this package."""
        del path, target
        ours = name.partition(".")[0] in PACKAGES
        return ModuleSpec(name, self, is_package=True) if ours else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return a module that has whatever is asked for."""
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave a module as it is."""


def stand_ins() -> Any:
    """Return the `StandIns` of this process, if it has some."""
    return next((finder for finder in sys.meta_path if type(finder).__name__ == "StandIns"), None)


def _can_be_unpickled() -> bool:
    """Whether another version of this package is here, that will do for values."""
    try:
        import seamless_dask.graph.handles  # noqa: F401
    except Exception:
        return False
    return True


class _Module(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = _Name(name, (_StandIn,), {"__module__": self.__name__, "__qualname__": name})
        setattr(self, name, found)
        return found


class _Name(type):
    """Class of what stands in modules: it is taken for a class, and may be a function."""

    def is_called(cls) -> bool:
        """Whether pickles call what this stands for; users get what they can only pass on."""
        return cls.__name__ in MAKERS or cls.__module__.endswith(".errors")

    def __call__(cls, *arguments: Any, **_: Any) -> Any:
        return super().__call__(*arguments) if cls.is_called() else _refuse()

    def __getattr__(cls, name: str) -> Any:
        return _part(cls, name)

    def __instancecheck__(cls, instance: Any) -> bool:
        _refuse()

    def __subclasscheck__(cls, subclass: Any) -> bool:
        _refuse()


class _StandIn(metaclass=_Name):
    __slots__ = ("__dict__", "_recipe", "_state")
    _recipe: tuple[Any, ...]

    def __new__(cls, *arguments: Any) -> Any:
        found = object.__new__(cls)
        found._recipe = (cls, arguments) if cls.is_called() else (copyreg.__newobj__, (cls, *arguments))  # type: ignore[attr-defined]
        return found

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def __reduce__(self) -> Any:
        # what is unpickled with an exception is set on it, attribute by attribute
        return (*self._recipe, getattr(self, "_state", vars(self) or None))

    def __repr__(self) -> str:
        return "<something of seamless-dask, which is not usable here>"

    def __getattr__(self, name: str) -> Any:
        return _part(self, name)

    __hash__ = object.__hash__


def _part(owner: Any, name: str) -> _StandIn:
    """Return an attribute: whether that is a method or a value is not known here."""
    if name.startswith("_"):
        raise AttributeError(name)
    found = object.__new__(_StandIn)
    found._recipe = getattr, (owner, name)
    return found


def _refuse(*_: Any, **__: Any) -> NoReturn:
    why = getattr(stand_ins(), "why", "it was not there when this worker started")
    raise ModuleNotFoundError(f"seamless-dask cannot be used on this worker: {why}")


for _operation in REFUSED:
    setattr(_StandIn, f"__{_operation}__", _refuse)
