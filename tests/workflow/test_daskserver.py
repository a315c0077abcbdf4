"""One daskserver under many who ask for the same at the same time: nothing fails, and nothing runs twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import daskserver

BIN = Path(sys.executable).parent
SHELLS = 8
RUNS = int(os.environ.get("SEAMLESS_TEST_RUNS", "64"))
"""Of `seamless-run` in all shells together; an experiment wants more of them than the test suite."""
MANY = 100

ASKING = """
import json, os, sys
from seamless_dask import api
from seamless_dask.graph import handles
log = sys.argv[1]
made = [api.bash(f"echo {n} >> {log}; echo {n}", isolation="none") for n in range(MANY)]
def tell(told):
    print(told, flush=True)
    sys.stdin.readline()
""".replace("MANY", str(MANY))

CLIENT = (
    ASKING
    + """
from distributed import Client, Security
facts = json.load(open(os.environ["SEAMLESS_DASKSERVER"]))
security = Security(require_encryption=True, tls_ca_file=facts["ca_file"],
                    tls_client_cert=facts["cert_file"], tls_client_key=facts["key_file"])
with Client(facts["scheduler"], security=security) as client:
    tell("ready")
    files = client.gather(client.compute(made))
    print(json.dumps([file.read_text() for file in files]))
"""
)

JOBSERVER = (
    ASKING
    + """
from seamless_dask.executors.opening import executor
from seamless_dask.jobs.request import JobRequest
context = handles.default_context()
api.flush(context)
asked = executor(context)
tell("ready")
for tf in made:
    asked.submit(JobRequest(tf.key, tf.options))
values = [asked.run(JobRequest(tf.key, tf.options)) for tf in made]
print(json.dumps([context.store.get(value.checksum).decode() for value in values]))
"""
)

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection file of a daskserver."""
    with daskserver(tmp_path_factory.mktemp("daskserver"), 2, 2) as connection:
        yield connection


@pytest.fixture
def start(server: str, tmp_path: Path) -> Iterator[Start]:
    """Start processes of users; each has a home and a cache of its own."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        home = tmp_path / f"home-{len(started)}"
        home.mkdir(mode=0o700)
        own = {name: str(home) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "SEAMLESS_CACHE")}
        own |= {"SEAMLESS_DASKSERVER": server, "SEAMLESS_ISOLATION": "none"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        path = f"{BIN}:{os.environ['PATH']}"
        environment = os.environ | own | {"PATH": path}
        started.append(subprocess.Popen(words, cwd=home, env=environment, text=True, **pipes))  # type: ignore[call-overload]
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def once(log: Path, count: int) -> bool:
    """Whether each of so many commands has run exactly once."""
    times = Counter(log.read_text().split())
    return times == Counter(map(str, range(count)))


def test_what_three_ask_for_at_once_runs_once(start: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    users = [start(sys.executable, "-c", program, str(log)) for program in (CLIENT, CLIENT, JOBSERVER)]
    for user in users:
        assert user.stdout is not None
        assert user.stdout.readline() == "ready\n", user.communicate()
    for user in users:
        assert user.stdin is not None
        user.stdin.write("\n")
        user.stdin.flush()
    for user in users:
        out, err = user.communicate(timeout=100)
        assert user.returncode == 0, err
        assert json.loads(out) == [f"{number}\n" for number in range(MANY)]
    assert once(log, MANY)


@pytest.mark.timeout(120 + RUNS)
def test_parallel_shells(start: Start, tmp_path: Path) -> None:
    log, count = tmp_path / "log", RUNS // SHELLS
    script = f'for n in $(seq 0 {count - 1}); do seamless-run -q "echo $n >> {log}; echo $n" || exit 1; done'
    shells = [start("bash", "-c", script) for _ in range(SHELLS)]
    for shell in shells:
        out, err = shell.communicate(timeout=100 + RUNS)
        assert (shell.returncode, err) == (0, "")
        assert out == "".join(f"{number}\n" for number in range(count))
    assert once(log, count)
