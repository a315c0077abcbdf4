"""On one host no more commands run at a time than it has processors."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from seamless_dask import api
from seamless_dask.executors.embedded import Embedded
from seamless_dask.graph.arguments import HandedArguments
from seamless_dask.jobs.local import LocalRequest
from seamless_dask.jobs.request import JobRequest
from seamless_dask.model.options import Options
from seamless_dask.model.transformation import Value

from ..conftest import ASKER, PLAIN

SCRATCH = Options(isolation="none", scratch=True)


@pytest.fixture(autouse=True)
def one_processor() -> Iterator[None]:
    """What is started from here may use one processor."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


def states(lab: Any) -> dict[str, str]:
    return {info.key: info.state for info in Embedded(lab.context).jobs()}


def test_a_command_waits_for_one_of_another_process(lab: Any) -> None:
    first, second = lab.gate("first"), lab.gate("second")
    keys = [lab.store(f"{gate.command}; echo {gate.opened}") for gate in (first, second)]
    one = lab.asker(keys[0])
    first.wait()
    other = lab.asker(keys[1])
    lab.wait_until(lambda: states(lab) == {keys[0]: "running", keys[1]: "queued"})
    first.open()
    second.wait()
    assert states(lab).get(keys[1]) == "running"
    second.open()
    for asker in (one, other):
        assert '"error"' not in asker.communicate(timeout=60)[0]
    assert lab.leftovers() == []


def test_who_waits_sees_that_it_is_for_a_slot(lab: Any) -> None:
    first, second = lab.gate("first"), lab.gate("second")
    one = lab.asker(lab.store(f"{first.command}; echo 1"))
    first.wait()
    seen: list[str] = []

    def see(state: str) -> None:
        """Let each command end when its state has been seen."""
        if state == "queued" and "queued" not in seen:
            first.open()
        if state == "running" and "queued" in seen and "running" not in seen[seen.index("queued") :]:
            second.wait()
            second.open()
        seen.append(state)

    value = Embedded(lab.context).run(JobRequest(lab.store(f"{second.command}; echo 2"), PLAIN), tick=see)
    assert lab.bytes(value) == b"2\n"
    assert '"error"' not in one.communicate(timeout=60)[0]


def test_many_take_turns(lab: Any) -> None:
    alone = lab.directory / "alone"
    keys = [lab.store(f"mkdir {alone}; sleep 0.02; rmdir {alone}; echo {number}") for number in range(8)]
    askers = [lab.asker(key) for key in keys]
    assert all('"error"' not in asker.communicate(timeout=100)[0] for asker in askers)


def test_a_killed_process_gives_its_slot_back(lab: Any) -> None:
    first, second = lab.gate("first"), lab.gate("second")
    held = lab.store(f"{first.command}; echo 1")
    one = lab.asker(held, PLAIN._replace(retries=0))
    shell = first.wait()
    waits = lab.store(f"{second.command}; echo 2")
    other = lab.asker(waits)
    lab.wait_until(lambda: states(lab).get(waits) == "queued")
    os.kill(lab.runner(held), signal.SIGKILL)
    os.kill(shell, signal.SIGKILL)
    second.wait()
    second.open()
    assert "WorkerLost" in one.communicate(timeout=60)[0]
    assert '"error"' not in other.communicate(timeout=60)[0]


def test_who_waits_for_a_slot_can_withdraw(lab: Any) -> None:
    gate = lab.gate()
    one = lab.asker(lab.store(f"{gate.command}; echo 1"))
    gate.wait()
    waits = lab.store(f"{lab.counted()}; echo 2")
    request = LocalRequest(lab.context, JobRequest(waits, PLAIN)).start()
    lab.wait_until(lambda: states(lab).get(waits) == "queued")
    assert not request.withdraw()
    lab.await_end(waits)
    gate.open()
    assert '"error"' not in one.communicate(timeout=60)[0]
    assert lab.ran() == []


def test_a_command_that_waits_for_what_it_asks_for_gives_it_its_slot(lab: Any) -> None:
    inner = lab.store(f"{lab.counted('inner')}; echo inner")
    script = lab.directory / "asker.py"
    script.write_text(ASKER)
    asks = f"{sys.executable} {script} {inner} '{PLAIN.to_json()}' '{{}}'"
    alone = f"unset SEAMLESS_DASKSERVER; export SEAMLESS_CACHE={lab.context.cache}"
    outer = lab.store(f"{alone}; {asks} > /dev/null; echo outer")
    asker = lab.asker(outer)
    assert '"error"' not in asker.communicate(timeout=100)[0]
    assert lab.ran() == ["inner"]
    assert lab.context.database.get(inner) is not None


def test_a_lost_input_is_made_again_in_the_slot_of_who_needs_it(lab: Any) -> None:
    value = lab.run(lab.store("echo 1"), SCRATCH)
    assert isinstance(value, Value)
    key = lab.store("cat x; echo 2", inputs={"x": value})
    assert lab.bytes(lab.run(key)) == b"1\n2\n"


def test_somebody_else_may_see_to_the_number(lab: Any) -> None:
    first, second = lab.gate("first"), lab.gate("second")
    keys = [lab.store(f"{gate.command}; echo {gate.opened}") for gate in (first, second)]
    requests = [LocalRequest(lab.context, JobRequest(key, PLAIN), bounded=False).start() for key in keys]
    for gate in (first, second):
        gate.wait()
    for gate in (first, second):
        gate.open()
    for request in requests:
        request.wait()


def test_who_withdraws_while_it_waits_takes_no_arguments_of_others_away(lab: Any) -> None:
    gate = lab.gate()
    one = lab.asker(lab.store(f"{gate.command}; echo 1"))
    gate.wait()
    made = lab.delayed(keep_inputs=False, isolation="none")(len)([1, 2, 3])
    key = made.key
    api.flush(lab.context)
    handed = HandedArguments(made._parts.handed)
    with handed.placed(lab.context) as kept:
        with handed.placed(lab.context) as withdrawn:
            requests = [
                LocalRequest(lab.context, JobRequest(key, made.options._replace(handed=place)))
                for place in (withdrawn, kept)
            ]
            for request in requests:
                request.start()
            lab.wait_until(lambda: states(lab).get(key) == "queued")
            assert requests[0].withdraw()
        gate.open()
        assert lab.bytes(requests[1].wait()) == b"3"
    assert '"error"' not in one.communicate(timeout=60)[0]
