"""Names of tasks: what people call a computation, and its key."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..code.markers import FUNCTION

if TYPE_CHECKING:
    from hashserver.checksum import Checksum

LABEL = "bash"
_KEY = re.compile(r"-tf-([0-9a-f]{64})")
_FUNCTION = re.compile(rf"^{FUNCTION} = (?:\w+\.)*(\w+)\n\Z", re.MULTILINE)


def dask_key(key: Checksum, label: str = LABEL) -> str:
    """Return the name of a transformation's task; Dask groups tasks by what stands before ``-tf-``."""
    return f"{label}-tf-{key}"


def fresh_key(key: Checksum, label: str = LABEL) -> str:
    """Return a new name for a task that runs whatever is known: another one each time."""
    return f"{dask_key(key, label)}-fresh-{os.urandom(8).hex()}"


def key_in(name: object) -> str | None:
    """Return the key of the transformation that the task of this name is about; None: it is none of ours."""
    found = _KEY.search(str(name))
    return found[1] if found else None


def key_of(name: str) -> Any:
    """Return the key of Dask's that has this text: those of arrays and frames are tuples."""
    if name.startswith("("):
        from ast import literal_eval

        with suppress(ValueError, SyntaxError):
            return literal_eval(name)
    return name


def label_in(name: str) -> str:
    """Return what people call the task of this name."""
    return name.rpartition("-tf-")[0] or name.partition("-")[0]


def label_of(code: str) -> str:
    """Return a label, as far as Dask can show it: of a command its first word, of a function its name.

    It follows from the code alone, so that equal transformations have equal keys.
    """
    function = _FUNCTION.search(code)
    word = function or re.match(r"\s*(?:\w+=\S*\s+)*([^\s;|&<>()]+)", code)
    name = re.sub(r"[^A-Za-z0-9_.]", "", word[1].rpartition("/")[2]) if word else ""
    return name[:24] or LABEL
