"""Routes of the result database."""

from __future__ import annotations

import asyncio
import json
import os
from base64 import b64decode, b64encode
from binascii import b2a_base64
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import (
    BufferCorrupt,
    BufferMissing,
    HashserverError,
    InvalidRequest,
    Irreproducible,
    OriginalChanged,
    TooLarge,
)
from hashserver.protocol import BYTES_TYPE, MAX_INLINE
from hashserver.results.result import WHOLES, Provenance, Put
from hashserver.server.answers import Answer, FileAnswer, content_type, error_answer, json_answer
from hashserver.server.pack_routes import off_loop, parse_json, read_list, small
from hashserver.server.presence import present
from hashserver.server.uploads import read_body
from hashserver.storage.directory import LocalStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiohttp import web

    from hashserver.results.result import Result
    from hashserver.server.service import Service
    from hashserver.storage.store import Store

_LONGEST_RECORD = 16 << 20


async def get_result(service: Service, request: web.BaseRequest, key: Checksum) -> Answer:
    """Answer with a result, and with its bytes if they are few and asked for."""
    limit = min(read_number(request, "inline"), MAX_INLINE)
    document = await _look_up(service, key, limit)
    if document is None:
        service.metrics.misses += 1
        return error_answer(request, 404, f"no result of {key} is known")
    service.metrics.hits += 1
    service.metrics.direct += limit > 0
    return json_answer(request, document)


async def _look_up(service: Service, key: Checksum, limit: int) -> dict[str, Any] | None:
    if isinstance(service.store, LocalStore):
        return await service.recall(lambda: _described(service, service.database.lookup(key), limit))
    found = await service.recall(service.database.lookup, key)
    return await service.run(_described, service, found, limit) if found else None


def _described(service: Service, found: tuple[Checksum, Result] | None, limit: int) -> dict[str, Any] | None:
    if found is None:
        return None
    tf, result = found
    (complete,) = present(service.store, [(result.format, result.checksum)])
    document = {"transformation": tf, **result._asdict(), "present": complete}
    if limit and complete and 0 <= service.store.has([result.checksum])[0] <= limit:
        try:
            document["inline"] = b64encode(service.store.get(result.checksum)).decode()
        except (BufferMissing, BufferCorrupt, OriginalChanged):
            document["present"] = False
    return document


async def post_results(service: Service, request: web.BaseRequest) -> Answer:
    """Answer with the results of many keys; on request also with small buffers.

    These are what it takes to run those without a result, or the objects that are results.
    """
    keys = await read_list(service, request)
    documents, objects = (min(read_number(request, name), MAX_INLINE) for name in ("documents", "objects"))
    found = await service.recall(service.database.lookup_many, keys)
    body = await service.run(_described_many, service, keys, found, documents, objects)
    service.metrics.hits += len(found)
    service.metrics.misses += len(keys) - len(found)
    return json_answer(request, body)


def _described_many(
    service: Service,
    keys: list[Checksum],
    found: dict[Checksum, tuple[Checksum, Result]],
    documents: int,
    objects: int,
) -> bytes:
    values = [(result.format, result.checksum) for _, result in found.values()]
    buffers = _small_objects(service.store, values, objects) if objects else {}
    complete = present(service.store, values, buffers)
    names = {kind: json.dumps(kind) for kind in {kind for kind, _ in values}}
    # checksums need no quoting: written by hand this takes a third of what json.dumps does
    lines = [
        f'"{key}":[{names[kind]},"{checksum}",{"true" if there else "false"}'
        + ("]" if tf == key else f',"{tf}"]')
        for (key, (tf, _)), (kind, checksum), there in zip(found.items(), values, complete, strict=True)
    ]
    body = f"{{{','.join(lines)}}}"
    if documents:
        unknown = [key for key in keys if key not in found]
        buffers |= _documents(service.store, unknown, documents)
    if documents or objects:
        lines = [f'"{name}":"{b2a_base64(data, newline=False).decode()}"' for name, data in buffers.items()]
        body = f'{{"results":{body},"buffers":{{{",".join(lines)}}}}}'
    return body.encode()


def _small_objects(store: Store, values: Iterable[tuple[str, Checksum]], limit: int) -> dict[Checksum, bytes]:
    """Return the bytes of small values that are no files and not made of such, where they lie here."""
    if not isinstance(store, LocalStore):
        return {}  # each would be a request
    found: dict[Checksum, bytes] = {}
    for checksum in {checksum for kind, checksum in values if kind not in ("file", *WHOLES)}:
        with suppress(HashserverError):
            if (data := small(store, checksum, limit)) is not None:
                found[checksum] = data
    return found


def _documents(store: Store, keys: Iterable[Checksum], limit: int) -> dict[Checksum, bytes]:
    """Return the documents under some keys, and the code that they name, where these are small."""
    found: dict[Checksum, bytes] = {}

    def add(checksum: Checksum) -> bytes:
        if checksum not in found and 0 <= store.has([checksum])[0] <= limit:
            found[checksum] = store.get(checksum)
        return found.get(checksum, b"{}")

    for key in keys:
        # what is not there, or no document, is left to whoever needs it
        with suppress(HashserverError, ValueError, TypeError, KeyError, RecursionError):
            add(Checksum(json.loads(add(key))["code"]))
    return found


async def put_result(service: Service, request: web.BaseRequest, tf: Checksum) -> Answer:
    """Record a result; small buffers may come with it, and are stored before."""
    service.demand_writable()
    document = await read_document(service, request)
    put = _put(tf, document)
    await _store_buffers(service, document)
    try:
        await service.recall(service.database.put, *put)
    except Irreproducible as error:
        known = {"error": str(error), "known": error.known, "found": error.found}
        return json_answer(request, known, 409)
    return json_answer(request, {"transformation": tf})


async def put_results(service: Service, request: web.BaseRequest) -> Answer:
    """Record many results at once, and answer with those that differ from what is known."""
    service.demand_writable()
    document = await read_document(service, request)
    named = document.get("results")
    if not isinstance(named, list) or not all(isinstance(each, dict) for each in named):
        raise InvalidRequest("results must be a list of JSON objects")
    puts = [_put(Checksum(read_text(each, "transformation")), each) for each in named]
    await _store_buffers(service, document)  # first: no record may name bytes that are not there
    conflicts = await service.recall(service.database.put_many, puts)
    return json_answer(request, [(error.transformation, error.known, error.found) for error in conflicts])


def _put(tf: Checksum, document: dict[str, Any]) -> Put:
    """Return what is to be recorded of a transformation."""
    members = document.get("members") or []
    if not isinstance(members, list):
        raise InvalidRequest("members must be a list of checksums")
    record = document.get("record")
    if record is not None and not isinstance(record, dict):
        raise InvalidRequest("a record must be a JSON object")
    checksum = Checksum(read_text(document, "checksum"))
    provenance = _provenance(document.get("provenance"))
    return Put(tf, read_text(document, "format"), checksum, record, list(map(Checksum, members)), provenance)


async def _store_buffers(service: Service, document: dict[str, Any]) -> None:
    """Store what came with results; without any, nobody waits where a silent store has others wait."""
    if document.get("buffers"):
        await service.run(_store_all, service, document)


def _store_all(service: Service, document: dict[str, Any]) -> None:
    buffers = _buffers(service, document)
    service.store.put_many(buffers)
    service.metrics.received += sum(map(len, buffers))


def _provenance(document: object) -> Provenance | None:
    """Return what a result was made from, which older clients do not say."""
    if document is None:
        return None
    try:
        code, names = Checksum(document["code"]), document["names"]  # type: ignore[index]
        inputs, wholes = ([Checksum(one) for one in document[name]] for name in ("inputs", "wholes"))  # type: ignore[index]
        if all(isinstance(name, str) for name in names):
            return Provenance(code, inputs, wholes, names)
    except (KeyError, TypeError):
        pass
    raise InvalidRequest(
        "provenance must have a checksum under 'code', and lists: 'inputs', 'wholes', 'names'"
    )


def _buffers(service: Service, document: dict[str, Any]) -> list[bytes]:
    """Return the buffers that came with results, each verified."""
    named = document.get("buffers") or {}
    try:
        buffers = {Checksum(name): b64decode(text, validate=True) for name, text in named.items()}
    except (AttributeError, TypeError, ValueError):
        raise InvalidRequest("buffers must be a JSON object: checksum -> the bytes in base64") from None
    for checksum, data in buffers.items():
        if hash_bytes(data) != checksum:
            raise InvalidRequest(f"nothing was recorded: the bytes sent as {checksum} are others")
        if service.max_size is not None and len(data) > service.max_size:
            raise TooLarge(f"this server takes at most {service.max_size} bytes at once")
    return list(buffers.values())


async def contest(service: Service, request: web.BaseRequest, tf: Checksum) -> Answer:
    """Move a result to the irreproducible ones, or back."""
    service.demand_writable()
    moved = await service.recall(service.database.contest, tf, bool(read_number(request, "undo")))
    if moved is None:
        return error_answer(request, 404, f"no result of {tf} is known")
    return json_answer(request, moved._asdict())


async def put_deferred(service: Service, request: web.BaseRequest, key: Checksum) -> Answer:
    """Record what a structural key resolved to."""
    service.demand_writable()
    document = await read_document(service, request)
    tf = Checksum(read_text(document, "transformation"))
    try:
        pairs = [(Checksum(up), str(kind), Checksum(found)) for up, kind, found in document["upstream"]]
    except (KeyError, TypeError, ValueError):
        raise InvalidRequest("upstream must be a list of [key, format, checksum]") from None
    await service.recall(service.database.put_deferred, key, tf, pairs)
    return json_answer(request, {"transformation": tf})


async def put_failure(service: Service, request: web.BaseRequest, tf: Checksum) -> Answer:
    """Record a failed run."""
    service.demand_writable()
    await service.recall(service.database.put_failure, tf, await read_document(service, request))
    return json_answer(request, {"transformation": tf})


async def get_failures(service: Service, request: web.BaseRequest, tf: Checksum) -> Answer:
    """Answer with the records of failed runs."""
    return json_answer(request, await service.recall(service.database.failures, tf))


async def get_producers(service: Service, request: web.BaseRequest, checksum: Checksum) -> Answer:
    """Answer with the transformations that gave a buffer."""
    return json_answer(request, await service.recall(service.database.producers, checksum))


async def get_irreproducible(service: Service, request: web.BaseRequest, tf: Checksum) -> Answer:
    """Answer with the results that were contested or differ."""
    results = await service.recall(service.database.irreproducible, tf)
    return json_answer(request, [result._asdict() for result in results])


async def get_counts(service: Service, request: web.BaseRequest) -> Answer:
    """Answer with how much the database holds."""
    return json_answer(request, await service.recall(service.database.counts))


async def get_export(service: Service, request: web.BaseRequest) -> Answer:
    """Answer with a copy of the database that stands alone."""
    descriptor = await asyncio.shield(service.recall(_export, service))
    size = os.fstat(descriptor).st_size
    file = os.fdopen(descriptor, "rb", buffering=0)
    return FileAnswer(request, 200, content_type(BYTES_TYPE), file, 0, size)


def _export(service: Service) -> int:
    """Return a descriptor of a copy that has no name any more."""
    with TemporaryDirectory(prefix="hashserver-") as directory:
        path = f"{directory}/seamless.db"
        service.database.export(path)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


async def read_document(service: Service, request: web.BaseRequest) -> dict[str, Any]:
    """Return the JSON object that a request has brought."""
    return await off_loop(service, _parse_document, await read_body(request, _LONGEST_RECORD))


def _parse_document(body: bytes) -> dict[str, Any]:
    document = parse_json(body)
    if not isinstance(document, dict):
        raise InvalidRequest("the body must be a JSON object")
    if b"\\ud" in body.lower():  # halves of characters, which UTF-8 and SQLite do not have
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise InvalidRequest("the body has a text that is not Unicode") from None
    return document


def read_text(document: dict[str, Any], name: str) -> str:
    """Return a text that an object must have."""
    text = document.get(name)
    if not isinstance(text, str):
        raise InvalidRequest(f"the body must have a text under {name!r}")
    return text


def read_number(request: web.BaseRequest, name: str) -> int:
    """Return a number in the query of an address; without it 0."""
    _, _, query = request.raw_path.partition("?")
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if key == name:
            if not value.isascii() or not value.isdecimal() or len(value) > 18:
                raise InvalidRequest(f"{name} must be a number")
            return int(value)
    return 0
