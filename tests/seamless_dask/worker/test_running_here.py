"""Functions that a client has run in the threads of workers: ``run="here"``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster

from seamless_dask import delayed
from seamless_dask.errors import LimitExceeded, UsageError

from ..conftest import Blocked
from .conftest import Cluster, wait_until


def whereabouts(number: int) -> list[Any]:
    import os
    import threading

    from distributed import get_worker

    return [number, os.getpid(), threading.current_thread().name, get_worker().address]


def failing(number: int) -> None:
    raise LookupError(f"no {number}")


class BlockedThere(Blocked):
    """One on a worker."""

    def __init__(self, cluster: Cluster, tmp_path: Path, **options: Any) -> None:
        super().__init__(delayed(run="here", context=cluster.context, **options), tmp_path)
        self.future = cluster.client.compute(self.made)
        self.await_begin()


def test_it_runs_in_the_thread_of_its_task(cluster: Cluster) -> None:
    call = delayed(run="here", context=cluster.context)(whereabouts)
    first, second = (cluster.client.compute(call(number)).result() for number in (1, 2))
    for number, pid, thread, address in (first, second):
        assert number in (1, 2)
        assert cluster.pid_of(address) == pid
        assert "Dask-Default-Threads" in thread


def test_what_it_gives_is_known(cluster: Cluster) -> None:
    call = delayed(run="here", context=cluster.context)(whereabouts)
    found = cluster.client.compute(call(3)).result()
    assert delayed(context=cluster.context)(whereabouts)(3).compute() == found


def test_what_it_raises_arrives(cluster: Cluster) -> None:
    call = delayed(run="here", context=cluster.context)(failing)
    with pytest.raises(LookupError, match="no 5"):
        cluster.client.compute(call(5)).result()


@pytest.mark.parametrize("options", [{"isolation": "bubblewrap"}, {"memory": "1 GiB"}])
def test_what_a_thread_cannot_offer_is_refused(cluster: Cluster, options: dict[str, Any]) -> None:
    call = delayed(run="here", context=cluster.context, **options)(whereabouts)
    future = cluster.client.compute(call(6), resources={})
    with pytest.raises(UsageError, match='run="here"'):
        future.result()


def test_a_limit_is_told_when_it_has_returned(cluster: Cluster, tmp_path: Path) -> None:
    call = BlockedThere(cluster, tmp_path, time_limit=0)
    assert call.future.status == "pending"
    call.let_go()
    with pytest.raises(LimitExceeded, match="its result is recorded"):
        call.future.result()
    assert call.made.is_known()


def test_who_cancels_waits_no_longer_and_it_goes_on(cluster: Cluster, tmp_path: Path) -> None:
    call = BlockedThere(cluster, tmp_path)
    call.future.cancel()
    assert call.future.cancelled()
    call.let_go()
    wait_until(call.made.is_known)


def test_on_a_worker_without_the_plugin_too(cluster: Cluster, tmp_path: Path) -> None:
    with (
        LocalCluster(
            env={**cluster.environment, "SEAMLESS_HASHSERVER": cluster.hashserver.url},
            n_workers=1,
            threads_per_worker=1,
            dashboard_address=None,
            local_directory=str(tmp_path),
            scheduler_kwargs={"dashboard_address": ":0"},
        ) as plain,
        Client(plain, set_as_default=False) as client,
    ):
        call = delayed(run="here", context=cluster.context)(whereabouts)
        _, _, thread, address = client.compute(call(7)).result()
        assert address in client.scheduler_info()["workers"]
        assert "Dask-Default-Threads" in thread
        with pytest.raises(LookupError, match="no 7"):
            client.compute(delayed(run="here", context=cluster.context)(failing)(7)).result()
