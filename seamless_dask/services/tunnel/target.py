"""What ``seamless-daskserver connect`` connects to, and the socket that all its ssh commands share."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from typing import Any, NamedTuple

from hashserver.atomic import write_atomic

from ...errors import UsageError
from ...private import private_directory

FILE = "tunnel.json"
SERVICES = ("scheduler", "jobserver", "hashserver")
LONGEST_SOCKET = 80
"""Bytes of a path: ssh makes the socket under a name that is 17 longer, and some systems take 104."""


class TunnelTarget(NamedTuple):
    """What ``seamless-daskserver connect`` was told."""

    directory: str
    name: str
    """Of the connection, here."""
    destination: str
    """``[user@]host``, as ssh has it."""
    remote_name: str = "default"
    jump: str | None = None
    options: tuple[str, ...] = ()
    """Options of ssh, as ``KEY=VALUE``."""
    ports: tuple[int, ...] = ()
    """Local ports, in the order of `SERVICES`."""

    def file(self, name: str) -> str:
        """Path of a file of the connection's own directory."""
        return os.path.join(self.directory, name)

    def ssh(self, *words: str) -> list[str]:
        """Return an ssh command that shares the connection."""
        options = [word for option in self.options for word in ("-o", option)]
        jump = ["-J", self.jump] if self.jump else []
        # What the user's own ssh_config may say for interactive sessions is in the way of ours.
        plain = ["-a", "-x", "-T", "-o", "RemoteCommand=none", "-o", "ClearAllForwardings=yes"]
        return ["ssh", "-S", control_path(self), *jump, *options, *plain, *words]


def write(target: TunnelTarget) -> None:
    """Write the file that the process reads."""
    write_atomic(target.file(FILE), json.dumps(target._asdict(), indent=2).encode(), 0o600)


def read(directory: str) -> TunnelTarget:
    """Return what to connect to.

    Raises
    ------
    UsageError
        If there is nothing usable.
    """
    try:
        with open(os.path.join(directory, FILE), "rb") as file:
            found: dict[str, Any] = json.load(file)
        return TunnelTarget(**found | {name: tuple(found[name]) for name in ("options", "ports")})
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"no connection in {directory}: seamless-daskserver connect makes one") from None


def control_path(target: TunnelTarget) -> str:
    """Return the path of ssh's control socket: a short one, in a directory of this user's own."""
    name = hashlib.sha256(target.directory.encode()).hexdigest()[:16]
    path = os.path.join(tempfile.gettempdir(), f"seamless-ssh-{os.geteuid()}", name)
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        path = os.path.join("/tmp", f"seamless-ssh-{os.geteuid()}", name)  # noqa: S108 - checked below
    folder = private_directory(os.path.dirname(path), "TMPDIR")
    status = os.lstat(folder)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise UsageError(f"{folder} must belong to you, and to you alone: TMPDIR names another place")
    return path
