"""Commands as a person types them: real processes of the installed console scripts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from seamless_dask.trust import trust

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from seamless_dask.jobs.queue import QueueStore

    Queue = subprocess.Popen[bytes]
    StartQueue = Callable[..., Queue]
    Submit = Callable[..., "Done"]

BIN = Path(sys.executable).parent
SLOW = "echo begun >> {mark}; while ! test -e {go}; do sleep 0.02; done; echo done"


class Done(NamedTuple):
    """A process that has ended."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode()

    @property
    def error(self) -> str:
        """The only line of standard error, without the program's name."""
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr
        assert "Traceback" not in self.stderr
        return lines[0].partition(": ")[2]


class Cli:
    """Runs our commands in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(
        self,
        command: str,
        *arguments: str | os.PathLike[str],
        status: int = 0,
        cwd: Path | None = None,
        stdin: bytes = b"",
        **environment: str,
    ) -> Done:
        done = subprocess.run(
            [self.path(command), *arguments],
            cwd=cwd or self.directory,
            input=stdin,
            capture_output=True,
            env={**os.environ, **environment},
            timeout=60,
        )
        found = Done(done.returncode, done.stdout, done.stderr.decode())
        assert found.status == status, (command, arguments, found)
        return found

    def modules(self, command: str, *arguments: str) -> set[str]:
        """Return the names of the modules that a command has imported when it ends."""
        probe = self.directory / "probe"
        probe.mkdir()
        (probe / "sitecustomize.py").write_text(
            "import atexit, sys\natexit.register(lambda: open('modules', 'w').write(' '.join(sys.modules)))\n"
        )
        self(command, *arguments, PYTHONPATH=str(probe))
        return set((self.directory / "modules").read_text().split())

    def start(
        self, command: str, *arguments: str | os.PathLike[str], **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a command and return its process, in a process group of its own."""
        return subprocess.Popen(
            [self.path(command), *arguments],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            process_group=0,
        )

    @staticmethod
    def path(command: str) -> str:
        return str(BIN / command)


def project(directory: Path, text: str) -> None:
    """Write the settings of a project, and trust them."""
    (directory / "seamless.toml").write_text(text)
    trust(str(directory))


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The directory that commands run in."""
    directory = tmp_path / "work"
    directory.mkdir()
    return directory


@pytest.fixture
def cli(work: Path) -> Cli:
    """Runs our commands in `work`."""
    return Cli(work)


@pytest.fixture
def store(home: Path) -> Path:
    """The embedded store."""
    return home / "cache" / "buffers"


@pytest.fixture
def tree(work: Path) -> Path:
    """A directory with a few files, one of them executable and one with a name that is not ASCII."""
    root = work / "set"
    (root / "sub").mkdir(parents=True)
    (root / "a.txt").write_text("hello\n")
    (root / "sub" / "b.bin").write_bytes(b"x")
    (root / "sub" / "é.txt").write_text("été\n")
    (root / "run.sh").write_text("#!/bin/sh\necho hi\n")
    return root


def contents(root: Path) -> dict[str, bytes]:
    """The files below `root` without its own sidecars."""
    own = {root / ".CHECKSUM", root / ".INDEX"}
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and p not in own}


def wait_for(condition: Callable[[], object]) -> None:
    """Wait for what another process is about to do."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def slow(work: Path, tmp_path: Path) -> tuple[str, Path, Path]:
    """A command that begins, tells so, and waits until it may end."""
    project(work, 'isolation = "none"\n')
    mark, go = tmp_path / "begun", tmp_path / "go"
    return SLOW.format(mark=mark, go=go), mark, go


@pytest.fixture
def one_processor() -> Iterator[None]:
    """What is started may use one processor only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, bytes, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err.decode()


@pytest.fixture
def queue_store(home: Path) -> QueueStore:
    """The files of the queue."""
    from seamless_dask.jobs.queue import QueueStore

    return QueueStore(str(home / "cache"))


@pytest.fixture
def queue(cli: Cli, queue_store: QueueStore) -> Iterator[StartQueue]:
    """Starts a queue in the foreground; what is left of them in the end is ended."""
    started: list[Queue] = []

    def start(workers: int = 1, *arguments: str) -> Queue:
        started.append(cli.start("seamless-queue", "--workers", str(workers), *arguments))
        wait_for(
            lambda: (
                (queue_store.queue() or {}).get("pid") == started[-1].pid or started[-1].poll() is not None
            )
        )
        return started[-1]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


@pytest.fixture
def submit(cli: Cli) -> Submit:
    """Submits commands to the queue."""

    def submit(*arguments: str, status: int = 0, cwd: Path | None = None, **environment: str) -> Done:
        return cli("seamless-run", "--qsubmit", *arguments, status=status, cwd=cwd, **environment)

    return submit


def finish(cli: Cli, status: int = 0) -> Done:
    return cli("seamless-queue-finish", status=status)


def files(work: Path) -> set[str]:
    return {path.name for path in work.iterdir()}
