"""Buffers on their way from a server: received, hashed and written at the same time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Protocol

from hashserver.atomic import write_all
from hashserver.checksum import PipelinedHasher
from hashserver.errors import ServiceUnavailable
from hashserver.protocol import BLOCK
from hashserver.storage.store import local_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hashserver.checksum import Checksum
    from hashserver.client.connection import Response
    from hashserver.storage.store import Bytes, Path


class BufferSource(Protocol):
    """Where bytes come from."""

    def fetch(self, checksum: Checksum, start: int = 0, length: int | None = None) -> Response:
        """Ask for a buffer from a place on."""
        ...


class Reception:
    """A long download into a descriptor: received, hashed and written at the same time."""

    def __init__(self, client: BufferSource, checksum: Checksum, fd: int, path: Path) -> None:
        from queue import SimpleQueue

        self._client, self._checksum, self._fd, self._path = client, checksum, fd, path
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        for _ in range(4):
            self._free.put(bytearray(BLOCK))
        self._position = 0
        self._head = b""

    def run(self, response: Response) -> tuple[Checksum, bytes]:
        """Return the checksum of what arrived, and its first bytes."""
        with PipelinedHasher() as hasher:
            while not self._receive(response, hasher):
                response = self._client.fetch(self._checksum, self._position)
            return hasher.finish(), self._head

    def _receive(self, response: Response, hasher: PipelinedHasher) -> bool:
        """Take what comes; false if the connection was lost after some progress."""
        begun = self._position
        with response:
            while True:
                buffer = self._free.get()
                count, lost = _fill(response, memoryview(buffer))
                part = memoryview(buffer)[:count]
                self._position += count
                self._head = self._head or bytes(part[:4])
                hasher.lend(part, partial(self._free.put, buffer))
                write(self._fd, part, self._path)
                if lost and self._position == begun:
                    raise lost
                if lost or count < len(buffer):
                    return lost is None


def _fill(response: Response, view: memoryview) -> tuple[int, ServiceUnavailable | None]:
    """Receive until `view` is full or the body ends; tell how much that was, and what went wrong."""
    used = 0
    try:
        while used < len(view) and (count := response.readinto(view[used:])):
            used += count
    except ServiceUnavailable as error:
        return used, error
    return used, None


def write(fd: int, data: Bytes, path: Path) -> None:
    """Write to the file that will be `path`, which the error names."""
    try:
        write_all(fd, data)
    except OSError as error:
        raise local_error(error, path) from error


def parts(response: Response) -> Iterator[bytes]:
    """Yield the body of an answer."""
    with response:
        buffer = memoryview(bytearray(BLOCK))
        while True:
            used, lost = _fill(response, buffer)
            if used:
                yield bytes(buffer[:used])
            if lost:
                raise lost
            if used < len(buffer):
                return
