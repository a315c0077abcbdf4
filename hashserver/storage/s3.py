"""Files on S3: sent and fetched in parts that never lie in memory as a whole, each request with a bound.

s3fs reads parts of 50 MB into memory, ten of them side by side. Here the body of a request is a window on
the file that is sent, and what comes is written to the file in small pieces.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import time
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING

from fsspec.asyn import _run_coros_in_chunks

from hashserver.retry import pauses
from hashserver.storage.asyncfs import AsyncFiles
from hashserver.storage.patience import Silence, Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator
    from typing import Any

    from hashserver.storage.patience import Pulse

_PART = 8 << 20
_MOST_PARTS = 10_000
_BY_ONE = 4
"""So many parts of one file are on their way at a time."""
_BY_ALL = 16
"""And so many of all files."""
_PIECE = 256 << 10
_STREAMS = 32
"""So many answers at most stay open while their readers take them."""
_TAKEN = 1 << 20
_ATTEMPTS = 4
_DAY = 86400
_GOODBYE_SECONDS = 5.0
_RANGE = re.compile(r"bytes ([0-9]+)-[0-9]+/([0-9]+)").fullmatch
_OURS = re.compile(r"([0-9a-f]{2})/\1[0-9a-f]{62}|\.quarantine/[0-9a-f]{64}").fullmatch


class Truncated(OSError):
    """A place answered with fewer or more bytes than were asked for."""


class S3Files(AsyncFiles):
    """Files on S3 or what speaks its language."""

    def __init__(self, fs: Any, seconds: float) -> None:
        super().__init__(fs, seconds)
        self._slots = Turns(_BY_ALL)
        # what is written to files as it comes takes no memory: nobody else need wait for it
        self._fetching = Turns(_BY_ALL)
        self._streams: set[Any] = set()
        # its own repetitions would send the rest of a body that was read in part, which is another body;
        # botocore's begin at its beginning
        fs.retries = 1

    async def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        """Send one request about a file; the answer's body is not part of it."""
        bucket, key, _ = self.fs.split_path(path)
        return await self._bounded(lambda _: self.fs._call_s3(method, Bucket=bucket, Key=key, **arguments))

    # ------------------------------------------------------------------ reading

    async def _length(self, path: str) -> int:
        # `info` would list a folder of that name, for each buffer that is not there
        return int((await self._ask("head_object", path))["ContentLength"])

    async def _read(self, path: str, start: int, end: int | None) -> bytes:
        if start == end:
            return b""
        data = io.BytesIO()
        async with self._slots:
            await self._copy(path, start, end, lambda piece, at: data.write(piece))
        return data.getvalue()

    async def _fetch(self, path: str, fd: int) -> None:
        def write(piece: bytes, at: int) -> None:
            while piece:
                piece = piece[(done := os.pwrite(fd, piece, at)) :]
                at += done

        async with self._fetching:
            size = await self._copy(path, 0, None, write, most=_PART)
        if size <= _PART:
            return
        stretch = max(_PART, -(-(size - _PART) // _BY_ONE))  # few requests: nothing is kept of what comes

        async def work(start: int) -> None:
            async with self._fetching:
                await self._copy(path, start, min(start + stretch, size), write)

        await _together(work(start) for start in range(_PART, size, stretch))

    def pieces(self, path: str, start: int, end: int) -> Generator[bytes]:
        """Yield a part of a file in pieces, each when it is asked for; one request gives many."""
        body: Any = None
        try:
            while start < end:
                piece, body = self._run(self._next(path, body, start, end))
                yield piece
                start += len(piece)
        finally:
            self.fs.loop.call_soon_threadsafe(self._let_go, body)

    async def _next(self, path: str, body: Any, start: int, end: int) -> tuple[bytes, Any]:
        """Return the next piece of a file, and the open answer that has those behind it, if there is one."""
        if body is None and len(self._streams) < _STREAMS:
            body, _ = await self._open(path, start, end)
            self._streams.add(body)
        try:
            if body is not None and (piece := await self._take(body, end - start)):
                return piece, body
        except BaseException as error:
            self._let_go(body)
            if not _is_passing(error):
                raise
        # it ended too soon: a place gives up readers who let it wait
        self._let_go(body)
        return await self._read(path, start, min(start + _TAKEN, end)), None

    async def _take(self, body: Any, length: int) -> bytes:
        data, length = bytearray(), min(length, _TAKEN)
        while len(data) < length and (piece := await self._piece(body, length - len(data))):
            data += piece
        return bytes(data)

    def _let_go(self, body: Any) -> None:
        if body in self._streams:
            self._streams.remove(body)
            body.close()

    async def _copy(
        self,
        path: str,
        start: int,
        end: int | None,
        write: Callable[[bytes, int], Any],
        most: int | None = None,
    ) -> int:
        """Pass bytes of a file with their place to `write`; return the length of the file.

        Parameters
        ----------
        start, end
            Which bytes; without an end all, or at most `most`.
        """
        at = start
        reached, waits = start, pauses(0.2, inf, times=_ATTEMPTS)
        while True:
            try:
                body, size = await self._open(path, at, end)
                stop = min(size, size if end is None else end, size if most is None else most)
                async for piece in self._pieces(body, stop - at):
                    write(piece, at)
                    at += len(piece)
                if at < stop:
                    raise Truncated(f"{path} has {size} bytes, and {at} of them came")
                return size
            except Exception as error:
                if at - reached >= _PART:
                    waits = pauses(0.2, inf, times=_ATTEMPTS)
                reached = at
                if not _is_passing(error) or not (pause := next(waits)):
                    raise
                await asyncio.sleep(pause)

    async def _open(self, path: str, start: int, end: int | None) -> tuple[Any, int]:
        """Return the body of a file from `start` on, and the length of the whole file."""
        if not start and end is None:  # no part: an empty file has none
            answer = await self._ask("get_object", path)
            return answer["Body"], int(answer["ContentLength"])
        last = "" if end is None else end - 1
        answer = await self._ask("get_object", path, Range=f"bytes={start}-{last}")
        match = _RANGE(str(answer.get("ContentRange")))
        if match is None or int(match[1]) != start:
            answer["Body"].close()
            raise Truncated(f"{path}: it was asked for bytes {start}-{last} and gave others")
        return answer["Body"], int(match[2])

    async def _pieces(self, body: Any, length: int) -> AsyncIterator[bytes]:
        try:
            while length > 0 and (piece := await self._piece(body, length)):
                length -= len(piece)
                yield piece
        finally:
            body.close()

    async def _piece(self, body: Any, length: int) -> bytes:
        async def take(_: Pulse) -> bytes:
            piece: bytes = await body.read(min(_PIECE, length))
            return piece

        return await self._bounded(take)

    # ------------------------------------------------------------------ writing

    async def _send(self, fd: int, size: int, path: str) -> None:
        if size <= 2 * _PART:
            async with self._slots:
                await self._send_window("put_object", path, Window(fd, 0, size))
            return
        upload = (await self._ask("create_multipart_upload", path))["UploadId"]
        try:
            parts = await self._send_parts(fd, size, path, upload)
            await self._ask(
                "complete_multipart_upload", path, UploadId=upload, MultipartUpload={"Parts": parts}
            )
        except BaseException:
            with suppress(Exception):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    await self._ask("abort_multipart_upload", path, UploadId=upload)
            raise

    async def _send_parts(self, fd: int, size: int, path: str, upload: str) -> list[dict[str, Any]]:
        length = part_length(size)
        windows = enumerate(
            (Window(fd, start, min(length, size - start)) for start in range(0, size, length)), 1
        )
        tags: dict[int, str] = {}

        async def work() -> None:
            for number, window in windows:
                async with self._slots:
                    answer = await self._send_window(
                        "upload_part", path, window, PartNumber=number, UploadId=upload
                    )
                tags[number] = answer["ETag"]

        await _together(work() for _ in range(_BY_ONE))
        return [{"PartNumber": number, "ETag": tags[number]} for number in sorted(tags)]

    async def _send_window(self, method: str, path: str, window: Window, **arguments: Any) -> Any:
        bucket, key, _ = self.fs.split_path(path)

        async def ask(pulse: Pulse) -> Any:
            window.moved = pulse.beat
            return await self.fs._call_s3(method, Bucket=bucket, Key=key, Body=window, **arguments)

        return await self._bounded(ask)

    def write(self, path: str, data: bytes) -> None:
        """Make a file of a few bytes."""
        self._run(self._ask("put_object", path, Body=data))

    # ------------------------------------------------------------------ the place

    def require(self, root: str) -> None:
        """Raise `FileNotFoundError` if there is no such bucket; keys that may not ask are believed."""
        bucket, _, _ = self.fs.split_path(root)
        with suppress(PermissionError):
            self._run(self._bounded(lambda _: self.fs._call_s3("head_bucket", Bucket=bucket)))

    def tidy(self, root: str) -> int:
        """Abort what dead writers of this store have begun: S3 keeps (and bills) the parts."""
        return int(self._run(self._tidy(root)))

    async def _tidy(self, root: str) -> int:
        bucket, prefix, _ = self.fs.split_path(root)
        prefix = prefix and prefix.rstrip("/") + "/"
        abandoned = [
            upload
            async for upload in self._uploads(bucket, prefix)
            if _OURS(upload["Key"].removeprefix(prefix)) and await self._is_abandoned(bucket, upload)
        ]
        await _run_coros_in_chunks([self._abort(bucket, upload) for upload in abandoned], batch_size=_BY_ALL)
        return len(abandoned)

    async def _uploads(self, bucket: str, prefix: str) -> AsyncIterator[dict[str, Any]]:
        where: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix}
        async for page in self._pages("list_multipart_uploads", where, ("KeyMarker", "UploadIdMarker")):
            for upload in page.get("Uploads", ()):
                yield upload

    async def _is_abandoned(self, bucket: str, upload: dict[str, Any]) -> bool:
        """Say whether an upload was begun a day ago or more, and no part of it came since."""
        if not _is_old(upload["Initiated"]):
            return False
        where = {"Bucket": bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        try:
            async for page in self._pages("list_parts", where, ("PartNumberMarker",)):
                if not all(_is_old(part["LastModified"]) for part in page.get("Parts", ())):
                    return False
        except FileNotFoundError:
            return False  # it was finished or aborted in the meantime
        return True

    async def _abort(self, bucket: str, upload: dict[str, Any]) -> None:
        with suppress(FileNotFoundError):
            await self._ask(
                "abort_multipart_upload", f"{bucket}/{upload['Key']}", UploadId=upload["UploadId"]
            )

    async def _pages(
        self, method: str, where: dict[str, Any], markers: tuple[str, ...]
    ) -> AsyncIterator[dict[str, Any]]:
        marks: dict[str, Any] = {}
        while True:
            asked = {**where, **marks}
            page = await self._bounded(lambda _, asked=asked: self.fs._call_s3(method, **asked))  # type: ignore[misc]
            yield page
            following = {marker: page[f"Next{marker}"] for marker in markers if page.get(f"Next{marker}")}
            if not page.get("IsTruncated") or not following or following == marks:
                return
            marks = following


class Window(io.RawIOBase):
    """A part of a file as a file of its own.

    Parameters
    ----------
    fd
        A descriptor of the file, whose position does not change.
    start, length
        The part.
    """

    def __init__(self, fd: int, start: int, length: int) -> None:
        self._fd, self._start, self._length = fd, start, length
        self._at = 0
        self.moved: Callable[[], None] = lambda: None
        """Called whenever some of it is taken."""

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the part."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the place in the part."""
        return self._at

    def __len__(self) -> int:
        return self._length

    def readinto(self, buffer: Any) -> int:
        """Take the next bytes."""
        view = memoryview(buffer)[: max(0, self._length - self._at)]
        done = os.preadv(self._fd, [view], self._start + self._at) if view else 0
        if view and not done:
            raise OSError("the file became shorter while it was sent")
        self._at += done
        self.moved()
        return done


def part_length(size: int) -> int:
    """Return how long the parts of a file of `size` bytes are; S3 takes 10,000 of them."""
    return max(_PART, -(-size // _MOST_PARTS))


async def _together(works: Iterator[Any]) -> None:
    """Do all, or cancel the others when one fails."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _is_old(moment: Any) -> bool:
    return time.time() - float(moment.timestamp()) > _DAY


def _is_passing(error: BaseException) -> bool:
    """Say whether what broke a body off may be over when it is asked for again."""
    from s3fs import core

    if isinstance(error, Silence):
        return False
    return isinstance(error, (*core.S3_RETRYABLE_ERRORS, ConnectionError, Truncated))
