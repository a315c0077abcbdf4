"""Classes and functions of the user's that values consist of: they count by their code, not by their name.

The very class comes back where a process has it: the one of the caller's, or in a run that of the function's
own text, so that `isinstance` holds there.
"""

from __future__ import annotations

import json
import sys
import threading
from base64 import b64decode, b64encode
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from weakref import ReferenceType, WeakValueDictionary, ref

from .code.border import Border
from .code.identity import Code, identify
from .code.items import Buffer
from .code.loading import Inputs, load
from .code.markers import LOADED
from .errors import NotAValue
from .values.names import Definitions, definitions, definitions_within, set_definitions
from .values.writing import to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


_INPUTS = "__inputs__ = "


def describe(value: object) -> Buffer:
    """Return the bytes of a global; raises TypeError for what is no value."""
    noted = _Noted(definitions() or by_code)
    try:
        with definitions_within(noted):
            written = to_bytes(value, "the global")
    except NotAValue as error:
        raise TypeError(str(error)) from error
    return Buffer(*written, uses=tuple(noted.given.values()))


class _Noted:
    """Notes which definitions are asked for: a text has them before it asks for a value of them."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        self.given: dict[int, Any] = {}

    def text(self, definition: Any) -> str | None:
        text = self._definitions.text(definition)
        if text is not None:
            self.given[id(definition)] = definition
        return text

    def find(self, text: str) -> Any:
        return self._definitions.find(text)


class _Beside:
    """What is kept beside objects while they live, by identity: metaclasses can say what is equal."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[ReferenceType[Any], Any]] = {}

    def __getitem__(self, owner: Any) -> Any:
        found = self._kept.get(id(owner))
        return None if found is None else found[1]

    def __setitem__(self, owner: Any, value: Any) -> None:
        number, kept = id(owner), self._kept
        # told before anything else can have the number
        kept[number] = ref(owner, lambda _: kept.pop(number, None)), value

    def owners(self) -> list[Any]:
        return [owner for found, _ in list(self._kept.values()) if (owner := found()) is not None]


class DefinitionsByCode:
    """What `seamless_dask.values` asks for classes and functions by their code.

    Parameters
    ----------
    namespace
        Of the one module among whose classes they are looked for; by default all that were made from text.
    """

    def __init__(self, namespace: Mapping[str, Any] | None = None) -> None:
        self._namespace = namespace
        self._border = Border()
        self._codes = _Beside()
        self._found: WeakValueDictionary[str, Any] = WeakValueDictionary()
        self._candidates = _Beside()
        self._lock = threading.RLock()
        self._begun: set[int] = set()

    def use(self, border: Border) -> None:
        """Take this for what is the user's from now on."""
        with self._lock:
            if border != self._border:
                self._border = border
                self._codes = _Beside()

    def remember(self, definitions: Iterable[Any]) -> None:
        """Look among these, too, for the class or function of a code."""
        with self._lock:
            for each in definitions:
                self._candidates[each] = None

    def text(self, definition: Any) -> str | None:
        """Return the code of a class or function of the user's; None for a library's."""
        if not self._border.owns(getattr(definition, "__module__", None)):
            return None
        with self._lock:
            known: Code | None = self._codes[definition]
            if known is None or not known.guard():
                known = self._codes[definition] = self._identified(definition)
            self._found[known.text] = definition
            return known.text

    def _identified(self, definition: Any) -> Code:
        """Identify a definition; its text has what it would have asked for as inputs."""
        if id(definition) in self._begun:
            raise NotAValue(f"{definition.__qualname__} has an object of its own as a value")
        self._begun.add(id(definition))
        try:
            code = identify(definition, self._border, describe)
        finally:
            self._begun.discard(id(definition))
        return replace(code, text=_with_inputs(code)) if code.inputs else code

    def find(self, text: str) -> Any:
        """Return the class or function of a code: the very one, where this process has it."""
        with self._lock:
            found = self._found.get(text)
            known: Code | None = None if found is None else self._codes[found]
            if known is not None and not known.guard() and not self._is(found, text):
                found = None  # it is another by now
            if found is None:
                same = (each for each in self._definitions() if self._is(each, text))
                found = self._found[text] = next(same, None) or load(text, inputs=_given(text))
            return found

    def _is(self, definition: Any, text: str) -> bool:
        try:
            return self.text(definition) == text
        except Exception:  # one that has no identity is not meant
            return False

    def _definitions(self) -> Iterator[Any]:
        for each in self._candidates.owners():
            yield from _with_inner(each)
        namespaces = [self._namespace]
        if self._namespace is None:
            found = list(sys.modules.items())
            namespaces = [vars(module) for name, module in found if name.startswith(LOADED)]
        for namespace in namespaces:
            for each in list((namespace or {}).values()):
                if isinstance(each, type):
                    yield from _with_inner(each)


def _with_inner(definition: Any) -> Iterator[Any]:
    """Yield a class and those that stand in it."""
    yield definition
    for each in list(vars(definition).values()) if isinstance(definition, type) else ():
        if isinstance(each, type) and each.__qualname__.startswith(f"{definition.__qualname__}."):
            yield from _with_inner(each)


def _with_inputs(code: Code) -> str:
    """Return a text with its inputs in a first line."""
    inputs = {
        name: [each.format, b64encode(each.data).decode()] for name, each in sorted(code.inputs.items())
    }
    return f"{_INPUTS}{json.dumps(inputs)}\n{code.text}"


def _given(text: str) -> Inputs | None:
    """Return what gives the inputs that a text has in its first line."""
    if not text.startswith(_INPUTS):
        return None
    inputs = json.loads(text.partition("\n")[0].removeprefix(_INPUTS))

    def give(name: str, namespace: Mapping[str, Any]) -> Any:
        from .values.loading import load

        kind, data = inputs[name]
        with definitions_within(DefinitionsByCode(namespace)):  # its own classes
            return load(kind, b64decode(data), trusted=True)  # as the text itself is, which runs

    return give


by_code = DefinitionsByCode()
set_definitions(by_code)
