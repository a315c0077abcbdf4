"""Real clusters of worker processes, with a real hashserver."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster

from seamless_dask import api
from seamless_dask.config import load
from seamless_dask.context import Context
from seamless_dask.model.transformation import Value
from seamless_dask.services.plugin import SeamlessScheduler
from seamless_dask.worker.data_locations import DataLocations
from seamless_dask.worker.plugin import Equipment


class Hashserver:
    """A process of its own, which can be killed and started again on the same port."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = "0"
        self.start()

    def start(self) -> None:
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        words = [sys.executable, "-m", "hashserver", "--store", self.directory / "store"]
        words += ["--database", self.directory / "seamless.db", "--port", self.port]
        words += ["--token-file", self.directory / "token", "--ready-file", ready]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        wait_until(ready.exists)
        self.url: str = json.loads(ready.read_text())["url"]
        self.port = self.url.rpartition(":")[2]

    @property
    def token_file(self) -> str:
        return str(self.directory / "token")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def wait_until(happened: Callable[[], Any]) -> Any:
    """Wait for something that sends no event."""
    pause = threading.Event()
    for _ in range(3000):
        if found := happened():
            return found
        pause.wait(0.02)
    raise AssertionError("it did not happen")


class Cluster:
    """Workers of a scheduler, a client, and a context that shares their hashserver.

    Commands are not isolated: they talk with the test through files.
    """

    def __init__(self, directory: Path, plugin: bool = True, **options: Any) -> None:
        self.directory = directory
        self.hashserver = Hashserver(directory)
        self.environment = environment = {
            "SEAMLESS_CACHE": str(directory / "cache"),
            "SEAMLESS_TOKEN_FILE": self.hashserver.token_file,
            "SEAMLESS_ISOLATION": "none",
            "TMPDIR": str(directory),
        }
        given = {
            "hashserver": self.hashserver.url,
            "cache": environment["SEAMLESS_CACHE"],
            "token_file": self.hashserver.token_file,
            "isolation": "none",
        }
        self.config = load(given, "/", {"HOME": str(directory)})
        self.context = Context(self.config)
        self.stack = contextlib.ExitStack()
        with mixed_in(environment):
            defaults = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
            kept = {
                "dashboard_address": None,
                "scheduler_kwargs": {"dashboard_address": ":0"},  # its pages need a port all the same
                "local_directory": str(directory),
                # those that a nanny starts later have it too
                "env": {**os.environ, **environment},
            }
            # they are copies of a process that has imported Dask already, and not of this test's environment
            self.stack.enter_context(
                dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"})
            )
            self.local = self.stack.enter_context(LocalCluster(**defaults | kept | options))
        self.client = self.stack.enter_context(Client(self.local))
        if plugin:
            self.client.register_plugin(SeamlessScheduler(self.config))
        else:
            self.client.register_plugin(Equipment(DataLocations.of(self.config)))

    def bash(self, code: str, inputs: Any = None, **options: Any) -> api.Transformation:
        return api.bash(code, inputs, context=self.context, **options)

    def run(self, transformation: api.Transformation) -> Value:
        handle = self.client.compute(transformation).result()
        value: Value = handle.value
        return value

    def text(self, value: Value) -> str:
        return self.context.store.get(value.checksum).decode()

    def events(self, action: str, transformation: api.Transformation | None = None) -> list[dict[str, Any]]:
        found = [event for _, event in self.client.get_events("seamless")]
        name = None if transformation is None else transformation.__dask_keys__()[0]
        return [event for event in found if event["action"] == action and name in (None, event.get("key"))]

    def where(self, transformation: api.Transformation) -> str:
        """Wait until a command has begun; the address of its worker."""
        [event, *_] = wait_until(lambda: self.events("started", transformation))
        return str(event["worker"])

    def pid_of(self, worker: str) -> int:
        found = self.client.run(os.getpid, workers=[worker])
        return int(found[worker])

    def close(self) -> None:
        self.stack.close()
        self.context.close()
        self.hashserver.kill()


@contextlib.contextmanager
def mixed_in(environment: dict[str, str]) -> Iterator[None]:
    """Add to the environment that new processes inherit."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield


class Gate:
    """A command stops here, says so, and goes on when it is opened."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.reached, self.opened = directory / "reached", directory / "opened"
        self.code = f"echo $$ >> {self.reached}; until [ -e {self.opened} ]; do sleep 0.02; done"

    def pids(self) -> list[int]:
        return [int(line) for line in self.reached.read_text().split()] if self.reached.exists() else []

    def wait(self, times: int = 1) -> int:
        """Wait until so many commands have come here; the process of the last one."""
        return int(wait_until(lambda: len(self.pids()) >= times and self.pids()[-1]))

    def open(self) -> None:
        self.opened.touch()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """For tests that leave all workers alive."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """For tests after which nobody else wants it."""
    directory = tmp_path / "cluster"
    directory.mkdir()
    made = Cluster(directory)
    yield made
    made.close()
