"""What tasks have computed is recorded together, before anybody hears of it."""

from __future__ import annotations

import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import InvalidRequest, Irreproducible, ServiceUnavailable
from hashserver.results.result import Provenance, Put
from seamless_dask import delayed
from seamless_dask.config import load
from seamless_dask.context import Context
from seamless_dask.worker.recorder import NewResult, Recorder

from .conftest import Cluster, wait_until


def new_result(number: int, **record: Any) -> NewResult:
    data = f"result {number}\n".encode()
    provenance = Provenance(hash_bytes(b"the code"), names=[f"run {number}"])
    put = Put(_name(number), "file", hash_bytes(data), {"wall": 1.0, **record}, (), provenance)
    return NewResult(put, [data])


def _name(number: int) -> Checksum:
    return hash_bytes(f"transformation {number}".encode())


def together(context: Context, results: list[NewResult]) -> list[BaseException | None]:
    """Record some results in as many threads at the same time; return how each ended."""
    recorder = Recorder(context, lambda: False)
    gathering = recorder._record_together
    with ThreadPoolExecutor(len(results)) as threads:
        with gathering._turn:  # as while a request is under way
            jobs = [threads.submit(recorder.record, result, last=True) for result in results]
            wait_until(lambda: len(gathering._waiting) == len(results))
        return [job.exception(60) for job in jobs]


def requests(context: Context) -> Counter[str]:
    text = context.store.transport.request("GET", "/metrics").read().decode()  # type: ignore[attr-defined]
    found = Counter[str]()
    for line in text.splitlines():
        if line.startswith("hashserver_requests_total"):
            found[line.split('"')[1]] += int(float(line.rpartition(" ")[2]))
    return found


def test_results_go_in_one_request_and_each_hears_of_itself(
    hashserver: dict[str, object], tmp_path: Path
) -> None:
    with Context(load(hashserver, str(tmp_path))) as context:
        context.database.put(_name(0), "file", hash_bytes(b"another"))
        results = [new_result(number) for number in range(5)]
        before = requests(context)
        errors = together(context, [*results, results[1]])
        sent = requests(context) - before
        assert (sent["results"], sent["result"]) == (1, 1)  # the same transformation goes by itself
        assert [type(error) for error in errors] == [Irreproducible, *[type(None)] * 5]
        assert str(results[0].put.checksum) in str(errors[0])
        found = context.database.get_many([result.put.tf for result in results])
        assert [found[result.put.tf].checksum for result in results[1:]] == [
            result.put.checksum for result in results[1:]
        ]
        assert found[results[0].put.tf].checksum == hash_bytes(b"another")
        assert [context.store.get(result.put.checksum) for result in results] == [
            result.buffers[0] for result in results
        ]
        record = context.database.get(_name(3))
        assert record is not None
        assert record.record == {"wall": 1.0}
        assert list(context.database.runs([_name(3)])) == [_name(3)]


def test_one_that_cannot_be_recorded_is_in_the_way_of_no_other(
    hashserver: dict[str, object], tmp_path: Path
) -> None:
    with Context(load(hashserver, str(tmp_path))) as context:
        results = [new_result(0), new_result(1, stderr="\ud800"), new_result(2)]
        errors = together(context, results)
        assert [type(error) for error in errors] == [type(None), InvalidRequest, type(None)]
        assert set(context.database.get_many(map(_name, range(3)))) == {_name(0), _name(2)}


def test_results_are_recorded_together_without_a_server(lab: Any) -> None:
    lab.context.database.put(_name(0), "file", hash_bytes(b"another"))
    errors = together(lab.context, [new_result(0), new_result(1)])
    assert [type(error) for error in errors] == [Irreproducible, type(None)]
    assert lab.context.store.get(new_result(1).put.checksum) == b"result 1\n"


def test_all_are_told_when_there_is_no_server(hashserver: dict[str, object], tmp_path: Path) -> None:
    gone = {**hashserver, "hashserver": "http://127.0.0.1:9"}
    with Context(load(gone, str(tmp_path))) as context:
        errors = together(context, [new_result(0), new_result(1)])
        assert all(isinstance(error, ServiceUnavailable) for error in errors)


def hold_back(cluster: Any, opened: Path) -> None:
    """Have workers record nothing until a file is there, or they close."""
    path = str(opened)

    def hold() -> None:
        import os
        import time

        from distributed import Worker

        from hashserver.client.database import DatabaseClient

        (worker,) = Worker._instances

        def held_back(record: Any) -> Any:
            def held(*arguments: Any) -> Any:
                while not os.path.exists(path) and worker.status.name != "closing":
                    time.sleep(0.01)
                return record(*arguments)

            return held

        for name in ("put", "put_many"):
            setattr(DatabaseClient, name, held_back(getattr(DatabaseClient, name)))

    cluster.client.run(hold)


class Log:
    """Commands that note that they run, and by which worker."""

    def __init__(self, cluster: Any, path: Path) -> None:
        self.cluster, self.path = cluster, path

    def commands(self, numbers: range) -> list[Any]:
        return [self.cluster.bash(f"echo {each} $PPID >> {self.path}; echo {each}") for each in numbers]

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def times(self) -> Counter[str]:
        return Counter(number for number, _ in self.lines())


def parent(number: int) -> list[int]:
    import os

    return [number, os.getppid()]


def test_a_thread_that_has_a_runner_keeps_it(own_cluster: Any) -> None:
    call = delayed(context=own_cluster.context)(parent)
    found = own_cluster.client.gather(own_cluster.client.compute(list(map(call, range(8)))))
    assert [number for number, _ in found] == list(range(8))
    assert len({runner for _, runner in found}) <= 2


def test_tasks_that_wait_to_be_recorded_hold_no_thread_and_run_again_when_their_worker_is_killed(
    own_cluster: Any, tmp_path: Path
) -> None:
    opened, log = tmp_path / "opened", Log(own_cluster, tmp_path / "log")
    hold_back(own_cluster, opened)
    made = log.commands(range(8))
    futures = own_cluster.client.compute(made)
    wait_until(lambda: len(log.lines()) == len(made))  # by two threads, of which none has got an answer
    assert not any(future.done() for future in futures)
    victim = log.lines()[0][1]
    lost = {number for number, worker in log.lines() if worker == victim}
    os.kill(int(victim), signal.SIGKILL)
    opened.touch()
    found = own_cluster.client.gather(futures)
    assert [own_cluster.text(handle.value) for handle in found] == [f"{number}\n" for number in range(8)]
    assert log.times() == {str(number): 1 + (str(number) in lost) for number in range(8)}
    assert len(own_cluster.context.database.lookup_many([tf.key for tf in made])) == len(made)


def test_what_waits_is_recorded_when_the_server_is_back_and_before_a_worker_closes(tmp_path: Path) -> None:
    directory = tmp_path / "cluster"
    directory.mkdir()
    with closing(Cluster(directory, n_workers=1)) as cluster:
        opened, log = tmp_path / "opened", Log(cluster, tmp_path / "log")
        hold_back(cluster, opened)
        futures = cluster.client.compute(log.commands(range(4)))
        wait_until(lambda: len(log.lines()) == 4)
        cluster.hashserver.kill()
        opened.touch()
        cluster.hashserver.start()
        assert [cluster.text(handle.value) for handle in cluster.client.gather(futures)] == [
            f"{number}\n" for number in range(4)
        ]

        opened.unlink()
        made = log.commands(range(4, 8))
        futures = cluster.client.compute(made)
        wait_until(lambda: len(log.lines()) == 8)
        (worker,) = cluster.client.nthreads()
        cluster.client.retire_workers([worker], close_workers=True)
        wait_until(lambda: len(cluster.context.database.lookup_many([tf.key for tf in made])) == 4)
        assert log.times() == dict.fromkeys(map(str, range(8)), 1)
        for future in futures:
            future.cancel()
