"""`submit` and `map` of our client: what is known is found, and is as good as what is computed."""

from __future__ import annotations

import asyncio
import itertools
import json
import pickle
import subprocess
import sys
import threading
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest
from dask import annotate, delayed
from distributed import (
    Future,
    LocalCluster,
    Variable,
    as_completed,
    fire_and_forget,
    get_task_stream,
    span,
    wait,
)
from distributed.diagnostics.progressbar import TextProgressBar

from hashserver.checksum import Checksum
from seamless_dask import Client, bash, direct
from seamless_dask.client.dask import is_as_assumed
from seamless_dask.config import load
from seamless_dask.context import Context
from seamless_dask.errors import NotAValue, UsageError
from seamless_dask.graph.handles import Object
from seamless_dask.graph.names import key_in
from seamless_dask.scheduler import SeamlessScheduler

_salt = itertools.count()


def adder(name: str = "add") -> Any:
    """A function of which nothing is known."""
    salt = next(_salt) + 1000 * hash(np.random.default_rng().bytes(8))

    def add(x: Any, y: Any = 1) -> Any:
        return x + y + 0 * salt

    add.__name__ = name
    return direct(add)


def fails(x: int) -> int:
    raise LookupError(f"no {x}")


def plus(x: int) -> int:
    return x + 1


def test_who_puts_it_in_the_place_of_dasks_client_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "Client", Client)
    assert is_as_assumed()


def test_what_is_known_is_found_by_one_request_and_nothing_is_sent(
    client: Client, asked: list[int], sent: list[Any], nothing_is_stored: Any
) -> None:
    add = adder()
    assert client.gather(client.map(add, range(5))) == [1, 2, 3, 4, 5]
    client.sync(_nothing)  # what was asked for is released
    asked.clear()
    sent.clear()
    with nothing_is_stored():
        futures = client.map(add, range(5))
        assert [each.status for each in futures] == ["finished"] * 5
        assert client.gather(futures) == [1, 2, 3, 4, 5]
    assert asked == [5]
    assert sent == []


def test_transformations_that_are_known_are_found_by_compute(
    client: Client, asked: list[int], sent: list[Any]
) -> None:
    known = [bash(f"echo {number} {next(_salt)} $((1+1))") for number in range(3)]
    handles = client.gather(client.compute(known))
    client.sync(_nothing)  # what was asked for is released
    asked.clear()
    sent.clear()
    futures = client.compute(tuple(known))
    assert [each.status for each in futures] == ["finished"] * 3
    assert [each.key for each in futures] == [each.name for each in known]
    assert client.gather(futures) == handles
    assert client.compute(known[0]).result(30).read_text() == handles[0].read_text()
    assert client.compute(known, sync=True) == handles
    assert (asked, sent) == ([3], [])


def test_small_objects_come_with_the_answer_of_a_server(
    cluster: LocalCluster, hashserver: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Context(load(hashserver)) as places:
        double = direct(lambda x: 2 * x)
        results = places.store.put_many([b'"%s"' % text for text in (b"aa", b"b" * 300)])
        for name, result in zip(double.keys(["a", "b" * 150]), results, strict=True):
            places.database.put(Checksum(name[-64:]), "json/1", result)
        asked: list[Any] = []
        has = places.store.has
        monkeypatch.setattr(places.store, "has", lambda names: asked.append(names) or has(names))
        monkeypatch.setattr(places.store, "get", lambda name: asked.append(name) or b'"%s"' % (b"b" * 300))
        with Client(cluster, places=places, set_as_default=False) as ours:
            assert ours.submit(double, "a").result() == "aa"
            assert asked == []
            assert ours.submit(double, "b" * 150).result() == "b" * 300
            assert asked == [results[1]]


def test_compute_keeps_the_order_of_what_is_known_and_what_is_not(client: Client) -> None:
    add = adder().delayed
    client.gather(client.compute([add(number) for number in (2, 4)]))
    client.sync(_nothing)
    mixed = [add(1), add(2), delayed(plus)(2), 7, add(4), add(2)]
    assert client.gather(client.compute(mixed)) == [2, 3, 3, 7, 5, 3]


def test_compute_runs_what_is_asked_for_anew(client: Client, sent: list[Any]) -> None:
    code = f"echo fresh {next(_salt)}; date +%s%N >&2"
    client.compute(bash(code)).result(30)
    client.sync(_nothing)
    sent.clear()
    assert client.compute(bash(code, fresh=True)).result(30).read_text().startswith("fresh")
    assert sent.count("update-graph") == 1


def test_tasks_are_named_by_what_they_compute(client: Client, other: Client) -> None:
    add = adder()
    future = client.submit(add, 2, y=3)
    assert future.key == f"add-tf-{key_in(future.key)}"
    assert future.key == other.submit(add, x=2, y=3).key == add.delayed(2, 3).__dask_keys__()[0]
    assert future.result() == add(2, 3) == 5


def test_misses_travel_in_one_graph(client: Client, sent: list[Any]) -> None:
    futures = client.map(adder(), range(20))
    assert client.gather(futures) == list(range(1, 21))
    assert sent.count("update-graph") == 1


def test_hits_and_misses_are_gathered_together(client: Client) -> None:
    add = adder()
    client.gather(client.map(add, range(3)))
    futures = client.map(add, range(6))
    assert client.gather({"x": futures, "y": (futures[0], futures[5], 7)}) == {
        "x": [1, 2, 3, 4, 5, 6],
        "y": (1, 6, 7),
    }


@pytest.fixture
def found(client: Client) -> list[Future]:
    """Futures of what only the client knows."""
    add = adder()
    client.gather(client.map(add, range(4)))
    client.sync(_nothing)  # what was asked for is released
    futures: list[Future] = client.map(add, range(4))
    assert {each.key for each in futures} == client._only_here
    return futures


async def _nothing() -> None: ...


def test_a_found_future_is_an_argument_of_a_stock_task(client: Client, found: list[Future]) -> None:
    assert client.submit(sum, found).result(30) == 10
    assert client.submit(plus, found[0]).result(30) == 2
    assert client.gather(client.map(plus, found)) == [2, 3, 4, 5]


def test_a_found_future_is_an_argument_of_one_of_ours(client: Client, found: list[Future]) -> None:
    add = adder()
    last = client.submit(add, found[0], y=found[1])
    assert last.result(30) == 3


def test_a_found_future_is_in_a_graph(client: Client, found: list[Future]) -> None:
    assert delayed(sum)(found).compute() == 10
    assert client.compute(delayed(plus)(found[0])).result(30) == 2


def test_a_found_future_is_waited_for(client: Client, found: list[Future]) -> None:
    assert wait(found).done == set(found)
    assert sorted(result for _, result in as_completed(found, with_results=True)) == [1, 2, 3, 4]
    assert found[0].result() == 1
    assert all(each.done() for each in found)


def test_a_found_future_is_published(client: Client, other: Client, found: list[Future]) -> None:
    client.publish_dataset(found[:2], name="found")
    try:
        assert other.gather(other.get_dataset("found")) == [1, 2]
    finally:
        client.unpublish_dataset("found")


def test_the_scheduler_hears_of_a_found_future_that_is_pickled(
    client: Client, cluster: Any, lab: Any, found: list[Future]
) -> None:
    again = pickle.loads(pickle.dumps(found[0]))
    assert again.key not in client._only_here
    lab.wait_until(lambda: again.key in cluster.scheduler.tasks)


def test_a_found_future_is_told_to_others(client: Client, found: list[Future]) -> None:
    variable = Variable("found", client=client)
    variable.set(found[0])
    assert variable.get(30).result(30) == 1
    variable.delete()
    fire_and_forget(found[1])
    assert client.call_stack(found[2]) == {}
    assert found[2].key not in client._only_here


def test_progress_of_found_futures(found: list[Future], capsys: pytest.CaptureFixture[str]) -> None:
    bar = TextProgressBar(found, start=False, interval="10ms")
    bar._loop_runner.run_sync(bar.listen)
    assert "100%" in capsys.readouterr().out


def test_nothing_is_left_of_found_futures(client: Client, found: list[Future]) -> None:
    found.clear()
    client.sync(_nothing)
    assert (client._only_here, client.futures) == (set(), {})


def test_plain_functions_and_scatter_are_as_in_dask(client: Client) -> None:
    future = client.submit(plus, 1)
    assert future.key.startswith("plus-")
    assert key_in(future.key) is None
    (scattered,) = client.scatter([5])
    assert client.submit(plus, scattered).result(30) == 6


def test_what_a_function_raises_is_raised_by_the_future(client: Client) -> None:
    failing = direct(fails)
    with pytest.raises(LookupError, match="no 3"):
        client.submit(failing, 3).result(60)
    assert client.gather([client.submit(failing, 4), client.submit(adder(), 1)], errors="skip") == [2]


def test_what_has_failed_is_tried_again(client: Client, tmp_path: Any) -> None:
    path = str(tmp_path / "there")

    @direct
    def size(name: str) -> int:
        import os

        return os.stat(name).st_size

    first = client.submit(size, path)
    with pytest.raises(FileNotFoundError):
        first.result(60)
    (tmp_path / "there").write_bytes(b"123")
    assert client.submit(size, path).result(60) == 3


def test_what_fails_again_is_waited_for_again(client: Client) -> None:
    failing = direct(fails)
    first = client.submit(failing, 5)
    assert str(first.exception(60)) == "no 5"
    for _ in range(8):
        assert str(client.submit(failing, 5).exception(60)) == "no 5"


def test_the_scheduler_knows_what_is_gathered_from_it(
    client: Client, found: list[Future], caplog: pytest.LogCaptureFixture
) -> None:
    failing = client.submit(direct(fails), 6)
    assert client.gather([failing, *found], errors="skip") == [1, 2, 3, 4]
    assert "Couldn't gather" not in caplog.text


def test_not_pure_runs_again(client: Client, tmp_path: Any) -> None:
    @direct
    def run(name: str) -> None:
        with open(name, "a") as file:
            file.write("run ")

    path = tmp_path / "runs"
    client.submit(run, str(path)).result(60)
    client.submit(run, str(path)).result(60)
    assert path.read_text() == "run "
    client.submit(run, str(path), pure=False).result(60)
    assert path.read_text() == "run run "


def test_options_of_dask(client: Client, cluster: Any) -> None:
    add = adder()
    address = cluster.workers[0].address
    future = client.submit(add, 1, workers=[address], allow_other_workers=False, priority=3, retries=2)
    assert future.result(60) == 2
    assert client.who_has(future) == {future.key: (address,)}
    ts = cluster.scheduler.tasks[future.key]
    assert (ts.annotations["priority"], ts.annotations["retries"]) == (3, 2)
    assert ts.worker_restrictions == {address}
    with annotate(priority=7):
        future = client.submit(add, 2)
    assert future.result(60) == 3
    assert cluster.scheduler.tasks[future.key].annotations["priority"] == 7
    with pytest.raises(ValueError, match="allow_other_workers"):
        client.submit(add, 3, allow_other_workers=True)
    with pytest.raises(UsageError, match="cannot be an actor"):
        client.submit(add, 3, actor=True)


def test_keys_that_are_given(client: Client) -> None:
    add = adder()
    futures = client.map(add, range(2), key=["one", "two"])
    assert [each.key for each in futures] == ["one", "two"]
    labelled = client.map(add, range(2), key="mine")
    assert [each.key.partition("-tf-")[0] for each in labelled] == ["mine", "mine"]
    assert client.gather(labelled) == client.gather(futures) == [1, 2]
    del futures
    client.sync(_nothing)
    assert client.submit(add, 0, key="three").key == "three"


def test_map_of_nothing_of_unequal_lengths_and_of_generators(client: Client) -> None:
    add = adder()
    assert client.map(add, []) == []
    assert client.gather(client.map(add, [1, 2, 3], [10, 20])) == [11, 22]
    assert client.gather(client.map(add, range(5), y=2, batch_size=2)) == [2, 3, 4, 5, 6]
    for given in ((), ((x for x in range(3)),)):
        with pytest.raises(TypeError) as ours:
            client.map(add, *given)
        with pytest.raises(TypeError) as theirs:
            client.map(plus, *given)
        assert str(ours.value) == str(theirs.value)


def test_equal_calls_are_one(client: Client) -> None:
    first, second = client.map(adder(), [1, 1])
    assert first.key == second.key
    assert client.gather([first, second]) == [2, 2]


def test_a_bad_argument_is_told_before_anything_is_sent(client: Client, sent: list[Any]) -> None:
    with pytest.raises(NotAValue):
        client.map(adder(), [1, object()])
    assert "update-graph" not in sent


def test_two_clients_with_functions_of_one_name(client: Client, other: Client) -> None:
    def first() -> int:
        return 1

    def second() -> int:
        return 2

    first.__name__ = second.__name__ = "same"
    mine, theirs = client.submit(direct(first)), other.submit(direct(second))
    assert (mine.result(60), theirs.result(60)) == (1, 2)


STEP = 1


def stepped(x: int) -> int:
    return x + STEP


def test_a_callable_that_changes_between_two_submits(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    function = direct(stepped)
    assert client.submit(function, 1).result(60) == 2
    monkeypatch.setitem(globals(), "STEP", 5)
    assert client.submit(function, 1).result(60) == 6


def test_put_and_large_arguments(client: Client) -> None:
    array = np.arange(1_500_000, dtype="f8")

    @direct
    def total(values: Any, power: int = 1) -> float:
        return float((values**power).sum())

    with pytest.warns(UserWarning, match=r"12 MB is passed by value.*client\.put"):
        future = client.submit(total, array)
    handle = client.put(array)
    assert client.submit(total, handle).key == future.key
    assert future.result(60) == array.sum()


def test_a_large_argument_of_all_calls_is_identified_once(client: Client) -> None:
    array = np.ones(200_000)

    @direct
    def scaled(factor: int, values: Any) -> float:
        return float(factor * values.sum())

    futures = client.map(scaled, range(3), values=array)
    assert client.gather(futures) == [0.0, 200_000.0, 400_000.0]
    assert futures[1].key == client.submit(scaled, 1, values=array).key


def test_a_future_of_another_client(client: Client, other: Client) -> None:
    add = adder()
    theirs = other.submit(add, 1)
    assert theirs.result(60) == 2
    with pytest.raises(UsageError, match="another client's"):
        client.submit(add, theirs)
    del theirs
    other.sync(_nothing)
    known = other.submit(add, 1)
    assert client.submit(add, known).result(60) == 3


def test_arguments_that_are_transformations(client: Client) -> None:
    add = adder()
    inner = add.delayed(1)
    future = client.submit(add, inner, y=client.submit(add, 5))
    assert future.result(60) == 8
    assert client.submit(sum, [future, 1]).result(30) == 9
    assert client.gather(client.map(direct(counted), [[inner, future], {"x": (future,)}], [1, 2])) == [3, 3]


def test_arguments_that_are_futures_of_anything(client: Client) -> None:
    add = adder()
    plain = client.submit(plus, 1)
    assert client.submit(add, plain, y=[5][0]).result(60) == 7
    assert client.gather(client.map(add, [plain, 1])) == [3, 2]


def counted(items: Any, more: int) -> int:
    return len(items) + more


def test_an_asynchronous_client(cluster: Any, client: Client) -> None:
    del client
    asyncio.run(_asynchronous(cluster.scheduler_address, adder()))


async def _asynchronous(address: str, add: Any) -> None:
    async with Client(address, asynchronous=True, set_as_default=False) as ours:
        assert await ours.submit(add, 1) == 2
        assert await ours.gather(ours.map(add, range(3))) == [1, 2, 3]
        assert await ours.submit(sum, ours.map(add, range(3))) == 6


def test_story_stream_and_spans_show_calls_as_any_task(client: Client, cluster: Any) -> None:
    add = adder("scanned")
    name = f"scan {next(_salt)}"
    with span(name), get_task_stream(client) as stream:
        future = client.submit(add, 1)
        assert future.result(60) == 2
    assert "memory" in [event[3] for event in client.story(future.key)]
    assert future.key in [record["key"] for record in stream.data]
    [found] = cluster.scheduler.extensions["spans"].spans_search_by_name[name,]
    assert [(group.name, len(group)) for group in found.groups] == [("scanned-tf", 1)]


def test_a_scheduler_without_the_plugin(lab: Any, tmp_path: Any) -> None:
    """What is known is found by the client, the rest is run by workers, which look it up, too."""
    add = adder()
    options: Any = {"processes": False, "protocol": "inproc://", "dashboard_address": ":0"}
    with LocalCluster(n_workers=1, **options) as cluster, Client(cluster) as ours:
        futures = ours.map(add, range(3))
        assert ours.gather(futures) == [1, 2, 3]
        assert ours.submit(add, futures[2]).result(60) == 4
        del futures
        ours.sync(_nothing)
        found = ours.map(add, range(3))
        assert {each.key for each in found} == ours._only_here
        assert ours.gather(found) == [1, 2, 3]
        assert ours.submit(add, 10, y=found[2]).result(60) == 13


class Unreadable:
    """Can be pickled, and unpickled by nobody: a class that others lack."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _missing, ()


def _missing() -> None:
    raise ModuleNotFoundError("No module named 'mine'")


def test_nothing_of_the_users_is_unpickled_by_a_scheduler(client: Client) -> None:
    failing = client.submit(direct(counted, format="json/1"), [Unreadable()], 1)
    with pytest.raises(Exception, match="No module named 'mine'") as caught:
        failing.result(60)  # where the function runs
    assert "scheduler" not in str(caught.value)


def test_restart(lab: Any) -> None:
    add = adder()
    assert [add(1), add(2)] == [2, 3]
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as ours,
    ):
        ours.register_plugin(SeamlessScheduler())
        first = ours.submit(add, 1)
        assert first.result() == 2
        ours.restart(wait_for_workers=False)
        lab.wait_until(lambda: first.status == "cancelled")
        assert ours._only_here == set()
        second = ours.submit(add, 2)
        assert second.result() == 3
        Variable("there", client=ours).set(second)
        assert cluster.scheduler.tasks[second.key].state == "memory"


@pytest.mark.parametrize("kind", [distributed.Client, Client])
def test_a_scheduler_that_is_killed_under_a_gather(
    kind: Any, tmp_path: Path, lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who waits for what is on its way is told; what needs no scheduler any more arrives."""
    facts = tmp_path / "scheduler.json"
    words = [
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--scheduler-file",
        str(facts),
        "--dashboard-address",
        ":0",
    ]
    function, loading, goes_on = direct(np.ones), threading.Event(), threading.Event()
    known = function(20_000)
    load = Object.load

    def slow(self: Object, **options: Any) -> Any:
        loading.set()
        assert goes_on.wait(60)
        return load(self, **options)

    words = ["-m", "dask", "scheduler", "--preload", "seamless_dask.scheduler", *words]
    with subprocess.Popen([sys.executable, *words], stderr=subprocess.DEVNULL) as scheduler:
        try:
            lab.wait_until(lambda: facts.exists() and facts.read_text().endswith("}"))
            with kind(json.loads(facts.read_text())["address"], set_as_default=False) as client:
                future, other = client.submit(function, 20_000), client.submit(abs, -1)
                client.sync(future._state.wait)
                monkeypatch.setattr(Object, "load", slow)
                with ThreadPoolExecutor(1) as pool:
                    asked = pool.submit(client.gather, [future])
                    assert loading.wait(60)
                    scheduler.kill()
                    lab.wait_until(lambda: other.status == "cancelled")
                    goes_on.set()
                    assert (asked.result(60)[0] == known).all()
                with pytest.raises((CancelledError, OSError)):
                    other.result(60)
        finally:
            scheduler.kill()
