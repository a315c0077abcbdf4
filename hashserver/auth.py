"""Tokens: who may read, and who may write.

A token file is readable by its owner alone. Each of its lines is ``read TOKEN`` or
``read-write TOKEN``; empty lines and lines that begin with ``#`` are skipped.
"""

from __future__ import annotations

import errno
import os

from hashserver.errors import AuthenticationFailed
from hashserver.namedtuple import NamedTuple
from hashserver.regular_file import open_secret

NOTHING, READ, WRITE = 0, 1, 2
_KINDS = {"read": READ, "read-write": WRITE}


class Token(NamedTuple):
    """A secret and what it opens."""

    access: int
    secret: str

    def __repr__(self) -> str:
        return f"Token(access={self.access})"


def read_token_file(path: str) -> list[Token]:
    """Return the tokens of a file, those that write first.

    Raises
    ------
    AuthenticationFailed
        If the file cannot be read, others can read it, or it holds no token.
    """
    try:
        with os.fdopen(open_secret(path, "the token file", AuthenticationFailed), encoding="ascii") as file:
            tokens = [_parse(path, line) for line in file if line.strip() and line[0] != "#"]
    except OSError as error:
        raise AuthenticationFailed(f"cannot read the token file {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise AuthenticationFailed(f"{path} is not a token file") from None
    if not tokens:
        raise AuthenticationFailed(f"the token file {path} holds no token")
    return sorted(tokens, key=lambda token: -token.access)


def _parse(path: str, line: str) -> Token:
    kind, _, secret = line.strip().partition(" ")
    secret = secret.strip()
    if kind not in _KINDS or len(secret) < 16 or not secret.isprintable() or " " in secret:
        raise AuthenticationFailed(
            f"the lines of a token file are 'read TOKEN' or 'read-write TOKEN': {path}"
        )
    return Token(_KINDS[kind], secret)


def create_token_file(path: str) -> None:
    """Write a file with a new token of each kind, readable by its owner alone.

    Raises
    ------
    FileExistsError
        If there is a file already: it may be in use.
    """
    from hashserver.atomic import temporary_path

    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
    text = "".join(f"{kind} {os.urandom(32).hex()}\n" for kind in ("read-write", "read"))
    temporary = temporary_path(path)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.fchmod(fd, 0o600)
        os.write(fd, text.encode())
        os.link(temporary, path)  # whole or not at all: another server may be starting with the same file
    finally:
        os.close(fd)
        os.unlink(temporary)


class Authorization:
    """Tells what the ``Authorization`` header of a request opens.

    Parameters
    ----------
    tokens
        All tokens that are known.
    """

    def __init__(self, tokens: list[Token]) -> None:
        from hmac import compare_digest

        self._compare = compare_digest
        self._known = [(f"Bearer {token.secret}".encode(), token.access) for token in tokens]

    def access(self, header: str | None) -> int:
        """Return `NOTHING`, `READ` or `WRITE`; the time does not depend on the secrets."""
        if header is None:
            return NOTHING
        given = header.encode("utf-8", "surrogateescape")
        access = NOTHING
        for known, opens in self._known:
            if self._compare(given, known) and opens > access:
                access = opens
        return access
