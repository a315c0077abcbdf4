"""Constants as Python text, the same on every version: ``repr`` follows the interpreter's Unicode tables."""

from __future__ import annotations

from ..errors import SeamlessError

_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_INVISIBLE = (
    (0xD800, 0xDFFF),  # surrogates: they are no UTF-8
    (0x2028, 0x2029),  # ends of lines to some readers
    (0x202A, 0x202E),  # bidirectional overrides: the text would be read as another one
    (0x2066, 0x2069),
    (0xFEFF, 0xFEFF),
)
_DECIMAL_BITS = 64
"""Integers of more bits are hexadecimal: Python refuses decimal ones of more than 4,300 digits."""


class Unprintable(SeamlessError):
    """A piece of code that has no text in the frozen form."""


def escaped(text: str, quote: str) -> str:
    """Return what stands for `text` between quotes of one kind."""
    return "".join(_character(each, quote) for each in text)


def _character(character: str, quote: str) -> str:
    number = ord(character)
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character == quote:
        return "\\" + character
    if number < 32 or 127 <= number <= 160:
        return f"\\x{number:02x}"
    if number > 0xFF and any(first <= number <= last for first, last in _INVISIBLE):
        return f"\\u{number:04x}"
    return character


def text_literal(text: str) -> str:
    """Return a literal of `text` on one line."""
    quote = '"' if "'" in text and '"' not in text else "'"
    return quote + escaped(text, quote) + quote


def _bytes_literal(data: bytes) -> str:
    quote = '"' if b"'" in data and b'"' not in data else "'"
    parts = (_character(chr(byte), quote) if byte < 127 or byte == 10 else f"\\x{byte:02x}" for byte in data)
    return "b" + quote + "".join(parts) + quote


def _float_literal(number: float) -> str:
    return "1e309" if number == float("inf") else repr(number)


def constant(value: object) -> str:
    """Return a literal of what a constant in a syntax tree may be.

    Raises
    ------
    Unprintable
        Something else, or a number that no literal gives: NaN and what has a sign are expressions.
    """
    if value is None or value is True or value is False:
        return str(value)
    if value is ...:
        return "..."
    if type(value) is str:
        return text_literal(value)
    if type(value) is bytes:
        return _bytes_literal(value)
    if type(value) is int and value >= 0:
        return str(value) if value.bit_length() <= _DECIMAL_BITS else hex(value)
    if type(value) is float and value >= 0:
        return _float_literal(value)
    if type(value) is complex and value.imag >= 0 and not value.real:
        return "1e309j" if value.imag == float("inf") else repr(value)
    raise Unprintable(f"a constant of type {type(value).__name__}")


def same_constant(one: object, other: object) -> bool:
    """Tell whether two constants are the same value of the same type; -0.0 is not 0.0."""
    if type(one) is not type(other):
        return False
    return one == other if isinstance(one, int) else repr(one) == repr(other)
