"""The one format that a result is asked to be kept in: the object has it, or can be written in it."""

from __future__ import annotations

from typing import Any

from hashserver.printable import one_line

from ..errors import NotAValue
from .refused import refuse
from .tree import Unwritable
from .writing import PARTS, TREE, Encoded, as_tree, encode

PICKLE = "pickle"
FORMATS = (TREE, PARTS, "text", "bytes", "bytearray", "npy", "npy-scalar", "arrow", PICKLE)
"""Those that a function can be asked for, beside what it returns by path: ``file`` and ``directory``."""


def encode_as(wanted: str, value: Any, name: str) -> Encoded:
    """Return what stands for an object in one of `FORMATS`; parameters and errors as of `encode`.

    Nothing is converted: what is loaded is the object that was given. Text and short bytes can be trees too,
    and all that pickle knows can be a pickle.

    Raises
    ------
    NotAValue
        When it has another format.
    """
    if wanted == PICKLE:
        return _pickled(value, name)
    found = as_tree(value, name) if wanted == TREE else encode(value, name)
    if found.format != wanted:
        raise NotAValue(
            f"{name} is a {type(value).__name__}, which is kept as {found.format} and not as {wanted}:"
            " return what has that format, or change format="
        )
    return found


def _pickled(value: Any, name: str) -> Encoded:
    from .objects import pickled

    try:
        refuse(value)
        data = pickled(value)
    except Unwritable as error:
        raise NotAValue(one_line(f"{name}{error}")) from None
    return Encoded(PICKLE, lambda sink: sink(data), {})
