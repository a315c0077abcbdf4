"""A daskserver among strangers, and with parts that are full, slow, or not what they should be."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from hashserver.auth import read_token_file
from seamless_dask.client.security import security_of
from seamless_dask.services.daskserver import credentials

from .conftest import AS_NOBODY, BIN, NOBODY, Done, Mounts, World, wait_until

KNOCK = """
import asyncio, contextlib, sys
from distributed.core import connect
from distributed.security import Security
ca, cert, key, seconds, *addresses = sys.argv[1:]
security = Security(tls_ca_file=ca, tls_client_cert=cert, tls_client_key=key)
async def knock(address):
    try:
        with contextlib.suppress(OSError, ValueError):
            async with asyncio.timeout(float(seconds)):
                comm = await connect(address, timeout=seconds, **security.get_connection_args("client"))
                await comm.write({"op": "identity", "reply": True})
                return address, str(await comm.read())
    except Exception as error:
        return None
async def main():
    found = await asyncio.gather(*map(knock, addresses))
    print([answer for answer in found if answer])
asyncio.run(main())
"""
"""Ask in Dask's own language at all addresses."""
BROWSE = """
import socket, ssl, sys
anything = ssl._create_unverified_context()
def answer(port, path, wrap):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock, wrap(sock) as sock:
        sock.sendall(f"GET {path} HTTP/1.0\\r\\nHost: localhost\\r\\nAccept: text/html\\r\\n\\r\\n".encode())
        return sock.makefile("rb").read().decode(errors="replace")
for port in map(int, sys.argv[1:]):
    for path in ("/health", "/status", "/seamless", "/jobs", "/metrics", "/info/main/logs.html", "/counts"):
        for wrap in (anything.wrap_socket, lambda sock: sock):
            try:
                print(port, path, answer(port, path, wrap).replace("\\r\\n", " "), end="\\0")
            except OSError:
                pass
"""
"""Ask all ports for pages, as a browser that trusts everybody."""
PEEP = """
import contextlib, os, sys
for pid in sys.argv[1:]:
    for name in ("environ", "maps", "mem", "fd", "cwd"):
        with contextlib.suppress(OSError):
            os.open(f"/proc/{pid}/{name}", os.O_RDONLY)
            print(pid, name)
"""
"""Look into other people's processes."""

NO_PACKAGE = "import sys\nsys.modules['seamless_dask'] = sys.modules['hashserver'] = None\n"
OTHER_VERSION = """
import sys
if sys.argv[0].endswith("seamless-run"):
    import seamless_dask.protocol.jobs
    seamless_dask.protocol.jobs.PROTOCOL = 7
"""
IMPATIENT = "import hashserver.client.transport\nhashserver.client.transport.CONNECT_SECONDS = 2.0\n"
SLOW = "echo begun >> {mark}; while ! test -e {go}; do sleep 0.02; done; echo done"


class Site(World):
    """Users of one daskserver."""

    def begin(self, *options: str) -> Site:
        """Start it."""
        self.environment["SEAMLESS_ISOLATION"] = "none"
        self("seamless-daskserver", "start", "--workers", "0:1", "--threads", "2", *options)
        self.directory = self.cache / "daskserver" / "default"
        self.file = self.directory / "connection.json"
        self.environment["SEAMLESS_DASKSERVER"] = str(self.file)
        self.seen = self.tree()
        return self

    def tree(self) -> list[psutil.Process]:
        """Return all processes of the daskserver."""
        first = psutil.Process(self.facts["pid"])
        return [first, *first.children(recursive=True)]

    @property
    def facts(self) -> dict[str, Any]:
        """The connection file."""
        found: dict[str, Any] = json.loads(self.file.read_text())
        return found

    def changed(self, **facts: Any) -> str:
        """Return the path of a connection file that differs from the true one."""
        path = self.base / "changed.json"
        path.write_text(json.dumps(self.facts | facts))
        path.chmod(0o600)
        return str(path)

    def status_of_daskserver(self, **environment: str) -> dict[str, Any]:
        """Return what ``seamless-daskserver status`` knows."""
        process = self.start("seamless-daskserver", "status", "--json", **environment)
        found: dict[str, Any] = json.loads(self.ended(process).stdout)
        return found

    @contextmanager
    def worker(self, name: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run a worker of somebody's own making, which has the certificate."""
        facts = self.facts
        words = [facts["scheduler"], "--name", name, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        words += ["--tls-ca-file", facts["ca_file"], "--tls-cert", facts["cert_file"]]
        words += [
            "--local-directory",
            str(self.directory / name),
            "--tls-key",
            facts["key_file"],
            "--host",
            "127.0.0.1",
            "--death-timeout",
            "30",
        ]
        own = self.environment | {"SEAMLESS_TOKEN_FILE": facts["token_file"]}
        own |= {"SEAMLESS_CA_FILE": facts["ca_file"]} | environment
        del own["SEAMLESS_DASKSERVER"]
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_worker", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ | own,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=60)

    @contextmanager
    def ports(self) -> Iterator[list[str]]:
        """Give all ports that it listens at, those of a worker included, which is kept busy and so stays."""
        pipe = self.base / "pipe"
        os.mkfifo(pipe)
        with self.client() as client:
            reading = client.submit(pipe.read_text, pure=False)
            with pipe.open("w"):  # opened once the worker reads, which ends when it is closed
                yield self._ports()
            assert reading.result() == ""
        pipe.unlink()

    def _ports(self) -> list[str]:
        found = set()
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                sockets = process.net_connections("inet")
                found |= {str(one.laddr.port) for one in sockets if one.status == psutil.CONN_LISTEN}
        assert len(found) >= 5
        return sorted(found)

    def client(self) -> Any:
        """Return a Dask client."""
        from distributed import Client

        names = ("token_file", "ca_file", "cert_file", "key_file")
        made = credentials.Credentials(*(self.facts[name] for name in names))
        return Client(self.facts["scheduler"], security=security_of(made))

    def leftovers(self) -> list[str]:
        """Return what is left, without the directory that Dask makes for itself."""
        return [path for path in super().leftovers() if path != "tmp/dask-scratch-space"]

    def close(self) -> None:
        """Stop it."""
        self("seamless-daskserver", "stop")
        del self.environment["SEAMLESS_DASKSERVER"]
        super().close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A daskserver for all of these tests, in a directory that others may enter but for its own mode."""
    base = Path("/tmp") / f"hazards-daskserver-{os.getpid()}"
    base.mkdir(mode=0o755)
    try:
        made = Site(base).begin()
        yield made
        made.close()
    finally:
        shutil.rmtree(base)


@pytest.fixture
def slow(site: Site) -> Iterator[tuple[str, Path, Path]]:
    """A command that begins, tells so, and waits until it may end."""
    mark, go = site.base / "begun", site.base / "go"
    yield SLOW.format(mark=mark, go=go), mark, go
    mark.unlink(missing_ok=True)
    go.unlink(missing_ok=True)


@pytest.fixture
def foreign(tmp_path: Path) -> credentials.Credentials:
    """Token, authority and certificate of another daskserver."""
    directory = tmp_path / "foreign"
    directory.mkdir(mode=0o700)
    return credentials.make(str(directory), ["127.0.0.1"])


def public(process: psutil.Process) -> str:
    """Return arguments and environment of a process; nothing when it is gone."""
    try:
        return " ".join(process.cmdline()) + str(process.environ())
    except psutil.NoSuchProcess:
        return ""


def told(done: Done) -> str:
    """Return the one line that a command has said."""
    assert done.stdout == b""
    return done.error


class TestAnotherUser:
    """The account ``nobody`` on the same host."""

    @pytest.fixture
    def room(self, open_directory: Path, foreign: credentials.Credentials, site: Site) -> Path:
        """A directory of nobody's, with certificates of its own and what everybody may know of ours."""
        if os.geteuid() != 0:
            pytest.skip("only root can become another user")
        if subprocess.run([*AS_NOBODY, sys.executable, "-c", ""], capture_output=True).returncode:
            pytest.skip("the interpreter is not theirs to start")
        names = {"token": foreign.token_file, "cert": foreign.cert_file, "key": foreign.key_file}
        for name, path in (names | {"ca": site.facts["ca_file"]}).items():
            shutil.copy(str(path), open_directory / name)
        theirs = {f"{kind}_file": str(open_directory / kind) for kind in ("ca", "cert", "key", "token")}
        theirs |= {f"hashserver_{name}": theirs[name] for name in ("ca_file", "token_file")}
        (open_directory / "connection.json").write_text(json.dumps(site.facts | theirs))
        (open_directory / "connection.json").chmod(0o600)
        for path in (open_directory, *open_directory.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        return open_directory

    def run(self, room: Path, *words: str | Path, **environment: str) -> Done:
        own = {name: str(room) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "TMPDIR")}
        own |= {"SEAMLESS_CACHE": str(room / "cache")} | environment
        done = subprocess.run(
            [*AS_NOBODY, *words], cwd=room, env=os.environ | own, capture_output=True, timeout=100
        )
        return Done(done.returncode, done.stdout, done.stderr.decode())

    def test_can_read_nothing(self, site: Site, room: Path) -> None:
        site("seamless-run", "echo ours")
        found = self.run(room, "find", site.cache, "-type", "f", "-readable")
        assert found.stdout == b""
        done = self.run(room, BIN / "seamless-run", "echo x", SEAMLESS_DASKSERVER=str(site.file))
        assert done.status != 0
        assert "Permission denied" in told(done)

    @pytest.mark.parametrize(
        "command",
        [
            ("seamless-run", "echo x"),
            ("seamless-upload", "file"),
            ("seamless-resolve", "0" * 64),
            ("seamless-cancel", "0" * 64),
        ],
        ids=lambda command: command[0],
    )
    def test_can_ask_for_nothing(self, room: Path, command: tuple[str, ...]) -> None:
        (room / "file").write_text("theirs\n")
        file = str(room / "connection.json")
        done = self.run(room, BIN / command[0], *command[1:], SEAMLESS_DASKSERVER=file)
        assert done.status != 0
        assert "token" in told(done)

    def test_gets_no_answer_in_the_language_of_dask(self, site: Site, room: Path) -> None:
        with site.ports() as ports:
            files = [room / name for name in ("ca", "cert", "key")]
            addresses = [f"{scheme}://127.0.0.1:{port}" for scheme in ("tls", "tcp") for port in ports]
            mine = self.run(room, sys.executable, "-c", KNOCK, *files, "2", *addresses)
        assert (mine.status, mine.stdout) == (0, b"[]\n"), mine
        files = [site.facts[name] for name in ("ca_file", "cert_file", "key_file")]
        ours = subprocess.run(
            [sys.executable, "-c", KNOCK, *files, "60", site.facts["scheduler"]],
            capture_output=True,
            text=True,
        )
        assert "Scheduler" in ours.stdout, ours

    def test_sees_no_page_and_no_process_from_within(self, site: Site, room: Path) -> None:
        with site.ports() as ports:
            found = self.run(room, sys.executable, "-c", BROWSE, *ports)
            pids = [str(process.pid) for process in site.tree()]
            peeped = self.run(room, sys.executable, "-c", PEEP, *pids)
            assert self.run(room, sys.executable, "-c", PEEP, "self").stdout
        pages = found.stdout.decode().split("\0")[:-1]
        answers = [text for text in pages if "HTTP/1." in text]
        # without TLS they are told where it is spoken, and nothing else
        closed = " 307 Temporary Redirect", " 401 ", " 404 "
        opened = [text for text in answers if not any(status in text for status in closed)]
        assert [text.split()[1] for text in opened] == ["/health"], opened
        assert any("This daskserver is locked" in text for text in pages)
        assert peeped.stdout == b""


class TestWrongPapers:
    """Connection files that do not fit."""

    def test_a_wrong_token(self, site: Site, foreign: credentials.Credentials) -> None:
        path = site.changed(token_file=foreign.token_file)
        done = site("seamless-run", "echo x", status=1, SEAMLESS_DASKSERVER=path)
        assert "token" in told(done)

    def test_a_wrong_certificate(self, site: Site, foreign: credentials.Credentials) -> None:
        path = site.changed(ca_file=foreign.ca_file)
        done = site("seamless-run", "echo x", status=1, SEAMLESS_DASKSERVER=path)
        assert "certificate is not trusted" in told(done)

    def test_a_client_of_another_version(self, site: Site, tmp_path: Path) -> None:
        (tmp_path / "sitecustomize.py").write_text(OTHER_VERSION)
        done = site("seamless-run", "echo x", status=2, PYTHONPATH=str(tmp_path))
        assert "protocol 7" in told(done)
        assert "install the same version" in told(done)
        assert site("seamless-run", "echo x").stdout == b"x\n"


class TestParts:
    """What one of them suffers from is told, and the rest goes on."""

    def test_a_worker_without_this_package(self, site: Site, tmp_path: Path) -> None:
        (tmp_path / "sitecustomize.py").write_text(NO_PACKAGE)
        with site.worker("bare", PYTHONPATH=str(tmp_path)) as worker:
            assert worker.stderr is not None
            wait_until(lambda: b"has no usable seamless-dask" in worker.stderr.readline())
            assert site("seamless-run", "echo elsewhere").stdout == b"elsewhere\n"
            with site.client() as client:
                assert client.submit(abs, -2, workers=["bare"]).result() == 2

    def test_a_full_disk_on_one_worker(self, site: Site, mounts: Callable[[str], Mounts]) -> None:
        if os.geteuid() != 0:
            pytest.skip("only root may mount a file system")
        place = site.base / "small"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", place], check=True)
        try:
            own = {"TMPDIR": str(place), "SEAMLESS_CACHE": str(place / "cache")}
            with site.worker("small", **own), site.client() as client:
                wait_until(
                    lambda: any(w["name"] == "small" for w in client.scheduler_info()["workers"].values())
                )
                site.write("large", os.urandom(1 << 20))
                command = (
                    'for n in 1 2 3 4; do seamless-run -q "cp large out; wc -c < out; : $n" & done; wait'
                )
                path = f"{BIN}:{os.environ['PATH']}"
                done = subprocess.run(
                    ["bash", "-c", command],
                    cwd=site.work,
                    env=os.environ | site.environment | {"PATH": path},
                    capture_output=True,
                    text=True,
                )
                assert (done.stdout.split(), done.stderr) == (["1048576"] * 4, "")
        finally:
            subprocess.run(["umount", "-l", place], check=True)

    def test_a_hashserver_that_answers_late(
        self, site: Site, slow: tuple[str, Path, Path], tmp_path: Path
    ) -> None:
        command, mark, go = slow
        (tmp_path / "sitecustomize.py").write_text(IMPATIENT)
        process = site.start("seamless-run", f"{command}; echo late")
        wait_until(mark.exists)
        hashserver = site.status_of_daskserver()["hashserver"]["pid"]
        os.kill(hashserver, signal.SIGSTOP)
        try:
            other = site.start("seamless-run", "echo too late", PYTHONPATH=str(tmp_path))
            go.touch()
            with site.client() as client:
                assert client.submit(abs, -3, pure=False).result() == 3
            problems = site.status_of_daskserver(PYTHONPATH=str(tmp_path))["problems"]
            text = f"no connection to {site.facts['hashserver']}: no answer in time;"
            assert [problem for problem in problems if problem.startswith(text)], problems
            assert "no answer in time" in told(site.ended(other))
            assert process.poll() is None
        finally:
            os.kill(hashserver, signal.SIGCONT)
        done = site.ended(process)
        assert (done.status, done.stdout) == (0, b"done\nlate\n")
        assert site("seamless-run", "echo too late").stdout == b"too late\n"
        assert site.status_of_daskserver()["scheduler"]["tasks"]["processing"] == 0

    def test_no_secret_is_seen_while_a_command_runs(self, site: Site, slow: tuple[str, Path, Path]) -> None:
        command, mark, go = slow
        process = site.start("seamless-run", f"{command}; env; echo # secrets")
        wait_until(mark.exists)
        tokens = read_token_file(site.facts["token_file"])
        key = Path(site.facts["key_file"]).read_text().splitlines()[1]
        secrets = [*(token.secret for token in tokens), key]
        tree = [*site.tree(), psutil.Process(process.pid)]
        seen = [public(one) for one in tree]
        assert any("test -e" in text for text in seen)
        go.touch()
        done = site.ended(process)
        seen += [done.stdout.decode(), done.stderr]
        seen += [path.read_text() for path in (site.directory / "logs").iterdir()]
        assert not [secret for secret in secrets for text in seen if secret in text]
