"""The installed commands in real processes, without a server and against one, and what they leave behind."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest

BIN = Path(sys.executable).parent
NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


HASTY = """
import seamless_dask.execution.capture
import seamless_dask.graph.perform
seamless_dask.graph.perform.FIRST_PAUSE = 0.01
seamless_dask.execution.capture.PAUSES = (0.01, 0.01)
"""
"""Have what fails by the system's fault tried again sooner, not less often."""


def wait_until(happened: Callable[[], Any]) -> Any:
    """Wait for what another process is about to do and sends no event for."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if found := happened():
            return found
        time.sleep(0.005)
    raise AssertionError("it did not happen")


class Done(NamedTuple):
    """A process that has ended."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def error(self) -> str:
        """The only line of standard error, without the program's name."""
        lines = self.stderr.splitlines()
        assert len(lines) == 1, self.stderr
        return self.last

    @property
    def last(self) -> str:
        """The last line of standard error, without the program's name."""
        assert "Traceback" not in self.stderr
        assert "internal error" not in self.stderr
        return self.stderr.splitlines()[-1].partition(": ")[2]


class Reply(NamedTuple):
    """An answer of a server."""

    status: int
    body: bytes
    headers: dict[str, str]


class World:
    """A place where commands run: its directories, and the server that it uses, if any.

    Parameters
    ----------
    base : Path
        Directory of everything.
    prefix : tuple of str
        Words before every command, such as those that change the user.
    """

    def __init__(self, base: Path, prefix: tuple[str, ...] = ()) -> None:
        self.base, self.prefix = base, prefix
        self.work, self.cache, self.temporary = base / "work", base / "cache", base / "tmp"
        self.store, self.database = self.cache / "buffers", self.cache / "seamless.db"
        self.tokens = base / "tokens"
        self.server: subprocess.Popen[str] | None = None
        self.server_prefix: tuple[str, ...] = ()
        self._started: list[subprocess.Popen[bytes]] = []
        self.options: tuple[str, ...] = ()
        self.environment = {
            "HOME": str(base),
            "XDG_CONFIG_HOME": str(base / "config"),
            "XDG_CACHE_HOME": str(base / "xdg"),
            "SEAMLESS_CACHE": str(self.cache),
            "TMPDIR": str(self.temporary),
        }
        for directory in (self.work, self.temporary):
            directory.mkdir()

    # ------------------------------------------------------------------ commands

    def __call__(
        self,
        command: str,
        *arguments: str | os.PathLike[str],
        status: int = 0,
        prefix: tuple[str, ...] | None = None,
        **environment: str,
    ) -> Done:
        """Run a command to its end."""
        process = self.start(command, *arguments, prefix=prefix, **environment)
        done = self.ended(process)
        assert done.status == status, (command, arguments, done)
        return done

    def start(
        self,
        command: str,
        *arguments: str | os.PathLike[str],
        prefix: tuple[str, ...] | None = None,
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """Start a command, in a process group of its own."""
        process = subprocess.Popen(
            [*(self.prefix if prefix is None else prefix), BIN / command, *arguments],
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **self.environment, **environment},
            process_group=0,
        )
        self._started.append(process)
        return process

    @staticmethod
    def ended(process: subprocess.Popen[bytes]) -> Done:
        """Wait for the end of what `start` returned."""
        out, err = process.communicate(timeout=100)
        return Done(process.returncode, out, err.decode(errors="replace"))

    def write(self, name: str, data: str | bytes) -> Path:
        """Write a file of the user's."""
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def hasten(self) -> None:
        """Have commands not wait a minute before they give up."""
        (self.base / "hasty").mkdir()
        (self.base / "hasty" / "sitecustomize.py").write_text(HASTY)
        self.environment["PYTHONPATH"] = str(self.base / "hasty")

    def buffer(self, checksum: str) -> Path:
        """Return where the store has a buffer."""
        return self.store / checksum[:2] / checksum

    def status_text(self) -> str:
        """Return what ``seamless-status`` says."""
        return self("seamless-status").stdout.decode()

    # ------------------------------------------------------------------ server

    def serve(self, *options: str) -> World:
        """Start a server of the installed command, which all commands use from then on."""
        self.options = options
        self.cache.mkdir(mode=0o700, exist_ok=True)
        port = urlsplit(self.environment.get("SEAMLESS_HASHSERVER", "http://x:0")).port
        fixed = ["--store", self.store, "--database", self.database, "--token-file", self.tokens]
        self.server = subprocess.Popen(
            [*self.server_prefix, BIN / "hashserver", *fixed, "--port", str(port), *options],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **self.environment},
            text=True,
        )
        assert self.server.stderr is not None
        for line in self.server.stderr:
            if "listening on " in line:
                self.environment["SEAMLESS_HASHSERVER"] = line.split()[-1]
                self.environment["SEAMLESS_TOKEN_FILE"] = str(self.tokens)
                return self
        raise AssertionError("the server did not start")

    def kill_server(self) -> None:
        """Kill the server, which has no time to tidy up; see that it has met nothing unforeseen."""
        if self.server is not None:
            self.server.kill()
            _, said = self.server.communicate()
            self.server = None
            assert "Traceback" not in said, said
            assert "[Errno" not in said, said

    def start_again(self) -> None:
        """Restart what tidies up when it starts: the server, or a run."""
        if "SEAMLESS_HASHSERVER" in self.environment:
            self.kill_server()
            self.serve(*(option for option in self.options if option != "--read-only"))
        self("seamless-run", "echo tidy up")

    def request(
        self, method: str, path: str, body: bytes | None = None, token: str | None = None, **headers: str
    ) -> Reply:
        """Send one request, with the writing token unless another is given."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)
        token = self.secrets()[0] if token is None else token
        given = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            connection.request(method, path, body, given | headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()})
        finally:
            connection.close()

    @property
    def url(self) -> str:
        return self.environment["SEAMLESS_HASHSERVER"]

    def secrets(self) -> list[str]:
        """Return the server's tokens: that which writes, that which reads."""
        return [line.split()[1] for line in self.tokens.read_text().splitlines()]

    # ------------------------------------------------------------------ what is left

    def processes(self) -> list[int]:
        """Return the living processes that were started here, the server apart."""
        mark, found = f"SEAMLESS_CACHE={self.cache}".encode(), []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or (self.server and int(entry.name) == self.server.pid):
                continue
            try:
                alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
                ours = mark in (entry / "environ").read_bytes().split(b"\0")
                if alive and (ours or os.readlink(entry / "cwd").startswith(f"{self.base}/")):
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def _end_started(self) -> None:
        """End what a failed test was waiting for: it must not fail others."""
        for process in self._started:
            with process:
                if process.poll() is None:
                    process.kill()

    def leftovers(self) -> list[str]:
        """Return the files that nobody needs once all is over."""
        found = [*self.temporary.iterdir(), *self.base.rglob(".seamless-tmp-*")]
        found += [*self.store.glob(".tmp/*"), *self.cache.glob("jobs/????????*"), *self.base.rglob("*.part")]
        return sorted(str(path.relative_to(self.base)) for path in found)

    def close(self) -> None:
        """See that nothing is left, neither processes nor files, and stop the server."""
        self._end_started()
        try:
            wait_until(lambda: not self.processes())
            if self.leftovers():
                self.start_again()
                wait_until(lambda: not self.processes())
            assert self.leftovers() == []
        finally:
            self.kill_server()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[World]:
    """No server: a store and a database in the cache."""
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[World]:
    """A server on a loopback port."""
    made = World(tmp_path).serve()
    yield made
    made.close()


@pytest.fixture(params=["embedded", "served"])
def world(request: pytest.FixtureRequest) -> World:
    """Each of them in turn."""
    made: World = request.getfixturevalue(request.param)
    return made


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter, as pytest's own is not."""
    directory = Path(tempfile.mkdtemp(prefix="hazards-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def unprivileged(open_directory: Path) -> Iterator[World]:
    """Commands run as somebody who is not root, or as a root without its privileges."""
    prefix: tuple[str, ...] = ()
    if os.geteuid() == 0:
        starts = ("sh", "-c", '"$0" -c ""', sys.executable)  # an interpreter in root's home does not
        nobody = subprocess.run([*AS_NOBODY, *starts], capture_output=True, check=False).returncode == 0
        prefix = AS_NOBODY if nobody else ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    made = World(open_directory, prefix)
    if prefix == AS_NOBODY:
        for directory in (open_directory, made.work, made.temporary):
            os.chown(directory, NOBODY, NOBODY)
    yield made
    made.close()


@pytest.fixture
def other_account(open_directory: Path) -> Iterator[World]:
    """Commands run as an account that is not root, which may read root's files: the interpreter."""
    made = World(open_directory)
    if os.geteuid() == 0:
        made.prefix = (*AS_NOBODY, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
        for directory in (open_directory, made.work, made.temporary):
            os.chown(directory, NOBODY, NOBODY)
    yield made
    made.close()


class Mounts:
    """A mount name space of its own: what is mounted there is seen by what runs there, and gone with it."""

    def __init__(self, script: str) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-ec", f"{script}\necho; read -r _"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if not self._holder.stdout.readline():
            pytest.skip(f"nothing can be mounted: {self._holder.communicate()[1].decode()}")

    def inside(self, directory: Path) -> tuple[str, ...]:
        """Return the words that run a command there, in `directory`."""
        enter = ("nsenter", "-m", "-t", str(self._holder.pid))
        return (*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(directory))

    def seen(self, path: Path) -> Path:
        """Return the path of what is at `path` there."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def close(self) -> None:
        self._holder.communicate()


@pytest.fixture
def mounts() -> Iterator[Callable[[str], Mounts]]:
    """Run a shell script that mounts things; return what runs commands where they are mounted."""
    made: list[Mounts] = []

    def make(script: str) -> Mounts:
        made.append(Mounts(script))
        return made[-1]

    yield make
    for each in made:
        each.close()
