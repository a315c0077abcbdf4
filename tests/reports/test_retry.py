"""What ``client.retry`` does to a transformation, whatever state it is in.

https://github.com/dask/distributed/issues/4438: futures that had not failed were scheduled again too, so
that what ran was run once more. https://github.com/dask/distributed/issues/2272: what failed for an outside
reason is to run again once that has been put right, with all that waits for it.
"""

from __future__ import annotations

import pytest
from distributed import wait

from seamless_dask.errors import ComputationFailed

from ..seamless_dask.conftest import lab
from ..seamless_dask.scheduler.conftest import Desk, desk

__all__ = ["desk", "lab"]


@pytest.fixture
def validating(desk: Desk) -> Desk:
    """Dask checks itself after each transition."""
    desk.scheduler.validate = True
    desk.await_workers(2)
    return desk


def test_what_runs_is_killed_and_begins_anew(validating: Desk) -> None:
    """Dask begins it anew; the former command is killed, and no worker with it."""
    desk, gate = validating, validating.lab.gate()
    [future] = desk.submit(desk.bash(f"{gate.command}; echo done"))
    process = gate.wait()
    desk.client.retry([future])
    assert gate.wait() != process
    desk.lab.wait_until(lambda: not desk.lab.is_alive(process))
    gate.open()
    assert future.result(60).read_bytes() == b"done\n"
    assert len(desk.scheduler.workers) == 2


def test_what_has_run_is_not_run_once_more(validating: Desk) -> None:
    desk = validating
    [future] = desk.submit(desk.bash(f"{desk.lab.counted()}; echo done"))
    wait(future)
    for _ in range(3):
        desk.client.retry([future])
        assert future.result(60).read_bytes() == b"done\n"
    assert desk.lab.ran() == ["ran"]


def test_what_waits_for_another_runs_once(validating: Desk) -> None:
    desk, gate = validating, validating.lab.gate()
    first = desk.bash(f"{gate.command}; echo first")
    [future] = desk.submit(desk.bash(f"{desk.lab.counted()}; cat 0", first))
    gate.wait()
    desk.client.retry([future])
    gate.open()
    assert future.result(60).read_bytes() == b"first\n"
    assert desk.lab.ran() == ["ran"]


def test_what_failed_runs_again_with_all_that_waits_for_it(validating: Desk) -> None:
    desk = validating
    there = desk.lab.directory / "there"
    first = desk.bash(f"{desk.lab.counted('first')}; cat {there}")
    future, _ = desk.submit(desk.bash(f"{desk.lab.counted('last')}; cat 0", first), first)
    with pytest.raises(ComputationFailed):
        future.result(60)
    there.write_text("put right\n")
    desk.client.retry([future])
    assert future.result(60).read_bytes() == b"put right\n"
    assert desk.lab.ran() == ["first", "first", "last"]
