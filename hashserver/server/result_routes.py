"""Routes of the result database."""

from __future__ import annotations

import asyncio
import json
import os
from base64 import b64encode
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from hashserver.checksum import Checksum
from hashserver.errors import BufferCorrupt, BufferMissing, Irreproducible, OriginalChanged, UsageError
from hashserver.protocol import BYTES_TYPE, MAX_INLINE
from hashserver.server.answers import Answer, FileAnswer, content_type, error_answer, json_answer
from hashserver.server.pack_routes import parse_json, read_list
from hashserver.server.presence import present
from hashserver.server.uploads import read_body

if TYPE_CHECKING:
    from aiohttp import web

    from hashserver.server.service import Service

_LONGEST_RECORD = 16 << 20


async def get_result(service: Service, request: web.BaseRequest, key: Checksum) -> Answer:
    """Answer with a result, and with its bytes if they are few and asked for."""
    limit = min(_number(request, "inline"), MAX_INLINE)
    document = await service.run(_look_up, service, key, limit)
    if document is None:
        service.metrics.misses += 1
        return error_answer(request, 404, f"no result of {key} is known")
    service.metrics.hits += 1
    return json_answer(request, document)


def _look_up(service: Service, key: Checksum, limit: int) -> dict[str, Any] | None:
    found = service.database.lookup(key)
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
    """Answer with the results of those of many keys that have one."""
    keys = await read_list(request)
    body, hits = await service.run(_look_up_many, service, keys)
    service.metrics.hits += hits
    service.metrics.misses += len(keys) - hits
    return json_answer(request, body)


def _look_up_many(service: Service, keys: list[Checksum]) -> tuple[bytes, int]:
    found = service.database.lookup_many(keys)
    values = [(result.format, result.checksum) for _, result in found.values()]
    complete = present(service.store, values)
    names = {kind: json.dumps(kind) for kind in {kind for kind, _ in values}}
    # checksums need no quoting: written by hand this takes a third of what json.dumps does
    lines = [
        f'"{key}":[{names[kind]},"{checksum}",{"true" if there else "false"}'
        + ("]" if tf == key else f',"{tf}"]')
        for (key, (tf, _)), (kind, checksum), there in zip(found.items(), values, complete, strict=True)
    ]
    return f"{{{','.join(lines)}}}".encode(), len(found)


async def put_result(service: Service, request: web.BaseRequest, tf: Checksum) -> Answer:
    """Record a result."""
    service.demand_writable()
    document = await _document(request)
    value = (_text(document, "format"), Checksum(_text(document, "checksum")))
    members = document.get("members") or []
    if not isinstance(members, list):
        raise UsageError("members must be a list of checksums")
    record = document.get("record")
    if record is not None and not isinstance(record, dict):
        raise UsageError("a record must be a JSON object")
    try:
        await service.run(service.database.put, tf, *value, record, [Checksum(m) for m in members])
    except Irreproducible as error:
        known = {"error": str(error), "known": error.known, "found": error.found}
        return json_answer(request, known, 409)
    return json_answer(request, {"transformation": tf})


async def contest(service: Service, request: web.BaseRequest, tf: Checksum) -> Answer:
    """Move a result to the irreproducible ones, or back."""
    service.demand_writable()
    moved = await service.run(service.database.contest, tf, bool(_number(request, "undo")))
    if moved is None:
        return error_answer(request, 404, f"no result of {tf} is known")
    return json_answer(request, moved._asdict())


async def put_deferred(service: Service, request: web.BaseRequest, key: Checksum) -> Answer:
    """Record what a structural key resolved to."""
    service.demand_writable()
    document = await _document(request)
    tf = Checksum(_text(document, "transformation"))
    try:
        pairs = [(Checksum(up), str(kind), Checksum(found)) for up, kind, found in document["upstream"]]
    except (KeyError, TypeError, ValueError):
        raise UsageError("upstream must be a list of [key, format, checksum]") from None
    await service.run(service.database.put_deferred, key, tf, pairs)
    return json_answer(request, {"transformation": tf})


async def put_failure(service: Service, request: web.BaseRequest, tf: Checksum) -> Answer:
    """Record a failed run."""
    service.demand_writable()
    await service.run(service.database.put_failure, tf, await _document(request))
    return json_answer(request, {"transformation": tf})


async def get_failures(service: Service, request: web.BaseRequest, tf: Checksum) -> Answer:
    """Answer with the records of failed runs."""
    return json_answer(request, await service.run(service.database.failures, tf))


async def get_producers(service: Service, request: web.BaseRequest, checksum: Checksum) -> Answer:
    """Answer with the transformations that gave a buffer."""
    return json_answer(request, await service.run(service.database.producers, checksum))


async def get_irreproducible(service: Service, request: web.BaseRequest, tf: Checksum) -> Answer:
    """Answer with the results that were contested or differ."""
    results = await service.run(service.database.irreproducible, tf)
    return json_answer(request, [result._asdict() for result in results])


async def get_counts(service: Service, request: web.BaseRequest) -> Answer:
    """Answer with how much the database holds."""
    return json_answer(request, await service.run(service.database.counts))


async def get_export(service: Service, request: web.BaseRequest) -> Answer:
    """Answer with a copy of the database that stands alone."""
    descriptor = await asyncio.shield(service.run(_export, service))
    size = os.fstat(descriptor).st_size
    file = os.fdopen(descriptor, "rb", buffering=0)
    return FileAnswer(request, 200, content_type(BYTES_TYPE), file, 0, size)


def _export(service: Service) -> int:
    """Return a descriptor of a copy that has no name any more."""
    with TemporaryDirectory(prefix="hashserver-") as directory:
        path = f"{directory}/seamless.db"
        service.database.export(path)
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


async def _document(request: web.BaseRequest) -> dict[str, Any]:
    body = await read_body(request, _LONGEST_RECORD)
    document = parse_json(body)
    if not isinstance(document, dict):
        raise UsageError("the body must be a JSON object")
    if b"\\ud" in body.lower():  # halves of characters, which UTF-8 and SQLite do not have
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise UsageError("the body has a text that is not Unicode") from None
    return document


def _text(document: dict[str, Any], name: str) -> str:
    text = document.get(name)
    if not isinstance(text, str):
        raise UsageError(f"the body must have a text under {name!r}")
    return text


def _number(request: web.BaseRequest, name: str) -> int:
    _, _, query = request.raw_path.partition("?")
    for pair in query.split("&"):
        key, _, value = pair.partition("=")
        if key == name:
            if not value.isascii() or not value.isdecimal() or len(value) > 18:
                raise UsageError(f"{name} must be a number")
            return int(value)
    return 0
