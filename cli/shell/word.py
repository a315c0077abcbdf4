"""Shell words: quoting, and what a word means once its quotes are removed."""

from __future__ import annotations

import re

from hashserver.namedtuple import NamedTuple

_SAFE = re.compile(r"[A-Za-z0-9_@%+=:,./-]+")
_GLOB = "*?["
_ESCAPES = {
    "a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"', "?": "?",
}  # fmt: skip
_ANSI = (
    rb"\\(?:([abeEfnrtv\\'\"?])|([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8})"
    rb"|c(\\\\|[^\\]))"
)
_EXPANSION = re.compile(r"\$[A-Za-z_0-9{(\[*@#?$!-]|`")
_RANGE = r"(?:([+-]?\d+)\.\.([+-]?\d+)|([A-Za-z])\.\.([A-Za-z]))(?:\.\.([+-]?\d+))?"
_BRACE_LIMIT = 100_000


class Word(NamedTuple):
    """One word of a shell text.

    Attributes
    ----------
    text : str
        The word as it is written.
    start, end : int
        Where it stands, in bytes of the text's UTF-8 form.
    value : str or None
        What is left when quotes are removed; None when it depends on variables or commands.
    quoted : frozenset of int
        Positions in `value` of characters that were quoted and so mean only themselves.
    variables : tuple of str
        Names of the variables it depends on; ``"("`` stands for the output of a command.
    """

    text: str
    start: int
    end: int
    value: str | None
    quoted: frozenset[int] = frozenset()
    variables: tuple[str, ...] = ()

    @property
    def resolved(self) -> bool:
        """Whether its value is known before the text runs."""
        return self.value is not None

    @property
    def glob(self) -> bool:
        """Whether it is a pattern that the shell matches against file names."""
        return self.value is not None and is_glob(self.value, self.quoted)

    @property
    def tilde(self) -> bool:
        """Whether it begins with a tilde that the shell replaces by a home directory."""
        return self.value is not None and self.value[:1] == "~" and 0 not in self.quoted

    def alternatives(self) -> list[tuple[str, frozenset[int]]]:
        """Return what brace expansion makes of it: values, each with its quoted positions."""
        if self.value is None:
            return []
        if "{" not in self.value:
            return [(self.value, self.quoted)]
        marked = [(c, i in self.quoted) for i, c in enumerate(self.value)]
        return [_unmark(item) for item in _braces(marked)]


Marked = list[tuple[str, bool]]  # characters, each with whether it was quoted


def quote(word: str) -> str:
    """Quote `word` for the shell; the same text as `shlex.quote` gives."""
    if _SAFE.fullmatch(word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def join(words: list[str]) -> str:
    """Join words to a shell text that has exactly these words."""
    return " ".join(map(quote, words))


def is_plain(word: str) -> bool:
    """Whether `word` means itself to a shell, so that it cannot be a line given as one argument."""
    return _SAFE.fullmatch(word) is not None


def is_glob(value: str, quoted: frozenset[int] = frozenset()) -> bool:
    """Whether `value` holds an unquoted ``*`` or ``?``, or an unquoted ``[`` that is closed."""
    for position, character in enumerate(value):
        if character in _GLOB and position not in quoted and (character != "[" or "]" in value[position:]):
            return True
    return False


def bare(source: str, expansions: bool = True) -> tuple[str, set[int]] | None:
    """Remove quotes from text outside quotes.

    Returns
    -------
    tuple or None
        Value and quoted positions; None when the text holds an expansion.
    """
    value, quoted, position = "", set(), 0
    while position < len(source):
        character = source[position]
        if character == "\\" and position + 1 < len(source):
            position += 1
            if source[position] != "\n":
                quoted.add(len(value))
                value += source[position]
        elif expansions and _EXPANSION.match(source, position):
            return None
        else:
            value += character
        position += 1
    return value, quoted


def double_quoted(source: str) -> str | None:
    """Remove quoting from what stands between double quotes; None when it holds an expansion."""
    value, position = "", 0
    while position < len(source):
        character = source[position]
        if character == "\\" and source[position + 1 : position + 2] in tuple('$`"\\\n'):
            position += 1
            character = "" if source[position] == "\n" else source[position]
        elif _EXPANSION.match(source, position):
            return None
        value += character
        position += 1
    return value


def ansi_quoted(source: str) -> str | None:
    """Decode what stands between ``$'`` and ``'``; None when the result is not UTF-8."""

    def replaced(match: re.Match[bytes]) -> bytes:
        simple, octal, hexa, short, long, control = match.groups()
        if simple is not None:
            return _ESCAPES[simple.decode()].encode()
        if octal is not None:
            return bytes([int(octal, 8) & 255])
        if hexa is not None:
            return bytes([int(hexa, 16)])
        if control is not None:
            return bytes([0x7F if control == b"?" else control[-1] & 0x1F])
        code = int(short or long, 16)
        return chr(code).encode("utf-8", "surrogatepass") if code < 0x110000 else b"\xff"

    try:
        # A NUL ends the string for the shell, which keeps its strings as C does.
        return re.sub(_ANSI, replaced, source.encode(), flags=re.DOTALL).partition(b"\0")[0].decode()
    except UnicodeDecodeError:
        return None


def _unmark(marked: Marked) -> tuple[str, frozenset[int]]:
    quoted = frozenset(i for i, (_, is_quoted) in enumerate(marked) if is_quoted)
    return "".join(c for c, _ in marked), quoted


def _braces(marked: Marked) -> list[Marked]:
    """Expand braces as bash does: the first group that is one, then what follows it."""
    for start, item in enumerate(marked):
        if item != ("{", False):
            continue
        group = _group(marked, start)
        if group is None:
            continue
        parts, end = group
        tails = _braces(marked[end:])
        expanded = [alternative for part in parts for alternative in _braces(part)]
        if len(expanded) * len(tails) > _BRACE_LIMIT:
            return [marked]
        return [marked[:start] + middle + tail for middle in expanded for tail in tails]
    return [marked]


def _group(marked: Marked, start: int) -> tuple[list[Marked], int] | None:
    """Split the group that opens at `start`: its parts and where it ends; None when it is no group.

    A closing brace before any comma or ``..`` of the group's own is an ordinary character, as in bash.
    """
    parts: list[Marked] = []
    depth, begin, ranged = 1, start + 1, False
    for position in range(start + 1, len(marked)):
        item = marked[position]
        if item == ("{", False):
            depth += 1
        elif item == ("}", False) and depth > 1:
            depth -= 1
        elif item == ("}", False) and (parts or ranged):
            parts.append(marked[begin:position])
            found = parts if len(parts) > 1 else _sequence(parts[0])
            return None if found is None else (found, position + 1)
        elif item == (",", False) and depth == 1:
            parts.append(marked[begin:position])
            begin = position + 1
        elif depth == 1 and [c for c, _ in marked[position : position + 2]] == [".", "."]:
            ranged = ranged or marked[position + 2 : position + 3] != [("}", False)]
    return None


def _sequence(marked: Marked) -> list[Marked] | None:
    """Expand the inside of ``{1..3}`` or ``{a..c}``."""
    if any(is_quoted for _, is_quoted in marked):
        return None
    match = re.fullmatch(_RANGE, "".join(c for c, _ in marked))
    if match is None:
        return None
    low, high, first, last, step_text = match.groups()
    begin, end = (int(low), int(high)) if low is not None else (ord(first), ord(last))
    step = abs(int(step_text or 1)) or 1
    if abs(end - begin) // step > _BRACE_LIMIT:
        return None
    numbers = range(begin, end + 1, step) if begin <= end else range(begin, end - 1, -step)
    if low is None:
        return [[(chr(number), True)] for number in numbers]
    width = max(len(low), len(high)) if re.match(r"[+-]?0\d", low) or re.match(r"[+-]?0\d", high) else 0
    return [[(c, False) for c in f"{number:0{width}d}"] for number in numbers]
