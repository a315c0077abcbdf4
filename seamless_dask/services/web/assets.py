"""The files that the pages are made of; none comes from anywhere else."""

from __future__ import annotations

import os
from functools import cache

_DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "static")


@cache
def text(name: str) -> str:
    """Return the content of a file under ``static``."""
    with open(os.path.join(_DIRECTORY, name), encoding="utf-8") as file:
        return file.read()
