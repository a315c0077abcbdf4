"""Who runs computations: this host, or a scheduler that is named by its address."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from distributed import LocalCluster

from hashserver.errors import ServiceUnavailable
from seamless_dask.config import load
from seamless_dask.context import Context
from seamless_dask.errors import ComputationFailed, LimitExceeded, UsageError
from seamless_dask.executors.dask import DaskExecutor
from seamless_dask.executors.embedded import Embedded
from seamless_dask.executors.http import JobserverExecutor
from seamless_dask.executors.opening import executor
from seamless_dask.jobs.request import JobRequest
from seamless_dask.model.options import Options
from seamless_dask.model.transformation import Deferred, Value
from seamless_dask.protocol import scheduler as protocol
from seamless_dask.protocol.discovery import ask_places, with_places
from seamless_dask.scheduler import SeamlessScheduler
from seamless_dask.worker.data_locations import DataLocations

PLAIN = Options(isolation="none")
BARE: dict[str, Any] = {
    "processes": False,
    "dashboard_address": "127.0.0.1:0",
    "host": "127.0.0.1",
    "protocol": "tcp://",
}


class Wait(threading.Thread):
    """One who waits, in a thread of its own."""

    def __init__(self, action: Callable[[], Value]) -> None:
        super().__init__(daemon=True)
        self.action, self.value, self.error = action, None, None
        self.start()

    def run(self) -> None:
        try:
            self.value = self.action()
        except BaseException as error:
            self.error = error

    def end(self) -> Value:
        self.join(60)
        assert self.error is None
        assert self.value is not None
        return self.value


def test_the_configuration_says_which(home: Any, tmp_path: Any) -> None:
    def kind(server: str | None) -> type:
        context = Context(load({}, str(tmp_path))._replace(daskserver=server))
        return type(executor(context))

    assert kind(None) is Embedded
    assert kind("/run/connection.json") is JobserverExecutor
    assert kind("tcp://127.0.0.1:8786") is DaskExecutor
    assert kind("tls://127.0.0.1:8786") is DaskExecutor


class TestEmbedded:
    def test_runs_here(self, lab: Any) -> None:
        states: list[str] = []
        value = executor(lab.context).run(JobRequest(lab.store("echo hi"), PLAIN), tick=states.append)
        assert lab.bytes(value) == b"hi\n"
        assert set(states) == {"running"}

    def test_lists_and_cancels(self, lab: Any) -> None:
        gate = lab.gate()
        key = lab.store(gate.command)
        own = executor(lab.context)
        own.submit(JobRequest(key, PLAIN))
        process = gate.wait()
        assert [(job.key, job.state) for job in own.jobs()] == [(key, "running")]
        assert own.state(key) == "running"
        assert own.cancel(key)
        lab.wait_until(lambda: not lab.is_alive(process))
        lab.await_end(key)
        assert own.state(key) is None
        assert not own.cancel(key)


class Scheduler:
    """A scheduler with our plugin, that is known by its address."""

    def __init__(self, lab: Any, port: int = 0, workers: int = 1) -> None:
        self.lab = lab
        self.cluster = LocalCluster(
            **BARE,
            n_workers=workers,
            threads_per_worker=3,
            worker_dashboard_address=None,
            scheduler_port=port,
        )
        with self.cluster.get_client() as client:
            client.register_plugin(SeamlessScheduler())
        self.executors: list[DaskExecutor] = []

    @property
    def address(self) -> str:
        found: str = self.cluster.scheduler_address
        return found

    @property
    def tasks(self) -> Any:
        return self.cluster.scheduler.tasks

    def executor(self) -> DaskExecutor:
        self.executors.append(DaskExecutor(self.lab.context, self.address))
        return self.executors[-1]

    def close(self) -> None:
        for own in self.executors:
            own.close()
        self.cluster.close()


@pytest.fixture
def scheduler(lab: Any) -> Iterator[Scheduler]:
    found = Scheduler(lab)
    yield found
    found.close()


class TestDask:
    def test_a_result_comes_back(self, scheduler: Scheduler, lab: Any) -> None:
        assert lab.bytes(scheduler.executor().run(JobRequest(lab.store("echo hi"), PLAIN))) == b"hi\n"

    def test_a_failure_keeps_status_and_stderr(self, scheduler: Scheduler, lab: Any) -> None:
        with pytest.raises(ComputationFailed) as caught:
            scheduler.executor().run(JobRequest(lab.store("echo oh >&2; exit 3"), PLAIN))
        assert (caught.value.exit_status, caught.value.stderr) == (3, "oh\n")

    def test_a_pipeline(self, scheduler: Scheduler, lab: Any) -> None:
        first = lab.store("echo one")
        second = lab.store("cat input", inputs={"input": Deferred(first, None)})
        assert lab.bytes(scheduler.executor().run(JobRequest(second, PLAIN))) == b"one\n"

    def test_a_process_that_dies_cancels_nothing(self, scheduler: Scheduler, lab: Any) -> None:
        gate = lab.gate()
        key = lab.store(f"{lab.counted()}; {gate.command}; echo hi")
        own = scheduler.executor()
        own.submit(JobRequest(key, PLAIN))
        own.close()
        gate.wait()
        rerun = scheduler.executor()
        waiting = Wait(lambda: rerun.run(JobRequest(key, PLAIN)))
        lab.wait_until(lambda: [job.askers for job in rerun.jobs()] == [2])
        gate.open()
        assert lab.bytes(waiting.end()) == b"hi\n"
        assert lab.ran() == ["ran"]

    def test_being_interrupted_stops_it(self, scheduler: Scheduler, lab: Any) -> None:
        gate = lab.gate()
        key = lab.store(gate.command)
        begun: list[int] = []

        def interrupt(state: str) -> None:
            if state == "running":
                begun.append(gate.wait())
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            scheduler.executor().run(JobRequest(key, PLAIN), tick=interrupt)
        lab.wait_until(lambda: not lab.is_alive(begun[0]))
        assert not scheduler.tasks

    def test_being_interrupted_leaves_it_to_others(self, scheduler: Scheduler, lab: Any) -> None:
        gate = lab.gate()
        key = lab.store(f"{gate.command}; echo hi")
        patient = scheduler.executor()
        waiting = Wait(lambda: patient.run(JobRequest(key, PLAIN)))
        gate.wait()

        def interrupt(state: str) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            scheduler.executor().run(JobRequest(key, PLAIN), tick=interrupt)
        gate.open()
        assert lab.bytes(waiting.end()) == b"hi\n"

    def test_lists_and_cancels(self, scheduler: Scheduler, lab: Any) -> None:
        gate = lab.gate()
        key = lab.store(f"date; {gate.command}")
        own = scheduler.executor()
        own.submit(JobRequest(key, PLAIN))
        gate.wait()
        (job,) = own.jobs()
        assert (job.key, job.state, job.label, job.node) == (key, "running", "date", "127.0.0.1")
        assert own.state(key) == "running"
        assert own.cancel(key)
        lab.wait_until(lambda: not scheduler.tasks)
        assert not own.cancel(key)

    def test_a_limit_fails_only_the_one_who_set_it(self, scheduler: Scheduler, lab: Any) -> None:
        gate = lab.gate()
        key = lab.store(f"{gate.command}; echo hi")
        patient, hasty = scheduler.executor(), scheduler.executor()
        waiting = Wait(lambda: patient.run(JobRequest(key, PLAIN)))
        gate.wait()
        with pytest.raises(LimitExceeded):
            hasty.run(JobRequest(key, PLAIN._replace(time_limit=0.1)))
        gate.open()
        assert lab.bytes(waiting.end()) == b"hi\n"

    def test_what_waits_for_a_worker_is_listed_and_cancelled(self, lab: Any) -> None:
        scheduler = Scheduler(lab, workers=0)
        own, keys = scheduler.executor(), [lab.store(f"echo {number}") for number in range(2)]
        for priority, key in enumerate(keys):
            own.submit(JobRequest(key, PLAIN._replace(priority=priority)))
        lab.wait_until(lambda: [job.position for job in own.jobs()] == [2, 1])
        assert [(job.key, job.state) for job in own.jobs()] == [(key, "queued") for key in keys]
        assert own.cancel(keys[0])
        lab.wait_until(lambda: len(scheduler.tasks) == 1)
        assert own.state(keys[0]) == "cancelled"
        scheduler.close()

    def test_who_does_not_wait_for_lost_bytes_has_them_made_again(
        self, scheduler: Scheduler, lab: Any
    ) -> None:
        key = lab.store("echo hi")
        value = scheduler.executor().run(JobRequest(key, PLAIN))
        lab.context.store.delete(value.checksum)
        scheduler.executor().submit(JobRequest(key, PLAIN, need_bytes=True))
        lab.wait_until(lambda: lab.context.store.has([value.checksum])[0] >= 0)

    def test_a_scheduler_without_our_plugin(self, lab: Any) -> None:
        with LocalCluster(**BARE, n_workers=0) as cluster:
            own = DaskExecutor(lab.context, cluster.scheduler_address)
            with pytest.raises(ServiceUnavailable, match="has no plugin of seamless-dask: start it with"):
                own.run(JobRequest(lab.store("echo hi"), PLAIN))
            own.close()

    def test_stderr_comes_while_the_command_runs(self, scheduler: Scheduler, lab: Any) -> None:
        gate = lab.gate()
        key = lab.store(f"echo one >&2; {gate.command}; echo hi")
        shown: list[bytes] = []

        def show(data: bytes) -> None:
            shown.append(data)
            gate.wait()
            gate.open()

        scheduler.executor().run(JobRequest(key, PLAIN), on_stderr=show)
        assert b"".join(shown) == b"one\n"

    def test_lost_bytes_are_made_again_for_one_who_needs_them(self, scheduler: Scheduler, lab: Any) -> None:
        key = lab.store(f"{lab.counted()}; echo hi")
        value = scheduler.executor().run(JobRequest(key, PLAIN))
        lab.context.store.delete(value.checksum)
        scheduler.executor().run(JobRequest(key, PLAIN, need_bytes=True))
        assert lab.bytes(value) == b"hi\n"
        assert lab.ran() == ["ran", "ran"]

    def test_a_scheduler_that_does_not_answer(self, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(protocol, "CONNECT_SECONDS", 0.3)
        own = DaskExecutor(lab.context, "tcp://127.0.0.1:9")
        with pytest.raises(ServiceUnavailable) as caught:
            own.run(JobRequest(lab.store("echo hi"), PLAIN))
        assert str(caught.value).startswith("no connection to the scheduler at tcp://127.0.0.1:9: ")
        assert " object at " not in str(caught.value)
        own.close()

    def test_one_who_waits_finds_a_scheduler_that_comes_back(self, lab: Any) -> None:
        first = Scheduler(lab, workers=0)
        key = lab.store("echo hi")
        port = int(first.address.rpartition(":")[2])
        own = DaskExecutor(lab.context, first.address)
        waiting = Wait(lambda: own.run(JobRequest(key, PLAIN)))
        lab.wait_until(lambda: first.tasks)
        first.close()
        second = Scheduler(lab, port)
        assert lab.bytes(waiting.end()) == b"hi\n"
        own.close()
        second.close()


class TestPlaces:
    """A scheduler tells where its store and database are."""

    def test_they_are_asked_for_once(self, scheduler: Scheduler, tmp_path: Any) -> None:
        address = scheduler.address
        told = scheduler.lab.context.config
        own = load({"cache": str(tmp_path / "own"), "daskserver": address}, str(tmp_path))
        for _ in range(2):
            found = with_places(own)
            assert (found.stores, found.database) == (told.stores, told.database)
            scheduler.close()  # the second time it is remembered

    def test_passwords_are_not_told(self, lab: Any) -> None:
        store = "sftp://me:hush@elsewhere/store"
        with LocalCluster(**BARE, n_workers=0) as cluster:
            with cluster.get_client() as client:
                config = lab.context.config._replace(stores=(store, *lab.context.config.stores))
                client.register_plugin(SeamlessScheduler(lab.context.config, DataLocations.of(config)))
            told = ask_places(cluster.scheduler_address)
        assert list(told["stores"]) == ["sftp://me@elsewhere/store", *lab.context.config.stores]

    def test_what_is_configured_counts(self, tmp_path: Any) -> None:
        own = load({"daskserver": "tcp://127.0.0.1:9", "store": "/s", "database": "/d"}, str(tmp_path))
        assert with_places(own) == own

    def test_paths_of_another_host_are_of_no_use(self, lab: Any, tmp_path: Any) -> None:
        from seamless_dask.protocol.discovery import placed

        told = {"stores": ["/s"], "database": "/d", "host": "elsewhere"}
        with pytest.raises(UsageError, match="cannot be reached from here: name a hashserver"):
            placed(lab.context.config, "tcp://elsewhere:1", told)

    def test_servers_of_another_host_are(self, lab: Any) -> None:
        from seamless_dask.protocol.discovery import placed

        url = "https://elsewhere:1"
        told = {"stores": ["/s", url], "database": url, "host": "elsewhere"}
        found = placed(lab.context.config, "tcp://elsewhere:1", told)
        assert (found.stores, found.database, found.hashserver) == ((url,), url, url)
