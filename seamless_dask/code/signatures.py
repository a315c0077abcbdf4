"""How a function is called: alike where a call is identified and where it is made."""

from __future__ import annotations

import inspect
from typing import Any

_ANY = inspect.Signature(
    [
        inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
        inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD),
    ]
)


def signature_of(function: Any) -> inspect.Signature:
    """Return the signature of a callable; one written in C that tells none takes what it is given."""
    try:
        return inspect.signature(function)
    except ValueError:
        return _ANY
