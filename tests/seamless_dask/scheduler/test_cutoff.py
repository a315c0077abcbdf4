"""Steps whose results are known once their inputs are, are not given to workers."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hashserver.checksum import Checksum
from hashserver.errors import ServiceUnavailable
from seamless_dask.errors import ComputationFailed
from seamless_dask.model.options import Options
from seamless_dask.model.transformation import Deferred, ResultSpec
from seamless_dask.scheduler import pending_lookups

ONE = Options(isolation="none")


def step(farm: Any, code: str, *upstream: Deferred, **members: Any) -> Checksum:
    """A command that reads files ``0``, ``1`` and so on."""
    inputs = {str(number): reference for number, reference in enumerate(upstream)}
    return farm.store(code, inputs=inputs, **members)


# ------------------------------------------------------------------------ what is known is not run


def test_a_step_whose_input_turns_out_as_before_is_not_run(farm: Any) -> None:
    counted = f"cat 0; {farm.lab.counted()}"
    first, second = farm.store("echo x"), farm.store("echo 'x'")
    known = farm.run(step(farm, counted, Deferred(first)))
    again = step(farm, counted, Deferred(second))
    assert farm.run(again) == known
    assert farm.lab.ran() == ["ran"]
    assert farm.cut == 1


def test_what_it_resolved_to_is_kept_so_that_one_look_up_finds_it(farm: Any) -> None:
    counted = f"cat 0; {farm.lab.counted()}"
    farm.run(step(farm, counted, Deferred(farm.store("echo x"))))
    again = step(farm, counted, Deferred(farm.store("echo 'x'")))
    farm.run(again)
    transformation, _ = farm.lab.wait_until(lambda: farm.lab.context.database.lookup(again))
    assert farm.lab.context.store.has([transformation])[0] > 0


def test_to_any_depth(farm: Any) -> None:
    def pipeline(first: str) -> Checksum:
        key = farm.store(first)
        for number in range(5):
            key = step(farm, f"cat 0; echo {number}; {farm.lab.counted()}", Deferred(key))
        return key

    known = farm.run(pipeline("echo x"))
    assert farm.run(pipeline("echo 'x'")) == known
    assert len(farm.lab.ran()) == 5
    assert farm.cut == 5


def test_a_step_that_is_not_known_runs_after_one_that_is(farm: Any) -> None:
    """What no worker holds is put into the task that needs it."""
    middle = "sed s/x/y/ 0"
    farm.run(step(farm, middle, Deferred(farm.store("echo x"))))
    first = farm.store("echo 'x'")
    found = farm.run(
        step(farm, "cat 0 1; echo end", Deferred(step(farm, middle, Deferred(first))), Deferred(first))
    )
    assert farm.lab.bytes(found.value) == b"y\nx\nend\n"
    assert farm.cut == 1


def test_one_of_several_results_is_looked_into(farm: Any) -> None:
    def pipeline(first: str) -> Checksum:
        made = farm.store(first, result=ResultSpec(paths=("a", "b")))
        return step(farm, f"cat 0; {farm.lab.counted()}", Deferred(made, "a"))

    known = farm.run(pipeline("echo x > a; echo 1 > b"))
    assert farm.run(pipeline("echo x > a; echo 2 > b")) == known
    assert farm.lab.ran() == ["ran"]
    assert farm.cut == 1


def test_a_file_in_a_directory_is_looked_for(farm: Any) -> None:
    def pipeline(first: str) -> Checksum:
        made = farm.store(first, result=ResultSpec(paths=("d",)))
        return step(farm, f"cat 0; {farm.lab.counted()}", Deferred(made, "d/a"))

    known = farm.run(pipeline("mkdir d; echo x > d/a; echo 1 > d/b"))
    assert farm.run(pipeline("mkdir d; echo x > d/a; echo 2 > d/b")) == known
    assert farm.lab.ran() == ["ran"]
    assert farm.cut == 1


def test_a_fresh_run_runs(farm: Any) -> None:
    counted = f"cat 0; {farm.lab.counted()}"
    key = step(farm, counted, Deferred(farm.store("echo x")))
    known = farm.run(key)
    assert farm.run(key, ONE._replace(fresh=True)) == known
    assert farm.lab.ran() == ["ran", "ran"]


# ------------------------------------------------------------------------ slow and absent places


def test_while_it_is_looked_up_a_step_asks_for_no_worker(farm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key = step(farm, "cat 0", Deferred(farm.store("echo x")))
    entered, go_on = threading.Event(), threading.Event()
    resolve = farm.plugin.cutoff.lookups.resolver.resolve

    def slow(steps: Any) -> Any:
        entered.set()
        go_on.wait(60)
        return resolve(pending_lookups)

    monkeypatch.setattr(farm.plugin.cutoff.lookups.resolver, "resolve", slow)
    future = farm.submit(key)
    assert entered.wait(60)
    assert farm.state(future.key) == "waiting"
    assert farm.plugin.cutoff.held(future.key) == "looking up"
    assert farm.scheduler.adaptive_target() <= len(farm.scheduler.workers)
    assert not farm.scheduler.queued
    assert not farm.scheduler.unrunnable
    assert farm.scheduler._active_graph_updates > 0
    go_on.set()
    assert farm.lab.bytes(future.result().value) == b"x\n"
    assert farm.plugin.cutoff.held(future.key) is None


def test_what_was_looked_up_is_dispatched_in_the_order_of_priorities(farm: Any) -> None:
    first = Deferred(farm.store("echo x"))
    keys = [step(farm, f"cat 0; echo {number}", first) for number in range(20)]
    futures = farm.submit_all(keys)
    farm.client.gather(futures)
    names = {future.key for future in futures}
    changes = [change for change in farm.scheduler.transition_log if change.key in names]
    dispatched = [change.key for change in changes if change.finish == "processing"]
    assert dispatched == sorted(names, key=lambda name: farm.scheduler.tasks[name].priority)


def test_a_store_that_fails_costs_look_ups_and_no_results(farm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(steps: Any) -> Any:
        raise ServiceUnavailable("the store is away")

    monkeypatch.setattr(pending_lookups, "PAUSE", 0.0)
    monkeypatch.setattr(farm.plugin.cutoff.lookups.resolver, "resolve", fail)
    key = step(farm, "cat 0", Deferred(farm.store("echo x")))
    assert farm.lab.bytes(farm.run(key).value) == b"x\n"


def test_a_fault_of_ours_costs_look_ups_and_no_results(farm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farm.plugin.cutoff.lookups.resolver, "resolve", lambda steps: 1 / 0)
    key = step(farm, "cat 0", Deferred(farm.store("echo x")))
    assert farm.lab.bytes(farm.run(key).value) == b"x\n"


def pipelines(farm: Any, number: int) -> list[Checksum]:
    """Steps that are known once what they need has run."""
    for one in range(number):
        farm.run(step(farm, f"cat 0; echo {one}", Deferred(farm.store("echo x"))))
    first = Deferred(farm.store("echo 'x'"))
    return [step(farm, f"cat 0; echo {one}", first) for one in range(number)]


def test_a_database_that_takes_nothing_costs_no_look_ups(farm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()

    def fail(*_: Any) -> None:
        tried.set()
        raise ServiceUnavailable("the disk is full")

    monkeypatch.setattr(pending_lookups, "PAUSE", 0.0)  # the next test records
    monkeypatch.setattr(farm.plugin.context.database, "put_deferred", fail)
    first, second = pipelines(farm, 2)
    farm.run(first)
    assert tried.wait(60)
    farm.run(second)
    assert farm.cut == 2
    farm.lab.wait_until(lambda: not farm.plugin.cutoff.lookups._unrecorded)


def test_what_is_found_while_something_is_recorded_is_recorded_together(
    farm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by itself, a thousand took longer than a store may take to answer."""
    stored: list[int] = []
    entered, go_on = threading.Event(), threading.Event()
    put_many = farm.plugin.context.store.put_many

    def slow(buffers: Any) -> Any:
        stored.append(len(buffers))
        entered.set()
        go_on.wait(60)
        return put_many(buffers)

    monkeypatch.setattr(farm.plugin.context.store, "put_many", slow)
    first, *others = pipelines(farm, 6)
    farm.run(first)
    assert entered.wait(60)
    farm.client.gather(farm.submit_all(others))
    go_on.set()
    farm.lab.wait_until(lambda: len(farm.lab.context.database.lookup_many(others)) == 5)
    assert stored == [1, 5]


# ------------------------------------------------------------------------ the same under two names


def shared(farm: Any, code: str) -> tuple[Checksum, Checksum]:
    """A step of a pipeline, and the same transformation asked for directly."""
    made = farm.store("echo x")
    value = farm.run(made).value
    direct = farm.store(code, inputs={"0": value})
    # the pipeline makes the same input in another way
    return step(farm, code, Deferred(farm.store("echo 'x'"))), direct


def test_a_step_waits_for_a_direct_run_of_the_same(farm: Any) -> None:
    gate = farm.lab.gate()
    pipeline, direct = shared(farm, f"cat 0; {farm.lab.counted()}; {gate.command}")
    first = farm.submit(direct)
    gate.wait()
    second = farm.submit(pipeline)
    farm.lab.wait_until(lambda: "runs the same" in (farm.plugin.cutoff.held(second.key) or ""))
    gate.open()
    assert first.result() == second.result()
    assert farm.lab.ran() == ["ran"]
    farm.lab.wait_until(lambda: farm.lab.context.database.lookup(pipeline))


def test_a_direct_run_waits_for_a_step_that_is_the_same(farm: Any) -> None:
    gate = farm.lab.gate()
    pipeline, direct = shared(farm, f"cat 0; {farm.lab.counted()}; {gate.command}")
    first = farm.submit(pipeline)
    gate.wait()
    second = farm.submit(direct)
    farm.lab.wait_until(lambda: "runs the same" in (farm.plugin.cutoff.held(second.key) or ""))
    gate.open()
    assert first.result() == second.result()
    assert farm.lab.ran() == ["ran"]


def test_who_waited_runs_it_when_the_other_fails(farm: Any) -> None:
    gate = farm.lab.gate()
    pipeline, direct = shared(farm, f"cat 0; {farm.lab.counted()}; {gate.command}; exit 3")
    first = farm.submit(direct)
    gate.wait()
    second = farm.submit(pipeline)
    farm.lab.wait_until(lambda: farm.plugin.cutoff.held(second.key))
    gate.open()
    with pytest.raises(ComputationFailed):
        first.result()
    gate.wait()
    gate.open()
    with pytest.raises(ComputationFailed):
        second.result()
    assert farm.lab.ran() == ["ran", "ran"]


def test_who_waited_runs_it_when_the_other_is_cancelled(farm: Any) -> None:
    gate = farm.lab.gate()
    pipeline, direct = shared(farm, f"cat 0; {farm.lab.counted()}; {gate.command}")
    first = farm.submit(direct)
    process = gate.wait()
    second = farm.submit(pipeline)
    farm.lab.wait_until(lambda: "runs the same" in (farm.plugin.cutoff.held(second.key) or ""))
    first.release()
    farm.lab.wait_until(lambda: not farm.lab.is_alive(process))
    gate.wait()
    gate.open()
    assert farm.lab.bytes(second.result().value) == b"x\n"


def test_nobody_waits_for_what_finds_no_worker(farm: Any) -> None:
    """A direct run that asks for what no worker has must not keep the pipeline from going on."""
    pipeline, direct = shared(farm, f"cat 0; {farm.lab.counted()}")
    first = farm.submit(direct, ONE._replace(resources={"unobtainium": 1}))
    farm.lab.wait_until(lambda: farm.state(first.key) == "no-worker")
    second = farm.submit(pipeline)
    assert farm.lab.bytes(second.result(60).value) == b"x\n"
    assert first.result(60) == second.result()  # it is known now
    assert farm.lab.ran() == ["ran"]


def test_a_step_that_only_the_worker_can_resolve_waits_there(
    farm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = farm.lab.gate()
    pipeline, direct = shared(farm, f"cat 0; {farm.lab.counted()}; {gate.command}")
    monkeypatch.setattr(farm.plugin.cutoff.lookups.resolver, "resolve", lambda steps: [None for _ in steps])
    first = farm.submit(direct)
    gate.wait()
    second = farm.submit(pipeline)
    farm.lab.wait_until(lambda: farm.plugin.cutoff.claims._waiting)
    gate.open()
    assert first.result() == second.result()
    assert farm.lab.ran() == ["ran"]


def test_many_pipelines_with_one_step_in_common_run_it_once(farm: Any) -> None:
    counted = f"cat 0; {farm.lab.counted()}"
    firsts = [farm.store(f"echo x; true {number}") for number in range(20)]
    futures = [farm.submit(step(farm, counted, Deferred(first))) for first in firsts]
    assert len(set(farm.client.gather(futures))) == 1
    assert farm.lab.ran() == ["ran"]
