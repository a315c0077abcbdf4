"""Commands that ask for computations themselves: a real daskserver, one worker, one thread."""

from __future__ import annotations

import compileall
import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import hashserver
import seamless_cli
import seamless_dask
from hashserver.auth import read_token_file
from hashserver.client.transport import Transport
from seamless_dask import connection
from seamless_dask.jobs.directory import all_jobs
from seamless_dask.worker.nested.gateway import MOST_OPEN

from ..execution.test_image import APPTAINER
from .conftest import Cluster, wait_until

COMMAND = str(Path(sys.executable).parent / "seamless")
PROGRAM = """\
#!{python}
import sys
sys.path.insert(0, {lib!r})
from seamless_cli.run.command import main
sys.exit(main())
"""


class Site:
    """A directory to work in, and a daskserver, or else no server at all."""

    def __init__(self, directory: Path, isolation: str, server: bool) -> None:
        self.directory, self.isolation, self.server = directory, isolation, server
        (directory / "work").mkdir()
        self._install(directory / "prefix")
        self.environment = {name: value for name, value in os.environ.items() if "SEAMLESS" not in name} | {
            "HOME": str(directory),
            "SEAMLESS_CACHE": str(directory / "cache"),
            "SEAMLESS_ISOLATION": isolation,
            "PATH": f"{directory}/prefix/bin:{Path(sys.executable).parent}:/usr/bin:/bin",
        }
        if not server:
            return
        self("daskserver", "start", "--workers", "1", "--threads", "1")
        self.file = connection.directory_of(str(directory / "cache"), "default") + "/connection.json"
        self.environment["SEAMLESS_DASKSERVER"] = self.file
        del self.environment["SEAMLESS_ISOLATION"]

    def _install(self, prefix: Path) -> None:
        """Put the packages where a sandbox shows them: a development install lies elsewhere."""
        for package in (hashserver, seamless_cli, seamless_dask):
            [source] = package.__path__
            shutil.copytree(source, prefix / "lib" / package.__name__)
        compileall.compile_dir(prefix / "lib", quiet=2)  # no command in a sandbox can
        (prefix / "bin").mkdir()
        program = prefix / "bin" / "seamless-run"
        program.write_text(PROGRAM.format(python=sys.executable, lib=str(prefix / "lib")))
        program.chmod(0o755)

    def __call__(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        done = self.start(*words)
        out, errors = done.communicate(timeout=100)
        assert done.returncode == status, (out, errors)
        return subprocess.CompletedProcess(words, done.returncode, out, errors)

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, *words], cwd=self.directory / "work", env=self.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, *words: str, status: int = 0) -> str:
        """Run a command; what it prints."""
        done = self("run", *words, status=status)
        return done.stderr if status else done.stdout


def opened(factory: pytest.TempPathFactory, isolation: str, server: bool = True) -> Iterator[Site]:
    # as root others must pass through the directory for the sandbox to see the packages
    site = Site(factory.mktemp("site"), isolation, server)
    yield site
    if server:
        site("daskserver", "stop")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from opened(tmp_path_factory, "none")


@pytest.fixture(scope="module")
def sandboxed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from opened(tmp_path_factory, "bubblewrap")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from opened(tmp_path_factory, "none", server=False)


@pytest.fixture(scope="module")
def alone_sandboxed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    yield from opened(tmp_path_factory, "bubblewrap", server=False)


@pytest.fixture(params=["plain", "sandboxed", "alone", "alone_sandboxed"])
def site(request: Any) -> Site:
    found: Site = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["sandboxed", "alone"])
def either(request: Any) -> Site:
    """Each isolation once, and once with a daskserver: how they go together, the first test shows."""
    found: Site = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["plain", "sandboxed"])
def served(request: Any) -> Site:
    found: Site = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["plain", "alone"])
def free(request: Any) -> Site:
    """Where commands and the test meet through files."""
    found: Site = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["sandboxed", "alone_sandboxed"])
def closed(request: Any) -> Site:
    found: Site = request.getfixturevalue(request.param)
    return found


def nested(*words: str) -> str:
    return shlex.join(["seamless-run", *words])


def test_a_command_runs_another_one_though_the_worker_has_one_thread(site: Site) -> None:
    inner = "date +%s.%N; echo nested"
    first = site.run("-c", f"echo outer; {nested('-c', inner)}").splitlines()
    assert (first[0], first[2]) == ("outer", "nested")
    assert site.run("-c", inner).splitlines() == first[1:]  # on record: it is not run again


def test_what_is_known_is_not_run_again(either: Site) -> None:
    inner = "date +%s.%N; echo known"
    known = either.run("-c", inner)
    assert either.run("-c", nested("-c", inner)) == known


def test_commands_go_as_deep_as_they_like_and_on_their_own_later(either: Site) -> None:
    deepest = nested("-c", "echo deepest")
    code = f"{nested('-c', f'{deepest}; echo deep')}; {nested('-c', 'echo second')}; echo end"
    assert either.run("-c", code) == "deepest\ndeep\nsecond\nend\n"


def test_files_go_in_and_come_out(site: Site) -> None:
    inner = nested("-c", "rev made.txt > turned.txt", "--capture", "turned.txt")
    code = f"echo abc > made.txt; {inner} >&2; cat turned.txt > all.txt"
    site.run("-c", code, "--capture", "all.txt")
    assert (site.directory / "work" / "all.txt").read_text() == "cba\n"


def test_large_files_too(either: Site) -> None:
    inner = nested("-c", "cat large.bin > copy.bin", "--capture", "copy.bin")
    code = f"head -c 20M /dev/urandom > large.bin; {inner}; cmp large.bin copy.bin && echo same"
    assert either.run("-c", code) == "same\n"


def test_a_failure_tells_status_and_stderr(either: Site) -> None:
    inner = nested("-c", "echo why >&2; exit 7 # nested")
    told = either.run("-c", f"set +e; {inner}; echo status $? >&2; exit 3", status=3)
    assert "why\n" in told
    assert "status 7\n" in told


def test_a_command_that_waits_for_itself_is_refused(either: Site) -> None:
    code = 'seamless-run -c "$SELF" # itself'
    told = either.run("--metavar", f"SELF={code}", "-c", code, status=2)
    assert "a command cannot wait for itself" in told


def test_two_commands_that_wait_for_each_other_are_refused(either: Site) -> None:
    code = 'seamless-run --var "OTHER=$SELF" -c \'seamless-run -c "$OTHER"\''
    told = either.run("--metavar", f"SELF={code}", "-c", code, status=2)
    assert "a command cannot wait for itself" in told


def test_one_that_turns_out_to_wait_for_itself_is_refused(free: Site, gate: Any) -> None:
    """By its key it is another one, until the result is known that it refers to."""
    (free.directory / "work" / "x.txt").write_text("abc\n")
    made = shlex.join(["seamless-run", "-d", "-c", f"{gate.code}; echo abc > x.txt", "--capture", "x.txt"])
    code = f'mkdir sub; cd sub; {made} >&2; seamless-run -c "$SELF"; cat x.txt'
    outer = free.start("run", "--metavar", f"SELF={code}", "-c", code)
    wait_until(lambda: len(jobs(free)) == 3)
    gate.open()
    _, told = outer.communicate(timeout=100)
    assert outer.returncode == 2, told
    assert "a command cannot wait for itself" in told


def test_a_command_in_an_image_reaches_the_daskserver_too(free: Site) -> None:
    image, program = free.directory / "image", free.directory / "prefix/bin/apptainer"
    (image / "bin").mkdir(parents=True)
    (image / "bin" / "seamless-run").symlink_to(free.directory / "prefix/bin/seamless-run")
    program.write_text(APPTAINER)
    program.chmod(0o755)
    code = f"echo in $IMAGE; {nested('-c', 'echo beside ${IMAGE:-it}')}"
    assert free.run("--image", str(image), "-c", code) == f"in {image}\nbeside it\n"


def test_what_only_the_waiting_one_has_is_refused(served: Site) -> None:
    inner = nested("--resource", "seamless:memory=1", "--cpus", "1", "-c", "echo needs a processor")
    told = served.run("--cpus", "1", "-c", inner, status=2)
    assert "asks for" in told
    assert "let them ask for less" in told


def test_no_token_of_the_daskserver_is_seen(served: Site) -> None:
    code = 'env; cat "${SEAMLESS_DASKSERVER%/*}"/{token,connection.json}; find "$HOME" /seamless -type f || :'
    seen = served.run("-c", code)
    facts = connection.read(served.file)
    secrets = {token.secret for token in read_token_file(facts.token_file)}
    assert ("unix:///seamless/control" in seen) == (served.isolation == "bubblewrap")
    assert "unix://" in seen
    assert not [secret for secret in secrets if secret in seen]
    assert not [place for place in (facts.jobserver, facts.scheduler, facts.hashserver) if place in seen]


@pytest.mark.parametrize(
    ("closed", "name"),
    [
        *(("sandboxed", name) for name in ("PATH", "MODULEPATH", "CONDA_PREFIX", "PYENV_ROOT")),
        ("alone_sandboxed", "PATH"),
    ],
    indirect=["closed"],
)
def test_a_sandboxed_command_shows_itself_nothing_by_asking(closed: Site, name: str) -> None:
    secret = closed.directory / "secret"
    secret.mkdir(exist_ok=True)
    (secret / "key").write_text("private")
    value = "$SECRET:/usr/bin:/bin" if name == "PATH" else "$SECRET"
    looks = f"if test -e {secret}; then echo seen; else echo hidden; fi # {name}"
    code = f'seamless-run --var {name}="{value}" -c {shlex.quote(looks)}'
    assert closed.run("--var", f"SECRET={secret}", "-c", code) == "hidden\n"


def test_a_sandboxed_command_gets_no_environment_or_image_of_its_choice(closed: Site) -> None:
    secret = closed.directory / "project"
    (secret / "bin").mkdir(parents=True)
    asks = ["--var", f"SECRET={secret}", "-c"]
    told = closed.run(*asks, 'seamless-run --conda "$SECRET" -c ls', status=2)
    assert f"no conda environment {secret}" in told
    told = closed.run(*asks, 'seamless-run --image "$SECRET" -c ls', status=1)
    assert "a sandboxed command cannot ask for an image" in told


@pytest.mark.parametrize(
    "asked",
    ["--prologue 'echo() { printf wrong; }'", "--metavar KIND=wrong"],
    ids=["prologue", "metavar"],
)
def test_a_sandboxed_command_records_nothing_wrong_for_others(
    closed: Site, request: pytest.FixtureRequest, asked: str
) -> None:
    theirs = f"echo ${{KIND:-right}} # {request.node.name}"
    told = closed.run("-c", f"seamless-run {asked} -c {shlex.quote(theirs)}", status=1)
    assert "a sandboxed command cannot ask for" in told
    assert closed.run("-c", theirs) == "right\n"


def test_a_sandboxed_command_passes_on_what_it_was_given(closed: Site) -> None:
    inner = nested("--metavar", "GIVEN=by the user", "-c", "echo $GIVEN # passed on")
    assert closed.run("--metavar", "GIVEN=by the user", "-c", inner) == "by the user\n"


def test_a_sandboxed_command_cannot_reach_who_makes_the_sandbox(closed: Site, tmp_path: Path) -> None:
    """The dynamic linker of the program outside would do what these variables say."""
    code = 'seamless-run --var LD_DEBUG=libs --var LD_DEBUG_OUTPUT="$PLACE/reached" -c "echo over"'
    assert "over\n" in closed.run("--var", f"PLACE={tmp_path}", "-c", code)
    assert list(tmp_path.iterdir()) == []


def test_cancelling_cancels_what_was_asked_for(free: Site, gate: Any) -> None:
    outer = free.start("run", "-c", nested("-c", f"{gate.code}; echo # cascade"))
    process = gate.wait()
    outer.send_signal(signal.SIGINT)
    outer.communicate(timeout=60)
    assert outer.returncode == 130
    wait_until(lambda: not os.path.exists(f"/proc/{process}"))


def test_what_a_dead_command_has_asked_for_is_withdrawn(free: Site, gate: Any) -> None:
    inner = nested("-c", f"{gate.code}; echo # left behind")
    free.run("-c", f"{inner} & until [ -s {gate.reached} ]; do sleep 0.1; done")
    process = gate.wait()
    wait_until(lambda: not os.path.exists(f"/proc/{process}"))


def test_what_others_ask_for_too_goes_on(free: Site, gate: Any) -> None:
    inner = f"{gate.code}; echo wanted by two"
    outer = free.start("run", "-c", nested("-c", inner))
    gate.wait()
    other = free.start("run", "-v", "-c", inner)
    wait_until(lambda: 2 in [job["askers"] for job in jobs(free)])
    outer.send_signal(signal.SIGINT)
    outer.communicate(timeout=60)
    gate.open()
    assert other.communicate(timeout=60)[0] == "wanted by two\n"
    assert len(gate.pids()) == 1


def jobs(site: Site) -> list[dict[str, Any]]:
    """What is under way."""
    if not site.server:
        infos = [job.info() for job in all_jobs(str(site.directory / "cache"))]
        return [info._asdict() for info in infos if info is not None]
    facts = connection.read(site.file)
    token = read_token_file(facts.token_file)[0].secret
    with (
        closing(Transport(facts.jobserver, token, facts.ca_file)) as way,
        way.request("GET", "/jobs") as said,
    ):
        found: list[dict[str, Any]] = json.loads(said.read())["jobs"]
    return [job for job in found if job["outcome"] is None]


def test_behind_the_socket_a_command_can_do_only_so_much(free: Site, gate: Any, tmp_path: Path) -> None:
    told = tmp_path / "told"
    outer = free.start("run", "-c", f'echo "$SEAMLESS_DASKSERVER" > {told}; {gate.code}')
    gate.wait()
    facts = connection.read(told.read_text().strip())
    token = read_token_file(facts.token_file)[0].secret
    key = "0" * 64

    def status(method: str, path: str, token: str | None, body: bytes = b"") -> int:
        with closing(Transport(facts.hashserver, token)) as way, way.request(method, path, body) as response:
            return response.status

    assert status("GET", "/counts", token) == 200
    assert status("HEAD", f"/{key}", token) == 404
    assert status("GET", "/counts", None) == 401
    assert status("GET", "/counts", "0" * 64) == 401
    refused = [("DELETE", f"/{key}"), ("PUT", f"/result/{key}"), ("PUT", f"/deferred/{key}")]
    refused += [("POST", f"/result/{key}/contest"), ("GET", "/export"), ("GET", f"//{key}"), ("GET", "/jobs")]
    refused += [("DELETE", f"/jobs/{key}"), ("GET", f"/jobs/{key}"), ("PUT", f"/failure/{key}")]
    assert {status(*one, token) for one in refused} == {403}
    assert status("GET", f"/jobs/{key}?asker=me", token) == 404
    assert status("POST", "/jobs", token, b"[]") == 400
    gate.open()
    outer.communicate(timeout=60)
    assert not os.path.exists(facts.hashserver.removeprefix("unix://"))


def test_a_command_has_so_many_connections_and_no_more(plain: Site, gate: Any, tmp_path: Path) -> None:
    """Each takes descriptors of the worker, which needs them for other commands."""
    told = tmp_path / "told"
    outer = plain.start("run", "-c", f'echo "$SEAMLESS_DASKSERVER" > {told}; {gate.code} # many')
    gate.wait()
    facts = connection.read(told.read_text().strip())
    two_seconds = struct.pack("@ll", 2, 0)
    opened: list[socket.socket] = []
    with contextlib.ExitStack() as stack, contextlib.suppress(BlockingIOError):
        for _ in range(2000):
            opened.append(stack.enter_context(socket.socket(socket.AF_UNIX)))
            opened[-1].setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, two_seconds)
            opened[-1].connect(facts.jobserver.removeprefix("unix://"))
    assert MOST_OPEN < len(opened) < 2000
    token = read_token_file(facts.token_file)[0].secret
    with closing(Transport(facts.hashserver, token)) as way, way.request("GET", "/counts") as response:
        assert response.status == 200, "there is room again"
    gate.open()
    outer.communicate(timeout=60)
    assert outer.returncode == 0


def test_what_is_asked_for_goes_before_more_that_would_wait(plain: Site, gate: Any, tmp_path: Path) -> None:
    """Else everything that is queued would be started, to wait with all its files in place."""
    log = tmp_path / "log"
    first = plain.start("run", "-c", gate.code)
    gate.wait()
    outers = [
        plain.start(
            "run", "-c", f"echo outer >> {log}; {nested('-c', f'echo inner >> {log}; echo {number}')}"
        )
        for number in range(3)
    ]
    wait_until(lambda: len(jobs(plain)) == 4)
    gate.open()
    for process in (first, *outers):
        process.communicate(timeout=100)
    lines = log.read_text().split()
    running = [lines[:count].count("outer") - lines[:count].count("inner") for count in range(len(lines))]
    assert len(lines) == 6
    assert max(running) < 3


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler with our plugin, and no daskserver; one worker with one thread."""
    cluster = Cluster(tmp_path_factory.mktemp("bare"), n_workers=1)
    yield cluster
    cluster.close()


def test_a_bare_scheduler_serves_commands_too(bare: Cluster) -> None:
    tf = bare.bash(f"{COMMAND} run -c 'date +%s.%N'")
    printed = bare.text(bare.run(tf))
    again = bare.bash("date +%s.%N")
    assert bare.text(bare.run(again)) == printed


def test_a_command_that_has_waited_takes_its_thread_back(bare: Cluster, gate: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = bare.bash(f"{COMMAND} run -c 'echo inner' >> {log}; {gate.code}; echo first >> {log}")
    second = bare.bash(f"echo second >> {log}")

    def threads() -> int:
        return sum("Dask-Default" in thread.name for thread in threading.enumerate())

    futures = [bare.client.compute(first)]
    gate.wait()
    wait_until(lambda: set(bare.client.run(threads).values()) == {1})
    futures.append(bare.client.compute(second))
    [key] = second.__dask_keys__()

    def state(dask_worker: Any) -> str | None:
        task = dask_worker.state.tasks.get(key)
        return None if task is None else str(task.state)

    wait_until(lambda: "executing" in bare.client.run(state).values())
    gate.open()
    for future in futures:
        future.result()
    assert log.read_text().split() == ["inner", "first", "second"]


@pytest.mark.parametrize(
    "misdeed",
    [
        "true",
        "rm token",
        "chmod 644 token",
        "echo more >> connection.json",
        "touch more",
        "rm socket; touch socket",
        "ln connection.json ../more",
    ],
)
def test_what_one_command_leaves_of_its_way_in_never_reaches_the_next(bare: Cluster, misdeed: str) -> None:
    there = 'cd "${SEAMLESS_DASKSERVER%/*}"'
    seen = []
    for number in range(3):
        tf = bare.bash(f"({there}; cat token; ls); {COMMAND} run -c 'echo {number}'; {there}; {misdeed}")
        own, *rest = bare.text(bare.run(tf)).splitlines()
        assert rest == ["connection.json", "socket", "token", str(number)]
        seen.append(own)
    assert len(set(seen)) == 3
