"""A death costs only what was running; what is lost too often is given up with the reasons."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from typing import Any

import pytest
from dask._task_spec import Task, TaskRef
from distributed import Client
from distributed.scheduler import KilledWorker

from seamless_dask.errors import SeamlessError, WorkerLost
from seamless_dask.graph import task
from seamless_dask.graph.handles import of as handle_of
from seamless_dask.model.options import Options
from seamless_dask.model.transformation import Deferred
from seamless_dask.scheduler import retries as module

KILL = "kill -9 $PPID; sleep 60"  # the command's parent is the worker


def options(retries: int) -> Options:
    return Options(isolation="none", retries=retries)


# ------------------------------------------------------------------------ deaths


def test_what_a_death_interrupted_runs_again(farm: Any) -> None:
    gate, mark = farm.lab.gate(), farm.lab.directory / "mark"
    future = farm.submit(farm.store(f"{gate.command}; mkdir {mark} && {{ {KILL}; }}; echo done"))
    farm.let_go(gate, future)
    farm.let_go(gate, future)
    assert farm.lab.bytes(future.result(60).value) == b"done\n"


def test_losses_can_be_asked_for_while_it_is_tried_again(farm: Any) -> None:
    gate, mark = farm.lab.gate(), farm.lab.directory / "mark"
    future = farm.submit(farm.store(f"{gate.command}; mkdir {mark} && {{ {KILL}; }}; echo done"))
    farm.let_go(gate, future)
    gate.wait()
    (loss,) = farm.plugin.recovery.losses(future.key)
    assert loss.startswith("tcp://")
    assert "killed, or its connection broke" in loss
    gate.open()
    future.result(60)
    assert farm.plugin.recovery.losses(future.key) == []


def test_what_kills_its_workers_is_given_up_with_their_names(farm: Any) -> None:
    gate = farm.lab.gate()
    future = farm.submit(farm.store(f"{gate.command}; {KILL}"), options(retries=1))
    farm.let_go(gate, future)
    farm.let_go(gate, future)
    with pytest.raises(WorkerLost) as caught:
        future.result(60)
    text = str(caught.value)
    assert "given up after 2 attempts" in text
    assert text.count("tcp://") == 2
    assert text.count("killed, or its connection broke") == 2
    assert "\n" not in text


def test_what_was_given_up_runs_when_it_is_asked_for_again(farm: Any) -> None:
    gate, mark = farm.lab.gate(), farm.lab.directory / "mark"
    key = farm.store(f"{gate.command}; mkdir {mark} && {{ {KILL}; }}; echo done")
    future = farm.submit(key, options(retries=0))
    farm.let_go(gate, future)
    with pytest.raises(WorkerLost):
        future.result(60)
    future.retry()
    farm.let_go(gate, future)
    assert farm.lab.bytes(future.result(60).value) == b"done\n"


def test_what_depends_on_it_hears_of_it(farm: Any) -> None:
    gate = farm.lab.gate()
    first = farm.store(f"{gate.command}; {KILL}")
    key = farm.store("cat 0", inputs={"0": Deferred(first)})
    direct = farm.submit(first, options(retries=0))
    future = farm.submit(key)
    farm.lab.wait_until(lambda: farm.state(future.key))  # asked for after the failure it would run again
    farm.let_go(gate, direct)
    with pytest.raises(WorkerLost, match="given up after one attempt"):
        future.result(60)


def test_a_stock_client_reads_the_error() -> None:
    error = WorkerLost("w was given up after one attempt: tcp://w: killed")
    script = "import pickle, sys; print(repr(pickle.loads(sys.stdin.buffer.read())))"
    words = [sys.executable, "-c", script]
    printed = subprocess.run(words, input=pickle.dumps(error), capture_output=True, check=True).stdout
    assert printed.decode().strip() == repr(error)


def test_the_innocent_are_never_given_up(farm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are assigned at once: with Dask's own counting one death would be the end of half of them."""
    monkeypatch.setattr(farm.scheduler, "allowed_failures", 0)
    gate = farm.lab.gate()
    killer = farm.submit(farm.store(f"{gate.command}; {KILL}"), options(retries=1))
    farm.await_begin(gate, killer)
    futures = farm.submit_all([farm.store(f"echo {number}") for number in range(60)])
    gate.open()
    farm.let_go(gate, killer)
    with pytest.raises(WorkerLost):
        killer.result(60)
    assert len(farm.client.gather(futures)) == 60


def test_the_tasks_of_others_keep_dasks_ways(farm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farm.scheduler, "allowed_failures", 1)
    future = farm.client.submit(os._exit, 1, key="theirs", allow_other_workers=False)
    with pytest.raises(KilledWorker):
        future.result(60)
    assert farm.plugin.recovery.losses("theirs") == []


def test_a_cancelled_run_is_no_loss(farm: Any) -> None:
    gate = farm.lab.gate()
    key = farm.store(f"{gate.command}; echo done")
    future = farm.submit(key)
    process = gate.wait()
    name = future.key
    future.release()
    farm.lab.wait_until(lambda: farm.state(name) is None and not farm.lab.is_alive(process))
    future = farm.submit(key)
    gate.wait()
    assert farm.plugin.recovery.losses(name) == []
    gate.open()
    assert farm.lab.bytes(future.result(60).value) == b"done\n"


def test_a_worker_that_is_closed_in_mid_run_is_a_loss_that_says_so(own_farm: Any) -> None:
    gate = own_farm.lab.gate()
    future = own_farm.submit(own_farm.store(f"{gate.command}; echo done"))
    process = own_farm.await_begin(gate, future)
    address = own_farm.scheduler.tasks[future.key].processing_on.address
    own_farm.client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.close_worker(address))
    own_farm.lab.wait_until(lambda: not own_farm.lab.is_alive(process))
    gate.wait()
    (loss,) = own_farm.plugin.recovery.losses(future.key)
    assert loss.startswith(address)
    assert "closed (scheduler-close-worker)" in loss
    gate.open()
    future.result(60)


def test_what_the_queue_tells_of_a_job_is_waited_for_and_passed_on(
    farm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recovery = farm.plugin.recovery
    monkeypatch.setattr(recovery, "is_told", lambda worker: True)
    gate = farm.lab.gate()
    future = farm.submit(farm.store(f"{gate.command}; echo done"), options(retries=0))
    farm.await_begin(gate, future)
    worker = farm.scheduler.tasks[future.key].processing_on
    farm.kill(worker.address)
    farm.lab.wait_until(lambda: farm.plugin.cutoff.held(future.key))
    assert farm.state(future.key) == "waiting"
    farm.scheduler.loop.add_callback(recovery.tell, str(worker.name), "SLURM job 17 was cancelled")
    with pytest.raises(WorkerLost, match=r"SLURM job 17 was cancelled"):
        future.result(60)


def test_what_the_queue_does_not_tell_is_not_waited_for_long(
    farm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOLD_LIMIT", 0.01)
    monkeypatch.setattr(farm.plugin.recovery, "is_told", lambda worker: True)
    gate = farm.lab.gate()
    future = farm.submit(farm.store(f"{gate.command}; {KILL}"), options(retries=0))
    farm.let_go(gate, future)
    with pytest.raises(WorkerLost, match=r"killed, or its connection broke"):
        future.result(60)


def test_a_restart_forgets_what_was_lost_and_all_goes_on(farm: Any) -> None:
    gate = farm.lab.gate()
    key = farm.store(f"{gate.command}; echo done")
    future = farm.submit(key)
    process = farm.await_begin(gate, future)
    farm.client.restart(timeout=60)
    farm.lab.wait_until(lambda: not farm.lab.is_alive(process))
    farm.workers(2)
    assert farm.plugin.recovery.losses(future.key) == []
    again = farm.submit(key)
    farm.let_go(gate, again)
    assert farm.lab.bytes(again.result(60).value) == b"done\n"


# ------------------------------------------------------------------------ another version


def test_a_client_of_another_version_hears_so_and_nobody_else(farm: Any) -> None:
    gate = farm.lab.gate()
    key = farm.store(f"{gate.command}; echo x")
    future = farm.submit(key)
    gate.wait()
    with Client(farm.cluster) as other:
        foreign = Task(future.key, task.run, 99, str(key), "{}", ())
        with pytest.raises(SeamlessError, match="protocol 99 of seamless-dask"):
            other.get({future.key: foreign}, future.key)
    gate.open()
    assert farm.lab.bytes(future.result(60).value) == b"x\n"


def test_arguments_that_make_no_sense_harm_nobody(farm: Any) -> None:
    name, handle = "x-tf-" + "0" * 64, handle_of("file", "1" * 64)
    more = "0" * 64, "no JSON", ("z",), TaskRef("a"), handle
    nodes = {
        "a": Task("a", int, 7),
        name: Task(name, task.run, task.PROTOCOL, *more),
    }
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the worker makes of it
        farm.client.get(nodes, name)
    assert farm.lab.bytes(farm.run(farm.store("echo x")).value) == b"x\n"
