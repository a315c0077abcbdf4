"""The keys of a function's calls with plain values, without a description of each: for whoever asks often."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hashserver.checksum import hash_bytes

from ..values.writing import plain
from .transformation import Value

if TYPE_CHECKING:
    import inspect
    from collections.abc import Iterable, Mapping

    from hashserver.checksum import Checksum

    from .transformation import Description

_LONGEST = 4096
"""Characters or bytes of a value above which all that is done here twice would take time."""


class PlainCalls:
    """Calls of one function that differ in their arguments only.

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
        self._form = _form(call, self._counting)
        self._positional = [each.name for each in parameters if each.kind is not each.KEYWORD_ONLY]
        self._keywords = {each.name for each in parameters if each.kind is not each.POSITIONAL_ONLY}
        defaults = [(each.name, _named(each.default)) for each in parameters]
        self._defaults = {name: value for name, value in defaults if value is not None}
        self._number = len(parameters)

    @classmethod
    def of(cls, call: Description, signature: inspect.Signature, ignored: Iterable[str]) -> PlainCalls | None:
        """Return the calls of a function; None where its arguments are not told by its parameters."""
        parameters = signature.parameters.values()
        if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in parameters):
            return None
        return cls(call, parameters, ignored)

    def key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Checksum | None:
        """Return the key of a call; None where another way has to be taken, be it to say what is wrong."""
        if len(args) > len(self._positional):
            return None
        given = dict(zip(self._positional, args, strict=False))
        if kwargs:
            if not self._keywords.issuperset(kwargs) or not given.keys().isdisjoint(kwargs):
                return None
            given |= kwargs
        values = self._defaults.copy()
        for name, item in given.items():
            if (value := _named(item)) is None:
                return None
            values[name] = value
        if len(values) < self._number:
            return None
        return hash_bytes((self._form % tuple([values[name] for name in self._counting])).encode())


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
