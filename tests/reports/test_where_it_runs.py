"""A transformation goes where the user lets it go, however it is asked for.

https://github.com/dask/distributed/issues/285: ``workers=`` was a word of ``submit`` alone, and who wanted
``persist`` and ``compute`` to stay on a part of the cluster, by address, host or name, could not say so.
"""

from __future__ import annotations

from typing import Any

import pytest
from distributed import wait

from ..seamless_dask.conftest import lab
from ..seamless_dask.scheduler.conftest import Desk, desk

__all__ = ["desk", "lab"]


@pytest.fixture
def two(desk: Desk) -> Desk:
    desk.await_workers(2)
    return desk


@pytest.mark.parametrize("how", ["compute", "persist"])
@pytest.mark.parametrize("form", ["address", "name"])
def test_all_of_it_stays_where_it_was_sent(two: Desk, how: str, form: str) -> None:
    for worker in list(two.scheduler.workers.values()):
        place = worker.address if form == "address" else worker.name
        steps = [two.bash(f"echo {number} {place}") for number in range(4)]
        asked = getattr(two.client, how)(steps, workers=[place])
        wait(asked)
        has = two.client.who_has(asked)
        assert {address for held in has.values() for address in held} == {worker.address}


def test_a_known_result_needs_no_place(two: Desk) -> None:
    step = two.bash(f"{two.lab.counted()}; echo x")
    known = two.know(step)
    future: Any = two.client.compute(step, workers=["tcp://127.0.0.1:9"])
    assert future.result(60).checksum == known
    assert two.lab.ran() == []


def test_others_may_be_allowed_too(two: Desk) -> None:
    step = two.bash("echo x")
    future: Any = two.client.compute(step, workers=["tcp://127.0.0.1:9"], allow_other_workers=True)
    assert future.result(60).read_bytes() == b"x\n"
