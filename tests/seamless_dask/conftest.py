"""A place to ask for computations in, from several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hashserver.checksum import Checksum
from seamless_dask.context import Context
from seamless_dask.decorators import delayed, direct
from seamless_dask.execution.supervisor import NoSupervisor, Supervisor
from seamless_dask.executors.embedded import Embedded
from seamless_dask.graph import current_worker, task
from seamless_dask.graph.current_worker import UnscheduledWorker
from seamless_dask.jobs.directory import JobDirectory
from seamless_dask.jobs.request import JobRequest
from seamless_dask.model.options import Options
from seamless_dask.model.transformation import Description, ResultSpec, Value

from ..conftest import started_hashserver

ASKER = """
import json, sys
from hashserver.checksum import Checksum
from seamless_dask.executors.embedded import Embedded
from seamless_dask.jobs.local import LocalRequest
from seamless_dask.jobs.request import JobRequest
from seamless_dask.context import Context
from seamless_dask.errors import ComputationFailed
from seamless_dask.model.options import Options
from seamless_dask.model.outcomes import failure
key, options, wishes = sys.argv[1:]
try:
    request = JobRequest(Checksum(key), Options.from_json(options), **json.loads(wishes))
    answer = list(Embedded(Context()).run(request))
except KeyboardInterrupt:
    answer = {"error": "interrupted"}
except Exception as error:
    answer = failure(error)
print(json.dumps(answer))
"""

PLAIN = Options(isolation="none")


def wait_until(happened: Callable[[], Any]) -> Any:
    """Wait for something that sends no event, such as the death of a process that is not a child."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if found := happened():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


class Gate:
    """A command stops here, says so, and goes on when it is opened."""

    def __init__(self, directory: Path) -> None:
        self.reached_by, self.opened = directory / "reached", directory / "opened"
        for fifo in (self.reached_by, self.opened):
            os.mkfifo(fifo)
        self.command = f"echo $$ > {self.reached_by}; read -r _ < {self.opened}"

    def wait(self) -> int:
        """Wait until a command is here; its process."""
        return int(self.reached_by.read_text())

    def open(self) -> None:
        self.opened.write_text("go\n")


def blocked(started: str, release: str) -> str:
    with open(started, "w"):
        pass
    with open(release) as fifo:
        return fifo.read()


class Blocked:
    """A call that goes on until it is let go.

    Parameters
    ----------
    decorate
        Makes a function one whose calls are transformations.
    """

    def __init__(self, decorate: Callable[..., Any], directory: Path) -> None:
        self._started, self._release = directory / "started", directory / "release"
        os.mkfifo(self._release)
        self.made = decorate(blocked)(str(self._started), str(self._release))

    def await_begin(self) -> None:
        wait_until(self._started.exists)

    def let_go(self) -> None:
        self._release.write_text("done")


class Lab:
    wait_until = staticmethod(wait_until)
    is_alive = staticmethod(is_alive)

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.context = Context()
        self.direct = partial(direct, context=self.context)
        self.delayed = partial(delayed, context=self.context)
        self.processes: list[subprocess.Popen[str]] = []
        self.log = directory / "log"

    def gate(self, name: str = "gate") -> Gate:
        path = self.directory / name
        path.mkdir()
        return Gate(path)

    def counted(self, name: str = "ran") -> str:
        """A piece of a command that notes that it ran."""
        return f"echo {name} >> {self.log}"

    def ran(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []

    def transformation(self, code: str, **members: Any) -> Description:
        members.setdefault("result", ResultSpec(stdout=True))
        return Description("bash", self.context.store.put(code.encode()), **members)

    def store(self, code: str, **members: Any) -> Checksum:
        """Store a transformation; its key."""
        return self.context.store.put(self.transformation(code, **members).canonical())

    def file(self, data: bytes) -> Value:
        return Value("file", self.context.store.put(data))

    def run(self, key: Checksum, options: Options = PLAIN, **wishes: bool) -> Value:
        return Embedded(self.context).run(JobRequest(key, options, **wishes))

    def bytes(self, value: Value) -> bytes:
        return self.context.store.get(value.checksum)

    def asker(self, key: Checksum, options: Options = PLAIN, **wishes: bool) -> subprocess.Popen[str]:
        """A process of its own that asks."""
        words = [sys.executable, "-c", ASKER, key, options.to_json(), json.dumps(wishes)]
        # errors go to ours: a full pipe that nobody reads must not stop it
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
        self.processes.append(process)
        return process

    def job(self, key: Checksum) -> JobDirectory:
        return JobDirectory(self.context.cache, key)

    def runner(self, key: Checksum) -> int:
        return int(self.job(key).facts()["pid"])

    def await_askers(self, key: Checksum, number: int) -> None:
        wait_until(lambda: len(self.job(key).waiting()) == number)

    def await_end(self, key: Checksum) -> None:
        """Wait until nobody runs it any more."""
        wait_until(lambda: not self.job(key).running())

    def leftovers(self) -> list[str]:
        root = self.job(Checksum("0" * 64)).root
        return [name for name in os.listdir(root) if name != "guard"] if os.path.exists(root) else []

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        for info in Embedded(self.context).jobs():
            if info.state in ("running", "queued") and info.pid != os.getpid():
                os.kill(info.pid or 0, signal.SIGKILL)
        self.context.close()


class DirectWorker(UnscheduledWorker):
    """Runs tasks in this process, with nobody to share them with."""

    asked = None

    def __init__(self, context: Context) -> None:
        self.context = context

    def share(
        self,
        checksum: Checksum,
        key: Checksum,
        action: Callable[[Supervisor], Value],
        known: Callable[[], Value | None],
        options: Options,
    ) -> Value:
        return action(NoSupervisor())


@pytest.fixture
def worker(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> DirectWorker:
    """What tasks in this process have, as on a worker of Dask."""
    equipped = DirectWorker(lab.context)
    for module in (current_worker, task):
        monkeypatch.setattr(module, "equipped", lambda: equipped)
    return equipped


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    runs = tmp_path / "runs"
    runs.mkdir()
    monkeypatch.setenv("TMPDIR", str(runs))
    monkeypatch.setenv("SEAMLESS_ISOLATION", "none")  # commands here talk to the tests through files
    laboratory = Lab(tmp_path)
    yield laboratory
    laboratory.close()


@pytest.fixture
def hashserver(tmp_path: Path) -> Iterator[dict[str, object]]:
    """A running hashserver, as options of `seamless_dask.config.load`."""
    with started_hashserver(tmp_path) as server:
        yield {"hashserver": server.url, "token_file": server.token_file}
