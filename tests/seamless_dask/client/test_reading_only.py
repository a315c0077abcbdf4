"""Programs that read what others have computed, and were not told of this package: they get objects, too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from seamless_dask import Client, direct

READER = """
import {first}
import {second}
import sys
from distributed import Client
from seamless_dask.graph.dask_client import hand_over_objects
with Client(sys.argv[1]) as client:
    if {early}:
        hand_over_objects()
    futures = client.get_dataset("published")
    print(futures[0].result(), client.gather(futures))
    hand_over_objects()
    hook = Client._gather_remote
    hand_over_objects()
    print(hook is Client._gather_remote, hook.__module__)
"""

ONLY_DASK = """
import sys
from distributed import Client
with Client(sys.argv[1]) as client:
    futures = client.get_dataset("published")
    print(futures[0].result(), client.gather(futures))
    print(client.gather(futures, direct=True))
"""

WITH_A_CLUSTER = """
import subprocess, sys
import seamless_dask
from distributed import Client, LocalCluster
options = {"processes": False, "protocol": "tcp", "dashboard_address": ":0", "n_workers": 1}
with LocalCluster(**options) as cluster, Client(cluster) as client:
    seamless_dask.equip(client)
    print(client.submit(abs, -1).result(), Client._gather.__module__)
    subprocess.run([sys.executable, *sys.argv[1:], cluster.scheduler_address], check=True)
    print(client.get_dataset("published").result())
"""

PUBLISHER = """
import sys
import seamless_dask
from distributed import Client, wait
@seamless_dask.direct
def doubled(x):
    return [x, x]
with Client(sys.argv[1]) as client:
    future = client.submit(doubled, 3)
    client.publish_dataset(future, name="published")
    wait(future)
"""


def doubled(x: int) -> list[int]:
    return [x, x]


@pytest.fixture
def address(cluster: Any, client: Client) -> Any:
    futures = client.map(direct(doubled), range(2))
    client.publish_dataset(futures, name="published")
    client.gather(futures)
    yield cluster.scheduler_address
    client.unpublish_dataset("published")


def read(program: str, *arguments: str) -> list[str]:
    words = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("first", "second", "early"),
    [("seamless_dask", "distributed", False), ("distributed", "seamless_dask", True)],
)
def test_in_either_order_of_imports_the_hook_is_set_once(
    first: str, second: str, early: bool, address: str
) -> None:
    found = read(READER.format(first=first, second=second, early=early), address)
    assert found == ["[0, 0] [[0, 0], [1, 1]]", "True seamless_dask.graph.dask_client"]


def test_a_program_that_does_not_import_it_gets_objects(address: str) -> None:
    assert read(ONLY_DASK, address) == ["[0, 0] [[0, 0], [1, 1]]", "[[0, 0], [1, 1]]"]


def test_a_task_that_asks_a_client_of_its_worker_gets_objects(address: str) -> None:
    client = Client.current()
    found = client.get_dataset("published")
    names = [future.key for future in found]

    def asks(names: list[str]) -> Any:
        from distributed import Future, get_client, secede

        secede()
        return get_client().gather([Future(name, get_client()) for name in names])

    assert client.submit(asks, names).result(60) == [[0, 0], [1, 1]]


def test_a_program_that_has_the_cluster_gets_objects_of_others_and_dasks_client_until_then(
    tmp_path: Path,
) -> None:
    (tmp_path / "publisher.py").write_text(PUBLISHER)
    assert read(WITH_A_CLUSTER, str(tmp_path / "publisher.py")) == ["1 distributed.client", "[3, 3]"]
