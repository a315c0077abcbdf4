"""What matches a pattern among the files that a command has left."""

from __future__ import annotations

import os
from contextlib import suppress
from fnmatch import translate
from re import compile as compiled
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def matches(root: str, pattern: str, enter: Callable[[str], bool]) -> list[str]:
    """Return the paths below `root` that match, as `glob.glob` has it, but ``**`` passes through no link.

    Links to directories would lead it in circles, twice as many with each, and out of the work directory.

    Parameters
    ----------
    enter
        Says whether a path is a directory that is to be looked into.
    """
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    found: dict[str, None] = {}
    todo, seen = [("", 0)], set[tuple[str, int]]()
    while todo:
        folder, index = place = todo.pop()
        if place in seen:
            continue
        seen.add(place)
        is_last = index + 1 == len(parts)
        if parts[index] == "**":
            below = [(f"{folder}{name}/", index) for name in _folders(root + "/" + folder)]
            todo += below if is_last else [(folder, index + 1), *below]
        names = list(_named(root + "/" + folder, parts[index]))
        if is_last:
            found |= {folder[:-1]: None} if folder and parts[index] == "**" else {}
            found |= dict.fromkeys(folder + name for name in names)
        elif parts[index] != "**":
            todo += [(f"{folder}{name}/", index + 1) for name in names if enter(folder + name)]
    return sorted(found)


def _named(directory: str, part: str) -> Iterator[str]:
    """Yield the entries of a directory that one part of a pattern matches."""
    if not set(part) & set("*?["):
        if os.path.lexists(f"{directory}/{part}"):
            yield part
        return
    match = compiled(translate(part)).match
    with suppress(OSError):
        yield from (name for name in os.listdir(directory) if _is_meant(name, part) and match(name))


def _folders(directory: str) -> Iterator[str]:
    with suppress(OSError), os.scandir(directory) as entries:
        yield from (one.name for one in entries if _is_meant(one.name, "") and _is_folder(one))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _is_meant(name: str, part: str) -> bool:
    """Say whether a name is looked at: one with a leading dot only by a part that has it too."""
    return not name.startswith(".") or part.startswith(".")
