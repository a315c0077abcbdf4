"""Git repositories that are there: git runs some of what lies in them."""

from __future__ import annotations

import os


def repository_of(path: str) -> str | None:
    """Return the ``.git`` directory that an absolute path leads into, if it does and git would take it."""
    above, found, _ = path.partition("/.git/")
    repository = above + "/.git"
    return repository if found and os.path.lexists(repository + "/HEAD") else None
