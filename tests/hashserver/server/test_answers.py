"""Answers whose source fails, is closed or is left while it works: asyncio has nothing to complain of."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from aiohttp import web

from hashserver.server.answers import StreamAnswer

PART = b"x" * 65536


class Source:
    """Parts that come from a thread, and what becomes of them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.busy, self.go, self.closed = threading.Event(), threading.Event(), threading.Event()

    def parts(self) -> Iterator[bytes]:
        try:
            for number in range(200 if self.kind == "left" else 4):
                if self.kind == "fails" and number == 2:
                    raise OSError("the store failed")
                if self.kind == "cancelled" and number == 2:
                    self.busy.set()
                    self.go.wait(60)
                yield PART
        finally:
            self.closed.set()
            if self.kind == "cannot be closed":
                raise OSError("closing failed")


async def complaints(source: Source) -> list[str]:
    """Serve a source to one client, and return what asyncio complained of."""
    said: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(str(context)))
    tasks: list[asyncio.Task[Any] | None] = []
    with ThreadPoolExecutor(2) as threads:

        async def handler(request: web.BaseRequest) -> Any:
            tasks.append(asyncio.current_task())
            return StreamAnswer(request, 200, b"", source.parts(), threads)

        runner = web.ServerRunner(web.Server(handler))
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        if source.kind == "cancelled":
            await asyncio.to_thread(source.busy.wait, 60)
            assert tasks[0] is not None
            tasks[0].cancel()
            await asyncio.wait([tasks[0]])
            source.go.set()
        elif source.kind == "fails":
            with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1 << 30)
        else:
            await reader.readexactly(1000)
        writer.transport.abort()
        assert await asyncio.to_thread(source.closed.wait, 60)
        await runner.cleanup()
    tasks.clear()
    gc.collect()
    await asyncio.sleep(0)
    return said


@pytest.mark.parametrize("kind", ["fails", "left", "cancelled", "cannot be closed"])
def test_the_end_of_a_source_is_nobodys_surprise(kind: str) -> None:
    assert asyncio.run(complaints(Source(kind))) == []
