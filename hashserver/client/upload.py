"""Buffers on their way to a server: large files, packs of small ones, and what is still being made."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Protocol

from hashserver import protocol
from hashserver.checksum import Checksum, PipelinedHasher, hash_bytes
from hashserver.client.errors import json_of, raise_for
from hashserver.errors import BufferCorrupt, ServiceUnavailable
from hashserver.protocol import BLOCK, PackWriter
from hashserver.storage.store import SMALL, Writer, changed, file_changed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hashserver.client.connection import Sink, Upload
    from hashserver.client.transport import Transport
    from hashserver.storage.store import Bytes, Path

_PACK_MEMBERS = 1000
_PACK_BYTES = 8 << 20


class Sending:
    """The body of an upload: a file, sent by the kernel where possible, hashed in a thread meanwhile.

    The last part is held back until the file is known to be hashed and unchanged: without it the server
    keeps nothing.
    """

    def __init__(self, path: Path, fd: int, state: os.stat_result, expected: Checksum | None) -> None:
        self._path, self._fd, self._state, self._expected = path, fd, state, expected
        self.checksum: Checksum | None = None

    def __call__(self, sink: Sink) -> None:
        """Send the file; `FileChanged` before its end if it is not what it was."""
        held = self._state.st_size - 1
        if sink.sends_files:
            self.checksum = self._send_by_kernel(sink, held)
        else:
            self.checksum = self._send_by_hand(sink, held)
        if changed(self._state, os.fstat(self._fd)) or self._expected not in (None, self.checksum):
            raise file_changed(self._path, self._expected)
        sink.write(os.pread(self._fd, 1, held))

    def _send_by_kernel(self, sink: Sink, stop: int) -> Checksum:
        from threading import Thread

        found: list[Checksum] = []
        thread = Thread(target=lambda: found.append(_hash_range(self._fd, self._state.st_size)), daemon=True)
        thread.start()
        try:
            if sink.send_file(self._fd, stop) < stop:
                raise file_changed(self._path, self._expected)
        finally:
            thread.join()
        return found[0]

    def _send_by_hand(self, sink: Sink, stop: int) -> Checksum:
        with PipelinedHasher() as hasher:
            start = 0
            while start < stop:
                part = os.pread(self._fd, min(BLOCK, stop - start), start)
                if not part:
                    raise file_changed(self._path, self._expected)
                hasher.update(part)
                sink.write(part)
                start += len(part)
            hasher.update(os.pread(self._fd, 1, stop))
            return hasher.finish()


def _hash_range(fd: int, size: int) -> Checksum:
    from hashlib import sha256

    sha, buffer, position = sha256(), bytearray(BLOCK), 0
    view = memoryview(buffer)
    while position < size and (count := os.preadv(fd, [buffer], position)):
        sha.update(view[: min(count, size - position)])
        position += count
    return Checksum(sha.hexdigest())


class BufferTarget(Protocol):
    """Where bytes go."""

    url: str
    transport: Transport

    def has(self, checksums: Sequence[Checksum]) -> list[int]:
        """Return the length of each buffer, -1 for what is not there."""
        ...

    def put_named(self, checksum: Checksum, data: Bytes) -> None:
        """Store a buffer under its checksum."""
        ...


class Packs:
    """Collects small buffers and sends them; a pack is on its way while the next one is filled."""

    def __init__(self, client: BufferTarget) -> None:
        self._client = client
        self._members: dict[Checksum, bytes] = {}
        self._size = 0
        self._upload: Upload | None = None
        self._pack = b""

    def add(self, checksum: Checksum, data: bytes) -> None:
        """Add a buffer."""
        if checksum not in self._members:
            self._members[checksum] = data
            self._size += len(data)
        if self._size >= _PACK_BYTES or len(self._members) >= _PACK_MEMBERS:
            self.flush()

    def flush(self) -> None:
        """Send what has been collected, as far as the server does not have it."""
        members, self._members, self._size = self._members, {}, 0
        lengths = self._client.has(list(members))
        lacking = [
            checksum
            for (checksum, data), length in zip(members.items(), lengths, strict=True)
            if length != len(data)
        ]
        if not lacking:
            return
        writer = PackWriter()
        for checksum in lacking:
            writer.add(checksum, members[checksum])
        writer.end()
        self.finish()
        self._pack = writer.take()
        self._upload = self._client.transport.begin("PUT", protocol.PACK)
        self._upload.write(self._pack)
        self._upload.end()

    def finish(self) -> None:
        """Wait until the server has stored the pack that is on its way."""
        upload, self._upload = self._upload, None
        if upload is None:
            return
        for checksum, reason in self._rejected(upload).items():
            raise BufferCorrupt(checksum, f"{self._client.url} did not take {checksum}: {reason}")

    def _rejected(self, upload: Upload) -> dict[str, str]:
        """Return what the server did not take, and why; a pack that was lost on its way is sent again."""
        try:
            with upload.finish() as response:
                response.load()
        except (ServiceUnavailable, OSError):
            response = self._client.transport.request("PUT", protocol.PACK, self._pack, whole=True)
        raise_for(response, "", self._client.url)
        rejected: dict[str, str] = json_of(response, self._client.url)["rejected"]
        return rejected

    def abort(self) -> None:
        """Let go of a pack that nobody waits for."""
        if self._upload is not None:
            self._upload.abort()


class RemoteWriter(Writer):
    """Sends a buffer while it is written; a small one only at the end, in one go."""

    def __init__(self, client: BufferTarget) -> None:
        super().__init__()
        self._client = client
        self._early: list[bytes] = []
        self._upload: Upload | None = None

    def _write(self, data: bytes) -> None:
        if self._upload is None:
            self._early.append(data)
            if self.size <= SMALL:
                return
            self._upload = self._client.transport.begin("POST", protocol.BUFFERS)
            data = b"".join(self._early)
            self._early.clear()
        self._upload.write(data)

    def _commit(self, checksum: Checksum) -> None:
        if self._upload is None:
            self._client.put_named(checksum, b"".join(self._early))
            return
        upload, self._upload = self._upload, None
        upload.end()
        with upload.finish() as response:
            raise_for(response, checksum, self._client.url)
            if json.loads(response.read())["checksum"] != checksum:
                raise BufferCorrupt(
                    checksum, f"buffer {checksum} was damaged on the way to {self._client.url}"
                )

    def _close(self) -> None:
        if self._upload is not None:
            self._upload.abort()


def checked(path: Path, data: bytes, state: os.stat_result, expected: Checksum | None) -> Checksum:
    """Return the checksum of what was read of a file, if that is the whole file and as expected."""
    checksum = hash_bytes(data)
    if len(data) != state.st_size or expected not in (None, checksum):
        raise file_changed(path, expected)
    return checksum
