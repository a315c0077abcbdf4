"""A network that goes silent in the middle: whoever waits for a store hears which, and all others go on."""

from __future__ import annotations

import errno
import itertools
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from select import select
from typing import Any, NamedTuple

import fsspec
import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.client.store import StoreClient
from hashserver.errors import ServiceUnavailable
from hashserver.storage.fsspec import FsspecStore
from hashserver.storage.store import Store

from ..conftest import SshServer, WebdavServer, at_last, use_s3
from ..server.conftest import NotStarted, Running, receive
from ..stalling import Stalling

BIN = Path(sys.executable).parent
MIB = 1 << 20
SIZE = 24 * MIB
MIDDLE = 10 * MIB
TF = hash_bytes(b"a transformation")


class Place(NamedTuple):
    """A store behind a network that may go silent, and a way to it that does not."""

    kind: str
    url: str
    network: Stalling
    direct: str
    options: dict[str, Any]
    options_direct: dict[str, Any] | None = None
    """Those of the way that does not, where the URL is the same."""

    def open(self, seconds: float = 1.0) -> FsspecStore:
        return FsspecStore(self.url, seconds=seconds, **self.options)

    def fill(self, data: bytes) -> Checksum:
        with closing(FsspecStore(self.direct, **(self.options_direct or self.options))) as store:
            return store.put(data)


LetIn = Callable[[str, Stalling], None]


@pytest.fixture
def let_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, home: Path) -> LetIn:
    """Have the test's surroundings be such that a store of a kind can be reached through a network."""

    def let_in(kind: str, network: Stalling) -> None:
        if kind == "s3":
            use_s3(monkeypatch, f"http://127.0.0.1:{network.port}")
        elif kind == "sftp":
            sshd: SshServer = request.getfixturevalue("sshd")
            sshd.accept(home)
            sshd._replace(port=network.port).accept(home, key=False)
            known = home / ".ssh" / "known_hosts"
            line = known.read_text()
            known.write_text(line + line.replace(str(network.port), str(sshd.port)))

    return let_in


@pytest.fixture
def make_place(request: pytest.FixtureRequest, tmp_path: Path, let_in: LetIn) -> Callable[[str], Place]:
    """Make an empty store of a kind, behind a network of its own."""

    def make_place(kind: str) -> Place:
        if kind == "s3":
            endpoint: str = request.getfixturevalue("s3_endpoint")
            network = Stalling(int(endpoint.rpartition(":")[2]))
            let_in(kind, network)
            bucket = f"bucket-{uuid.uuid4().hex}"
            fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True).mkdir(bucket)
            url = f"s3://{bucket}/x"
            return Place(kind, url, network, url, {"skip_instance_cache": True})
        if kind == "webdav":
            server: WebdavServer = request.getfixturevalue("webdav")
            network = Stalling(int(server.url.rpartition(":")[2]))
            near = server._replace(url=f"http://127.0.0.1:{network.port}")
            url = f"webdav://{uuid.uuid4().hex}/x"
            return Place(kind, url, network, url, near.options, server.options)
        sshd: SshServer = request.getfixturevalue("sshd")
        network = Stalling(sshd.port)
        let_in(kind, network)
        there = tmp_path / "there"
        there.mkdir()
        return Place(kind, sshd._replace(port=network.port).url(there), network, sshd.url(there), {})

    return make_place


@pytest.fixture(params=["s3", "sftp", "webdav"])
def place(request: pytest.FixtureRequest, make_place: Callable[[str], Place]) -> Iterator[Place]:
    made = make_place(request.param)
    yield made
    made.network.close()


def read_all(store: Store, checksum: Checksum, path: Path) -> None:
    for _ in store.read(checksum):
        pass


DOWN: dict[str, Callable[[Store, Checksum, Path], Any]] = {
    "get": lambda store, checksum, _: store.get(checksum),
    "get_many": lambda store, checksum, _: list(store.get_many([checksum])),
    "get_file": lambda store, checksum, path: store.get_file(checksum, path),
    "read": read_all,
    "verify": lambda store, checksum, _: store.verify(checksum),
}
SHORT: dict[str, Callable[[Store, Checksum], Any]] = {
    "has": lambda store, checksum: store.has([checksum]),
    "delete": lambda store, checksum: store.delete(checksum),
    "clean": lambda store, _: store.clean(),
}


@pytest.mark.parametrize(
    ("place", "use"),
    # the other two are made of these, for all kinds alike
    [*(("sftp", use) for use in DOWN), *itertools.product(["s3", "webdav"], ["get", "get_file", "read"])],
    indirect=["place"],
)
def test_a_download_that_stops_in_the_middle(place: Place, tmp_path: Path, use: str) -> None:
    checksum = place.fill(os.urandom(SIZE))
    place.network.down = MIDDLE
    with closing(place.open()) as store, pytest.raises(ServiceUnavailable, match=f"{place.kind}://"):
        DOWN[use](store, checksum, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_upload_that_stops_in_the_middle(place: Place) -> None:
    data = os.urandom(SIZE)
    place.network.up = MIDDLE
    with closing(place.open()) as store:
        with pytest.raises(ServiceUnavailable, match=f"{place.kind}://"):
            store.put(data)
        place.network.speak()
        assert at_last(lambda: store.has([hash_bytes(data)])) == [-1]
        assert at_last(lambda: store.put(data)) == hash_bytes(data)
        assert at_last(lambda: store.get(hash_bytes(data))) == data


@pytest.mark.parametrize("use", SHORT)
def test_what_is_asked_on_a_connection_that_became_silent(place: Place, use: str) -> None:
    checksum = place.fill(b"text")
    with closing(place.open()) as store:
        assert at_last(lambda: store.has([checksum])) == [4]
        place.network.hush()
        with pytest.raises(ServiceUnavailable, match=f"{place.kind}://"):
            SHORT[use](store, checksum)


def test_a_reader_whom_the_place_gave_up_meanwhile_gets_the_rest(place: Place) -> None:
    data = os.urandom(SIZE)
    checksum = place.fill(data)
    with closing(place.open(seconds=60.0)) as store:  # nobody is silent here, however busy
        parts = store.read(checksum)
        begin = next(parts)
        place.network.cut()
        assert begin + b"".join(parts) == data


@pytest.mark.parametrize(
    ("name", "error", "is_told"),
    [
        ("Thread-5 (_prefetch_thread)", OSError("Socket is closed"), False),
        ("Thread-5 (_prefetch_thread)", EOFError(), False),
        ("Thread-5 (_prefetch_thread)", ValueError("a fault"), True),
        ("Thread-5 (other)", OSError("Socket is closed"), True),
    ],
)
def test_a_thread_that_asks_ahead_on_a_closed_connection_says_nothing(
    name: str, error: Exception, is_told: bool
) -> None:
    from hashserver.storage.sftp import _leave_out_prefetching

    told: list[threading.ExceptHookArgs] = []
    thread = threading.Thread(name=name)
    _leave_out_prefetching(told.append)(threading.ExceptHookArgs((type(error), error, None, thread)))
    assert bool(told) == is_told


def asking_ahead() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.endswith("(_prefetch_thread)")]


def test_nobody_asks_ahead_for_a_download_that_was_given_up(place: Place, tmp_path: Path) -> None:
    """All requests that may be on their way are, when the network goes silent: more would follow answers."""
    if place.kind != "sftp":
        pytest.skip("paramiko alone asks ahead in a thread")
    checksum = place.fill(os.urandom(SIZE))
    place.network.down = MIDDLE
    with closing(place.open()) as store, pytest.raises(ServiceUnavailable, match="sftp://"):
        store.get_file(checksum, tmp_path / "out")
    wait_for(lambda: not asking_ahead())


def test_nobody_asks_ahead_for_what_has_no_room_here(sshd: SshServer, home: Path, tmp_path: Path) -> None:
    from hashserver.storage.sftp import connect

    class Full:
        def absolute_update(self, done: int) -> None:
            raise OSError(errno.ENOSPC, f"no room after {done} bytes")

    sshd.accept(home)
    (tmp_path / "there").write_bytes(data := os.urandom(SIZE))
    fs, path = connect(sshd.url(tmp_path / "there"), {}, 60.0)
    try:
        with pytest.raises(OSError, match="no room"), fs.own_channel():
            fs.get_file(path, str(tmp_path / "out"), Full())
        wait_for(lambda: not asking_ahead())
        with fs.own_channel():
            fs.get_file(path, str(tmp_path / "out"))
        assert (tmp_path / "out").read_bytes() == data
    finally:
        fs.give_up()


# ---------------------------------------------------------------------- commands


def test_what_a_killed_upload_left_goes_with_the_next_one(place: Place, home: Path, tmp_path: Path) -> None:
    """Whoever writes there next, a command or a hashserver, removes it; S3 shows nothing half-written."""
    if place.kind == "s3":
        pytest.skip("its parts are no files: see test_fsspec.py")
    (tmp_path / "f").write_bytes(os.urandom(SIZE))
    (tmp_path / "g").write_text("text\n")
    for following in ("command", "hashserver"):
        place.network.speak()
        place.network.up = MIDDLE
        process = start("seamless-upload", place, home, tmp_path / "f", patience=1000)
        try:
            wait_for(lambda: place.network.is_silent)
        finally:
            process.kill()
            process.communicate()
        place.network.cut()
        place.network.speak()
        wait_for(lambda: left(place))
        if following == "command":
            assert at_last(lambda: checked(command("seamless-upload", place, home, tmp_path / "g")))
        else:
            with hashserver(place, tmp_path / "server", 60.0):
                pass
        assert not left(place)


def left(place: Place) -> list[str]:
    """Return the names of partial files."""
    with closing(FsspecStore(place.direct, **(place.options_direct or place.options))) as store:
        files, root = store._connect()
        try:
            return [entry["name"] for entry in files.entries(f"{root}/.tmp")]
        except FileNotFoundError:
            return []


def table(url: str, options: dict[str, Any]) -> str:
    """Return a table of storage options as TOML; for these values JSON is."""
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items() if key != "skip_instance_cache"]
    return "\n".join([f'[storage_options."{url}"]', *lines]) if lines else ""


def checked(done: subprocess.CompletedProcess[str]) -> bool:
    if done.returncode:
        raise ServiceUnavailable(done.stderr)
    return True


def wait_for(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def command(name: str, place: Place, home: Path, path: Path) -> subprocess.CompletedProcess[str]:
    process = start(name, place, home, path)
    out, error = process.communicate(timeout=100)
    return subprocess.CompletedProcess(process.args, process.returncode, out, error)


def start(name: str, place: Place, home: Path, path: Path, patience: float = 1) -> subprocess.Popen[str]:
    (home / ".config" / "seamless").mkdir(parents=True, exist_ok=True)
    config = home / ".config" / "seamless" / "config.toml"
    config.touch(0o600)
    config.write_text(f"store-timeout = {patience}\n" + table(place.url, place.options))
    return subprocess.Popen(
        [BIN / name, path.name],
        cwd=path.parent,
        env=os.environ | {"SEAMLESS_STORE": place.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("name", ["seamless-upload", "seamless-download"])
def test_a_command_that_is_in_the_middle(place: Place, home: Path, tmp_path: Path, name: str) -> None:
    data, path = os.urandom(SIZE), tmp_path / "f"
    if name == "seamless-upload":
        path.write_bytes(data)
        place.network.up = MIDDLE
    else:
        (tmp_path / "f.CHECKSUM").write_text(place.fill(data))
        place.network.down = MIDDLE
    done = command(name, place, home, path)
    assert done.returncode == 1
    assert f"{place.kind}://" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert path.exists() == (name == "seamless-upload")


# ---------------------------------------------------------------------- a hashserver over it


@contextmanager
def hashserver(place: Place, directory: Path, seconds: float) -> Iterator[Running]:
    directory.mkdir()
    words = ["--store", place.url, "--store-timeout", str(seconds)]
    if place.kind == "webdav":
        path = directory / "options.json"
        path.touch(0o600)
        path.write_text(json.dumps({place.url: place.options}))
        words += ["--storage-options", str(path)]
    running = at_last(lambda: Running(directory, *words), NotStarted)
    try:
        yield running
    finally:
        place.network.close()  # else it waits, at its end, for those who wait
        status = running.stop()
    assert status == 0
    assert "Traceback" not in running.rest


class Served(NamedTuple):
    """A place, and a hashserver over it."""

    place: Place
    server: Running


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[dict[str, Served], ExitStack]]:
    """Those of this file that are open, one of each kind; where they are closed."""
    with ExitStack() as stack:
        yield {}, stack


@pytest.fixture(params=["s3", "sftp", "webdav"])
def over(
    request: pytest.FixtureRequest,
    served: tuple[dict[str, Served], ExitStack],
    make_place: Callable[[str], Place],
    let_in: LetIn,
    tmp_path: Path,
) -> Iterator[Served]:
    """Such a place, which goes on speaking; others have used it."""
    (known, stack), kind = served, request.param
    if kind in known:
        let_in(kind, known[kind].place.network)
    else:
        place = make_place(kind)
        stack.callback(place.network.close)
        known[kind] = Served(place, stack.enter_context(hashserver(place, tmp_path / "server", 1.0)))
    yield known[kind]
    known[kind].place.network.speak()


CLIENTS: dict[str, Callable[[StoreClient, Checksum, Path], Any]] = {
    "has": lambda client, checksum, _: client.has([checksum]),
    "get": lambda client, checksum, _: client.get(checksum),
    "get_file": lambda client, checksum, path: client.get_file(checksum, path),
    "get_many": lambda client, checksum, _: list(client.get_many([checksum])),
    "put": lambda client, checksum, _: client.put(b"other"),
    "put large": lambda client, checksum, _: client.put(bytes(9 * MIB)),
    "put_many": lambda client, checksum, _: client.put_many(iter([b"one", b"another"])),
    "delete": lambda client, checksum, _: client.delete(checksum),
    "verify": lambda client, checksum, _: client.verify(checksum),
}


@pytest.mark.parametrize(
    ("over", "use"),
    # a hashserver and its clients know nothing of kinds
    [*(("sftp", use) for use in CLIENTS), *itertools.product(["s3", "webdav"], ["get", "put large"])],
    indirect=["over"],
)
def test_a_client_hears_which_store_is_silent(over: Served, tmp_path: Path, use: str) -> None:
    place, server = over
    checksum = place.fill(b"text")
    client = server.client()
    assert at_last(lambda: client.has([checksum])) == [4]
    place.network.hush()
    with pytest.raises(ServiceUnavailable, match=f"{place.kind}://"):
        CLIENTS[use](client, checksum, tmp_path / "out")
    assert server.ask("GET", "/healthcheck").status == 200
    place.network.speak()
    assert at_last(lambda: client.get(checksum)) == b"text"


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_transfer_through_a_hashserver_that_stops_in_the_middle(
    over: Served, tmp_path: Path, way: str
) -> None:
    place, data, client = over.place, os.urandom(SIZE), over.server.client()
    if way == "up":
        place.network.up = MIDDLE
        with pytest.raises(ServiceUnavailable, match=f"{place.kind}://"):
            client.put(data)
    else:
        checksum = place.fill(data)
        place.network.down = MIDDLE
        with pytest.raises(ServiceUnavailable, match=f"{place.kind}://"):
            client.get_file(checksum, tmp_path / "out")
        assert not (tmp_path / "out").exists()
    place.network.speak()
    assert at_last(lambda: client.get(client.put(data))) == data


def test_those_who_wait_for_a_silent_store_keep_no_results_from_others(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    checksum = place.fill(b"text")
    with hashserver(place, tmp_path / "server", 100.0) as server, ExitStack() as stack:
        database = server.database()
        database.put(TF, "text", checksum)
        place.network.hush()
        waiting = [stack.enter_context(server.connect()) for _ in range(70)]  # it has 64 threads for stores
        for connection in waiting:
            connection.sendall(server.head("GET", f"/{checksum}"))
        assert database.lookup(hash_bytes(b"another")) is None
        assert database.producers(checksum) == [TF]
        database.put(hash_bytes(b"another"), "text", checksum)
        assert not select(waiting, [], [], 0)[0]
        place.network.close()
        for connection in waiting:
            reply = receive(connection)
            assert reply.status == 503
            assert f"{place.kind}://" in reply.error
            assert "NoneType" not in reply.error
