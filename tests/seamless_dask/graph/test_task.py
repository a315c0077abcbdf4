"""The one function that tasks call: look up, resolve, run, record."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import AuthenticationFailed, BufferMissing, Irreproducible, ServiceUnavailable
from seamless_dask import bash, execution
from seamless_dask.config import load
from seamless_dask.context import Context
from seamless_dask.errors import ComputationFailed, SeamlessError, UsageError, WorkerLost
from seamless_dask.graph import handles, task
from seamless_dask.graph import perform as performing
from seamless_dask.graph.handles import of
from seamless_dask.model.options import Options
from seamless_dask.model.transformation import Deferred, ResultSpec, Value

OPTIONS = json.dumps({"isolation": "none"})


def run(key: str, options: str = OPTIONS, upstream: tuple[str, ...] = (), *values: Any) -> Any:
    """Call the task as a graph of this version does; its value."""
    return task.run(task.PROTOCOL, key, options, upstream, *(of(*value) for value in values)).value


def test_a_graph_of_another_version_is_refused(worker: Any) -> None:
    with pytest.raises(SeamlessError, match="the client speaks protocol 7 of seamless-dask, this worker 1"):
        task.run(7, "0" * 64)


def test_a_result_is_recorded_with_how_it_came_about(lab: Any, worker: Any) -> None:
    key = lab.store("echo hello")
    options = Options(isolation="none", prologue=("true",), label="greet").to_json()
    format_, checksum = run(key, options)
    assert (format_, lab.context.store.get(Checksum(checksum))) == ("file", b"hello\n")
    record = lab.context.database.get(key).record
    assert record["environment"] == {"prologue": ["true"]}
    assert record["label"] == "greet"
    assert record["isolation"] == "none"


def test_what_is_known_is_not_run(lab: Any, worker: Any) -> None:
    key = lab.store(f"{lab.counted()}; echo hello")
    assert run(key, OPTIONS) == run(key, OPTIONS)
    assert lab.ran() == ["ran"]


def test_references_are_resolved_and_the_pairs_recorded(lab: Any, worker: Any) -> None:
    upstream = lab.store("echo 1")
    deferred = lab.transformation("cat x; echo 2", inputs={"x": Deferred(upstream)})
    key = lab.context.store.put(deferred.canonical())
    one = run(upstream, OPTIONS)
    result = run(key, OPTIONS, (upstream,), one)
    resolved = deferred.resolve({Deferred(upstream): Value("file", Checksum(one[1]))})
    tf, found = lab.context.database.lookup(key)
    assert tf == resolved.key != key
    assert (found.format, found.checksum) == result
    assert lab.context.store.get(tf) == resolved.canonical()
    assert lab.context.database.get(key) is None


def test_a_step_whose_inputs_turn_out_unchanged_is_not_run(lab: Any, worker: Any) -> None:
    steps = [lab.store(f"true {number}; echo same") for number in (1, 2)]
    values = [run(step, OPTIONS) for step in steps]
    assert values[0] == values[1]
    sinks = [lab.store(f"{lab.counted()}; cat x", inputs={"x": Deferred(step)}) for step in steps]
    assert sinks[0] != sinks[1]
    results = [
        run(sink, OPTIONS, (step,), value) for sink, step, value in zip(sinks, steps, values, strict=True)
    ]
    assert results[0] == results[1]
    assert lab.ran() == ["ran"]


def test_contesting_a_result_undoes_what_was_built_on_it(lab: Any, worker: Any) -> None:
    step = lab.store("echo 1")
    sink = lab.store("cat x; echo 2", inputs={"x": Deferred(step)})
    run(sink, OPTIONS, (step,), run(step, OPTIONS))
    assert lab.context.database.lookup(sink) is not None
    lab.context.database.contest(step)
    assert lab.context.database.lookup(sink) is None


def test_a_named_result_of_several_is_the_input(lab: Any, worker: Any) -> None:
    step = lab.store("mkdir d; echo a > d/a; echo b > b; echo out", result=ResultSpec(True, ("d", "b")))
    value = run(step, OPTIONS)
    assert value[0] == "results"
    inputs = {"out": Deferred(step), "b": Deferred(step, "b"), "a": Deferred(step, "d/a")}
    sink = lab.store("cat out b a", inputs=inputs)
    _, checksum = run(sink, OPTIONS, (step,), value)
    assert lab.context.store.get(Checksum(checksum)) == b"out\nb\na\n"


def test_a_result_that_is_not_declared_is_an_error(lab: Any, worker: Any) -> None:
    step = lab.store("echo 1")
    sink = lab.store("cat x", inputs={"x": Deferred(step, "x")})
    with pytest.raises(UsageError, match="there is no result 'x'"):
        run(sink, OPTIONS, (step,), run(step, OPTIONS))


def test_what_came_without_its_inputs_has_them_computed_to_any_depth(lab: Any, worker: Any) -> None:
    first = lab.store(f"{lab.counted()}; echo 1")
    second = lab.store("cat x; echo 2", inputs={"x": Deferred(first)})
    sink = lab.store("cat x y", inputs={"x": Deferred(second), "y": Deferred(first)})
    _, checksum = run(sink, OPTIONS)
    assert lab.context.store.get(Checksum(checksum)) == b"1\n2\n1\n"
    assert lab.ran() == ["ran"]


def test_one_of_them_that_fails_is_named_as_the_step_that_it_is(lab: Any, worker: Any) -> None:
    step = lab.store("cat /nowhere")
    sink = lab.store("cat x", inputs={"x": Deferred(step)})
    with pytest.raises(ComputationFailed, match=rf"^cat \({step[:8]}\): "):
        run(sink, OPTIONS)


def test_a_document_that_is_not_stored_is_named(worker: Any) -> None:
    with pytest.raises(BufferMissing, match=f"transformation {'0' * 64} is not in the store"):
        run("0" * 64)


def test_a_failure_is_recorded_as_one(lab: Any, worker: Any) -> None:
    key = lab.store("echo why >&2; exit 3")
    with pytest.raises(ComputationFailed):
        run(key, OPTIONS)
    assert lab.context.database.get(key) is None
    [record] = lab.context.database.failures(key)
    assert (record["exit_status"], record["stderr"]) == (3, "why\n")


def test_another_result_of_the_same_is_irreproducible(lab: Any, worker: Any) -> None:
    key = lab.store("date +%N%s")
    run(key, OPTIONS)
    with pytest.raises(Irreproducible):
        run(key, Options(isolation="none", fresh=True).to_json())


@pytest.fixture
def unreliable(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Exception]]:
    """Errors of the system that come before the command can run."""
    errors: list[Exception] = []
    reliable = execution.run

    def run(*arguments: Any) -> Any:
        if errors:
            raise errors.pop(0)
        return reliable(*arguments)

    monkeypatch.setattr(execution, "run", run)
    monkeypatch.setattr(performing, "FIRST_PAUSE", 1e-6)
    return errors


def test_the_systems_fault_is_tried_again(lab: Any, worker: Any, unreliable: list[Exception]) -> None:
    key = lab.store("echo 1")
    unreliable += [ServiceUnavailable("no answer"), OSError("broken disk"), ServiceUnavailable("no answer")]
    assert run(key, OPTIONS)[0] == "file"
    assert lab.context.database.failures(key) == []


def test_the_systems_fault_is_given_up_with_each_loss_named(
    lab: Any, worker: Any, unreliable: list[Exception]
) -> None:
    key = lab.store("echo 1")
    unreliable += [ServiceUnavailable("no answer"), OSError("broken disk"), ServiceUnavailable("no answer")]
    with pytest.raises(WorkerLost, match=r"after 3 attempts on \S+: no answer \(2 times\); broken disk$"):
        run(key, Options(retries=2).to_json())
    assert lab.context.database.failures(key) == []


def test_a_wrong_token_is_not_tried_again(lab: Any, worker: Any, unreliable: list[Exception]) -> None:
    unreliable += [AuthenticationFailed("wrong token")]
    with pytest.raises(AuthenticationFailed):
        run(lab.store("echo 1"), OPTIONS)


def test_a_server_that_is_gone_is_in_the_way_of_nobody_who_uses_another_place() -> None:
    with Context(load({"hashserver": "http://localhost:1"}, "/")) as gone:
        handles.use(gone)
        assert bash("echo here", isolation="none").compute().read_text() == "here\n"
        with pytest.raises(ServiceUnavailable):  # it may have what nobody else has
            task.run(task.PROTOCOL, hash_bytes(b"document"))
