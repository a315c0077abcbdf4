"""The result database of a hashserver, behind the same interface as a file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from hashserver import protocol
from hashserver.checksum import Checksum, hash_bytes
from hashserver.client.errors import json_of, raise_for
from hashserver.client.store import find_token
from hashserver.client.transport import Transport
from hashserver.errors import BufferCorrupt, InvalidRequest, Irreproducible
from hashserver.namedtuple import NamedTuple
from hashserver.results.database import Result, Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, Self

    from hashserver.client.transport import Patience
    from hashserver.results.database import Provenance, Put, Record

_ASKED_AT_ONCE = protocol.MOST_ASKED
_JSON = {"Content-Type": protocol.JSON_TYPE}


class KnownResult(NamedTuple):
    """What one look-up tells: the result, whether its bytes are there, and these if they are few."""

    transformation: Checksum
    result: Result
    present: bool
    data: bytes | None


class DatabaseClient:
    """The database of a hashserver; methods as those of `hashserver.results.database.Database`.

    Parameters
    ----------
    transport
        The way to the server; one of a `hashserver.client.store.StoreClient` can be shared.

    Attributes
    ----------
    stored : int
        Bytes of buffers that were sent along with results.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.url = self.path = transport.url
        self.warnings: list[str] = []
        self.stored = 0
        self._has_caught_up = True

    def __repr__(self) -> str:
        return f"DatabaseClient({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        self._transport.close()

    # ------------------------------------------------------------------ what is known

    def get_inline(self, key: Checksum, limit: int) -> KnownResult | None:
        """Return what is known of a key, with the bytes of its result if they are at most `limit`.

        Raises
        ------
        BufferCorrupt
            If the bytes are not those of the result.
        """
        query = f"?inline={limit}" if limit else ""
        document = self._ask("GET", f"{protocol.RESULT}{key}{query}", absent=None)
        if document is None:
            return None
        result, data = _result(document), None
        if "inline" in document:
            from binascii import a2b_base64

            data = a2b_base64(document["inline"])
            if hash_bytes(data) != result.checksum:
                raise BufferCorrupt(
                    result.checksum, f"{self.url} sent other bytes than those of {result.checksum}"
                )
        return KnownResult(Checksum(document["transformation"]), result, document["present"], data)

    def get(self, tf: Checksum) -> Result | None:
        """Return the current result of a transformation, with its record."""
        found = self.get_inline(tf, 0)
        return found.result if found else None

    def get_many(self, tfs: Iterable[Checksum]) -> dict[Checksum, Result]:
        """Return the current results of those transformations that have one, without records."""
        return {key: result for key, (_, result) in self.lookup_many(tfs).items()}

    def lookup(self, key: Checksum) -> tuple[Checksum, Result] | None:
        """Return transformation checksum and current result of a key, structural or not, with its record."""
        found = self.get_inline(key, 0)
        return (found.transformation, found.result) if found else None

    def find(self, key: Checksum) -> Result | None:
        """Return the current result of a key, structural or not; its record may be left out."""
        found = self.lookup(key)
        return None if found is None else found[1]

    def lookup_many(self, keys: Iterable[Checksum]) -> dict[Checksum, tuple[Checksum, Result]]:
        """Return the same for those of many keys that have a current result, without records."""
        return {key: (tf, Result(kind, found, None, None)) for key, tf, kind, found, _ in self._many(keys)}

    def find_many(self, keys: Iterable[Checksum]) -> dict[Checksum, KnownResult]:
        """Return what is known of many keys, and whether the bytes are there; never the bytes."""
        return {
            key: KnownResult(tf, Result(kind, found), present, None)
            for key, tf, kind, found, present in self._many(keys)
        }

    def values_of(
        self, keys: Iterable[Checksum], limit: int
    ) -> tuple[dict[Checksum, tuple[str, Checksum]], dict[Checksum, bytes]]:
        """Return format and checksum of the results of many keys, and the bytes of small ones by checksum.

        These are of objects, not of files and what consists of such, have at most `limit` bytes, and lie in a
        directory of the server.
        """
        buffers: dict[Checksum, bytes] = {}
        values = {key: (kind, found) for key, _, kind, found, _ in self._many(keys, limit, buffers)}
        return values, buffers

    def lookup_with_documents(
        self, keys: Sequence[Checksum], limit: int
    ) -> tuple[set[Checksum], dict[Checksum, bytes]]:
        """Return which of some keys have a result, and small buffers that running the others takes.

        These are their documents and the code, as far as the server has them and they have at most `limit`
        bytes.
        """
        answer = self._ask("POST", f"{protocol.RESULTS}?documents={limit}", keys)
        return set(map(Checksum, answer["results"])), _intact(answer["buffers"])

    def _many(
        self, keys: Iterable[Checksum], limit: int = 0, buffers: dict[Checksum, bytes] | None = None
    ) -> Iterator[tuple[Checksum, Checksum, str, Checksum, bool]]:
        """Yield key, transformation, format and checksum of what is known, and whether its bytes are there.

        `buffers` is given the bytes of objects of at most `limit`.
        """
        asked = {key: key for key in keys}  # answers come as plain text: this finds the key again
        order = list(asked)
        path = f"{protocol.RESULTS}?objects={limit}" if limit else protocol.RESULTS
        for start in range(0, len(order), _ASKED_AT_ONCE):
            answers = self._ask("POST", path, order[start : start + _ASKED_AT_ONCE])
            if buffers is not None and "results" in answers:  # an older server knows of no objects
                buffers.update(_intact(answers["buffers"]))
                answers = answers["results"]
            for text, (kind, found, present, *other) in answers.items():
                key = asked[text]
                yield key, Checksum(other[0]) if other else key, kind, Checksum(found), present

    def irreproducible(self, tf: Checksum) -> list[Result]:
        """Return the results of a transformation that are not current."""
        return [_result(document) for document in self._ask("GET", protocol.IRREPRODUCIBLE + tf)]

    def failures(self, tf: Checksum) -> list[Record]:
        """Return the records of the last failed runs of a transformation, oldest first."""
        return list(self._ask("GET", protocol.FAILURE + tf))

    def producers(self, checksum: Checksum) -> list[Checksum]:
        """Return the transformations that gave a buffer, or a whole that it is a member of."""
        return [Checksum(tf) for tf in self._ask("GET", protocol.PRODUCERS + checksum)]

    def runs(self, tfs: Iterable[Checksum]) -> dict[Checksum, Run]:
        """Return what is known of the runs of those transformations that have a current result."""
        order = list(tfs)
        found: dict[Checksum, Run] = {}
        for start in range(0, len(order), protocol.MOST_RUNS):
            answers = self._ask_of_runs("POST", protocol.RUNS, order[start : start + protocol.MOST_RUNS])
            found |= {run.tf: run for run in map(_run, answers)}
        return found

    def recent(self, limit: int) -> list[Run]:
        """Return the last runs that were recorded, newest first, failed ones too."""
        return [_run(document) for document in self._ask_of_runs("GET", f"{protocol.RUNS}?limit={limit}")]

    def uses(self, checksums: Iterable[Checksum], limit: int) -> list[Checksum]:
        """Return transformations that were given one of some buffers or a result it lies in, newest first."""
        asked = list(checksums)
        found: dict[Checksum, None] = {}
        for start in range(0, len(asked), _ASKED_AT_ONCE):
            part = asked[start : start + _ASKED_AT_ONCE]
            found |= dict.fromkeys(self._transformations("POST", f"{protocol.USES}?limit={limit}", part))
        return list(found)[:limit]

    def producers_of(self, checksums: Iterable[Checksum], limit: int) -> dict[Checksum, list[Checksum]]:
        """Return up to `limit` producers of each of some buffers that have any, newest first."""
        asked = list(dict.fromkeys(checksums))
        found: dict[Checksum, list[Checksum]] = {}
        for start in range(0, len(asked), _ASKED_AT_ONCE):
            part = asked[start : start + _ASKED_AT_ONCE]
            answer = self._ask_of_runs("POST", f"{protocol.PRODUCERS_OF}?limit={limit}", part)
            found |= {Checksum(one): [Checksum(tf) for tf in tfs] for one, tfs in answer.items()}
        return found

    def similar(self, code: Checksum, names: Sequence[str], limit: int) -> list[Checksum]:
        """Return transformations of the same code, then those that share a name; up to `limit` of each."""
        body = {"code": code, "names": list(names)}
        return self._transformations("POST", f"{protocol.SIMILAR}?limit={limit}", body)

    def catch_up(self, store: object, seconds: float) -> bool:
        """Say whether the server had entered all that it has when it was asked last; it does so itself."""
        return self._has_caught_up

    def _ask_of_runs(self, method: str, path: str, body: object = None) -> Any:
        try:
            return self._ask(method, path, body)
        except InvalidRequest as error:
            raise InvalidRequest(
                f"the hashserver at {self.url} cannot say what was made from what: upgrade it ({error})"
            ) from error

    def _transformations(self, method: str, path: str, body: object = None) -> list[Checksum]:
        answer = self._ask_of_runs(method, path, body)
        self._has_caught_up = bool(answer["complete"])
        return [Checksum(tf) for tf in answer["transformations"]]

    def counts(self) -> dict[str, int]:
        """Return how many results, irreproducible results, deferred keys and failures there are."""
        return dict(self._ask("GET", protocol.COUNTS))

    def export(self, path: str | os.PathLike[str]) -> None:
        """Write a copy that stands alone; `path` appears, or is replaced, when it is complete."""
        from hashserver.atomic import write_all
        from hashserver.storage.files import Download

        with self._transport.request("GET", protocol.EXPORT) as response, Download(path) as target:
            raise_for(response, "", self.url)
            buffer = memoryview(bytearray(protocol.BLOCK))
            while count := response.readinto(buffer):
                write_all(target.fd, buffer[:count])
            target.finish(executable=False)

    # ------------------------------------------------------------------ what is to be known

    def put(
        self,
        tf: Checksum,
        format: str,  # noqa: A002
        checksum: Checksum,
        record: Record | None = None,
        members: Sequence[Checksum] = (),
        buffers: Sequence[bytes] = (),
        provenance: Provenance | None = None,
    ) -> None:
        """Record a result.

        Parameters
        ----------
        tf, format, checksum, record, members, provenance
            As of `hashserver.results.database.Database.put`.
        buffers
            Small buffers that the server stores first: a result and its bytes travel together.

        Raises
        ------
        Irreproducible
            Another result is current; this one is kept beside it.
        """
        body = _described(format, checksum, record, members, provenance)
        if buffers:
            body["buffers"] = _in_base64(buffers)
        with self._send("PUT", protocol.RESULT + tf, body) as response:
            if response.status == 409:
                document = json.loads(response.read())
                raise Irreproducible(tf, document["known"], document["found"])
            raise_for(response, "", self.url)
            response.read()
        self.stored += sum(map(len, buffers))

    def put_many(self, puts: Sequence[Put], buffers: Sequence[bytes] = ()) -> list[Irreproducible]:
        """Record many results in one request; return an error for each that differs from a known one.

        Parameters
        ----------
        puts
            No two of one transformation.
        buffers
            Small buffers that the server stores first.

        Raises
        ------
        InvalidRequest
            If one of them cannot be recorded; then none has been.
        """
        body: dict[str, object] = {
            "results": [
                _described(put.format, put.checksum, *put[3:]) | {"transformation": put.tf} for put in puts
            ]
        }
        if buffers:
            body["buffers"] = _in_base64(buffers)
        conflicts = self._ask("PUT", protocol.RESULTS, body)
        self.stored += sum(map(len, buffers))
        return [Irreproducible(tf, known, found) for tf, known, found in conflicts]

    def put_deferred(
        self, key: Checksum, tf: Checksum, upstream: Sequence[tuple[Checksum, str, Checksum]]
    ) -> None:
        """Record what a structural key resolved to, and with which results of its upstream keys."""
        body = {"transformation": tf, "upstream": [list(pair) for pair in upstream]}
        self._ask("PUT", protocol.DEFERRED + key, body)

    def put_failure(self, tf: Checksum, record: Record) -> None:
        """Record a failed run."""
        self._ask("PUT", protocol.FAILURE + tf, record)

    def contest(self, tf: Checksum, undo: bool = False) -> Result | None:
        """Contest the current result, or take the last contest back; return the one that was moved."""
        query = "?undo=1" if undo else ""
        document = self._ask("POST", f"{protocol.RESULT}{tf}{protocol.CONTEST}{query}", absent=None)
        return None if document is None else _result(document)

    # ------------------------------------------------------------------ how

    def _send(self, method: str, path: str, body: object = None) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        # a contest that arrives twice would move two results
        replay = not path.partition("?")[0].endswith(protocol.CONTEST)
        headers = _JSON if data else None
        return self._transport.request(method, path, data, headers=headers, replay=replay, whole=True)

    def _ask(self, method: str, path: str, body: object = None, absent: object = InvalidRequest) -> Any:
        """Send a request and return the JSON of its answer; `absent` stands for one that is not known."""
        with self._send(method, path, body) as response:
            if response.status == 404 and absent is not InvalidRequest:
                response.read()
                return absent
            raise_for(response, "", self.url)
            return json_of(response, self.url)


def _intact(buffers: dict[str, str]) -> dict[Checksum, bytes]:
    """Return the bytes that came along in base64, and are what they are called."""
    from binascii import a2b_base64

    read = ((name, a2b_base64(text)) for name, text in buffers.items())
    return {checksum: data for name, data in read if (checksum := hash_bytes(data)) == name}


def connect_database(
    url: str,
    token_file: str | None = None,
    ca_file: str | None = None,
    patience: Patience | None = None,
) -> DatabaseClient:
    """Return the database of the hashserver at `url`; parameters as of `buffers.connect`."""
    token = find_token(token_file)
    return DatabaseClient(Transport(url, token.secret if token else None, ca_file, patience))


def _described(
    format: str,  # noqa: A002
    checksum: Checksum,
    record: Record | None,
    members: Sequence[Checksum],
    provenance: Provenance | None,
) -> dict[str, object]:
    """Return what says of a result all but its transformation."""
    body: dict[str, object] = {"format": format, "checksum": checksum, "record": record}
    body["members"] = list(members)
    if provenance is not None:
        body["provenance"] = provenance._asdict()
    return body


def _in_base64(buffers: Sequence[bytes]) -> dict[str, str]:
    from binascii import b2a_base64

    return {hash_bytes(data): b2a_base64(data, newline=False).decode() for data in buffers}


def _result(document: dict[str, Any]) -> Result:
    checksum = Checksum(document["checksum"])
    return Result(document["format"], checksum, document.get("record"), document.get("source"))


def _run(document: dict[str, Any]) -> Run:
    result = document["result"]
    return Run(
        Checksum(document["tf"]),
        None if result is None else _result(result),
        document["record"],
        document["time"],
    )
