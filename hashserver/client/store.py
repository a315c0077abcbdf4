"""Buffers of a hashserver, behind the same interface as those of a directory."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from hashserver import protocol
from hashserver.auth import WRITE, read_token_file
from hashserver.checksum import Checksum, hash_bytes, hash_file
from hashserver.client.download import Reception, parts, write
from hashserver.client.errors import json_of, raise_for
from hashserver.client.transport import Transport
from hashserver.client.upload import Packs, RemoteWriter, Sending, checked
from hashserver.errors import ServiceUnavailable
from hashserver.protocol import BLOCK, PackReader
from hashserver.storage.files import Download, read_all
from hashserver.storage.store import SMALL, Store, Writer, all_missing, file_changed
from hashserver.workspace.index import is_executable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, BinaryIO

    from hashserver.auth import Token
    from hashserver.client.connection import Response
    from hashserver.client.transport import Patience
    from hashserver.storage.store import Bytes, Path

_ASKED_AT_ONCE = 20_000
_JSON = {"Content-Type": protocol.JSON_TYPE}


class StoreClient(Store):
    """The store of a hashserver; may be used from many threads.

    Parameters
    ----------
    url
        ``http://host:port`` or ``https://host:port``.
    token
        What opens the server, if anything.
    ca_file
        Certificates to trust instead of the system's.
    patience
        How long it is waited for while it does not answer.
    """

    def __init__(
        self,
        url: str,
        token: Token | None = None,
        ca_file: str | None = None,
        patience: Patience | None = None,
    ) -> None:
        self.transport = Transport(url, token.secret if token else None, ca_file, patience)
        self.url = self.transport.url
        self._in_place: set[Checksum] = set()
        self._writable = token is not None and token.access == WRITE

    @property
    def writable(self) -> bool:
        """Whether the token is one that writes."""
        return self._writable

    def close(self) -> None:
        """Let go of connections."""
        self.transport.close()

    # ------------------------------------------------------------------ reading

    def has(self, checksums: Sequence[Checksum]) -> list[int]:
        """Return the length of each buffer, -1 for what cannot be read."""
        lengths: list[int] = []
        for start in range(0, len(checksums), _ASKED_AT_ONCE):
            asked = json.dumps(list(checksums[start : start + _ASKED_AT_ONCE])).encode()
            lengths += self.json("POST", protocol.HAS, asked)
        return lengths

    def json(self, method: str, path: str, body: bytes = b"", checksum: str = "") -> Any:
        """Send a request and return the JSON of its answer; errors as `raise_for`."""
        headers = _JSON if body else None
        with self.transport.request(method, path, body, headers=headers, whole=True) as response:
            raise_for(response, checksum, self.url)
            return json_of(response, self.url)

    def get(self, checksum: Checksum) -> bytes:
        """Return a buffer whole, verified."""
        with self.transport.request("GET", f"/{checksum}", whole=True) as response:
            raise_for(response, checksum, self.url)
            data = response.read()
        self._check(checksum, hash_bytes(data))
        return data

    def read(self, checksum: Checksum, start: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Return the bytes in parts, not verified."""
        if length == 0:
            self._demand(checksum)
            return iter(())
        response = self.fetch(checksum, start, length)
        return parts(response)

    def open(self, checksum: Checksum) -> BinaryIO:
        """Return an open file with the bytes, not verified: a copy that has no name."""
        from tempfile import TemporaryFile

        file = TemporaryFile()  # noqa: SIM115  (it is what the caller gets)
        try:
            for part in self.read(checksum):
                file.write(part)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def get_many(self, checksums: Iterable[Checksum]) -> Iterator[tuple[Checksum, bytes]]:
        """Yield buffers, verified, in any order; many travel in one answer."""
        missing: list[Checksum] = []
        wanted = list(dict.fromkeys(checksums))
        for start in range(0, len(wanted), _ASKED_AT_ONCE):
            for checksum, data in self._all_of(wanted[start : start + _ASKED_AT_ONCE]):
                if data is None:
                    missing.append(checksum)
                    continue
                self._check(checksum, hash_bytes(data))
                yield checksum, data
        if missing:
            raise all_missing(missing, self.url)

    def _all_of(self, wanted: list[Checksum]) -> Iterator[tuple[Checksum, bytes | None]]:
        """Yield what there is of each; the rest is asked for again when an answer breaks off."""
        stuck = False
        while wanted:
            left = dict.fromkeys(wanted)
            try:
                for checksum, data in self._unpack(wanted):
                    left.pop(checksum, None)
                    yield checksum, data
                return
            except ServiceUnavailable:
                if stuck and len(left) == len(wanted):
                    raise
                stuck, wanted = len(left) == len(wanted), list(left)

    def _unpack(self, checksums: list[Checksum]) -> Iterator[tuple[Checksum, bytes | None]]:
        reader, buffer = PackReader(), memoryview(bytearray(BLOCK))
        body = json.dumps(checksums).encode()
        with self.transport.request("POST", protocol.PACK, body, headers=_JSON) as response:
            raise_for(response, "", self.url)
            while count := response.readinto(buffer):
                yield from reader.feed(buffer[:count])
        reader.finish()

    def get_file(self, checksum: Checksum, path: Path, executable: bool | None = None) -> None:
        """Write a buffer to a file, verified; a lost connection is taken up again where it broke."""
        with self.fetch(checksum) as response, Download(path) as target:
            if response.length is not None and response.length < SMALL:
                data = response.read()
                found, head = hash_bytes(data), data[:4]
                write(target.fd, data, path)
            else:
                found, head = Reception(self, checksum, target.fd, path).run(response)
            self._check(checksum, found)
            target.finish(is_executable(head) if executable is None else executable)

    def fetch(self, checksum: Checksum, start: int = 0, length: int | None = None) -> Response:
        """Return the answer with the bytes from `start` on, whose head has arrived."""
        headers = None
        if start or length is not None:
            stop = "" if length is None else start + length - 1
            headers = {"Range": f"bytes={start}-{stop}"}
        response = self.transport.request("GET", f"/{checksum}", headers=headers)
        if response.status == 416:  # nothing lies behind the end
            response.__exit__()
            return response
        raise_for(response, checksum, self.url)
        return response

    def _demand(self, checksum: Checksum) -> None:
        with self.transport.request("HEAD", f"/{checksum}") as response:
            raise_for(response, checksum, self.url)

    # ------------------------------------------------------------------ writing

    def put(self, data: Bytes) -> Checksum:
        """Store `data` and return its checksum."""
        checksum = hash_bytes(data)
        self.put_named(checksum, data)
        return checksum

    def put_named(self, checksum: Checksum, data: Bytes) -> None:
        """Store bytes whose checksum is known."""
        with self.transport.request("PUT", f"/{checksum}", data, expect=len(data) >= SMALL) as response:
            raise_for(response, checksum, self.url)
            if len(data) < SMALL:  # else the answer may have come before all of the body was taken
                response.read()

    def put_file(self, path: Path, expected: Checksum | None = None) -> tuple[Checksum, int]:
        """Store a file, hashing it while it travels."""
        with open(path, "rb", buffering=0) as file:
            state = os.fstat(file.fileno())
            if state.st_size < SMALL:
                data = read_all(file.fileno(), state.st_size)
                checksum = checked(path, data, state, expected)
                self.put_named(checksum, data)
                return checksum, len(data)
            return self._put_large(path, file.fileno(), state, expected), state.st_size

    def _put_large(self, path: Path, fd: int, state: os.stat_result, expected: Checksum | None) -> Checksum:
        sending = Sending(path, fd, state, expected)
        method, target = ("PUT", f"/{expected}") if expected else ("POST", protocol.BUFFERS)
        request = self.transport.request
        with request(method, target, sending, length=state.st_size, expect=True) as response:
            if response.status != 400:
                raise_for(response, expected or "", self.url)
            found = sending.checksum or hash_file(path)[0]  # the server had it, and did not ask for the bytes
            if expected is None and response.status != 400:
                stored = json.loads(response.read())["checksum"]
            else:
                stored = expected
            if found != stored:
                raise file_changed(path, expected)
            raise_for(response, found, self.url)
            return found

    def put_files(self, files: Iterable[tuple[Path, Checksum | None]]) -> list[Checksum]:
        """Store many files; small ones travel together, and only those that the server does not have."""
        files = list(files)
        if len(files) == 1:
            return [self.put_file(*files[0])[0]]
        checksums: list[Checksum] = []
        packs = Packs(self)
        try:
            for path, expected in files:
                checksums.append(self._put_one(packs, path, expected))
            packs.flush()
            packs.finish()
        finally:
            packs.abort()
        return checksums

    def put_many(self, buffers: Iterable[bytes]) -> list[Checksum]:
        """Store many small buffers, which travel together; only those that the server does not have."""
        checksums: list[Checksum] = []
        packs = Packs(self)
        try:
            for data in buffers:
                checksums.append(hash_bytes(data))
                packs.add(checksums[-1], data)
            packs.flush()
            packs.finish()
        finally:
            packs.abort()
        return checksums

    def _put_one(self, packs: Packs, path: Path, expected: Checksum | None) -> Checksum:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            state = os.fstat(fd)
            if state.st_size >= SMALL:
                return self._put_large(path, fd, state, expected)
            data = read_all(fd, state.st_size)
        finally:
            os.close(fd)
        checksum = checked(path, data, state, expected)
        packs.add(checksum, data)
        return checksum

    def writer(self) -> Writer:
        """Return a writer of one new buffer."""
        return RemoteWriter(self)

    def delete(self, checksum: Checksum) -> None:
        """Forget a buffer; no error when it is not there."""
        with self.transport.request("DELETE", f"/{checksum}") as response:
            raise_for(response, checksum, self.url)

    def verify(self, checksum: Checksum) -> bool:
        """Have the server read a buffer back; a corrupt one is put into quarantine."""
        answer = self.json("POST", protocol.VERIFY + checksum, checksum=checksum)
        if answer.get("in_place"):
            self._in_place.add(checksum)
        else:
            self._in_place.discard(checksum)
        return bool(answer["intact"])

    def in_place(self, checksum: Checksum) -> bool:
        """Say whether the last `verify` found a user's file on the server's host, recorded where it is."""
        return checksum in self._in_place


def connect(
    url: str,
    token_file: str | None = None,
    ca_file: str | None = None,
    patience: Patience | None = None,
) -> StoreClient:
    """Return the store of the hashserver at `url`; nothing is asked of it yet.

    Parameters
    ----------
    url
        ``http://host:port`` or ``https://host:port``.
    token_file
        A file with a token for this server; without one none is sent.
    ca_file
        Certificates to trust instead of the system's.
    patience
        How long it is waited for while it does not answer.

    Raises
    ------
    AuthenticationFailed
        If the token file cannot be used.
    """
    return StoreClient(url, find_token(token_file), ca_file, patience)


def find_token(token_file: str | None) -> Token | None:
    """Return the token of a file that opens most; None without a file: a token is for one server only."""
    return read_token_file(token_file)[0] if token_file else None
