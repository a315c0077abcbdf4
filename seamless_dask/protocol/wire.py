"""Requests to a Dask scheduler, whose answers are read as data: nothing that arrives is ever unpickled.

Dask's own client unpickles parts of what it is sent, from the first message on (``__Pickled__`` even with
``deserialize=False``), so that whoever answers at an address could run code here. What our operations answer
is plain MessagePack, and stands in the first frame of a message; further frames are what pickles travel in,
and are passed over. The framing is that of the page "Protocol" in Dask's documentation.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgpack

from hashserver.client.connection import mind_cuts

from .transports import CUT_SECONDS

if TYPE_CHECKING:
    import ssl

MAX_BYTES = 256 << 20
"""The longest message that is read: documents of jobs are far shorter."""
_NUMBER = struct.Struct("<Q")
_PART = 1 << 20
_PICKLE_PROTOCOL = 5
"""Named because Dask's handshake wants one; we send no pickles either."""


class NotUnderstood(ValueError):
    """What answers does not speak Dask's protocol, or says what we never ask for."""


class Wire:
    """A connection to a scheduler; for one thread at a time.

    Parameters
    ----------
    host, port
        Of the scheduler.
    context
        Of TLS; None: without.
    connect_seconds
        How long a connection may take to be made.
    answer_seconds
        How long an answer may take.

    Raises
    ------
    OSError
        When it cannot be reached.
    NotUnderstood
        When what answers is no scheduler.
    """

    def __init__(
        self,
        host: str,
        port: int,
        context: ssl.SSLContext | None,
        *,
        connect_seconds: float,
        answer_seconds: float,
    ) -> None:
        self._answer_seconds = answer_seconds
        self._sock = socket.create_connection((host, port), connect_seconds)
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            mind_cuts(self._sock, CUT_SECONDS)
            if context is not None:
                self._sock = context.wrap_socket(self._sock, server_hostname=host)
            self._shake_hands(time.monotonic() + connect_seconds)
        except BaseException:
            self.close()
            raise

    def call(self, operation: str, arguments: dict[str, Any]) -> Any:
        """Have the scheduler do something, and return what it answers, made of what JSON knows and bytes."""
        end = time.monotonic() + self._answer_seconds
        self._send({"op": operation, "reply": True, **arguments}, end)
        return self._receive(end)

    def close(self) -> None:
        """Disconnect."""
        self._sock.close()

    def _shake_hands(self, end: float) -> None:
        """Say who we are: one that reads nothing compressed."""
        own = {
            "compression": None,
            "python": tuple(sys.version_info[:3]),
            "pickle-protocol": _PICKLE_PROTOCOL,
        }
        self._send(own, end)
        told = self._receive(end)
        if not isinstance(told, dict) or "pickle-protocol" not in told:
            raise NotUnderstood("it does not speak as a Dask scheduler does")

    def _send(self, message: dict[str, Any], end: float) -> None:
        frame = msgpack.packb(message, use_bin_type=True)
        head = _NUMBER.pack(1) + _NUMBER.pack(len(frame))
        self._sock.settimeout(_left(end))
        self._sock.sendall(_NUMBER.pack(len(head) + len(frame)) + head + frame)

    def _receive(self, end: float) -> Any:
        """Read a message: the length of what is sent in one piece, number and lengths of frames, frames."""
        together = self._number(end)
        count = self._number(end)
        head = _NUMBER.size * (count + 1)
        if not 0 < count <= MAX_BYTES // _NUMBER.size or not head <= together:
            raise NotUnderstood("it does not speak as a Dask scheduler does")
        lengths = [number for (number,) in _NUMBER.iter_unpack(self._read(_NUMBER.size * count, end))]
        if sum(lengths) > MAX_BYTES or together > head + sum(lengths):
            raise NotUnderstood("its answer is too long")
        first = self._read(lengths[0], end)
        for length in lengths[1:]:
            self._read(length, end)
        try:
            return msgpack.unpackb(first, raw=False, use_list=True, strict_map_key=True)
        except (ValueError, TypeError, RecursionError, msgpack.UnpackException):
            raise NotUnderstood("its answer is not plain data") from None

    def _number(self, end: float) -> int:
        number: int = _NUMBER.unpack(self._read(_NUMBER.size, end))[0]
        return number

    def _read(self, size: int, end: float) -> bytes:
        """Read so many bytes; memory grows with what has arrived, not with what is announced."""
        parts = bytearray()
        while len(parts) < size:
            self._sock.settimeout(_left(end))
            part = self._sock.recv(min(size - len(parts), _PART))
            if not part:
                raise ConnectionResetError("the connection was closed")
            parts += part
        return bytes(parts)


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("no answer in time")
    return left


def is_plain(answer: object, shape: dict[str, type | tuple[type, ...]]) -> bool:
    """Say whether an answer has these members, of these types."""
    with suppress(KeyError):
        return isinstance(answer, dict) and all(
            isinstance(answer[name], kind) for name, kind in shape.items()
        )
    return False
