"""What of a directory does not count: Python's by-products, and what ``.seamlessignore`` names.

The grammar is gitignore's, and so are its rules of precedence: the last pattern that matches decides, those
of a deeper file go before those of one above, and nothing below a directory that is left out comes back.
By-products are the patterns of lowest precedence. One thing differs from git: a ``.seamlessignore`` itself
always counts, because otherwise nobody could tell from an index what was left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Read = Callable[[str], bytes]
    Apart = Callable[[str], bool]

IGNORE_FILE = ".seamlessignore"
BY_PRODUCTS = ("__pycache__/", "*.pyc", ".git/", ".ipynb_checkpoints/", ".DS_Store")

_FOLDERS = frozenset(pattern[:-1] for pattern in BY_PRODUCTS if pattern.endswith("/"))
_SIGNS = tuple(pattern.lstrip("*") for pattern in BY_PRODUCTS)
_by_product = re.compile(
    r"(?:^|/)(?:__pycache__|\.git|\.ipynb_checkpoints)/|(?:^|/)\.DS_Store(?:/|\Z)|\.pyc(?:/|\Z)"
).search


def may_concern(index: bytes, by_products: bool) -> bool:
    """Tell whether something of a directory might be left out, by a glance at the bytes of its index."""
    signs = _SIGNS if by_products else ()
    return any(sign.encode() in index for sign in (IGNORE_FILE, *signs))


def is_by_product(folder: str) -> bool:
    """Tell whether a folder is itself one that is left out of others as a by-product."""
    return _is_by_product(_name(folder.rstrip("/")), True)


def ignore_files(paths: Iterable[str]) -> list[str]:
    """Return those of some relative paths that are ``.seamlessignore`` files."""
    return [path for path in paths if path.endswith(IGNORE_FILE) and _name(path) == IGNORE_FILE]


class LeaveOut:
    """Judges the members of one directory.

    Parameters
    ----------
    files
        Relative paths of its ``.seamlessignore`` files.
    read
        Returns the content of one of them; called when it is needed, once.
    by_products
        Leave out by-products, too.
    apart
        Tells of a relative path whether it is no part of the directory whatever the rules say: the results of
        a run are none of its inputs.
    """

    def __init__(
        self, files: Iterable[str], read: Read, by_products: bool, apart: Apart | None = None
    ) -> None:
        self._files = {_folder(path): path for path in files}
        self._read, self._by_products, self._apart = read, by_products, apart
        self._rules: dict[str, list[_Rule]] = {}
        self._folders: dict[str, bool] = {"": False}

    def of(self, paths: Iterable[str]) -> set[str]:
        """Return those of some relative paths that are left out; that of a folder ends in a slash."""
        if self._apart is None:
            return self._by_rules(paths)
        paths = list(paths)
        return self._by_rules(paths) | {path for path in paths if self._apart(path)}

    def number(self, out: Iterable[str]) -> int:
        """Count what is left out by rules; what is apart is told where that is known."""
        return sum(self._apart is None or not self._apart(path) for path in out)

    def _by_rules(self, paths: Iterable[str]) -> set[str]:
        if self._files:
            return {path for path in paths if self._is_out(path)}
        if not self._by_products:
            return set()
        names = list(paths)
        text = "\n".join(names)  # one look at all is a hundred times faster than one at each
        return (
            {path for path in names if _by_product(path)} if any(sign in text for sign in _SIGNS) else set()
        )

    def _is_out(self, path: str) -> bool:
        folder, _, name = path.rpartition("/")
        if self._is_folder_out(folder):
            return True
        return name not in ("", IGNORE_FILE) and self._decide(path, False)

    def _is_folder_out(self, folder: str) -> bool:
        known = self._folders.get(folder)
        if known is None:
            end = folder.find("/")
            while True:  # from the top, since what lies below a folder that is left out has no say
                above = folder if end < 0 else folder[:end]
                if above not in self._folders:
                    parent = self._folders[_folder(above)]
                    self._folders[above] = parent or self._decide(above, True)
                if end < 0:
                    break
                end = folder.find("/", end + 1)
            known = self._folders[folder]
        return known

    def _decide(self, path: str, is_folder: bool) -> bool:
        """Say what the last matching pattern says of a path whose folder counts."""
        for folder in _upwards(_folder(path)):
            if folder in self._files:
                relative = path[len(folder) + 1 :] if folder else path
                for rule in reversed(self._rules_of(folder)):
                    if rule.matches(relative, is_folder):
                        return bool(rule.leaves_out)
        return self._by_products and _is_by_product(_name(path), is_folder)

    def _rules_of(self, folder: str) -> list[_Rule]:
        if folder not in self._rules:
            self._rules[folder] = _parse(self._read(self._files[folder]))
        return self._rules[folder]


class _Rule(NamedTuple):
    """One pattern."""

    pattern: re.Pattern[str]
    leaves_out: bool
    folders_only: bool
    by_name: bool

    def matches(self, relative: str, is_folder: bool) -> bool:
        """Say whether it matches a path, itself and not by way of a folder that it lies in."""
        if self.folders_only and not is_folder:
            return False
        found = self.pattern.match(_name(relative) if self.by_name else relative)
        # The library lets a pattern that matches a folder match all below it, too, and marks that by a group.
        # Git does not: what is below has been decided with the folder.
        return found is not None and found.lastindex is None


_END = "(?:(?P<ps_d>/)|$)"
_ANY, _ANY_FOLDERS = "[^/]*", re.compile(r"(\(\?:\.\+/\)\?|\(\?:/\.\+\)\?)")


def bounded(regex: re.Pattern[str]) -> re.Pattern[str]:
    """Return what matches whole paths as the library's regular expression does, in a time that is bounded.

    Whoever wrote a ``.seamlessignore`` need not be the user, and each further wildcard multiplies the time
    in which the library's finds out that a name does not match. But what stands between two wildcards may be
    taken where it first occurs, for good: the second one takes up whatever is left.
    """
    text = regex.pattern
    if not (text.startswith("^") and text.endswith(_END)):
        return regex
    first, *rest = _ANY_FOLDERS.split(text[1 : -len(_END)])
    found = _with_wildcards(first)
    pairs = list(zip(rest[::2], rest[1::2], strict=True))
    for number, (folders, part) in enumerate(pairs, 1):
        inner = _with_wildcards(part)
        lazy = folders.replace(".+", ".+?") + "?"
        found += folders + inner if number == len(pairs) else f"(?>{lazy}{inner}(?=/))"
    return re.compile(found + r"\Z", re.DOTALL)


def _with_wildcards(part: str) -> str:
    first, *rest = part.split(_ANY)
    if not rest:
        return first
    return first + "".join(f"(?>{_ANY}?{text})" for text in rest[:-1]) + _ANY + rest[-1]


def _parse(data: bytes) -> list[_Rule]:
    from pathspec import GitIgnoreSpec

    rules = []
    for line in data.decode("utf-8-sig", "surrogateescape").split("\n"):
        text = line.rstrip("\r")
        body = text.removeprefix("!").rstrip()
        folders_only = body.endswith("/")
        body = body[:-1] if folders_only else text.removeprefix("!")
        if not body.strip() or text.startswith("#"):
            continue
        if body.startswith(("!", "#")):  # after "!" they mean themselves
            body = "\\" + body
        try:
            patterns = GitIgnoreSpec.from_lines([body]).patterns
        except ValueError:
            continue  # git lets a pattern that makes no sense match nothing
        rules += [
            _Rule(bounded(one.regex), not text.startswith("!"), folders_only, "/" not in body)
            for one in patterns
            if one.include is not None and one.regex is not None
        ]
    return rules


def _is_by_product(name: str, is_folder: bool) -> bool:
    return name.endswith(".pyc") or name == ".DS_Store" or (is_folder and name in _FOLDERS)


def _name(path: str) -> str:
    return path[path.rfind("/") + 1 :]


def _folder(path: str) -> str:
    return path[: max(path.rfind("/"), 0)]


def _upwards(folder: str) -> Iterator[str]:
    while folder:
        yield folder
        folder = _folder(folder)
    yield ""
