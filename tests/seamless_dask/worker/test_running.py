"""What workers do with transformations while all goes well, and when commands fail."""

from __future__ import annotations

import os
from typing import Any

import pytest
from distributed import Client, as_completed

from seamless_dask import File
from seamless_dask.errors import ComputationFailed, LimitExceeded

from .conftest import wait_until


def test_a_result_is_recorded_and_handed_over(cluster: Any) -> None:
    tf = cluster.bash("echo hello")
    assert cluster.text(cluster.run(tf)) == "hello\n"
    assert cluster.context.database.get(tf.key).record["exit_status"] == 0


def test_a_chain_passes_names_and_not_bytes(cluster: Any) -> None:
    first = cluster.bash("echo 1 > a; echo 2 > b", results=["a", "b"])
    second = cluster.bash("cat x y", {"x": first["a"], "y": first["b"]})
    assert cluster.text(cluster.run(second)) == "1\n2\n"


def test_equal_work_under_two_keys_runs_once(cluster: Any, gate: Any) -> None:
    source = cluster.bash("echo same # two names")
    deferred = cluster.bash(f"{gate.code}; cat x", {"x": source})
    known = File(checksum=cluster.run(source).checksum)
    direct = cluster.bash(f"{gate.code}; cat x", {"x": known})
    assert deferred.key != direct.key
    futures = cluster.client.compute([deferred, direct])
    gate.wait()
    gate.open()
    assert {future.result() for future in as_completed(futures)} == {futures[0].result()}
    assert len(gate.pids()) == 1


def test_a_failure_names_step_worker_status_and_stderr(cluster: Any) -> None:
    first = cluster.bash("echo 1; echo why >&2; exit 7")
    last = cluster.bash("cat x", {"x": first})
    with pytest.raises(ComputationFailed) as caught:
        cluster.client.compute(last).result()
    error = caught.value
    assert str(error).startswith(f"echo ({first.key[:8]}): the command failed on {os.uname().nodename}")
    assert "(worker " in str(error)
    assert (error.exit_status, error.stderr) == (7, "why\n")
    assert [event["exit_status"] for event in cluster.events("failed", first)] == [7]
    assert cluster.context.database.get(first.key) is None


def test_a_limit_kills_the_command(cluster: Any, gate: Any) -> None:
    with pytest.raises(LimitExceeded, match=r"time limit of 0\.2 s"):
        cluster.run(cluster.bash(gate.code, time_limit=0.2))
    wait_until(lambda: not os.path.exists(f"/proc/{gate.wait()}"))


def test_a_memory_kill_takes_the_command_and_not_the_worker(cluster: Any, monkeypatch: Any) -> None:
    workers = set(cluster.client.scheduler_info()["workers"])
    with pytest.raises(LimitExceeded, match="more than its limit of 50 MiB"):
        cluster.run(cluster.bash("x=$(head -c 150M /dev/zero | tr '\\0' x); sleep 60; echo $x", memory="50M"))
    assert set(cluster.client.scheduler_info()["workers"]) == workers


def test_a_cancelled_command_is_killed_and_nothing_recorded(cluster: Any, gate: Any) -> None:
    tf = cluster.bash(f"{gate.code}; echo done # cancelled")
    future = cluster.client.compute(tf)
    process = gate.wait()
    future.cancel()
    wait_until(lambda: not os.path.exists(f"/proc/{process}"))
    assert cluster.context.database.get(tf.key) is None
    assert cluster.context.database.failures(tf.key) == []


def test_what_is_asked_for_again_after_a_cancel_runs_again(cluster: Any, gate: Any) -> None:
    tf = cluster.bash(f"{gate.code}; echo again # cancelled and wanted")
    future = cluster.client.compute(tf)
    gate.wait()
    future.cancel()
    [key] = tf.__dask_keys__()
    wait_until(
        lambda: cluster.client.run_on_scheduler(lambda dask_scheduler: key not in dask_scheduler.tasks)
    )
    with Client(cluster.local) as other:  # a client keeps what it has cancelled as cancelled for a moment
        again = other.compute(tf)
        gate.open()
        assert cluster.text(again.result().value) == "again\n"


def test_stderr_can_be_read_while_the_command_runs(cluster: Any, gate: Any) -> None:
    tf = cluster.bash(f"echo soon >&2; {gate.code}; echo late >&2; echo # stderr")
    future = cluster.client.compute(tf)
    gate.wait()
    worker, [key] = cluster.where(tf), tf.__dask_keys__()

    def read(start: int) -> dict[str, Any]:
        async def ask(dask_scheduler: Any) -> Any:
            return await dask_scheduler.rpc(worker).seamless_stderr(key=key, start=start)

        found: dict[str, Any] = cluster.client.run_on_scheduler(ask)
        return found

    assert wait_until(lambda: read(0)["data"]) == b"soon\n"
    assert not read(0)["over"]
    gate.open()
    future.result()
    assert wait_until(lambda: read(5)["over"] and read(5)) == {"data": b"late\n", "size": 10, "over": True}


def test_a_limit_of_one_asker_fails_only_that_one(cluster: Any, gate: Any) -> None:
    tf = cluster.bash(f"{gate.code}; echo # two askers")
    future = cluster.client.compute(tf)
    gate.wait()
    worker, [key] = cluster.where(tf), tf.__dask_keys__()
    askers = {"hasty": '{"time_limit":0.01}', "patient": "{}"}

    async def tell(dask_scheduler: Any) -> Any:
        return await dask_scheduler.rpc(worker).seamless_askers(key=key, askers=askers)

    cluster.client.run_on_scheduler(tell)
    [event] = wait_until(lambda: cluster.events("asker-failed", tf))
    assert event["asker"] == "hasty"
    assert "which only you had set" in event["message"]
    gate.open()
    assert future.result().value.format == "file"


def test_who_asks_for_a_task_that_is_gone_is_not_kept(cluster: Any) -> None:
    tf = cluster.bash("echo # gone")
    cluster.run(tf)
    [key], worker = tf.__dask_keys__(), cluster.where(tf)
    known = lambda dask_worker: key in dask_worker.state.tasks  # noqa: E731
    wait_until(lambda: not any(cluster.client.run(known).values()))

    async def tell(dask_scheduler: Any) -> Any:
        return await dask_scheduler.rpc(worker).seamless_askers(key=key, askers={"late": "{}"})

    cluster.client.run_on_scheduler(tell)
    kept = lambda dask_worker: list(dask_worker.extensions["seamless"]._askers)  # noqa: E731
    assert set(map(tuple, cluster.client.run(kept).values())) == {()}


def test_bytes_that_are_gone_are_made_again(cluster: Any) -> None:
    first = cluster.bash("echo lost")
    value = cluster.run(first)
    cluster.context.store.delete(value.checksum)
    second = cluster.bash("cat x; echo found", {"x": File(checksum=value.checksum)})
    assert cluster.text(cluster.run(second)) == "lost\nfound\n"
    assert cluster.text(value) == "lost\n"


def test_lost_bytes_are_made_again_once_for_many(cluster: Any, tmp_path: Any) -> None:
    log = tmp_path / "log"
    value = cluster.run(cluster.bash(f"echo ran >> {log}; echo lost by many"))
    cluster.context.store.delete(value.checksum)
    lost = File(checksum=value.checksum)
    tfs = [cluster.bash(f"cat x; echo {number}", {"x": lost}) for number in range(4)]
    for future in cluster.client.compute(tfs):
        future.result()
    assert log.read_text() == "ran\nran\n"


def test_workers_tell_what_they_hold(cluster: Any, gate: Any) -> None:
    tf = cluster.bash(f"{gate.code}; echo # heartbeat")
    future = cluster.client.compute(tf)
    gate.wait()

    def running() -> list[dict[str, Any]]:
        found = cluster.client.scheduler_info(n_workers=-1)["workers"].values()
        told = [worker["metrics"].get("seamless", {}) for worker in found]
        return [job for metrics in told for job in metrics.get("running", []) if job["checksum"] == tf.key]

    [job] = wait_until(running)
    assert job["key"] == tf.__dask_keys__()[0]
    gate.open()
    future.result()


def test_one_that_is_published_is_found_by_others(cluster: Any) -> None:
    cluster.client.publish_dataset(cluster.bash("echo published"), name="ours")
    with Client(cluster.local) as other:
        found = other.get_dataset("ours")
        assert cluster.text(other.compute(found).result().value) == "published\n"
    cluster.client.unpublish_dataset("ours")


def test_a_function_on_a_worker_gets_it_with_the_places_of_the_worker(cluster: Any) -> None:
    def stores(tf: Any) -> Any:
        return tf.context.config.stores

    assert cluster.client.submit(stores, cluster.bash("echo sent")).result() == cluster.config.stores


def test_a_thread_that_a_task_has_started_can_wait_for_it_too(cluster: Any, gate: Any) -> None:
    code = f"{gate.code}; echo shared"
    elsewhere = cluster.client.compute(cluster.bash(code))
    gate.wait()

    def function(code: str) -> str:
        from seamless_dask import bash

        return str(bash(code).compute(scheduler="threads").checksum)

    future = cluster.client.submit(function, code)
    wait_until(lambda: sum(map(len, cluster.client.processing().values())) == 2)
    gate.open()
    assert future.result() == elsewhere.result().checksum
    assert len(gate.pids()) == 1


def test_a_task_finds_the_worker_with_what_it_asks_for(cluster: Any) -> None:
    here = cluster.bash("echo here", node=os.uname().nodename, cpus=1)
    assert cluster.text(cluster.run(here)) == "here\n"


def test_a_fresh_run_runs_again(cluster: Any, tmp_path: Any) -> None:
    log = tmp_path / "log"
    code = f"echo ran >> {log}; echo fresh"
    cluster.run(cluster.bash(code))
    cluster.run(cluster.bash(code, fresh=True))
    assert log.read_text() == "ran\nran\n"
