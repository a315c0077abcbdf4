"""What server and client share: paths, media types, pack framing, and the JSON shape of a result."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from hashserver.checksum import Checksum
from hashserver.errors import InvalidPack, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Bytes = bytes | bytearray | memoryview

BUFFERS = "/buffers"
HAS = "/has"
PACK = "/pack"
VERIFY = "/verify/"
RESULT = "/result/"
RESULTS = "/results"
CONTEST = "/contest"
DEFERRED = "/deferred/"
FAILURE = "/failure/"
PRODUCERS = "/producers/"
PRODUCERS_OF = "/producers"
IRREPRODUCIBLE = "/irreproducible/"
RUNS = "/runs"
USES = "/uses"
SIMILAR = "/similar"
COUNTS = "/counts"
EXPORT = "/export"
HEALTHCHECK = "/healthcheck"

JSON_TYPE = "application/json"
BYTES_TYPE = "application/octet-stream"
PACK_TYPE = "application/vnd.seamless.pack"

BLOCK = 1 << 20
"""Bytes that are handed to a socket or a thread at a time."""

MAX_MEMBER = 16 << 20
"""A larger buffer is not sent up in a pack: a pack's members are held in memory whole."""

MOST_ASKED = 50_000
"""The longest list of checksums in one request: more would keep others waiting."""

MOST_RUNS = 10_000
"""The most runs in one answer."""

MAX_INLINE = 1 << 20
"""The most bytes that the answer to a look-up carries."""

# A frame is a digest, a length, and as many bytes. Two kinds of frame have no bytes: a length of
# MISSING says that the sender does not have the buffer, and a digest of zeros ends the pack, with
# the number of frames before it as its length, so that a cut is always seen.
_HEAD = struct.Struct(">32sQ")
_MISSING = (1 << 64) - 1
_END = bytes(32)


class PackWriter:
    """Frames buffers; the caller moves what `take` returns once `size` is worth it."""

    def __init__(self) -> None:
        self._parts: list[Bytes] = []
        self._count = 0
        self.size = 0

    def head(self, checksum: Checksum, length: int) -> None:
        """Begin a frame whose `length` bytes follow through `part`."""
        self._parts.append(_HEAD.pack(bytes.fromhex(checksum), length))
        self._count += 1
        self.size += _HEAD.size

    def part(self, data: Bytes) -> None:
        """Add bytes to the frame that was begun last."""
        self._parts.append(data)
        self.size += len(data)

    def add(self, checksum: Checksum, data: Bytes) -> None:
        """Add a whole buffer."""
        self._parts += (_HEAD.pack(bytes.fromhex(checksum), len(data)), data)
        self._count += 1
        self.size += _HEAD.size + len(data)

    def missing(self, checksum: Checksum) -> None:
        """Say that there is no such buffer."""
        self.head(checksum, _MISSING)

    def end(self) -> None:
        """End the pack."""
        self._parts.append(_HEAD.pack(_END, self._count))
        self.size += _HEAD.size

    def take(self) -> bytes:
        """Return what has been added since the last call."""
        data = b"".join(self._parts)
        self._parts.clear()
        self.size = 0
        return data


class PackReader:
    """Takes a pack apart, whatever pieces it arrives in.

    The bytes are not checked against the digests: the caller does that where it can say who is wrong.

    Parameters
    ----------
    max_member
        The longest buffer that is accepted.
    """

    def __init__(self, max_member: int = 1 << 40) -> None:
        self._pending = bytearray()
        self._max_member = max_member
        self._count = 0
        self.ended = False

    def feed(self, data: Bytes) -> list[tuple[Checksum, bytes | None]]:
        """Return the buffers that `data` completes; ``None`` stands for one that the sender lacks.

        Raises
        ------
        TooLarge
            If a member is too long.
        InvalidPack
            If the count is wrong, or something follows the end.
        """
        if self._pending:
            self._pending += data
            data = self._pending
        members: list[tuple[Checksum, bytes | None]] = []
        with memoryview(data) as view:
            used = self._split(view, members)
            rest = None if data is self._pending else bytes(view[used:])
        if rest is None:
            del self._pending[:used]
        else:
            self._pending += rest
        return members

    def _split(self, view: memoryview, members: list[tuple[Checksum, bytes | None]]) -> int:
        position, size = 0, len(view)
        while size - position >= 40:
            digest, length = _HEAD.unpack_from(view, position)
            if self.ended:
                break
            if digest == _END:
                self._end(length)
                position += 40
                continue
            if length == _MISSING:
                members.append((Checksum.from_digest(digest), None))
                stop = position + 40
            else:
                stop = position + 40 + length
                if length > self._max_member:
                    raise TooLarge(
                        f"{digest.hex()} has {length} bytes: a pack takes {self._max_member} bytes at most"
                    )
                if stop > size:
                    break
                members.append((Checksum.from_digest(digest), bytes(view[position + 40 : stop])))
            self._count += 1
            position = stop
        if self.ended and position < size:
            raise InvalidPack("something follows the end of the pack")
        return position

    def _end(self, count: int) -> None:
        if count != self._count:
            raise InvalidPack(f"the pack says that it has {count} members, {self._count} arrived")
        self.ended = True

    def finish(self) -> None:
        """Say that nothing more comes.

        Raises
        ------
        InvalidPack
            If the pack was cut short.
        """
        if not self.ended:
            raise InvalidPack(f"the pack is cut short after {self._count} members")


def pack(members: Iterable[tuple[Checksum, Bytes | None]], block: int = BLOCK) -> Iterator[bytes]:
    """Yield the pack of `members` in pieces of about `block` bytes."""
    writer = PackWriter()
    for checksum, data in members:
        if data is None:
            writer.missing(checksum)
        else:
            writer.add(checksum, data)
        if writer.size >= block:
            yield writer.take()
    writer.end()
    yield writer.take()
