"""The file that says where a hashserver listens, for as long as it does."""

from __future__ import annotations

import json
import os

from hashserver.namedtuple import NamedTuple


class ReadyFile(NamedTuple):
    """What it says.

    Attributes
    ----------
    url : str
        Where the server listens.
    pid : int
        Its process.
    host : str
        Where that runs; empty where it is not said.
    token_file : str or None
        Of those whom it answers.
    store : str or None
        The directory of a local store: processes of the same host may go there by themselves.
    """

    url: str
    pid: int
    host: str = ""
    token_file: str | None = None
    store: str | None = None

    @property
    def is_here(self) -> bool:
        """Whether it is this host's, as far as that is said."""
        return self.host in ("", os.uname().nodename)


def write_ready(path: str, ready: ReadyFile) -> None:
    """Write it; raises `OSError`."""
    from hashserver.atomic import write_atomic

    write_atomic(path, json.dumps(ready._asdict()).encode(), 0o600)


def read_ready(path: str) -> ReadyFile | None:
    """Return what a file says; None where there is none that makes sense."""
    try:
        with open(path, "rb") as file:
            return parse_ready(file.read())
    except OSError:
        return None


def parse_ready(data: bytes) -> ReadyFile | None:
    """Return what the bytes of a file say; None where they make no sense."""
    try:
        said = json.loads(data)
        told = {name: said[name] for name in ReadyFile._fields if said.get(name) is not None}
        found = ReadyFile(**told | {"pid": int(said["pid"])})
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    texts = found.url, found.host, found.token_file or "", found.store or ""
    makes_sense = 0 < found.pid < 1 << 31 and all(isinstance(text, str) for text in texts)
    return found if makes_sense else None
