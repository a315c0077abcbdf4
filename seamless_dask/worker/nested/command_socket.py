"""What a running command needs to ask for computations itself: a socket, and a connection file beside it.

The socket stands for a hashserver and a jobserver both. It lies with the files of the run, so that a command
without a network reaches it, and nobody answers when the command has ended. Tokens of a daskserver stay on
this side: behind the socket one holds that is good for this run only.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import time

from seamless_dask.connection import VERSION, ConnectionFile

_BACKLOG = 512


class CommandSocket:
    """A socket, and beside it a connection file and the token that opens it.

    Parameters
    ----------
    directory, inner : str
        Where they are, made here: as we see it and as the command does.
    """

    def __init__(self, directory: str, inner: str) -> None:
        self.directory, self.inner = directory, inner
        self.token = os.urandom(32).hex()
        self.variables = {"SEAMLESS_DASKSERVER": f"{inner}/connection.json"}
        self._facts = _connection(inner)
        os.mkdir(directory, 0o700)
        _write(f"{directory}/token", _line(self.token))
        _write(f"{directory}/connection.json", self._facts)
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            _listen(self.socket, directory, "socket")
            self._number = os.lstat(f"{directory}/socket").st_ino
        except BaseException:
            self.socket.close()
            raise

    def renew(self) -> bool:
        """Change the token, for another run; False when the one before has touched anything."""
        directory, token = self.directory, os.urandom(32).hex()
        try:
            state = os.lstat(f"{directory}/socket")
            is_ours = stat.S_ISSOCK(state.st_mode) and state.st_ino == self._number
            is_ours = is_ours and sorted(os.listdir(directory)) == ["connection.json", "socket", "token"]
            if not is_ours or stat.S_IMODE(os.lstat(directory).st_mode) != 0o700:
                return False
            if not _holds(f"{directory}/connection.json", self._facts):
                return False
            if not _holds(f"{directory}/token", _line(self.token), _line(token)):
                return False
        except OSError:
            return False
        self.token = token
        return True

    def close(self) -> None:
        """Listen no more."""
        self.socket.close()


def _listen(sock: socket.socket, directory: str, name: str) -> None:
    """Listen at a path; the address of a socket has no room for a long one."""
    sock.setblocking(False)
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.bind(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)
    sock.listen(_BACKLOG)


def _connection(inner: str) -> str:
    url, token = f"unix://{inner}/socket", f"{inner}/token"
    facts = ConnectionFile(
        name="nested",
        host=os.uname().nodename,
        pid=os.getpid(),
        started=time.time(),
        jobserver=url,
        scheduler=url,
        hashserver=url,
        store=url,
        token_file=token,
        hashserver_token_file=token,
    )
    return json.dumps({"version": VERSION} | facts._asdict())


def _line(token: str) -> str:
    return f"read-write {token}\n"


def _holds(path: str, text: str, instead: str | None = None) -> bool:
    """Say whether a file of ours holds `text`; put another one of the same length in its place."""
    flags = os.O_RDONLY if instead is None else os.O_RDWR
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        state = os.fstat(fd)
        is_ours = state.st_mode == stat.S_IFREG | 0o600 and state.st_nlink == 1
        if not is_ours or os.read(fd, len(text) + 1) != text.encode():
            return False
        if instead is not None:
            os.pwrite(fd, instead.encode(), 0)
    finally:
        os.close(fd)
    return True


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
