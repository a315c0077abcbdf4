"""The jobserver: real scheduler, real worker, real HTTP."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from distributed import LocalCluster, Worker

from hashserver.auth import create_token_file
from hashserver.checksum import Checksum
from hashserver.client.transport import Transport
from hashserver.errors import BufferMissing, ServiceUnavailable
from seamless_dask import connection
from seamless_dask.context import Context
from seamless_dask.errors import Cancelled, ComputationFailed, LimitExceeded
from seamless_dask.executors import waiting
from seamless_dask.executors.http import JobserverExecutor
from seamless_dask.jobs import registry
from seamless_dask.jobs.request import JobRequest
from seamless_dask.model.options import Options
from seamless_dask.model.transformation import Deferred, Value
from seamless_dask.services.jobserver import opening, ownclient
from seamless_dask.services.jobserver.jobserver import Jobserver
from seamless_dask.worker.data_locations import DataLocations
from seamless_dask.worker.plugin import Equipment
from seamless_dask.worker.services import DaskWorker

PLAIN = Options(isolation="none")


class Server:
    """A scheduler with a jobserver, and workers as many as are wanted."""

    def __init__(self, lab: Any, directory: Path) -> None:
        self.lab, self.directory = lab, directory
        self.path = str(directory / "connection.json")
        create_token_file(str(directory / "token"))
        self.executors: list[JobserverExecutor] = []
        self.start()

    def start(self) -> None:
        self.cluster = LocalCluster(
            n_workers=0, processes=False, threads_per_worker=2, dashboard_address="127.0.0.1:0",
            host="127.0.0.1", protocol="tcp://", worker_dashboard_address=None, silence_logs=False,
        )  # fmt: skip
        self.scheduler = self.cluster.scheduler
        self.context = Context()
        self.jobserver = self.cluster.sync(self._install)
        with self.cluster.get_client() as client:
            client.register_plugin(Equipment(DataLocations.of(self.context.config)))
        url = f"http://127.0.0.1:{self.scheduler.http_server.port}"
        connection.write(
            self.path,
            connection.ConnectionFile(
                name="test", host="test", pid=1, started=1.0, jobserver=url,
                scheduler=self.scheduler.address, hashserver=url, store="/none",
                token_file=str(self.directory / "token"),
                hashserver_token_file=str(self.directory / "token"), insecure=True,
            ),
        )  # fmt: skip

    async def _install(self) -> Jobserver:
        plugin = SimpleNamespace(context=self.context)
        return await opening.install(self.scheduler, plugin, str(self.directory))

    def workers(self, number: int) -> None:
        self.cluster.scale(number)
        with self.cluster.get_client() as client:
            client.wait_for_workers(number)

    @contextmanager
    def worker(self, **options: Any) -> Iterator[None]:
        """Have another worker, which is gone afterwards."""
        options |= {"dashboard": False, "silence_logs": False}

        async def start() -> Worker:
            return await Worker(self.scheduler.address, **options)

        worker = self.cluster.sync(start)
        try:
            yield
        finally:
            self.cluster.sync(worker.close)

    def executor(self) -> JobserverExecutor:
        self.executors.append(JobserverExecutor(self.lab.context, self.path))
        return self.executors[-1]

    def raw(
        self, method: str, body: Any, path: str = "/jobs", kind: str = "application/json"
    ) -> tuple[int, str]:
        """Send a request; status and error of the answer."""
        data = b"" if body is None else json.dumps(body).encode()
        url = f"http://127.0.0.1:{self.scheduler.http_server.port}"
        headers = {"Content-Type": kind}
        with closing(Transport(url)) as way, way.request(method, path, data, headers=headers) as response:
            return response.status, json.loads(response.read()).get("error", "")

    def ask(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        with closing(self.executor()) as executor:
            return executor.ask(method, path, b"" if body is None else json.dumps(body).encode())

    def until_over(self, key: Checksum, asker: str) -> dict[str, Any]:
        """Poll as a client does; how it ended."""
        facts: dict[str, Any] = {"state": "", "outcome": None}
        while not facts["outcome"]:
            after = facts["state"].replace(" ", "+")
            facts = self.ask("GET", f"/jobs/{key}?asker={asker}&wait=20&after={after}")
        found: dict[str, Any] = facts["outcome"]
        return found

    def await_askers(self, key: Checksum, number: int) -> None:
        def there() -> bool:
            job = self.jobserver.registry.find(key)
            return job is not None and len(job.waiting) == number

        self.lab.wait_until(there)

    def journal(self) -> list[Any]:
        """What the journal holds, in a connection of its own."""
        with closing(sqlite3.connect(self.directory / "journal.db")) as file:
            return file.execute("SELECT asker FROM askers").fetchall()

    def stop(self) -> None:
        for executor in self.executors:
            executor.close()
        self.cluster.close()
        self.context.close()


@pytest.fixture
def server(lab: Any, tmp_path: Path) -> Iterator[Server]:
    directory = tmp_path / "daskserver"
    directory.mkdir(mode=0o700)
    found = Server(lab, directory)
    yield found
    found.stop()


class Asker(threading.Thread):
    """One who waits, in a thread of its own."""

    def __init__(
        self, server: Server, key: Checksum, options: Options = PLAIN, on_notice: Any = None, **wishes: Any
    ) -> None:
        super().__init__(daemon=True)
        self.executor, self.request = server.executor(), JobRequest(key, options, **wishes)
        self.value: Value | None = None
        self.error: BaseException | None = None
        self.states: list[str] = []
        self.executor.notify = on_notice or self.executor.notify
        self.start()

    def run(self) -> None:
        try:
            self.value = self.executor.run(self.request, tick=self._tick)
        except BaseException as error:
            self.error = error
        self.executor.close()

    def _tick(self, state: str) -> None:
        if self.states[-1:] != [state]:
            self.states.append(state)

    def end(self) -> Asker:
        self.join(60)
        assert not self.is_alive()
        return self


def request(key: Checksum, asker: str, options: Options = PLAIN, **wishes: bool) -> dict[str, Any]:
    return {"key": key, "asker": asker, "options": json.loads(options.to_json()), **wishes}


def test_a_result_comes_back(server: Server, lab: Any) -> None:
    server.workers(1)
    asker = Asker(server, lab.store("echo hi")).end()
    assert asker.value is not None
    assert lab.bytes(asker.value) == b"hi\n"


def test_two_who_ask_for_one_transformation_run_it_once(server: Server, lab: Any) -> None:
    server.workers(1)
    gate = lab.gate()
    key = lab.store(f"{lab.counted()}; {gate.command}; echo hi")
    first = Asker(server, key)
    gate.wait()
    second = Asker(server, key)
    server.await_askers(key, 2)
    gate.open()
    assert first.end().value == second.end().value is not None
    assert lab.ran() == ["ran"]


def test_many_are_posted_at_once(server: Server, lab: Any) -> None:
    keys = [lab.store(f"echo {number}") for number in range(20)]
    body = {"protocol": 1, "jobs": [request(key, f"me-{key}") for key in keys]}
    assert [job["key"] for job in server.ask("POST", "/jobs", body)["jobs"]] == keys
    server.workers(1)
    for number, key in enumerate(keys):
        found = server.until_over(key, f"me-{key}")
        assert lab.bytes(Value(found["value"][0], Checksum(found["value"][1]))) == f"{number}\n".encode()


def test_asking_again_under_the_same_name_attaches(server: Server, lab: Any) -> None:
    key = lab.store("echo hi")
    body = {"protocol": 1, "jobs": [request(key, "me")]}
    for _ in range(3):
        server.ask("POST", "/jobs", body)
    assert [job["askers"] for job in server.ask("GET", "/jobs")["jobs"]] == [1]


def test_a_failure_says_how_and_where(server: Server, lab: Any) -> None:
    server.workers(1)
    error = Asker(server, lab.store("echo oh no >&2; exit 3")).end().error
    assert isinstance(error, ComputationFailed)
    assert (error.exit_status, error.stderr) == (3, "oh no\n")
    assert "(worker " in str(error)


def test_who_withdraws_leaves_the_work_to_others_and_the_last_one_stops_it(server: Server, lab: Any) -> None:
    server.workers(1)
    gate = lab.gate()
    key = lab.store(gate.command)
    body = {"protocol": 1, "jobs": [request(key, name) for name in ("one", "two")]}
    server.ask("POST", "/jobs", body)
    process = gate.wait()
    assert server.ask("DELETE", f"/jobs/{key}?asker=one")["askers"] == ["two"]
    assert server.ask("GET", f"/jobs/{key}?asker=two")["state"] == "running"
    assert lab.is_alive(process)
    assert server.ask("DELETE", f"/jobs/{key}?asker=two")["cancelled"]
    lab.wait_until(lambda: not lab.is_alive(process))
    lab.wait_until(lambda: not server.scheduler.tasks)


def test_being_interrupted_withdraws(server: Server, lab: Any) -> None:
    server.workers(1)
    gate = lab.gate()
    key = lab.store(gate.command)

    def interrupt(state: str) -> None:
        if state == "running":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.executor().run(JobRequest(key, PLAIN), tick=interrupt)
    lab.wait_until(lambda: not server.scheduler.tasks)


def test_a_rerun_that_is_interrupted_does_not_count_those_who_died(server: Server, lab: Any) -> None:
    server.workers(1)
    gate = lab.gate()
    key = lab.store(gate.command)
    dead = f"{os.uname().nodename}-1-12345-1"  # process 1 was born at another time
    server.ask("POST", "/jobs", {"protocol": 1, "jobs": [request(key, dead)]})
    process = gate.wait()

    def interrupt(state: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.executor().run(JobRequest(key, PLAIN), tick=interrupt)
    lab.wait_until(lambda: not lab.is_alive(process))


def test_a_lost_connection_cancels_nothing_and_a_rerun_attaches(server: Server, lab: Any) -> None:
    server.workers(1)
    gate = lab.gate()
    key = lab.store(f"{lab.counted()}; {gate.command}; echo hi")
    server.ask("POST", "/jobs", {"protocol": 1, "jobs": [request(key, "gone")]})
    gate.wait()
    rerun = Asker(server, key)
    server.await_askers(key, 2)
    gate.open()
    assert rerun.end().value is not None
    assert lab.ran() == ["ran"]


def test_a_limit_fails_only_the_one_who_set_it(server: Server, lab: Any) -> None:
    server.workers(1)
    gate = lab.gate()
    key = lab.store(f"{gate.command}; echo hi")
    patient = Asker(server, key)
    gate.wait()
    hasty = Asker(server, key, PLAIN._replace(time_limit=0.1)).end()
    assert isinstance(hasty.error, LimitExceeded)
    gate.open()
    assert patient.end().value is not None


def test_bytes_are_kept_if_anybody_wants_them(server: Server, lab: Any) -> None:
    server.workers(1)
    gate = lab.gate()
    # the worker may hear of the second one when the bytes are gone, and they are made again
    go = lab.directory / "go"
    key = lab.store(f"test -e {go} || {{ {gate.command}; touch {go}; }}; echo hi")
    scratch = Asker(server, key, PLAIN._replace(scratch=True))
    gate.wait()
    keeper = Asker(server, key)
    server.await_askers(key, 2)
    gate.open()
    value = keeper.end().value
    assert value is not None
    assert scratch.end().value == value
    assert lab.bytes(value) == b"hi\n"


def test_lost_bytes_are_made_again_for_one_who_needs_them(server: Server, lab: Any) -> None:
    server.workers(1)
    key = lab.store(f"{lab.counted()}; echo hi")
    value = Asker(server, key).end().value
    lab.context.store.delete(value.checksum)
    assert Asker(server, key).end().value == value
    assert lab.ran() == ["ran"]
    assert Asker(server, key, need_bytes=True).end().value == value
    assert lab.ran() == ["ran", "ran"]
    assert lab.bytes(value) == b"hi\n"


def test_a_fresh_run_does_not_take_what_is_known(server: Server, lab: Any) -> None:
    server.workers(1)
    key = lab.store(f"{lab.counted()}; echo hi")
    for fresh in (False, True, False):
        assert Asker(server, key, PLAIN._replace(fresh=fresh)).end().value is not None
    assert lab.ran() == ["ran", "ran"]


def test_a_pipeline_waits_in_the_scheduler(server: Server, lab: Any) -> None:
    first = lab.store("echo one")
    second = lab.store("cat input", inputs={"input": Deferred(first, None)})
    asker = Asker(server, second)
    lab.wait_until(lambda: "waiting" in asker.states)
    server.workers(1)
    value = asker.end().value
    assert value is not None
    assert lab.bytes(value) == b"one\n"


def test_what_is_cancelled_is_cancelled_for_all(server: Server, lab: Any) -> None:
    key = lab.store("echo hi")
    asker = Asker(server, key)
    server.await_askers(key, 1)
    assert server.executor().cancel(key)
    assert isinstance(asker.end().error, Cancelled)
    assert not server.executor().cancel(key)
    assert server.executor().state(key) == "cancelled"


def test_what_is_cancelled_can_be_asked_for_again(server: Server, lab: Any) -> None:
    key = lab.store("echo hi")
    asker = Asker(server, key)
    server.await_askers(key, 1)
    server.executor().cancel(key)
    asker.end()
    server.workers(1)
    assert Asker(server, key).end().value is not None


def test_one_who_is_detached_need_not_come_back(server: Server, lab: Any) -> None:
    server.workers(1)
    key = lab.store(f"{lab.counted()}; echo hi")
    server.executor().submit(JobRequest(key, PLAIN))
    lab.wait_until(lambda: lab.context.database.lookup(key))
    lab.wait_until(lambda: server.executor().state(key) == "done")
    assert not server.journal()


def test_stderr_comes_while_the_command_runs(server: Server, lab: Any) -> None:
    server.workers(1)
    gate = lab.gate()
    key = lab.store(f"echo one >&2; {gate.command}; echo two >&2")
    shown: list[bytes] = []

    def show(data: bytes) -> None:
        shown.append(data)
        if b"".join(shown) == b"one\n":
            gate.wait()
            gate.open()

    server.executor().run(JobRequest(key, PLAIN), on_stderr=show)
    assert b"".join(shown) == b"one\ntwo\n"


def test_stderr_comes_when_the_worker_was_asked_before_it_began(
    server: Server, lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = DaskWorker.stderr
    early = [{"data": b"", "size": 0, "over": True}] * 2
    monkeypatch.setattr(
        DaskWorker, "stderr", lambda *asked, **named: early.pop() if early else begun(*asked, **named)
    )
    test_stderr_comes_while_the_command_runs(server, lab)
    assert not early


def test_running_jobs_are_listed(server: Server, lab: Any) -> None:
    server.workers(1)
    gate = lab.gate()
    asker = Asker(server, key := lab.store(f"date; {gate.command}"))
    gate.wait()
    (job,) = lab.wait_until(lambda: [one for one in server.executor().jobs() if one.state == "running"])
    assert (job.key, job.label, job.askers) == (key, "date", 1)
    assert job.worker
    assert job.node == "127.0.0.1"
    assert job.started
    gate.open()
    asker.end()
    assert server.executor().jobs() == []


def test_what_a_job_asks_of_a_worker_holds(server: Server, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [
        PLAIN._replace(cpus=16),
        PLAIN._replace(gpus=1),
        PLAIN._replace(resources={"A": 2.0}),
        PLAIN._replace(queue="long"),
        PLAIN._replace(node="elsewhere"),
    ]
    keys = [lab.store(f"echo {number}") for number in range(len(asked))]
    jobs = [request(key, "me" + key, options) for key, options in zip(keys, asked, strict=True)]
    server.workers(1)
    server.ask("POST", "/jobs", {"protocol": 1, "jobs": jobs})
    lab.wait_until(lambda: {job.position for job in server.executor().jobs()} == {1, 2, 3, 4, 5})
    Asker(server, lab.store("echo anywhere"), PLAIN._replace(node=os.uname().nodename)).end()
    monkeypatch.setenv("SEAMLESS_WORKER_QUEUE", "long")
    with server.worker(name="able", nthreads=16, resources={"GPU": 1, "A": 2}):
        for key in keys[:-1]:
            assert "value" in server.until_over(key, f"me{key}")
        found = server.ask("GET", "/jobs")["jobs"]
        assert {job["worker"] for job in found if job["key"] in keys[:-1]} == {"able"}
        assert server.ask("GET", f"/jobs/{keys[-1]}?asker=me{keys[-1]}")["state"] == "queued"


def test_one_who_waits_for_a_worker_that_cannot_come_hears_why(server: Server, lab: Any) -> None:
    server.jobserver.why = lambda task: "no worker has a GPU"
    told: list[str] = []
    key = lab.store("nvidia-smi")
    options = PLAIN._replace(gpus=1)
    server.ask("POST", "/jobs", {"protocol": 1, "jobs": [request(key, "before", options)]})
    lab.wait_until(lambda: server.ask("GET", f"/jobs/{key}?asker=before")["state"] == "queued")
    asker = Asker(server, key, options, on_notice=told.append)
    lab.wait_until(lambda: told)
    assert server.executor().cancel(key)
    assert isinstance(asker.end().error, Cancelled)
    assert told == ["no worker has a GPU"]


def test_a_job_whose_worker_was_lost_is_retried(server: Server, lab: Any) -> None:
    gate = lab.gate()
    key = lab.store(f"{gate.command}; echo hi")
    with server.worker(name="lost"):
        asker = Asker(server, key)
        gate.wait()
    lab.wait_until(lambda: "retrying" in asker.states)
    server.workers(1)
    gate.wait()
    gate.open()
    assert asker.end().value is not None


def test_a_jobserver_that_has_lost_the_scheduler_connects_anew(server: Server, lab: Any) -> None:
    server.workers(1)
    Asker(server, lab.store("echo 1")).end()
    (name,) = [name for name in server.scheduler.clients if name.startswith(ownclient.PREFIX)]

    async def cut() -> None:
        server.scheduler.client_comms[name].abort()

    server.cluster.sync(cut)
    assert Asker(server, lab.store("echo 2")).end().value is not None


class TestLate:
    """Those who come when a job has as good as ended."""

    @pytest.fixture
    def late(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Has another one ask between the end of a computation and the end of its job."""

        def come(late: dict[str, Any]) -> None:
            finish = server.jobserver.streams.finish

            async def finish_late(*arguments: Any) -> None:
                monkeypatch.undo()
                await finish(*arguments)
                server.jobserver.post([JobRequest.from_message(late)])

            monkeypatch.setattr(server.jobserver.streams, "finish", finish_late)

        return come

    def test_the_limits_of_others_are_not_theirs(self, server: Server, lab: Any, late: Any) -> None:
        server.workers(1)
        go = lab.directory / "go"
        key = lab.store(f"test -e {go} || {{ touch {go}; sleep 600; }}; echo hi")
        late(request(key, "late"))
        hasty = Asker(server, key, PLAIN._replace(time_limit=0.5)).end()
        assert isinstance(hasty.error, LimitExceeded)
        assert "value" in server.until_over(key, "late")

    def test_they_have_the_bytes_that_they_need(self, server: Server, lab: Any, late: Any) -> None:
        server.workers(1)
        key = lab.store("echo hi")
        late(request(key, "late", need_bytes=True))
        value = Asker(server, key, PLAIN._replace(scratch=True)).end().value
        assert "value" in server.until_over(key, "late")
        assert value is not None
        assert lab.bytes(value) == b"hi\n"


def test_who_comes_back_after_a_thousand_other_jobs_hears_how_it_ended(
    server: Server, lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "ENDED", 1)
    server.workers(1)
    key = lab.store(f"{lab.counted()}; exit 3")
    server.ask("POST", "/jobs", {"protocol": 1, "jobs": [request(key, "me")]})
    for number in range(3):
        Asker(server, lab.store(f"echo {number}")).end()
    assert server.until_over(key, "me")["exit_status"] == 3
    assert lab.ran() == ["ran"]


def test_of_much_standard_error_the_first_part_is_left_out(
    server: Server, lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "LIMIT", 1000)
    server.workers(1)
    gate = lab.gate()
    key = lab.store(f"yes 1234567 2>/dev/null | head -c 800000 >&2; {gate.command}; echo the end >&2")
    server.ask(
        "POST", "/jobs", {"protocol": 1, "jobs": [request(key, "me", PLAIN._replace(direct_print=True))]}
    )
    gate.wait()
    lab.wait_until(lambda: [job.stderr_size for job in server.executor().jobs()] == [800_000])
    shown: list[bytes] = []

    def show(data: bytes) -> None:
        if not shown:
            gate.open()
        shown.append(data)

    server.executor().run(JobRequest(key, PLAIN), on_stderr=show)
    assert b"".join(shown) == "[… 799000 bytes are left out]\n".encode() + b"1234567\n" * 125 + b"the end\n"


class TestRestart:
    """The daskserver ends and comes back."""

    def test_queued_work_and_those_who_wait_for_it_are_not_lost(self, server: Server, lab: Any) -> None:
        key = lab.store(f"{lab.counted()}; echo hi")
        asker = Asker(server, key)
        lab.wait_until(lambda: "queued" in asker.states)
        server.stop()
        lab.wait_until(lambda: "reconnecting" in asker.states)
        server.start()
        server.workers(1)
        assert asker.end().value is not None
        assert lab.ran() == ["ran"]

    def test_one_who_waits_is_told_that_it_is_gone(
        self, server: Server, lab: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(waiting, "SILENT", 0.0)
        notes: list[str] = []
        asker = Asker(server, lab.store("echo hi"))
        asker.executor.notify = notes.append
        lab.wait_until(lambda: "queued" in asker.states)
        server.stop()
        lab.wait_until(lambda: notes)
        server.start()
        server.workers(1)
        assert asker.end().value is not None
        assert len(notes) == 1
        assert notes[0].endswith("; trying again until it answers (Ctrl-C gives up)")

    def test_one_who_has_gone_is_remembered(self, server: Server, lab: Any) -> None:
        key = lab.store(f"{lab.counted()}; echo hi")
        server.ask("POST", "/jobs", {"protocol": 1, "jobs": [request(key, "me")]})
        server.stop()
        server.start()
        server.workers(1)
        assert "value" in server.until_over(key, "me")
        assert not server.journal()

    def test_an_end_is_kept_until_it_has_been_told(self, server: Server, lab: Any) -> None:
        server.workers(1)
        key = lab.store(f"{lab.counted()}; exit 3")
        server.ask("POST", "/jobs", {"protocol": 1, "jobs": [request(key, "me")]})
        lab.wait_until(lambda: server.executor().state(key) == "failed")
        server.stop()
        server.start()
        assert server.until_over(key, "me")["exit_status"] == 3
        assert lab.ran() == ["ran"]
        assert not server.journal()

    def test_a_job_that_is_not_known_any_more_is_posted_again(self, server: Server, lab: Any) -> None:
        asker = Asker(server, lab.store("echo hi"))
        lab.wait_until(lambda: "queued" in asker.states)
        server.stop()
        (server.directory / "journal.db").unlink()
        server.start()
        server.workers(1)
        assert asker.end().value is not None

    def test_what_was_withdrawn_does_not_come_back(self, server: Server, lab: Any) -> None:
        key = lab.store("echo hi")
        server.ask("POST", "/jobs", {"protocol": 1, "jobs": [request(key, "me")]})
        server.ask("DELETE", f"/jobs/{key}?asker=me")
        server.stop()
        server.start()
        assert server.ask("GET", "/jobs")["jobs"] == []


class TestRefusals:
    """One clear line, whatever is wrong."""

    @pytest.fixture
    def key(self, lab: Any) -> Checksum:
        found: Checksum = lab.store("echo hi")
        return found

    def test_another_protocol(self, server: Server, key: Checksum) -> None:
        status, error = server.raw("POST", {"protocol": 7, "jobs": [request(key, "me")]})
        assert status == 409
        assert error.startswith("the client speaks protocol 7 of the jobserver, this daskserver 1: install")

    @pytest.mark.parametrize(
        "body",
        [
            {"protocol": 1, "jobs": [{"key": "zz", "asker": "me"}]},
            {"protocol": 1, "jobs": [{"key": "0" * 64, "asker": "m e"}]},
            {"protocol": 1, "jobs": [{"key": "0" * 64, "asker": "me", "options": {"no": 1}}]},
            {"protocol": 1, "jobs": [{"key": "0" * 64, "asker": "me", "fresh": 1}]},
            {"protocol": 1, "jobs": 3},
            {"protocol": 1},
            [],
        ],
    )
    def test_a_body_that_makes_no_sense(self, server: Server, body: Any) -> None:
        status, error = server.raw("POST", body)
        assert status == 400
        assert error
        assert server.ask("GET", "/jobs")["jobs"] == []

    def test_a_form_of_another_page(self, server: Server, key: Checksum) -> None:
        body = {"protocol": 1, "jobs": [request(key, "me")]}
        status, error = server.raw("POST", body, kind="text/plain")
        assert (status, error) == (415, "the body must be of type application/json")

    def test_a_name_that_two_jobs_share(self, server: Server, lab: Any, key: Checksum) -> None:
        jobs = [request(key, "me"), request(lab.store("echo 2"), "me")]
        for some in (jobs, jobs[:1], jobs[1:]):
            status, error = server.raw("POST", {"protocol": 1, "jobs": some})
        assert (status, error) == (400, "me waits for another job: each needs a name of its own")
        assert [job["key"] for job in server.ask("GET", "/jobs")["jobs"]] == [key]

    def test_too_many_at_once(self, server: Server, key: Checksum) -> None:
        body = {"protocol": 1, "jobs": [request(key, f"me{n}") for n in range(10_001)]}
        assert server.raw("POST", body)[0] == 413

    def test_too_much_at_once(self, server: Server) -> None:
        assert server.raw("POST", {"protocol": 1, "jobs": [], "more": "x" * (33 << 20)})[0] == 413

    def test_what_a_jobserver_does_not_do(self, server: Server, key: Checksum) -> None:
        server.ask("POST", "/jobs", {"protocol": 1, "jobs": [request(key, "me")]})
        for method, path in (
            ("DELETE", "/jobs"),
            ("DELETE", f"/jobs/{key}/stderr"),
            ("GET", f"/jobs/{key}/more"),
        ):
            assert server.raw(method, None, path)[0] == 405
        assert server.executor().state(key) != "cancelled"

    def test_a_job_that_nobody_has_asked_for(self, server: Server, key: Checksum) -> None:
        assert server.raw("GET", None, f"/jobs/{key}") == (404, f"nobody has asked for {key} here")
        assert server.executor().state(key) is None
        assert not server.executor().cancel(key)

    def test_a_document_that_is_not_there(self, server: Server) -> None:
        error = Asker(server, Checksum("0" * 64)).end().error
        assert isinstance(error, BufferMissing)
        assert "submit it again" in str(error)

    def test_a_server_that_is_gone(self, server: Server, key: Checksum) -> None:
        server.stop()
        error = Asker(server, key).end().error
        server.start()
        assert isinstance(error, ServiceUnavailable)
        assert str(error).startswith("no connection to http://127.0.0.1:")
        assert "\n" not in str(error)

    def test_a_server_without_a_jobserver(self, server: Server, key: Checksum, tmp_path: Path) -> None:
        facts = connection.read(server.path)
        connection.write(server.path, facts._replace(jobserver=f"{facts.jobserver}/nothing"))
        error = Asker(server, key).end().error
        assert isinstance(error, ServiceUnavailable)
        assert "has no jobserver" in str(error)
