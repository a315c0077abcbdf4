"""Routes that read and write buffers one at a time."""

from __future__ import annotations

import os
import re
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from hashserver.checksum import Checksum, Hasher
from hashserver.errors import BufferCorrupt, BufferMissing
from hashserver.protocol import BYTES_TYPE
from hashserver.server.answers import (
    Answer,
    FileAnswer,
    StreamAnswer,
    content_type,
    error_answer,
    json_answer,
)
from hashserver.server.uploads import check_length, expects_permission, receive
from hashserver.storage.directory import LocalStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web

    from hashserver.server.service import Service
    from hashserver.storage.store import Store

_SMALL = 256 << 10
"""What is no longer is read and sent in the event loop: a thread would cost more."""

_FIXED = (
    content_type(BYTES_TYPE)
    + b"Cache-Control: private, max-age=31536000, immutable\r\nAccept-Ranges: bytes\r\n"
)
_RANGE = re.compile(r"bytes=([0-9]{0,99})-([0-9]{0,99})", re.IGNORECASE).fullmatch


class Part(NamedTuple):
    """A range of a buffer: where it starts and how long it is."""

    start: int
    length: int


class BadRangeError(ValueError):
    """A range that lies outside of the buffer, or is none."""


async def get_buffer(service: Service, request: web.BaseRequest, checksum: Checksum) -> Answer:
    """Answer with the bytes, or the part that was asked for."""
    store = service.store
    if not isinstance(store, LocalStore):
        return await _get_remote(service, request, checksum)
    if store.is_packed(checksum):
        fd, state = await service.run(store.descriptor, checksum)
    else:
        fd, state = store.descriptor(checksum)
    size = state.st_size
    try:
        if size > _SMALL or "Range" in request.headers or "If-None-Match" in request.headers:
            return _get_part(service, request, checksum, os.fdopen(os.dup(fd), "rb", buffering=0), size)
        data = os.read(fd, size + 1) if request.method == "GET" else b""
    finally:
        os.close(fd)
    if request.method == "GET" and len(data) != size:
        raise BufferMissing(checksum)  # somebody cut the file
    service.metrics.sent += len(data)
    return Answer(request, 200, data, _headers(checksum), length=size)


def _get_part(
    service: Service, request: web.BaseRequest, checksum: Checksum, file: BinaryIO, size: int
) -> Answer:
    early, part, status, headers = _plan(request, checksum, size)
    if early is not None or request.method == "HEAD":
        file.close()
        return early or Answer(request, status, b"", headers, length=part.length)
    service.metrics.sent += part.length
    return FileAnswer(request, status, headers, file, part.start, part.length)


async def _get_remote(service: Service, request: web.BaseRequest, checksum: Checksum) -> Answer:
    store = service.store
    (size,) = await service.run(store.has, [checksum])
    if size < 0:
        raise BufferMissing(checksum)
    early, part, status, headers = _plan(request, checksum, size)
    if early is not None or request.method == "HEAD":
        return early or Answer(request, status, b"", headers, length=part.length)
    parts = await service.run(store.read, checksum, part.start, part.length)
    service.metrics.sent += part.length
    return StreamAnswer(request, status, headers, parts, service.threads, part.length)


def _headers(checksum: Checksum) -> bytes:
    return b'%sETag: "%s"\r\n' % (_FIXED, checksum.encode())


def _plan(request: web.BaseRequest, checksum: Checksum, size: int) -> tuple[Answer | None, Part, int, bytes]:
    """Return an answer that needs no bytes, or the part to send with status and headers."""
    headers, whole = _headers(checksum), Part(0, size)
    if _names(request.headers.get("If-None-Match"), checksum):
        return Answer(request, 304, b"", headers), whole, 304, headers
    text = request.headers.get("Range")
    if text is None or not _names(request.headers.get("If-Range", "*"), checksum):
        return None, whole, 200, headers
    try:
        part = parse_range(text, size)
    except BadRangeError as error:
        wrong = b"Content-Range: bytes */%d\r\n" % size
        return error_answer(request, 416, str(error), wrong), whole, 416, headers
    if part is None:
        return None, whole, 200, headers
    where = b"Content-Range: bytes %d-%d/%d\r\n" % (part.start, part.start + part.length - 1, size)
    return None, part, 206, headers + where


def _names(header: str | None, checksum: Checksum) -> bool:
    if header is None:
        return False
    return header.strip() == "*" or any(
        tag.strip().removeprefix("W/").strip('"') == checksum for tag in header.split(",")
    )


def parse_range(text: str, size: int) -> Part | None:
    """Return the part that a Range header names; None where that is to be ignored.

    Several parts are (nobody needs to be given them), and other units than bytes (RFC 9110 demands it).

    Raises
    ------
    BadRangeError
        If there is no such part.
    """
    text = text.replace(" ", "")
    if "," in text or not text.lower().startswith("bytes="):
        return None
    match = _RANGE(text)
    if match is None or match.groups() == ("", ""):
        raise BadRangeError(f"not a range (bytes=FIRST-LAST): {text[:80]}")
    first, last = match.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        raise BadRangeError(f"the range {text} lies outside of the buffer, which has {size} bytes")
    return Part(start, stop - start)


async def put_buffer(service: Service, request: web.BaseRequest, checksum: Checksum) -> Answer:
    """Store the body, which must be the bytes of the checksum."""
    service.demand_writable()
    check_length(request, service.max_size)
    (there,) = await _lengths(service, [checksum])
    known = there == request.content_length  # one of another length is damaged, and mended by what comes
    if known and expects_permission(request):
        return json_answer(request, {"checksum": checksum, "length": there})
    consume = partial(_compare if known else _store, service.store, checksum)
    try:
        length = await receive(request, service.uploads, consume, service.max_size)
    except BufferCorrupt as error:
        return error_answer(request, 400, f"nothing was kept: {error}")
    service.metrics.received += length
    return json_answer(request, {"checksum": checksum, "length": length}, 200 if there == length else 201)


async def _lengths(service: Service, checksums: list[Checksum]) -> list[int]:
    store = service.store
    if isinstance(store, LocalStore) and not any(map(store.is_packed, checksums)):
        return store.has(checksums)
    return await service.run(store.has, checksums)


def _store(store: Store, expected: Checksum | None, parts: Iterator[bytes]) -> int:
    with store.writer() as writer:
        for part in parts:
            writer.write(part)
        return writer.commit(expected)[1]


def _compare(_: Store, expected: Checksum, parts: Iterator[bytes]) -> int:
    hasher = Hasher()
    for part in parts:
        hasher.update(part)
    if hasher.finish() != expected:
        raise BufferCorrupt(expected, f"the bytes are not those of {expected}")
    return hasher.size


async def post_buffer(service: Service, request: web.BaseRequest) -> Answer:
    """Store the body and answer with its checksum."""
    service.demand_writable()
    known, checksum, length = await receive(
        request, service.uploads, partial(_store_unnamed, service.store), service.max_size
    )
    service.metrics.received += length
    return json_answer(request, {"checksum": checksum, "length": length}, 200 if known else 201)


def _store_unnamed(store: Store, parts: Iterator[bytes]) -> tuple[bool, Checksum, int]:
    with store.writer() as writer:
        for part in parts:
            writer.write(part)
        checksum = writer.finish()
        known = store.has([checksum])[0] == writer.size
        return known, *writer.commit()


async def delete_buffer(service: Service, request: web.BaseRequest, checksum: Checksum) -> Answer:
    """Forget a buffer."""
    service.demand_writable()
    await service.run(service.store.delete, checksum)
    return Answer(request, 204, length=-1)


async def verify(service: Service, request: web.BaseRequest, checksum: Checksum) -> Answer:
    """Read a buffer back; a corrupt one is put into quarantine."""
    service.demand_writable()
    intact = await service.run(service.store.verify, checksum)
    service.metrics.corrupt += not intact
    in_place = intact and await service.run(service.store.in_place, checksum)
    return json_answer(request, {"intact": intact, "in_place": in_place})
