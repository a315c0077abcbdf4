"""A cluster of the user's own: equipped, it finds what is known, runs the rest, and keeps its secrets."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import dask
import psutil
import pytest
from distributed import Client, LocalCluster, Security
from distributed.utils import get_ip

import seamless_dask
from hashserver.auth import create_token_file
from seamless_dask.cluster_credentials import CREDENTIALS, ClusterCredentials
from seamless_dask.config import load
from seamless_dask.context import Context
from seamless_dask.errors import UsageError
from seamless_dask.services import equip as module
from seamless_dask.services.cluster_hashserver import new_directory
from seamless_dask.services.plugin import SeamlessScheduler
from seamless_dask.worker.data_locations import DataLocations

from .conftest import eventually, lives

ADDRESS = get_ip()
ELSEWHERE = "elsewhere"
OFF_LOOPBACK = pytest.mark.skipif(ADDRESS.startswith("127."), reason="this host has no address but loopback")
OTHER_HOST = pytest.mark.skipif(os.geteuid() != 0, reason="another host's name takes root")


def local(**options: Any) -> LocalCluster:
    defaults = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0", "protocol": "tls"}
    return LocalCluster(**defaults | options)


def run(client: Client, code: str) -> str:
    found: seamless_dask.File = client.compute(seamless_dask.bash(code)).result(60)
    return found.read_text()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache"
    monkeypatch.setenv("SEAMLESS_CACHE", str(path))
    monkeypatch.setenv("SEAMLESS_ISOLATION", "none")
    return path


def test_what_one_local_cluster_has_computed_is_known_to_the_next(cache: Path) -> None:
    ran = cache.parent / "ran"
    code = f"echo ran >> {ran}; echo out"
    with local(security=Security.temporary()) as cluster, Client(cluster) as client:
        assert seamless_dask.equip(client) is None
        seamless_dask.equip(client)
        assert run(client, code) == "out\n"
    with local(processes=False, n_workers=0, protocol="inproc") as cluster, Client(cluster) as client:
        seamless_dask.equip(client)
        assert run(client, code) == "out\n"  # by the scheduler: there is no worker
        cluster.scale(1)
        assert run(client, f"{code}put") == "output\n"
    assert ran.read_text() == "ran\nran\n"
    assert not (cache / "clusters").exists()  # on loopback nobody needs a server


def test_with_an_asynchronous_client_it_is_awaited(cache: Path) -> None:
    async def go() -> None:
        options: Any = {"processes": False, "protocol": "inproc", "asynchronous": True}
        async with local(**options) as cluster, Client(cluster, asynchronous=True) as client:
            waiting = seamless_dask.equip(client)
            assert waiting is not None
            await waiting
            found = await client.compute(seamless_dask.bash("echo out"))
            assert found.format == "file"

    asyncio.run(go())


@OFF_LOOPBACK
def test_without_tls_off_loopback_it_refuses_and_says_what_to_write(cache: Path) -> None:
    with local(host=ADDRESS, n_workers=0, protocol="tcp") as cluster, Client(cluster) as client:
        with pytest.raises(UsageError) as caught:
            seamless_dask.equip(client)
        text = str(caught.value)
        assert cluster.scheduler_address in text
        assert "security=" in text
        assert "insecure=True" in text
        assert "\n" not in text
        assert not (cache / "clusters").exists()
        seamless_dask.equip(client, insecure=True)
        assert len(list((cache / "clusters").iterdir())) == 1
    eventually(lambda: not list((cache / "clusters").iterdir()))


def test_another_version_is_told_with_both(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "look", look_of_another_version)
    told = f"has seamless-dask 9.9, .*{seamless_dask.__version__}.*install"
    with (
        local(processes=False, n_workers=0, protocol="inproc") as cluster,
        Client(cluster) as client,
        pytest.raises(UsageError, match=told),
    ):
        seamless_dask.equip(client)


async def look_of_another_version(dask_scheduler: Any) -> tuple[Any, ...]:
    return "host", "9.9", (dask_scheduler.address,), False, False


# ------------------------------------------------------------------------ with a worker on another host


CLIENT = """
import sys
import seamless_dask
from distributed import Client, Security
address, action, ca_file, cert, key = sys.argv[1:]
security = Security(tls_ca_file=ca_file, tls_client_cert=cert, tls_client_key=key)
with Client(address, security=security) as client:
    if action == "equip":
        seamless_dask.equip(client)
        print(client.sync(client.scheduler.seamless_places)["server"])
    else:
        print(client.compute(seamless_dask.bash("hostname")).result().read_text(), end="")
"""


class Elsewhere:
    """A cluster on the network, with one worker that takes itself for another host's.

    Attributes
    ----------
    first : str
        The hashserver of a client that had equipped it, and has ended.
    """

    first: str

    def __init__(self, directory: Path, client: Client, security: Security) -> None:
        self.client, self._directory = client, directory
        names = {"ca-file": "tls_ca_file", "cert": "tls_worker_cert", "key": "tls_worker_key"}
        words = ["-m", "dask", "worker", client.scheduler.address, "--no-dashboard", "--nthreads", "1"]
        self.files, self.tls = list[str](), list[str]()
        for option, name in names.items():
            path = directory / name
            path.write_text(getattr(security, name))
            self.files.append(str(path))
            self.tls += [f"--tls-{option}", str(path)]
        # as a batch system does, which passes on what the submitter's host has
        strange = {"SEAMLESS_CACHE": str(directory / "submitters"), "SEAMLESS_PROFILE": "submitters"}
        environment = os.environ | strange | {"TMPDIR": str(directory)}
        with (directory / "worker.log").open("wb") as log:
            words = as_host(ELSEWHERE, *words, *self.tls, "--local-directory", str(directory))
            self.process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)

    def as_client(self, action: str) -> str:
        """Do something in a client's process on a third host, which ends then."""
        words = ["-c", CLIENT, self.client.scheduler.address, action, *self.files]
        environment = os.environ | {"SEAMLESS_CACHE": str(self._directory / action)}
        done = subprocess.run(
            as_host("third", *words), env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()


def is_served(url: str) -> bool:
    """Say whether somebody listens at the address of a server."""
    try:
        socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), 5).close()
    except OSError:
        return False
    return True


def as_host(name: str, *words: str) -> list[str]:
    """The command that runs Python where the host has another name."""
    return ["unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$@"', "sh", sys.executable, *words]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    directory = tmp_path_factory.mktemp("elsewhere")
    security = Security.temporary()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEAMLESS_CACHE", str(directory / "cache"))
        patch.setenv("SEAMLESS_ISOLATION", "none")
        with (
            local(host=ADDRESS, n_workers=0, security=security) as cluster,
            Client(cluster) as client,
        ):
            made = Elsewhere(directory, client, security)
            made.first = made.as_client("equip").strip()
            eventually(lambda: not is_served(made.first))
            with dask.config.set({"seamless.worker-cache": str(directory / "node")}):
                seamless_dask.equip(client)
            yield made
            made.close()


@OFF_LOOPBACK
@OTHER_HOST
def test_a_host_that_shares_nothing_reaches_store_and_database(elsewhere: Elsewhere) -> None:
    assert run(elsewhere.client, "hostname") == f"{ELSEWHERE}\n"
    found = elsewhere.client.run(lambda dask_worker: dask_worker.extensions["seamless"].context.config)
    [config] = found.values()
    assert config.database == config.stores[0] != elsewhere.first  # not that of a client that has ended
    assert config.database.startswith("https://")


@OFF_LOOPBACK
@OTHER_HOST
def test_so_does_a_client_on_another_host(elsewhere: Elsewhere) -> None:
    known = run(elsewhere.client, "hostname")
    assert elsewhere.as_client("ask") == known


@OFF_LOOPBACK
@OTHER_HOST
def test_a_command_that_knows_its_address_only_is_told_what_it_lacks(
    elsewhere: Elsewhere, cache: Path
) -> None:
    names = ("CA_FILE", "CLIENT__CERT", "CLIENT__KEY")
    tls = dict(zip((f"DASK_DISTRIBUTED__COMM__TLS__{name}" for name in names), elsewhere.files, strict=True))
    address = elsewhere.client.scheduler.address
    program = str(Path(sys.executable).parent / "seamless-run")
    words = as_host("third", program, "--daskserver", address, "-c", "echo asked")
    done = subprocess.run(words, env=os.environ | tls, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"the cluster at {address} was equipped from" in done.stderr
    assert "seamless_dask.Client" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@OFF_LOOPBACK
@OTHER_HOST
def test_its_token_is_nowhere_that_others_look(elsewhere: Elsewhere, tmp_path: Path) -> None:
    client = elsewhere.client
    run(client, "echo secrets")
    [(_, token, _)] = client.sync(getattr(client.scheduler, CREDENTIALS))["servers"]
    secret = token.split()[1]
    client.dump_cluster_state(str(tmp_path / "dump"), format="yaml")
    texts = [path.read_text() for path in tmp_path.iterdir()]
    texts += [repr(client.get_events()), repr(client.get_scheduler_logs()), repr(client.get_worker_logs())]
    texts.append(client.run_on_scheduler(plugin_state))
    [worker] = client.run(os.getpid).values()
    [hashserver] = children("hashserver_process")
    for pid in (worker, hashserver):
        texts += [Path(f"/proc/{pid}/{name}").read_text() for name in ("environ", "cmdline")]
    assert [text for text in texts if secret in text] == []
    assert all(len(text) > 1 for text in texts)


def plugin_state(dask_scheduler: Any) -> str:
    plugin = dask_scheduler.plugins["seamless"]
    return repr((vars(plugin), vars(plugin.context), dask_scheduler.worker_plugins))


@OFF_LOOPBACK
@OTHER_HOST
def test_what_only_the_schedulers_host_has_is_served_from_there(
    elsewhere: Elsewhere, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, facts = cache.parent / "there", cache.parent / "scheduler.json"
    there.mkdir()
    monkeypatch.setenv("TMPDIR", str(cache.parent))
    mount = f'mount -t tmpfs none {there} && mkdir {there}/data && exec "$@"'
    words = ["-m", "dask", "scheduler", "--host", ADDRESS, "--port", "0", "--scheduler-file", str(facts)]
    words += ["--protocol", "tls", "--dashboard-address", ":0", *elsewhere.tls]
    words = ["unshare", "--mount", "sh", "-c", mount, "sh", *as_host("third", *words)]
    with ExitStack() as stack:
        log = stack.enter_context((cache.parent / "log").open("wb"))
        stack.enter_context(running(words, log))
        address = eventually(lambda: read_address(facts))
        options = ["--no-dashboard", "--nthreads", "1", "--local-directory", str(cache.parent)]
        words = as_host(ELSEWHERE, "-m", "dask", "worker", address, *options, *elsewhere.tls)
        stack.enter_context(running(words, log))
        client = stack.enter_context(Client(address, security=elsewhere.client.security))
        monkeypatch.setenv("SEAMLESS_STORE", f"{there}/data/buffers")
        monkeypatch.setenv("SEAMLESS_DATABASE", f"{there}/data/seamless.db")
        with dask.config.set({"seamless.worker-cache": str(cache.parent / "node")}):
            seamless_dask.equip(client)
        assert run(client, "hostname") == f"{ELSEWHERE}\n"
        assert not list(there.iterdir())


@contextmanager
def running(words: list[str], log: BinaryIO) -> Iterator[None]:
    """Have a process run, and end it whatever happens."""
    with subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            yield
        finally:
            process.terminate()


def read_address(path: Path) -> str | None:
    """The address in a scheduler's file; None while it is being written."""
    try:
        return str(json.loads(path.read_text())["address"])
    except (OSError, ValueError):
        return None


def children(pattern: str) -> list[int]:
    """Processes of this one's own whose command line has the pattern."""
    living = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child.pid for child in living if pattern in " ".join(child.cmdline())]


# ------------------------------------------------------------------------ its end

DIES = """
import os, sys
import seamless_dask
from distributed import Client, LocalCluster, Security
if __name__ == "__main__":
    options = {"n_workers": 0, "dashboard_address": ":0", "processes": False, "host": sys.argv[1]}
    cluster = LocalCluster(**options, protocol="tls", security=Security.temporary())
    seamless_dask.equip(Client(cluster))
    print("ready", flush=True)
    sys.stdin.read()
"""


@OFF_LOOPBACK
def test_killing_the_client_ends_hashserver_and_token(cache: Path, tmp_path: Path) -> None:
    script = tmp_path / "dies.py"
    script.write_text(DIES)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, script, ADDRESS], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        [directory] = (cache / "clusters").iterdir()
        server = psutil.Process(json.loads((directory / "hashserver.json").read_text())["pid"])
        process.send_signal(signal.SIGKILL)
    eventually(lambda: not lives(server))
    left = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert left <= {"lock", "logs/hashserver.log", "hashserver.json"}
    new, lock = new_directory(str(cache))
    os.close(lock)
    assert list((cache / "clusters").iterdir()) == [Path(new)]  # that is gone, too


# ------------------------------------------------------------------------ workers that are of no use


def test_who_waits_is_told_why_no_worker_can_run_it(cache: Path) -> None:
    """And once one can, it does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    token_file, context = cache.parent / "token", Context(load())
    create_token_file(str(token_file))
    there = load({"hashserver": f"http://127.0.0.1:{port}", "token_file": str(token_file)})
    places = DataLocations.of_submitter(there, None, None)
    credentials = ClusterCredentials.of(there, [there.database])
    with local(processes=False, protocol="inproc") as cluster, Client(cluster) as client:
        client.register_plugin(SeamlessScheduler(context.config, places, credentials=credentials))
        future = client.compute(seamless_dask.bash("echo out", context=context))
        [(_, event), *_] = eventually(lambda: client.get_events("warn"))
        [worker] = cluster.workers.values()
        text = str(event["message"])
        assert f"{worker.address}: {os.uname().nodename} cannot use http://127.0.0.1:{port}" in text
        words = [sys.executable, "-m", "hashserver", "--port", str(port), "--token-file", str(token_file)]
        words += ["--store", context.config.stores[0], "--database", context.config.database]
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                assert future.result(60).format == "file"
            finally:
                server.terminate()


LACKS = """
import sys
from importlib.abc import MetaPathFinder

class Lacks(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "seamless_dask":
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Lacks())
from distributed.cli.dask_worker import main
main()
"""


def test_who_waits_is_told_that_the_only_worker_lacks_the_package(cache: Path) -> None:
    words = ["--no-dashboard", "--no-nanny", "--local-directory", str(cache.parent)]
    with (
        local(n_workers=0, protocol="tcp") as cluster,
        Client(cluster) as client,
        (cache.parent / "log").open("wb") as log,
        running([sys.executable, "-c", LACKS, cluster.scheduler_address, *words], log),
    ):
        client.wait_for_workers(1, timeout=60)
        seamless_dask.equip(client)
        futures = [
            client.compute(seamless_dask.bash("echo out")),
            client.submit(seamless_dask.direct(len), [1]),
        ]
        [address] = client.scheduler_info()["workers"]
        for future in futures:
            told = eventually(partial(warnings_of, client, future))
            assert f"{address}: it has no usable seamless-dask" in told
        cluster.scale(1)
        assert futures[0].result(60).read_text() == "out\n"
        assert futures[1].result(60) == 1


def warnings_of(client: Client, future: Any) -> str:
    """What has been said to whoever waits for one future."""
    return "".join(
        str(event["message"]) for _, event in client.get_events("warn") if future.key in str(event)
    )


# ------------------------------------------------------------------------ parts


def test_credentials_of_a_cluster_are_files_without_a_name(tmp_path: Path) -> None:
    create_token_file(str(tmp_path / "token"))
    given = {"hashserver": "https://server:1", "token_file": str(tmp_path / "token")}
    config = load(given, "/", {"HOME": str(tmp_path)})
    carried = ClusterCredentials.of(config, [config.database, "https://other:1"])
    arrived = ClusterCredentials.from_message(json.loads(json.dumps(carried.to_message())))
    applied = arrived.applied(load(given | {"token_file": "/of/another/host"}, "/", {"HOME": str(tmp_path)}))
    path = Path(applied.credential("https://server:1").token_file or "")
    assert path.read_text() == (tmp_path / "token").read_text().splitlines(keepends=True)[0]
    assert path.stat().st_mode & 0o777 == 0o600
    assert applied.token_file == str(path)
    assert path.read_text().split()[1] not in repr(arrived)
    del arrived
    assert not path.exists()


@pytest.mark.parametrize(
    ("stores", "database", "named"),
    [
        (["/first", "https://server:1"], "/seamless.db", None),
        (["/first", "/second"], "/seamless.db", "/second"),
        (["/first"], "https://server:1", "/first"),
        (["/first", "https://server:1"], "https://server:1", None),
    ],
)
def test_places_that_nobody_could_serve_are_refused(stores: Any, database: str, named: str | None) -> None:
    config = load({"store": stores, "database": database}, "/", {})
    if named is None:
        module._refuse_unserved(config)
    else:
        with pytest.raises(UsageError, match=f"cannot reach .*{named}"):
            module._refuse_unserved(config)
