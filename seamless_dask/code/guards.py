"""Whether all that a function reached is still the same objects and code: one expression, no source read."""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable
from functools import partial
from types import CellType, FunctionType, ModuleType
from typing import Any


class Checks:
    """Collects what is to be looked at, and makes one function of it."""

    def __init__(self) -> None:
        self._terms: list[str] = []
        self._given: dict[str, object] = {"snapshot": snapshot}
        self._seen: set[tuple[object, ...]] = set()
        self._names: dict[int, str] = {}
        self._never = False

    def never(self) -> None:
        """Say no always: something was taken in that cannot be looked at again."""
        self._never = True

    def entry(self, namespace: dict[str, Any], name: str, value: object) -> None:
        """Check that a module has an object by a name."""
        if self._is_new("entry", id(namespace), name):
            self._terms.append(f"{self._name(namespace)}[{name!r}] is {self._name(value)}")

    def absent(self, namespace: dict[str, Any], name: str) -> None:
        """Check that a module has nothing by a name."""
        if self._is_new("absent", id(namespace), name):
            self._terms.append(f"{name!r} not in {self._name(namespace)}")

    def answer(self, module: ModuleType, name: str, value: object) -> None:
        """Check what the ``__getattr__`` of a module gives for a name."""
        if self._is_new("answer", id(module), name):
            self._terms.append(f"{self._name(module)}.{name} is {self._name(value)}")

    def size(self, namespace: dict[str, Any]) -> None:
        """Check that nothing was added to a module."""
        if self._is_new("size", id(namespace)):
            self._terms.append(f"len({self._name(namespace)}) == {len(namespace)}")

    def cell(self, cell: CellType, value: object) -> None:
        """Check what a variable of an enclosing function is."""
        if self._is_new("cell", id(cell)):
            self._terms.append(f"{self._name(cell)}.cell_contents is {self._name(value)}")

    def function(self, function: FunctionType, with_defaults: bool = True) -> None:
        """Check that a function has the code and the defaults that it had."""
        if self._is_new("function", id(function)):
            self._attribute(function, "__code__")
        if with_defaults and self.defaults(function):
            if function.__dict__:
                self.data(function.__dict__)
            else:
                self._terms.append(f"not {self._name(function)}.__dict__")

    def defaults(self, function: FunctionType) -> bool:
        """Check that a function has the defaults that it had; tell whether that is new."""
        if not self._is_new("defaults", id(function)):
            return False
        self._attribute(function, "__defaults__")
        if function.__code__.co_kwonlyargcount:
            self._attribute(function, "__kwdefaults__")
        if function.__kwdefaults__ is not None:
            self.data(function.__kwdefaults__)
        return True

    def type(self, owner: type) -> None:
        """Check that a class has the bases, methods and values that it had."""
        if not self._is_new("type", id(owner)):
            return
        self._attribute(owner, "__bases__")
        entries = self._name(owner) + "_entries"
        self._given[entries] = vars(owner)
        for name, value in vars(owner).items():
            if name not in ("__dict__", "__weakref__", "__doc__", "_abc_impl"):
                self._terms.append(f"{entries}[{name!r}] is {self._name(value)}")
        self._terms.append(f"len({entries}) == {len(vars(owner))}")

    def data(self, value: object) -> None:
        """Check that a container holds what it held."""
        if self._is_new("data", id(value)):
            self._terms.append(f"snapshot({self._name(value)}) == {self._name(snapshot(value))}")

    def described(self, value: object, describe: Callable[[Any], object], answer: object) -> None:
        """Check that a value still has the bytes that it had."""
        if self._is_new("described", id(value)):
            self._terms.append(f"{self._name(describe)}({self._name(value)}) == {self._name(answer)}")

    def _attribute(self, owner: object, name: str) -> None:
        self._terms.append(f"{self._name(owner)}.{name} is {self._name(getattr(owner, name))}")

    def _is_new(self, *key: object) -> bool:
        new = key not in self._seen
        self._seen.add(key)
        return new

    def _name(self, value: object) -> str:
        if id(value) not in self._names:
            self._names[id(value)] = name = f"o{len(self._names)}"
            self._given[name] = value  # which keeps it alive, so that nothing else gets its id
        return self._names[id(value)]

    def compiled(self) -> Callable[[], bool]:
        """Return the function that tells whether nothing has changed."""
        if self._never:
            return _no
        terms = " and ".join(self._terms) or "True"
        text = (
            f"def make({', '.join(self._given)}):\n"
            f"    def guard():\n"
            f"        try:\n"
            f"            return {terms}\n"
            f"        except Exception:\n"  # a name was deleted, a cell emptied; what the user's code raises
            f"            return False\n"
            f"    return guard\n"
        )
        namespace: dict[str, Any] = {}
        exec(text, namespace)  # noqa: S102 - text of ours
        guard: Callable[[], bool] = namespace["make"](**self._given)
        return guard


def same_defaults(functions: Iterable[FunctionType]) -> Callable[[], bool]:
    """Return what tells whether functions have the defaults that they have now."""
    checks = Checks()
    for function in functions:
        checks.defaults(function)
    return checks.compiled()


def _no() -> bool:
    return False


def snapshot(value: Any) -> object:
    """Return what tells a container with other contents apart: bytes, or the identities of what has none."""
    try:
        return marshal.dumps(value, 2)  # of that version on, bytes depend on who else holds a text
    except ValueError:
        return _shape(value)


def _shape(value: Any) -> object:
    kind = type(value)
    if isinstance(value, dict):
        return kind, tuple((_shape(key), _shape(each)) for key, each in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return kind, tuple(map(_shape, value))
    if kind is partial:
        return kind, _shape((value.func, value.args, value.keywords))
    try:
        return kind, marshal.dumps(value, 2)
    except ValueError:
        return kind, _Identity(value)


class _Identity:
    """Equal to what holds the very same object, which it keeps alive: no other one gets its address."""

    __slots__ = ("_value",)

    def __init__(self, value: object) -> None:
        self._value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other._value is self._value

    def __hash__(self) -> int:
        return id(self._value)
