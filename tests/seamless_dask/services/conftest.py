"""Daskservers for tests: real ones, started and stopped by the command."""

from __future__ import annotations

import asyncio
import http.client
import inspect
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dask_jobqueue  # noqa: F401 - now: a later import would lose its defaults with the test that changed some
import psutil
import pytest

from hashserver.auth import read_token_file
from hashserver.client.transport import Transport
from seamless_dask import connection
from seamless_dask.client.security import security_of
from seamless_dask.connection import ConnectionFile
from seamless_dask.errors import UsageError
from seamless_dask.services.daskserver import control, credentials

COMMAND = str(Path(sys.executable).parent / "seamless")


def eventually(condition: Callable[[], Any]) -> Any:
    """Wait for what other processes are about to do; return what `condition` says then."""
    end = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def lives(process: psutil.Process) -> bool:
    """Whether a process is there and is more than an exit status that nobody has read yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Daskserver:
    """One daskserver of a cache of its own."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.directory = Path(connection.directory_of(str(cache), "default"))
        self.file = self.directory / connection.FILE
        self.seen: set[psutil.Process] = set()

    def __call__(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run ``seamless daskserver``."""
        done = subprocess.run(
            [COMMAND, "daskserver", *words], env=self.environment, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == status, done
        assert "Traceback" not in done.stderr, done
        return done

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {"SEAMLESS_CACHE": str(self.cache)}

    def start(self, *options: str) -> ConnectionFile:
        self("start", "--workers", "0:1", *options)
        self.processes()
        return self.connection

    def stop(self) -> None:
        self.processes()
        self("stop")

    @property
    def connection(self) -> ConnectionFile:
        return connection.read(str(self.file))

    @property
    def alive(self) -> bool:
        return control.find(str(self.directory)).alive

    def processes(self) -> list[psutil.Process]:
        """The daskserver and all that it has started."""
        try:
            first = psutil.Process(self.connection.pid)
            found = [first, *first.children(recursive=True)]
        except (psutil.NoSuchProcess, UsageError):
            found = []
        self.seen.update(found)
        return found

    def ports(self) -> set[int]:
        """All ports at which any of its processes listens."""
        sockets = [found for process in self.processes() for found in process.net_connections("inet")]
        return {found.laddr.port for found in sockets if found.status == psutil.CONN_LISTEN}

    def request(self, path: str, token: str | None = "") -> tuple[int, bytes]:
        """Ask the scheduler's HTTP server; the token of the file unless another one is given."""
        facts = self.connection
        if token == "":
            token = read_token_file(facts.token_file)[0].secret
        transport = Transport(facts.jobserver, token, facts.ca_file)
        with closing(transport), transport.request("GET", path) as response:
            return response.status, response.read()

    def status(self) -> dict[str, Any]:
        """What ``status`` says, whether or not something is wrong."""
        words = [COMMAND, "daskserver", "status", "--json"]
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=100)
        found: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (1 if found["problems"] else 0), done
        return found

    def client(self, **options: Any) -> Any:
        """Return a Dask client."""
        from distributed import Client

        facts = self.connection
        files = (facts.token_file, facts.ca_file, facts.cert_file, facts.key_file)
        security = security_of(credentials.Credentials(*files))
        return Client(facts.scheduler, security=security, **options)


@pytest.fixture
def daskserver(home: Path) -> Iterator[Daskserver]:
    """A daskserver that is not started yet, and leaves nothing when the test is over."""
    server = Daskserver(home / "cache")
    yield server
    if server.directory.exists():
        server.stop()
    assert not [process for process in server.seen if lives(process)]


class Serving:
    """A Dask scheduler in a thread of this process, and plain HTTP to it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.scheduler: Any = None

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function, or run a coroutine, in the scheduler's event loop."""

        async def run() -> Any:
            found = function(*arguments)
            return await found if inspect.isawaitable(found) else found

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(60)

    async def open(self, prepare: Callable[[Any], None], **options: Any) -> None:
        from distributed import Scheduler

        addresses = {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}
        self.scheduler = Scheduler(**addresses | {"dashboard": True} | options)
        prepare(self.scheduler)
        await self.scheduler

    @property
    def port(self) -> int:
        port: int = self.scheduler.http_server.port
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(
        self,
        path: str,
        token: str | None = None,
        method: str = "GET",
        body: bytes | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body of an answer; ``_`` in names of headers stands for ``-``."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            given["Authorization"] = f"Bearer {token}"
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body, given)
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Serving]]:
    """Start schedulers; the function given sees each before it answers anybody."""
    import dask.config

    started = []
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def start(prepare: Callable[[Any], None] = lambda _: None, **options: Any) -> Serving:
        serving = Serving(loop)
        started.append(serving)
        serving.call(lambda: serving.open(prepare, **options))
        return serving

    with dask.config.set({"temporary-directory": str(tmp_path)}):
        yield start
    for serving in reversed(started):
        serving.call(lambda one=serving: one.scheduler.close())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
