"""The keys of a function's calls, without a canonical form of each: for whoever asks often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hashserver.checksum import hash_bytes

from ..values.writing import plain
from .transformation import Value

if TYPE_CHECKING:
    import inspect
    from collections.abc import Iterable, Mapping, Sequence

    from hashserver.checksum import Checksum

    from .transformation import Description, Input

_LONGEST = 4096
"""Characters or bytes of a value above which it takes time to do twice what is done here."""


class CallForm:
    """The canonical form of a function's calls, which differ in their arguments only.

    Each method returns None where another way has to be taken, be it to say what is wrong.

    Parameters
    ----------
    call
        What all calls have in common.
    parameters
        Of the function; each has one argument.
    ignored
        Names of those that do not count.
    """

    def __init__(
        self, call: Description, parameters: Iterable[inspect.Parameter], ignored: Iterable[str]
    ) -> None:
        parameters = list(parameters)
        self._counting = sorted({each.name for each in parameters}.difference(ignored))
        self._inputs = {*call.inputs, *self._counting}
        self._form = _form(call, self._counting)
        self._positional = [each.name for each in parameters if each.kind is not each.KEYWORD_ONLY]
        self._keywords = {each.name for each in parameters if each.kind is not each.POSITIONAL_ONLY}
        # What is no plain value may have been changed, or cannot be passed on.
        named = {each.name: (each.default, _named(each.default)) for each in parameters}
        self._defaults = {name: default for name, (default, text) in named.items() if text is not None}
        self._texts = {name: text for name, (_, text) in named.items() if text is not None}
        self._number = len(parameters)

    @classmethod
    def of(cls, call: Description, signature: inspect.Signature, ignored: Iterable[str]) -> CallForm | None:
        """Return the form of a function's calls; None where one parameter stands for many arguments."""
        parameters = signature.parameters.values()
        if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in parameters):
            return None
        return cls(call, parameters, ignored)

    def bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return all arguments of a call by their names."""
        given = self._given(args, kwargs)
        if given is None:
            return None
        arguments = self._defaults | given
        return arguments if len(arguments) == self._number else None

    def plain_key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Checksum | None:
        """Return the key of a call with plain and short values only."""
        given = self._given(args, kwargs)
        if given is None:
            return None
        texts = self._texts.copy()
        for name, item in given.items():
            if (text := _named(item)) is None:
                return None
            texts[name] = text
        return self._filled(texts) if len(texts) == self._number else None

    def plain_keys(
        self, calls: Sequence[tuple[Any, ...]], kwargs: Mapping[str, Any]
    ) -> list[Checksum | None]:
        """Return the same of calls that have keywords in common, and equally many positional arguments."""
        given = self._given(calls[0], kwargs) if calls else None
        texts = self._texts | {name: _named(item) for name, item in kwargs.items()}
        names = self._positional[: len(calls[0])] if calls else []
        if given is None or None in texts.values() or len(texts | given) != self._number:
            return [None] * len(calls)
        if not names or not set(self._counting).issuperset(names):
            return [self.plain_key(args, kwargs) for args in calls]
        common = ["%s" if name in names else texts[name] for name in self._counting]
        form = self._form.replace("%%", "%%%%") % tuple(common)
        columns = [[_named(item) for item in column] for column in zip(*calls, strict=True)]
        places = [names.index(name) for name in self._counting if name in names]
        return [
            None if None in row else hash_bytes((form % row).encode())
            for row in zip(*[columns[place] for place in places], strict=True)
        ]

    def key(self, inputs: Mapping[str, Input]) -> Checksum | None:
        """Return the key of a call with these inputs, those included that all calls have."""
        if inputs.keys() != self._inputs:
            return None
        values = {name: inputs[name] for name in self._counting}
        if not all(type(value) is Value for value in values.values()):
            return None
        return self._filled({name: _text(*value) for name, value in values.items()})

    def _given(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        if len(args) > len(self._positional):
            return None
        given = dict(zip(self._positional, args, strict=False))
        if kwargs:
            if not self._keywords.issuperset(kwargs) or not given.keys().isdisjoint(kwargs):
                return None
            given |= kwargs
        return given

    def _filled(self, texts: Mapping[str, str]) -> Checksum:
        return hash_bytes((self._form % tuple([texts[name] for name in self._counting])).encode())


def _form(call: Description, names: Iterable[str]) -> str:
    """Return the canonical form of a call with places for some inputs, in the order of their names.

    It is cut out of a canonical form, so that it cannot become another one than that.
    """
    given = {name: Value("place", hash_bytes(name.encode())) for name in names}
    form = call._replace(inputs={**call.inputs, **given}).canonical().decode().replace("%", "%%")
    for value in given.values():
        form = form.replace(_text(*value), "%s")
    return form


def _named(item: Any) -> str | None:
    """Return what stands for a value in a canonical form; None where it is not plain, or long."""
    kind = type(item)
    if (kind is str or kind is bytes) and len(item) > _LONGEST:
        return None
    found = plain(item)
    return None if found is None else _text(found[0], hash_bytes(found[1]))


def _text(format: str, checksum: str) -> str:  # noqa: A002 - the field's word
    return f'["{format}","{checksum}"]'
