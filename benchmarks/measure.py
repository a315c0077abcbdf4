"""Timing of whole processes in pairs, a place to work in, and a hashserver to talk to."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

BIN = Path(sys.executable).parent
PYTHON = [sys.executable, "-c", "pass"]
MIB = 1 << 20
GIB = 1 << 30

MORE_MEMORY = """
def more_memory(work):
    'Return how many bytes this process takes at most while it works, beside what it has.'
    def told(name):
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith(name))
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is from now on
    before = told("VmRSS")
    work()
    return told("VmHWM") - before
"""


class Usage(NamedTuple):
    """What one process took: wall-clock seconds and peak resident bytes."""

    wall: float
    peak: int


def run(
    command: Sequence[str | Path], env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Usage:
    """Run a command to its end; a failure ends the experiment with what it printed."""
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise SystemExit(
                f"{' '.join(map(str, command))}: status {process.returncode}\n{errors.read().decode()}"
            )
    return Usage(wall, used.ru_maxrss * 1024)


def answer(
    command: Sequence[str | Path], env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Any:
    """Return the JSON that a command prints; a failure ends the experiment with its errors."""
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds some work takes in this process."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Server:
    """A hashserver process on a loopback port with a store and database of its own.

    Parameters
    ----------
    directory
        Of its files.
    store
        Where its buffers are, if not there.
    """

    def __init__(self, directory: Path, store: str | None = None) -> None:
        self.directory = directory
        ready = directory / "ready.json"
        self.process = subprocess.Popen(
            [
                *(
                    BIN / "hashserver",
                    "--store",
                    store or directory / "store",
                    "--database",
                    directory / "seamless.db",
                ),
                *("--token-file", directory / "token", "--ready-file", ready),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(directory / "log").open("w"),
        )
        while not ready.exists():
            if self.process.poll() is not None:
                raise SystemExit("the hashserver did not start")
            time.sleep(0.01)
        self.url: str = json.loads(ready.read_text())["url"]

    @property
    def token(self) -> str:
        """The token that reads and writes."""
        for line in (self.directory / "token").read_text().splitlines():
            if line.startswith("read-write "):
                return line.split()[1]
        raise SystemExit("no read-write token")

    @property
    def environment(self) -> dict[str, str]:
        """What makes the commands use this server."""
        return {"SEAMLESS_HASHSERVER": self.url, "SEAMLESS_TOKEN_FILE": str(self.directory / "token")}

    @property
    def peak(self) -> int:
        """Peak resident bytes of the server so far."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise SystemExit("the hashserver is gone")

    def stop(self) -> None:
        """End it and wait for that."""
        self.process.terminate()
        self.process.wait()


class Bench:
    """One experiment: a scratch directory, servers that end with it, and its printed rows.

    Parameters
    ----------
    name : str
        The experiment's name, printed before each row.
    runs : int
        How many pairs to measure of each figure.
    """

    def __init__(self, name: str, runs: int) -> None:
        self.name, self.runs, self.within = name, runs, True
        self._servers: list[Server] = []

    def __enter__(self) -> Bench:
        self.directory = Path(tempfile.mkdtemp(prefix="seamless-bench-"))
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def fresh(self, name: str) -> Path:
        """Return an empty directory of that name."""
        path = self.directory / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def server(self, name: str = "server", store: str | None = None) -> Server:
        """Start a hashserver over an empty store."""
        return self.server_at(self.fresh(name), store)

    def server_at(self, directory: Path, store: str | None = None) -> Server:
        """Start a hashserver over the store and database in a directory."""
        self._servers.append(Server(directory, store))
        return self._servers[-1]

    def environment(self, server: Server | None = None, name: str = "cache") -> dict[str, str]:
        """Return an environment with an empty cache of its own, and a server when one is given."""
        own = {key: value for key, value in os.environ.items() if not key.startswith("SEAMLESS_")}
        own |= {"SEAMLESS_CACHE": str(self.fresh(name)), "HOME": str(self.directory)}
        # Installed packages are compiled; the interpreter's own start is what it is for everybody.
        own.pop("PYTHONDONTWRITEBYTECODE", None)
        return own | (server.environment if server else {})

    def pairs(
        self, ours: Callable[[], float], floor: Callable[[], float], runs: int | None = None
    ) -> tuple[float, float, float]:
        """Measure both in turn after one warm-up; return median seconds of each and the median ratio."""
        ours(), floor()
        measured = [(ours(), floor()) for _ in range(runs or self.runs)]
        a, b = (statistics.median(column) for column in zip(*measured, strict=True))
        return a, b, statistics.median(x / y for x, y in measured)

    def row(
        self,
        what: str,
        figure: float,
        limit: float | None,
        detail: str,
        unit: str = "×",
        at_least: bool = False,
    ) -> None:
        """Print one figure beside its limit."""
        verdict = ""
        if limit is not None:
            good = figure >= limit if at_least else figure <= limit
            self.within &= good
            word = "ok" if good else "UNDER" if at_least else "OVER"
            verdict = f"{'≥' if at_least else '≤'} {limit:g} {unit}  {word}"
        print(f"{self.name:12} {what:55} {figure:8.3g} {unit:3} {verdict:16} {detail}", flush=True)

    def ratio(
        self,
        what: str,
        ours: Callable[[], float],
        floor: Callable[[], float],
        limit: float,
        against: str,
        runs: int | None = None,
    ) -> None:
        """Measure a pair and print its ratio."""
        a, b, ratio = self.pairs(ours, floor, runs)
        self.row(what, ratio, limit, f"{a * 1e3:.0f} ms against {b * 1e3:.0f} ms for {against}")


def random_file(path: Path, size: int) -> Path:
    """Write ``size`` random bytes."""
    with path.open("wb") as stream:
        for _ in range(size // MIB):
            stream.write(os.urandom(MIB))
        stream.write(os.urandom(size % MIB))
    return path


def small_files(directory: Path, count: int = 5000, size: int = 4096) -> Path:
    """Make a directory of ``count`` random files of ``size`` bytes in subdirectories of 100."""
    for number in range(count):
        path = directory / f"{number // 100:03d}" / f"{number:05d}.dat"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(os.urandom(size))
    return directory


def settle() -> None:
    """Let what was just written grow older than the file system's timestamp step."""
    os.sync()
    time.sleep(0.1)
