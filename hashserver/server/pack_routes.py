"""Routes that are about many buffers at once."""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import BufferMissing, InvalidRequest, OriginalChanged, TooLarge
from hashserver.protocol import BLOCK, MAX_MEMBER, MOST_ASKED, PACK_TYPE, PackReader, PackWriter
from hashserver.server.answers import Answer, StreamAnswer, content_type, json_answer
from hashserver.server.uploads import read_body, receive
from hashserver.storage.directory import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiohttp import web

    from hashserver.server.service import Service
    from hashserver.storage.store import Store

T = TypeVar("T")

_LONGEST_LIST = 80 * MOST_ASKED  # 64 digits each, quotes, comma, white space
_SLICE = 2_000
_SHORT = 64 << 10
"""A body that is no longer is read in the event loop: a thread would cost more."""


async def read_list(service: Service, request: web.BaseRequest) -> list[Checksum]:
    """Return the JSON list of checksums that is the body of a request.

    Raises
    ------
    TooLarge
        If there are too many.
    """
    try:
        body = await read_body(request, _LONGEST_LIST)
    except TooLarge:
        raise TooLarge(_TOO_MANY) from None
    return await off_loop(service, _checksums, body)


_TOO_MANY = f"a request may name {MOST_ASKED} checksums at most: send several"


def _checksums(body: bytes) -> list[Checksum]:
    document = parse_json(body)
    if not isinstance(document, list):
        raise InvalidRequest("the body must be a JSON list of checksums")
    if len(document) > MOST_ASKED:
        raise TooLarge(_TOO_MANY)
    return list(map(Checksum, document))


async def off_loop(service: Service, parse: Callable[[bytes], T], body: bytes) -> T:
    """Call `parse` with a body, in a thread if it is not short."""
    return parse(body) if len(body) <= _SHORT else await service.run(parse, body)


def parse_json(body: bytes) -> Any:
    """Return the document in `body`, or raise `InvalidRequest`."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is not JSON") from None


async def _lengths(service: Service, request: web.BaseRequest) -> list[int]:
    """Return the lengths of what is asked for, in slices, between which others have their turn."""
    checksums = await read_list(service, request)
    lengths: list[int] = []
    for start in range(0, len(checksums), _SLICE):
        lengths += await service.run(service.store.has, checksums[start : start + _SLICE])
    return lengths


async def post_has(service: Service, request: web.BaseRequest) -> Answer:
    """Answer with the lengths of buffers."""
    return json_answer(request, await _lengths(service, request))


async def get_has(service: Service, request: web.BaseRequest) -> Answer:
    """Answer as Seamless 1.x does: whether buffers are there."""
    return json_answer(request, [length >= 0 for length in await _lengths(service, request)])


async def post_pack(service: Service, request: web.BaseRequest) -> Answer:
    """Answer with a pack of the buffers that are asked for."""
    checksums = await read_list(service, request)
    parts = _packed(service.store, checksums)
    first = await service.run(next, parts)  # before the answer begins: it can still say why there is none
    return StreamAnswer(request, 200, content_type(PACK_TYPE), _behind(first, parts), service.threads)


def _behind(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    del first  # a reader may take its time, and there are many
    yield from rest


def _packed(store: Store, checksums: list[Checksum]) -> Iterator[bytes]:
    writer = PackWriter()
    local = store if isinstance(store, LocalStore) else None
    for checksum in checksums:
        try:
            if local is not None and (data := small(local, checksum, BLOCK - 1)) is not None:
                writer.add(checksum, data)
                if writer.size >= BLOCK:
                    yield writer.take()
                continue
            with store.open(checksum) as file:
                size = file.seek(0, 2)
                file.seek(0)
                writer.head(checksum, size)
                for part in _exactly(file, size):
                    writer.part(part)
                    if writer.size >= BLOCK:
                        yield writer.take()
        except (BufferMissing, OriginalChanged):
            writer.missing(checksum)
    writer.end()
    yield writer.take()


def small(store: LocalStore, checksum: Checksum, most: int) -> bytes | None:
    """Return a buffer of so many bytes at most; a file object would cost more than these."""
    fd, state = store.descriptor(checksum)
    try:
        data = os.read(fd, state.st_size + 1) if state.st_size <= most else None
    finally:
        os.close(fd)
    return data if data is None or len(data) == state.st_size else None


def _exactly(file: Any, size: int) -> Iterator[bytes]:
    while size:
        data = file.read(min(size, BLOCK))
        if not data:
            raise OSError("a buffer became shorter while it was sent")
        size -= len(data)
        yield data


async def put_pack(service: Service, request: web.BaseRequest) -> Answer:
    """Store the members of a pack, each for itself."""
    service.demand_writable()
    stored, size, rejected = await receive(request, service.uploads, partial(_unpack, service))
    service.metrics.received += size
    return json_answer(request, {"stored": stored, "rejected": rejected})


def _unpack(service: Service, parts: Iterator[bytes]) -> tuple[int, int, dict[str, str]]:
    limit = MAX_MEMBER if service.max_size is None else min(MAX_MEMBER, service.max_size)
    members = _Members(PackReader(limit), parts)
    service.store.put_verified(members)
    return members.stored, members.size, members.rejected


class _Members:
    """The members of a pack that are what they are called; the others are noted."""

    def __init__(self, reader: PackReader, parts: Iterator[bytes]) -> None:
        self._reader, self._parts = reader, parts
        self.stored = self.size = 0
        self.rejected: dict[str, str] = {}

    def __iter__(self) -> Iterator[tuple[Checksum, bytes]]:
        for part in self._parts:
            for checksum, data in self._reader.feed(part):
                if data is None:
                    self.rejected[checksum] = "it has no bytes"
                elif hash_bytes(data) != checksum:
                    self.rejected[checksum] = "its bytes are not those of the checksum"
                else:
                    yield checksum, data
                    self.stored += 1
                    self.size += len(data)
        self._reader.finish()
