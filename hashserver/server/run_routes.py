"""Routes of what the database knows of runs: what was made from what, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hashserver.checksum import Checksum
from hashserver.errors import InvalidRequest, ReadOnly, ServiceUnavailable
from hashserver.protocol import MOST_RUNS
from hashserver.results.runs import MOST_NAMES
from hashserver.server.answers import Answer, json_answer
from hashserver.server.pack_routes import read_list
from hashserver.server.result_routes import read_document, read_number, read_text

if TYPE_CHECKING:
    from aiohttp import web

    from hashserver.results.result import Run
    from hashserver.server.service import Service

_CATCHING_UP_SECONDS = 1.0


async def get_runs(service: Service, request: web.BaseRequest) -> Answer:
    """Answer with the last runs."""
    await _catch_up(service)
    return _answer(request, await service.recall(service.database.recent, _limit(request)))


async def post_runs(service: Service, request: web.BaseRequest) -> Answer:
    """Answer with the runs of some transformations."""
    tfs = (await read_list(service, request))[:MOST_RUNS]
    return _answer(request, list((await service.recall(service.database.runs, tfs)).values()))


async def post_producers(service: Service, request: web.BaseRequest) -> Answer:
    """Answer with the transformations that gave each of some buffers."""
    checksums = await read_list(service, request)
    return json_answer(
        request, await service.recall(service.database.producers_of, checksums, _limit(request))
    )


async def post_uses(service: Service, request: web.BaseRequest) -> Answer:
    """Answer with the transformations that were given one of some buffers."""
    checksums = await read_list(service, request)
    complete = await _catch_up(service)
    found = await service.recall(service.database.uses, checksums, _limit(request))
    return json_answer(request, {"transformations": found, "complete": complete})


async def post_similar(service: Service, request: web.BaseRequest) -> Answer:
    """Answer with the transformations that have the same code, or share a name."""
    document = await read_document(service, request)
    names = document.get("names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidRequest("names must be a list of texts")
    code = Checksum(read_text(document, "code"))
    complete = await _catch_up(service)
    found = await service.recall(service.database.similar, code, names[:MOST_NAMES], _limit(request))
    return json_answer(request, {"transformations": found, "complete": complete})


async def _catch_up(service: Service) -> bool:
    """Read on in the documents of what was recorded without them, a little at each request."""
    if service.read_only:
        return True
    try:
        return await service.run(service.database.catch_up, service.store, _CATCHING_UP_SECONDS)
    except ReadOnly:
        return True
    except ServiceUnavailable:  # the store: what has been entered can be told all the same
        return False


def _answer(request: web.BaseRequest, runs: list[Run]) -> Answer:
    return json_answer(request, [_shown(run) for run in runs])


def _shown(run: Run) -> dict[str, Any]:
    return run._asdict() | {"result": None if run.result is None else run.result._asdict()}


def _limit(request: web.BaseRequest) -> int:
    return min(read_number(request, "limit") or MOST_RUNS, MOST_RUNS)
