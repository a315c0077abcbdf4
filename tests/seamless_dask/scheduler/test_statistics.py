"""What has happened is counted and told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from distributed import wait

from seamless_dask.errors import ComputationFailed
from seamless_dask.graph.names import label_in
from seamless_dask.scheduler.statistics import KEPT


def name_of(transformation: Any) -> str:
    return str(transformation.__dask_keys__()[0])


def snapshot(desk: Any) -> dict[str, Any]:
    found: dict[str, Any] = desk.call(desk.plugin.statistics.snapshot)
    assert json.loads(json.dumps(found)) == found
    return found


def test_hits_misses_and_what_is_not_needed_are_counted(desk: Any) -> None:
    first = desk.bash("echo x")
    second = desk.bash("cat 0", first)
    others = [desk.bash(f"echo {number}") for number in range(3)]
    for step in (second, others[0]):
        desk.know(step)
    futures = desk.submit(second, *others)
    desk.await_state(others[1], "no-worker", "queued")
    found = snapshot(desk)
    counts = {name: found[name] for name in ("hits", "misses", "late_hits", "pruned", "done", "failed")}
    assert counts == {"hits": 2, "misses": 2, "late_hits": 0, "pruned": 1, "done": 0, "failed": 0}
    assert (found["requests"], found["keys_asked"], found["database_trouble"]) == (1, 4, None)
    assert found["states"]["memory"] == 2
    del futures


def test_what_ran_and_what_failed_is_told(desk: Any) -> None:
    desk.await_workers(1)
    good, bad = desk.bash("echo x"), desk.bash("echo trouble >&2; exit 3")
    futures = desk.submit(good, bad)
    futures[0].result(60)
    with pytest.raises(ComputationFailed):
        futures[1].result(60)
    found = desk.lab.wait_until(
        lambda: (told := snapshot(desk))["failures"] and told["failures"][0]["exit_status"] and told
    )
    assert (found["done"], found["failed"]) == (1, 1)
    [failure] = found["failures"]
    assert (failure["key"], failure["label"]) == (name_of(bad), "echo")
    assert (failure["exit_status"], failure["stderr"]) == (3, "trouble\n")
    assert failure["worker"] in desk.scheduler.workers


def test_each_counter_means_one_thing(desk: Any) -> None:
    first, late, found, step = desk.bash("echo 'x'"), desk.bash("echo late"), desk.bash("echo found"), None
    again = desk.bash("cat 0", first)
    futures = desk.submit(late, found)
    desk.await_state(found, "no-worker", "queued")
    desk.know(late)
    futures += desk.submit(late)
    wait(futures[0])
    desk.know(found)  # of which only the worker hears
    desk.await_workers(1)
    futures[1].result(60)
    futures += desk.submit(step := desk.bash("cat 0", desk.bash("echo x")))
    futures[-1].result(60)
    futures += desk.submit(again)  # its input turns out as that of the step before
    futures[-1].result(60)
    told = snapshot(desk)
    counts = {name: told[name] for name in ("hits", "misses", "late_hits", "cut", "done", "failed")}
    # looked up anew, and told: `late` twice; run: two commands that write x, and one that reads it
    assert counts == {"hits": 0, "misses": 6, "late_hits": 2, "cut": 1, "done": 3, "failed": 0}
    del step


def test_what_runs_is_told(desk: Any) -> None:
    desk.await_workers(1)
    gate = desk.lab.gate()
    step = desk.bash(gate.command)
    futures = desk.submit(step)
    gate.wait()
    [running] = desk.lab.wait_until(lambda: snapshot(desk)["running"])
    assert (running["key"], running["label"]) == (name_of(step), "echo")
    gate.open()
    assert futures[0].result(60)


def test_only_the_last_failures_are_kept(desk: Any) -> None:
    desk.await_workers(1)
    statistics = desk.plugin.statistics
    bad = desk.bash("exit 3")
    futures = desk.submit(bad)
    with pytest.raises(ComputationFailed):
        futures[0].result(60)
    for _ in range(KEPT + 10):
        desk.call(lambda: statistics.transition(name_of(bad), "processing", "erred", "tcp://1"))
    assert len(snapshot(desk)["failures"]) == KEPT


def test_labels_are_what_stands_before_the_identity() -> None:
    assert label_in("my-tool-tf-" + "0" * 64) == "my-tool"
