"""Four shells work against a daskserver while something dies every few seconds; then everything is counted.

``scripts/soak [MINUTES]`` runs it for long. What must not happen: a wrong byte, a result that was given and
is not known later, a command that never ends, work that is done twice without a death to explain it,
anything that stays behind after ``seamless-daskserver stop``.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

BIN = Path(sys.executable).parent
SHELLS = 4
KINDS = "worker", "command", "hashserver", "scheduler", "link"
LONGEST = 150.0
"""Seconds after which a command hangs."""
PAUSE = 2.0, 5.0
"""Seconds between two deaths."""
REPEATED = 0.3
"""Of all commands, those that have been given before."""
TOLD = (
    "the daskserver",
    "no connection to",
    "given up after",
    "connection file",
    "status 137",
    "signal 9",
    "SIGKILL",
)
"""What a command may end with that was typed just when something died."""


class Death(NamedTuple):
    """What was killed or cut, and when (seconds since the epoch)."""

    what: str
    when: float


class Link:
    """A port in front of another one, whose connections can be cut; what comes then waits for a moment."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._up = threading.Event()
        self._up.set()
        self._ends: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(near,), daemon=True).start()

    def _join(self, near: socket.socket) -> None:
        self._up.wait()
        try:
            far = socket.create_connection(("127.0.0.1", self._target), timeout=10)
        except OSError:
            near.close()
            return
        far.settimeout(None)
        self._ends |= {near, far}
        threading.Thread(target=self._pass, args=(near, far), daemon=True).start()
        self._pass(far, near)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
            self._ends.discard(end)

    def cut(self) -> None:
        """Lose what is on its way, for a second."""
        self._up.clear()
        for end in list(self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        time.sleep(1.0)
        self._up.set()

    def close(self) -> None:
        """Listen no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._up.set()
        for end in list(self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class World:
    """A daskserver, and what happens to it."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.directory = directory
        self.random = random.Random(seed)
        self.cache, self.tmp, self.log = directory / "cache", directory / "tmp", directory / "runs"
        self.tmp.mkdir()
        self.log.touch()
        own = {name: value for name, value in os.environ.items() if not name.startswith("SEAMLESS_")}
        home = {"HOME": str(directory), "TMPDIR": str(self.tmp), "SEAMLESS_CACHE": str(self.cache)}
        self.environment = own | home | {"SEAMLESS_ISOLATION": "none"}
        self.place = self.cache / "daskserver" / "default"
        self.deaths: list[Death] = []
        self.links: list[Link] = []

    def daskserver(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Type a command about it."""
        return subprocess.run(
            [BIN / "seamless-daskserver", *words],
            env=self.environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )

    def start(self) -> None:
        """Start it, and a second way to it that goes by links."""
        done = self.daskserver("start", "--workers", "2", "--threads", "2")
        assert done.returncode == 0, done.stderr
        if self.links:
            return
        facts = self.facts("connection.json")
        for name in ("jobserver", "hashserver"):
            start, _, port = facts[name].rpartition(":")
            self.links.append(Link(int(port)))
            facts[name] = f"{start}:{self.links[-1].port}"
        far = self.directory / "far.json"
        far.touch(0o600)
        far.write_text(json.dumps(facts | {"host": "elsewhere"}))

    def connection(self, shell: int) -> str:
        """Return the connection file that a shell uses."""
        return str(self.directory / "far.json" if shell % 2 else self.place / "connection.json")

    def facts(self, name: str) -> dict[str, Any]:
        """Read one of its files."""
        found: dict[str, Any] = json.loads((self.place / name).read_text())
        return found

    # ------------------------------------------------------------------ deaths

    def disturb(self, what: str) -> None:
        """Kill or cut something."""
        self.deaths.append(Death(what, time.time()))
        with suppress(OSError, ValueError, KeyError, psutil.Error):
            getattr(self, f"_{what}")()

    def _worker(self) -> None:
        children = psutil.Process(self.facts("connection.json")["pid"]).children(recursive=True)
        workers = [child for child in children if any("spawn_main" in word for word in child.cmdline())]
        if workers:
            self.random.choice(workers).kill()

    def _command(self) -> None:
        lines = self.log.read_text().splitlines()
        running = [int(line.split()[1]) for line in lines[-8:]]
        for pid in running:
            if psutil.pid_exists(pid) and psutil.Process(pid).environ().get("SOAK") == str(self.directory):
                os.kill(pid, signal.SIGKILL)
                return

    def _hashserver(self) -> None:
        os.kill(self.facts("hashserver.json")["pid"], signal.SIGKILL)

    def _scheduler(self) -> None:
        os.kill(self.facts("connection.json")["pid"], signal.SIGKILL)
        self.start()

    def _link(self) -> None:
        for link in self.links:
            link.cut()

    # ------------------------------------------------------------------ what is left

    def left(self) -> list[str]:
        """Stop everything; return what is still there."""
        done = self.daskserver("stop")
        found = [] if done.returncode == 0 else [done.stderr]
        for link in self.links:
            link.close()
        end = time.monotonic() + 20
        while (alive := self._processes()) and time.monotonic() < end:
            time.sleep(0.1)
        found += alive
        found += [f"file {path}" for path in self.tmp.iterdir() if path.name.startswith("seamless-")]
        return found

    def _processes(self) -> list[str]:
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if process.environ().get("SEAMLESS_CACHE") == str(self.cache):
                    found.append(f"process {process.pid}: {' '.join(process.cmdline())[:120]}")
        return found


class Shell(threading.Thread):
    """Types commands, and compares what they give with what it knows they must give."""

    def __init__(self, world: World, number: int, over: threading.Event) -> None:
        super().__init__()
        self.world, self.number, self.over = world, number, over
        self.random = random.Random(world.random.random())
        self.work = world.directory / f"shell{number}"
        self.work.mkdir()
        self.given: dict[str, tuple[list[str], bytes]] = {}
        self.count = self.retries = 0
        self.faults: list[str] = []

    def run(self) -> None:
        """Work until it is over."""
        try:
            while not self.over.is_set():
                self.once()
        except BaseException as error:
            self.faults.append(f"shell {self.number}: {error!r}")
            raise

    def once(self) -> None:
        """Type one command until it has been done."""
        self.count += 1
        repeats = bool(self.given) and self.random.random() < REPEATED
        name = self.random.choice(list(self.given)) if repeats else f"{self.number}-{self.count}"
        words, expected = self.given[name] if repeats else self._new(name)
        self.given[name] = self._until_done(name, words, expected)

    def _new(self, name: str) -> tuple[list[str], bytes]:
        data = self.random.randbytes(self.random.choice([10, 5_000, 400_000])).hex().encode() + b"\n"
        (self.work / f"in-{name}").write_bytes(data)
        if self.random.random() < 0.5:
            self._type("seamless-upload", "-q", f"in-{name}")
        pause = self.random.choice([0, 0.2, 1])
        log = f"echo {name} \\$\\$ $(date +%s.%N) >> {self.world.log}"
        work = f"sleep {pause}; fold -w 60 in-{name} | sort | sha256sum; cat in-{name}"
        code = f'SOAK={self.world.directory} exec bash -c "{log}; {work}"'
        folded = sorted(data[start : start + 60].rstrip(b"\n") for start in range(0, len(data) - 1, 60))
        digest = hashlib.sha256(b"".join(line + b"\n" for line in folded)).hexdigest()
        words = ["-q", "-c", code, "--input", f"in-{name}", "--capture", f":out-{name}"]
        return words, f"{digest}  -\n".encode() + data

    def _until_done(self, name: str, words: list[str], expected: bytes) -> tuple[list[str], bytes]:
        target = self.work / f"out-{name}"
        target.unlink(missing_ok=True)
        for _ in range(50):
            begun = time.time()
            done = self._type("seamless-run", *words)
            if done is None:
                return words, expected
            if done.returncode == 0:
                if target.read_bytes() != expected:
                    self.faults.append(f"{name}: wrong bytes")
                return words, expected
            self.retries += 1
            if not any(text in done.stderr for text in TOLD) or not self._explained(begun):
                self.faults.append(f"{name}: exit status {done.returncode} without a reason: {done.stderr}")
                return words, expected
        self.faults.append(f"{name}: never done")
        return words, expected

    def _explained(self, begun: float) -> bool:
        return any(death.when > begun - 20 for death in self.world.deaths)

    def _type(self, command: str, *words: str) -> subprocess.CompletedProcess[str] | None:
        environment = self.world.environment | {"SEAMLESS_DASKSERVER": self.world.connection(self.number)}
        try:
            return subprocess.run(
                [BIN / command, *words],
                env=environment,
                cwd=self.work,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=LONGEST,
            )
        except subprocess.TimeoutExpired:
            self.faults.append(f"{command} {' '.join(words)} hung")
            return None

    def check(self) -> None:
        """Ask again for everything that was given: all of it must be known, and right."""
        before = self.world.log.read_text()
        for name, (words, expected) in self.given.items():
            self._until_done(name, words, expected)
        if again := self.world.log.read_text()[len(before) :]:
            self.faults.append(f"shell {self.number}: a result that was given is not known any more: {again}")


class Report(NamedTuple):
    """What came of it."""

    commands: int
    retries: int
    runs: int
    deaths: dict[str, int]
    twice: int
    """Commands that ran more than once, each with a death to explain it."""
    faults: list[str]

    def __str__(self) -> str:
        deaths = ", ".join(f"{number} {what}" for what, number in sorted(self.deaths.items()))
        head = (
            f"{self.commands} commands, {self.runs} runs, {self.retries} typed again, {self.twice} ran again"
        )
        return "\n".join([f"{head}; deaths: {deaths}; {len(self.faults)} faults", *self.faults])


def soak(directory: Path, seconds: float, seed: int = 0) -> Report:
    """Work for so long, and report."""
    world = World(directory, seed)
    world.start()
    over = threading.Event()
    shells = [Shell(world, number, over) for number in range(SHELLS)]
    faults: list[str] = []
    try:
        for shell in shells:
            shell.start()
        for what in _deaths(world.random, seconds):
            world.disturb(what)
    finally:
        over.set()
        for shell in shells:
            shell.join(50 * LONGEST)
        try:
            checks = [threading.Thread(target=shell.check) for shell in shells]
            for check in checks:
                check.start()
            for check in checks:
                check.join()
        finally:
            faults += [f"left behind: {what}" for what in world.left()]
    runs = _runs(world)
    again = {name: times for name, times in runs.items() if len(times) > 1}
    for name, times in again.items():
        kills = [death for death in world.deaths if death.what != "link"]
        if not any(times[0] - 1 < kill.when < times[-1] for kill in kills):
            faults.append(f"{name} ran {len(times)} times without a death to explain it: {times}")
    faults += [fault for shell in shells for fault in shell.faults]
    return Report(
        commands=sum(shell.count for shell in shells),
        retries=sum(shell.retries for shell in shells),
        runs=sum(map(len, runs.values())),
        deaths=dict(Counter(death.what for death in world.deaths)),
        twice=len(again),
        faults=faults,
    )


def _deaths(chance: random.Random, seconds: float) -> Iterator[str]:
    """Yield what dies next, at its time: each kind once before one comes again."""
    end = time.monotonic() + seconds
    while True:
        for what in chance.sample(KINDS, len(KINDS)):
            time.sleep(chance.uniform(*PAUSE))
            if time.monotonic() > end:
                return
            yield what


def _runs(world: World) -> dict[str, list[float]]:
    """Return when each command began to run."""
    found: dict[str, list[float]] = {}
    for line in world.log.read_text().splitlines():
        name, _, when = line.split()
        found.setdefault(name, []).append(float(when))
    return found


def main() -> int:
    """Soak for the minutes that are asked for."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 1_000_000
    print(f"{minutes:g} minutes, seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as directory:
        report = soak(Path(directory), 60 * minutes, seed)
        if report.faults:
            log = Path(directory) / "cache" / "daskserver" / "default" / "logs" / "daskserver.log"
            print(log.read_text()[-20_000:], file=sys.stderr)
    print(report)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
