"""Routes of what the database knows of runs."""

from __future__ import annotations

import json

import pytest

from hashserver import protocol
from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import InvalidRequest
from hashserver.results.database import Provenance

from .conftest import Running

ROUTES = [
    ("GET", "/runs?limit=5", None),
    ("POST", "/runs", []),
    ("POST", "/uses?limit=5", []),
    ("POST", "/producers?limit=5", []),
    ("POST", "/similar?limit=5", {"code": hash_bytes(b""), "names": []}),
]


def c(text: str) -> Checksum:
    return hash_bytes(text.encode())


def test_what_was_recorded_with_its_origin_is_found(own: Running) -> None:
    with own.database() as database:
        provenance = Provenance(c("code"), [c("a")], [c("set")], ["sort"])
        database.put(c("tf"), "file", c("r"), {"host": "n1", "stderr": "much"}, provenance=provenance)
        assert database.uses([c("a"), c("unknown")], 10) == database.uses([c("set")], 10) == [c("tf")]
        assert database.similar(c("code"), [], 10) == database.similar(c("x"), ["sort"], 10) == [c("tf")]
        assert database.producers_of([c("r"), c("a")], 10) == {c("r"): [c("tf")]}
        (run,) = database.recent(10)
        assert database.runs([c("tf"), c("unknown")]) == {c("tf"): run}
        assert (run.record, run.result and run.result.checksum) == ({"host": "n1"}, c("r"))


def test_documents_of_results_without_an_origin_are_read_when_asked(own: Running) -> None:
    document = {"code": c("code"), "inputs": {"x": ["file", c("a")]}, "result": {"stdout": True}}
    tf = own.put(json.dumps(document).encode())
    with own.database() as database:
        database.put(tf, "file", c("r"))
        assert database.uses([c("a")], 10) == [tf]
        assert database.catch_up(None, 0)


@pytest.mark.parametrize(("method", "path", "body"), ROUTES, ids=lambda value: str(value)[:9])
def test_a_token_that_reads_is_enough_and_none_is_not(
    server: Running, method: str, path: str, body: object
) -> None:
    data = json.dumps(body).encode()
    assert server.ask(method, path, data, token=server.reading).status == 200
    assert server.ask(method, path, data, token=None).status == 401


@pytest.mark.parametrize(
    "provenance",
    [1, {}, {"code": "x", "inputs": [], "wholes": [], "names": []}, {"code": c("a"), "names": 1}],
)
def test_a_provenance_that_is_none_is_refused(server: Running, provenance: object) -> None:
    body = {"format": "file", "checksum": c("r"), "provenance": provenance}
    assert server.ask("PUT", f"/result/{c('refused')}", json.dumps(body).encode()).status == 400
    assert server.ask("GET", f"/result/{c('refused')}").status == 404


def test_a_server_of_an_earlier_version_is_to_be_upgraded(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RUNS", "USES", "SIMILAR", "PRODUCERS_OF"):
        monkeypatch.setattr(protocol, name, "/not-known")  # as those paths are not to such a server
    database = server.database()
    for ask in (
        lambda: database.recent(1),
        lambda: database.runs([c("tf")]),
        lambda: database.uses([c("a")], 1),
        lambda: database.similar(c("code"), [], 1),
        lambda: database.producers_of([c("a")], 1),
    ):
        with pytest.raises(InvalidRequest, match="upgrade it"):
            ask()
