"""Connections to a scheduler that break, and schedulers that are restarted.

https://github.com/dask/distributed/issues/5666: the connection breaks, all futures are cancelled, and whoever
works with them gets an error that tells nothing. https://github.com/dask/distributed/issues/1946: after
``client.restart`` the connection between scheduler and workers is not made anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError

import pytest
from distributed import Client, wait

from seamless_dask import bash
from seamless_dask.api import Transformation

from ..seamless_dask.conftest import lab
from ..seamless_dask.scheduler.conftest import Farm, own_farm, quick_farm

__all__ = ["lab", "own_farm", "quick_farm"]


@pytest.fixture
def other(quick_farm: Farm) -> Iterator[Client]:
    """A client that loses its connection."""
    with Client(quick_farm.scheduler.address, set_as_default=False) as client:
        yield client


def counted(farm: Farm, code: str) -> Transformation:
    return bash(f"{farm.lab.counted()}; {code}", context=farm.lab.context, isolation="none")


def cut(farm: Farm, client: Client) -> None:
    """Break a client's connection at the scheduler's end, and wait until it has another one."""
    before = farm.scheduler.client_comms[client.id]

    async def abort() -> None:
        before.abort()

    farm.cluster.sync(abort)
    farm.lab.wait_until(lambda: farm.scheduler.client_comms.get(client.id) not in (None, before))
    farm.lab.wait_until(lambda: client.status == "running")


def test_what_was_computed_is_known_to_who_comes_back(quick_farm: Farm, other: Client) -> None:
    farm = quick_farm
    steps = [counted(farm, f"echo {number}") for number in range(3)]
    before = other.compute(steps)
    wait(before, timeout=60)
    cut(farm, other)
    with pytest.raises(CancelledError):
        before[0].result(60)
    again = other.compute(steps)
    assert [future.result(60).read_bytes() for future in again] == [b"0\n", b"1\n", b"2\n"]
    assert farm.lab.ran() == ["ran"] * 3


def test_a_command_that_another_client_waits_for_goes_on(quick_farm: Farm, other: Client) -> None:
    farm = quick_farm
    gate = farm.lab.gate()
    step = counted(farm, f"{gate.command}; echo done")
    mine, theirs = farm.client.compute(step), other.compute(step)
    process = gate.wait()
    farm.lab.wait_until(lambda: len(farm.scheduler.tasks[mine.key].who_wants) == 2)
    cut(farm, other)
    farm.lab.wait_until(theirs.cancelled)
    assert farm.lab.is_alive(process)
    again = other.compute(step)
    gate.open()
    assert [future.result(60).read_bytes() for future in (mine, again)] == [b"done\n"] * 2
    assert farm.lab.ran() == ["ran"]


def test_after_a_restart_commands_run_and_known_results_are_known(own_farm: Farm) -> None:
    farm = own_farm
    known = counted(farm, "echo known")
    farm.client.compute(known).result(60)
    for number in range(2):
        farm.client.restart(timeout=60)
        farm.workers(2)
        steps = [counted(farm, f"echo {number} {each}") for each in range(4)]
        found = [future.result(60).read_text() for future in farm.client.compute(steps)]
        assert found == [f"{number} {each}\n" for each in range(4)]
        assert farm.client.compute(known).result(60).read_text() == "known\n"
    assert len(farm.lab.ran()) == 9
