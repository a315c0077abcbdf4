"""Functions that a stock client of Dask submits and maps: existing lines find their results."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client, LocalCluster

from seamless_dask.context import Context
from seamless_dask.decorators import direct
from seamless_dask.scheduler import SeamlessScheduler

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A scheduler with the plugin, one worker, and a stock client."""
    patch = pytest.MonkeyPatch()
    directory = tmp_path_factory.mktemp("desk")
    patch.setenv("SEAMLESS_CACHE", str(directory / "cache"))
    patch.setenv("SEAMLESS_ISOLATION", "none")
    patch.setenv("TMPDIR", str(directory))
    context = Context()
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, protocol="tcp://", dashboard_address=":0"
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        client.register_plugin(SeamlessScheduler(context.config))
        yield Desk(client, context)
    context.close()
    patch.undo()


class Desk:
    """A stock client, and functions that no other test has."""

    def __init__(self, client: Client, context: Context) -> None:
        self.client, self.context = client, context
        self.plugin = client.cluster.scheduler.plugins["seamless"]

    def function(self, function: Any, decorate: Any = direct, **options: Any) -> Any:
        return decorate(context=self.context, variables={"TEST": next(_numbers)}, **options)(function)

    def counts(self) -> tuple[int, int]:
        """How many ran, and how many were found."""
        found = self.plugin.statistics
        return found.done, found.hits + found.late_hits


def fit(x: Any, alpha: float = 0.5) -> Any:
    return x * alpha + 1


def total(items: list[float]) -> float:
    return sum(items)


def test_submit_and_map_run_once_and_are_found_without_a_worker(desk: Any) -> None:
    one = desk.function(fit)
    done, hits = desk.counts()
    future = desk.client.submit(one, 3, alpha=0.25)
    assert future.key.startswith("fit-")
    assert future.result(60) == 1.75
    assert desk.client.gather(desk.client.map(one, range(4))) == [1, 1.5, 2, 2.5]
    assert desk.counts() == (done + 5, hits)
    del future
    desk.client.cluster.scale(0)
    desk.client.sync(desk.client.cluster._correct_state)
    try:
        assert desk.client.submit(one, 3, alpha=0.25).result(60) == 1.75
        assert desk.client.gather(desk.client.map(one, range(4))) == [1, 1.5, 2, 2.5]
        assert one(3, alpha=0.25) == 1.75
    finally:
        desk.client.cluster.scale(1)
    assert desk.counts()[0] == done + 5
