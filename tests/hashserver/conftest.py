"""Every kind of place where buffers can be: real servers on loopback ports, one set a test process."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import psutil
import pytest

from hashserver.errors import ServiceUnavailable
from hashserver.opening import open_store
from hashserver.storage.directory import PREFIX_MARKER
from hashserver.storage.store import Store

SSHD = "/usr/sbin/sshd"
KINDS = ["local", "memory", "s3", "sftp", "webdav", "http"]


class Backend(NamedTuple):
    """A store, and a way to its bytes behind its back."""

    kind: str
    url: str
    options: dict[str, Any]
    plant: Callable[[str, bytes], None]
    names: Callable[[], list[str]]
    folder: Path = Path("/")
    """Where it is on this host, if it is a directory."""

    def open(self) -> Store:
        return open_store(self.url, **self.options)


def folder_backend(kind: str, url: str, folder: Path, **options: Any) -> Backend:
    def plant(checksum: str, data: bytes) -> None:
        path = folder / checksum[:2] / checksum
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    def names() -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

    return Backend(kind, url, options, plant, names, folder)


def fsspec_backend(kind: str, url: str) -> Backend:
    fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)

    def names() -> list[str]:
        return sorted(path.partition(root.strip("/") + "/")[2] for path in fs.find(root))

    def plant(checksum: str, data: bytes) -> None:
        fs.pipe_file(f"{root}/{checksum[:2]}/{checksum}", data)

    return Backend(kind, url, {}, plant, names)


@pytest.fixture(params=KINDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """A new empty store of each kind in turn."""
    made: Backend = request.getfixturevalue(f"{request.param}_backend")
    return made


@pytest.fixture
def store(backend: Backend) -> Iterator[Store]:
    with contextlib.closing(backend.open()) as opened:
        yield opened


@pytest.fixture
def local_backend(tmp_path: Path) -> Backend:
    return folder_backend("local", str(tmp_path / "store"), tmp_path / "store")


@pytest.fixture
def memory_backend() -> Iterator[Backend]:
    url = f"memory://{uuid.uuid4().hex}"
    yield fsspec_backend("memory", url)
    fsspec.filesystem("memory").store.clear()


# ---------------------------------------------------------------------- S3


def wait_for_line(process: subprocess.Popen[str], pattern: str) -> re.Match[str]:
    """Return the match of the first line of a server's stderr that shows it to be ready."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        if found := re.search(pattern, line):
            return found
        seen.append(line)
    raise RuntimeError(f"{process.args!r} did not start: {''.join(seen)}")


def start_moto(directory: Path, **environment: str) -> tuple[subprocess.Popen[str], str]:
    """Start an S3 server on a port of its choice; return it with its URL."""
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", "0"]
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    match = wait_for_line(process, r"Running on (http://127\.0\.0\.1:\d+)")
    return process, match[1]


@contextlib.contextmanager
def drained(process: subprocess.Popen[str]) -> Iterator[None]:
    """Read what a server still has to say, lest the pipe fills up; at last end all that it started."""
    assert process.stderr is not None
    reader = threading.Thread(target=deque, args=(process.stderr, 0))
    reader.start()
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):  # one that serves a connection holds the pipe too
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if "SEAMLESS_TEST_S3" in os.environ:  # a real one, see scripts/test-ceph
        yield os.environ["SEAMLESS_TEST_S3"]
        return
    process, url = start_moto(tmp_path_factory.mktemp("moto"))
    with drained(process):
        yield url


def at_last(action: Callable[[], Any], error: type[Exception] = ServiceUnavailable) -> Any:
    """Return what an action gives once the place answers: a busy host may take a second to connect."""
    end = time.monotonic() + 60
    while True:
        try:
            return action()
        except error:
            if time.monotonic() > end:
                raise


def use_s3(monkeypatch: pytest.MonkeyPatch, endpoint: str, key: str = "test-key") -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def s3_backend(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Backend:
    use_s3(monkeypatch, s3_endpoint)
    bucket = f"bucket-{uuid.uuid4().hex}"
    fsspec.filesystem("s3", use_listings_cache=False).mkdir(bucket)
    return fsspec_backend("s3", f"s3://{bucket}/some/prefix")


# ---------------------------------------------------------------------- SFTP


class SshServer(NamedTuple):
    """A private sshd: its port, and the directory with its keys."""

    port: int
    keys: Path

    def accept(self, home: Path, key: bool = True, known: bool = True) -> None:
        """Give `home` the client's key, and the host's among the known ones."""
        directory = home / ".ssh"
        directory.mkdir(mode=0o700, exist_ok=True)
        if key:
            shutil.copy(self.keys / "client", directory / "id_ed25519")
        if known:
            host_key = " ".join((self.keys / "host.pub").read_text().split()[:2])
            (directory / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}\n")

    def url(self, path: Path) -> str:
        return f"sftp://{pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1:{self.port}{path}"


def start_sshd(directory: Path) -> tuple[subprocess.Popen[str], SshServer]:
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    for name in ("host", "client"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
        subprocess.run(command, check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # without PAM an sshd that cannot read /etc/shadow takes every account for a locked one
    (directory / "config").write_text(
        f"""
        ListenAddress 127.0.0.1:{port}
        HostKey {directory}/host
        AuthorizedKeysFile {directory}/client.pub
        PidFile none
        UsePAM {"no" if os.getuid() == 0 else "yes"}
        StrictModes no
        PermitRootLogin yes
        PasswordAuthentication no
        Subsystem sftp internal-sftp
        """
    )
    process = subprocess.Popen(
        [SSHD, "-D", "-e", "-f", str(directory / "config")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_line(process, "Server listening")
    return process, SshServer(port, directory)


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    if not os.path.exists(SSHD):
        pytest.skip(f"{SSHD} is not installed")
    process, server = start_sshd(tmp_path_factory.mktemp("sshd"))
    with drained(process):
        yield server


@pytest.fixture
def sftp_backend(sshd: SshServer, home: Path, tmp_path: Path) -> Backend:
    sshd.accept(home)
    return folder_backend("sftp", sshd.url(tmp_path / "store"), tmp_path / "store")


# ---------------------------------------------------------------------- WebDAV


WEBDAV = """
import sys
from cheroot.wsgi import Server
from wsgidav.wsgidav_app import WsgiDAVApp

directory, user, password = sys.argv[1:]
application = WsgiDAVApp({
    "provider_mapping": {"/": {"root": directory}, "/read-only": {"root": directory, "readonly": True}},
    "simple_dc": {"user_mapping": {"*": {user: {"password": password}}}},
    "http_authenticator": {"accept_basic": True, "accept_digest": False, "default_to_digest": False},
    "lock_storage": False,
    "verbose": 0,
})
server = Server(("127.0.0.1", 0), application, numthreads=16)
server.prepare()
print(f"listening on http://127.0.0.1:{server.bind_addr[1]}", file=sys.stderr, flush=True)
server.serve()
"""


class WebdavServer(NamedTuple):
    """A private WebDAV server: its address, its folder, and who may enter."""

    url: str
    folder: Path
    user: str = "tester"
    password: str = "a sesame that opens"

    @property
    def options(self) -> dict[str, Any]:
        return {"base_url": self.url, "auth": [self.user, self.password]}


@pytest.fixture(scope="session")
def webdav(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebdavServer]:
    for module in ("webdav4", "wsgidav", "cheroot"):
        pytest.importorskip(module)
    server = WebdavServer("", tmp_path_factory.mktemp("webdav"))
    process = subprocess.Popen(
        [sys.executable, "-c", WEBDAV, server.folder, server.user, server.password],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    match = wait_for_line(process, r"listening on (\S+)")
    with drained(process):
        yield server._replace(url=match[1])


@pytest.fixture
def webdav_backend(webdav: WebdavServer) -> Backend:
    name = uuid.uuid4().hex
    return folder_backend(
        "webdav", f"webdav://{name}/store", webdav.folder / name / "store", **webdav.options
    )


# ---------------------------------------------------------------------- HTTP


@pytest.fixture(scope="session")
def http_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    if find_spec("hashserver.__main__") is None:
        pytest.skip("there is no server yet")
    from hashserver.auth import create_token_file

    directory = tmp_path_factory.mktemp("http")
    folder, ready, token_file = directory / "store", directory / "ready.json", directory / "token"
    create_token_file(token_file)
    options = ["--store", str(folder), "--database", str(directory / "seamless.db"), "--port", "0"]
    options += ["--token-file", str(token_file), "--ready-file", str(ready)]
    process = subprocess.Popen([sys.executable, "-m", "hashserver", *options])
    try:
        url = wait_until_ready(process, ready)
        yield folder_backend("http", url, folder, token_file=str(token_file))
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def http_backend(http_server: Backend) -> Backend:
    """A server that other tests have used, and whose store is empty again."""
    if http_server.folder.exists():
        for path in http_server.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != PREFIX_MARKER:
                path.unlink()
    return http_server


def wait_until_ready(process: subprocess.Popen[bytes], ready: Path) -> str:
    """Return the URL that a server writes to its ready file."""
    while not ready.exists():
        assert process.poll() is None, "the server has ended"
        time.sleep(0.01)
    url: str = json.loads(ready.read_text())["url"]
    return url
