"""Calls of functions as Dask collections: whoever computes them is handed the object."""

from __future__ import annotations

import asyncio
import io
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import dask
import dask.array
import dask.bag
import numpy as np
import pytest
from dask.callbacks import Callback
from dask.diagnostics import ProgressBar
from distributed import Client, LocalCluster, as_completed, progress
from distributed.diagnostics.progressbar import MultiProgressBar

from seamless_dask.errors import UntrustedValue
from seamless_dask.graph import dask_client, handles
from seamless_dask.scheduler import SeamlessScheduler


def numbers(count: int) -> list[int]:
    return list(range(count))


def filled(count: int) -> Any:
    return np.ones(count)


def framed(count: int) -> Any:
    import pandas as pd

    return pd.DataFrame({"x": range(count)})


def printing(count: int) -> list[int]:
    print("printed é\x1b[2J")
    return list(range(count))


def named(name: str) -> str:
    return name


def given(first: Any, *more: Any, **named: Any) -> Any:
    return [first, more, named]


def total(items: list[int]) -> int:
    return sum(items)


def failing(x: int) -> None:
    raise LookupError(f"no {x}")


SCHEDULERS = ["sync", "threads", "processes"]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("optimize_graph", [True, False])
def test_local_schedulers_hand_over_objects(lab: Any, scheduler: str, optimize_graph: bool) -> None:
    first = lab.delayed(numbers)(3)
    last = lab.delayed(total)(first)
    other = dask.delayed(str)(7)
    for _ in range(2):  # computed, and known
        found = dask.compute(
            other, [last, first], {"x": first}, scheduler=scheduler, optimize_graph=optimize_graph
        )
        assert found == ("7", [3, [0, 1, 2]], {"x": [0, 1, 2]})


def test_what_only_others_need_is_not_loaded(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []
    load = handles.Object.load

    def noted(self: handles.Object, **wishes: bool) -> Any:
        loaded.append(self.checksum)
        return load(self, **wishes)

    monkeypatch.setattr(handles.Object, "load", noted)
    last = lab.delayed(total)(lab.delayed(numbers)(3))
    assert dask.compute(last, scheduler="sync") == (3,)
    assert loaded == [last.result_checksum]


def test_local_schedulers_raise_what_the_function_raised(lab: Any) -> None:
    with pytest.raises(LookupError, match="no 1") as caught:
        dask.compute(lab.delayed(failing)(1), scheduler="threads")
    assert "in failing" in caught.value.__notes__[0]


def test_what_is_persisted_here_is_an_input_for_others(lab: Any) -> None:
    (kept,) = dask.persist(lab.delayed(numbers)(4), scheduler="threads")
    (text,) = dask.persist(lab.delayed(named)("name"), scheduler="threads")
    assert dask.compute(text, kept) == ("name", [0, 1, 2, 3])
    assert lab.delayed(total)(kept).compute() == 6
    assert kept.compute() == [0, 1, 2, 3]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_stock_functions_are_given_objects(lab: Any, scheduler: str) -> None:
    made = lab.delayed(numbers)(3)
    assert dask.delayed(sum)(made).compute(scheduler=scheduler) == 3
    assert dask.delayed(made).compute(scheduler=scheduler) == [0, 1, 2]
    assert (
        dask.delayed(str)([made, {"x": made}]).compute(scheduler=scheduler) == "[[0, 1, 2], {'x': [0, 1, 2]}]"
    )


def test_arrays_and_bags_are_made_of_them(lab: Any) -> None:
    made = lab.delayed(numbers)(5)
    assert dask.bag.from_delayed([made]).map(lambda x: x + 1).compute(scheduler="sync") == [1, 2, 3, 4, 5]
    array = dask.array.from_delayed(lab.delayed(filled)(5), (5,), dtype=float)
    assert (array + 1).sum().compute(scheduler="sync") == 10.0


def test_dask_draws_it(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("dask.base.visualize_dsk", lambda dsk, **_: drawn.append(dict(dsk)))
    first = lab.delayed(numbers)(3)
    last = lab.delayed(total)(first)
    last.visualize()
    dask.visualize(last)
    assert [{first.name, last.name} <= graph.keys() for graph in drawn] == [True, True]


def test_a_notebook_shows_label_arguments_and_state(lab: Any) -> None:
    first = lab.delayed(numbers)(3)
    last = lab.delayed(label="all of them")(total)(first)
    assert "numbers" in first._repr_html_()
    assert "<td>count</td><td>3</td>" in first._repr_html_()
    assert "all of them" in last._repr_html_()
    assert f"<td>items</td><td>{first!r}</td>" in last._repr_html_()
    assert "not computed" in last._repr_html_()
    last.compute()
    assert f": computed, json/1 {last.result_checksum[:8]}…</p>" in last._repr_html_()


def test_a_notebook_shows_that_the_database_does_not_answer(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(keys: Any) -> Any:
        raise OSError("gone")

    made = lab.delayed(numbers)(3)
    monkeypatch.setattr(lab.context.database, "lookup_many", silent)
    with pytest.warns(match="gone"):
        assert "the database does not answer" in made._repr_html_()


HOSTILE = "<script>alert(1)</script>&amp;\"'"


def test_what_a_notebook_shows_is_escaped_wherever_it_comes_from(lab: Any) -> None:
    upstream = lab.delayed(label=HOSTILE)(named)(HOSTILE)
    last = lab.delayed(label=HOSTILE, variables={"NAME": HOSTILE})(given)(
        upstream, [HOSTILE], **{HOSTILE.replace("/", "|"): 1}
    )
    for made in (upstream, last):
        shown = made._repr_html_()
        assert "<script" not in shown
        assert HOSTILE.replace("<", "&lt;").replace(">", "&gt;") not in shown, "the ampersand stays"
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;&quot;&#x27;" in shown


def test_progress_bars_show_the_names_of_functions(lab: Any) -> None:
    first = lab.delayed(numbers)(4)
    last = lab.delayed(total)(first)
    ended: list[str] = []
    with ProgressBar(out=io.StringIO()) as bar, Callback(posttask=lambda key, *_: ended.append(key)):
        assert dask.compute(last, scheduler="threads") == (6,)
    assert bar.last_duration > 0
    assert [name.rpartition("-tf-")[0] for name in ended] == ["numbers", "total"]


# ------------------------------------------------------------------------ a distributed scheduler


@pytest.fixture(params=["tcp://", "inproc://"])
def client(lab: Any, request: pytest.FixtureRequest) -> Iterator[Client]:
    """Of a scheduler with the plugin, and no worker."""
    with (
        LocalCluster(
            n_workers=0, threads_per_worker=1, processes=False, protocol=request.param, dashboard_address=":0"
        ) as cluster,
        Client(cluster) as found,
    ):
        found.register_plugin(SeamlessScheduler())
        yield found


def test_all_ways_to_gather_hand_over_objects(lab: Any, client: Client) -> None:
    client.cluster.scale(1)
    first = lab.delayed(numbers)(3)
    last = lab.delayed(total)(first)
    assert client.compute(last).result(60) == 3
    assert client.gather(client.compute([last, first])) == [3, [0, 1, 2]]
    assert client.gather({"x": client.compute(first)}, direct=True) == {"x": [0, 1, 2]}
    assert dask.compute(last, dask.delayed(str)(7), first) == (3, "7", [0, 1, 2])
    assert client.persist(first).compute() == [0, 1, 2]
    assert [found for _, found in as_completed([client.compute(last)], with_results=True)] == [3]


@pytest.mark.parametrize("is_known", [False, True])
def test_stock_tasks_are_given_objects(lab: Any, client: Client, is_known: bool) -> None:
    made = lab.delayed(numbers)(3)
    if is_known:
        made.compute(scheduler="sync")
    client.cluster.scale(1)
    assert dask.delayed(sum)(made).compute() == 3
    assert dask.delayed(str)([made, {"x": made}]).compute() == "[[0, 1, 2], {'x': [0, 1, 2]}]"
    future = client.compute(made)
    assert client.submit(sum, future).result(60) == 3
    assert client.submit(str, {"x": [future]}).result(60) == "{'x': [[0, 1, 2]]}"
    assert client.gather(client.map(len, [future])) == [3]


@pytest.mark.parametrize("is_known", [False, True])
def test_collections_are_made_of_them(lab: Any, client: Client, is_known: bool) -> None:
    made = [lab.delayed(filled)(count) for count in (2, 3)]
    if is_known:
        dask.compute(made, scheduler="sync")
    client.cluster.scale(1)
    parts = [
        dask.array.from_delayed(one, (count,), dtype=float) for one, count in zip(made, (2, 3), strict=True)
    ]
    assert (dask.array.concatenate(parts) + 1).sum().compute() == 10.0
    assert dask.bag.from_delayed(made).count().compute() == 5
    assert dask.array.from_delayed(client.compute(made[0]), (2,), dtype=float).sum().compute() == 2.0


def test_frames_are_made_of_them(lab: Any, client: Client) -> None:
    pandas, frames = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    made = [lab.delayed(framed)(count) for count in (1, 2)]
    client.cluster.scale(1)
    found = frames.from_delayed(made, meta=pandas.DataFrame({"x": [0]}))
    assert found.x.sum().compute() == 1
    assert frames.from_delayed(made, meta=pandas.DataFrame({"x": [0]})).compute(scheduler="sync").x.sum() == 1


def test_what_a_step_prints_is_told_to_clients_that_wait_for_what_needs_it_and_to_no_others(
    lab: Any, client: Client
) -> None:
    client.cluster.scale(1)
    shown: list[Any] = []
    elsewhere: list[Any] = []
    with Client(client.cluster, set_as_default=False) as other:
        client.subscribe_topic("print", shown.append)
        other.subscribe_topic("print", elsewhere.append)
        last = lab.delayed(total)(lab.delayed(printing)(3))
        assert client.compute(last).result(60) == 3
        assert other.submit(int, 5).result(60) == 5  # what was sent to it before has arrived
        client.sync(asyncio.sleep, 0)
    assert [message["args"] for _, message in shown] == [("printed é\\x1b[2J\n",)]
    assert elsewhere == []


class _ShownProgress(MultiProgressBar):  # type: ignore[misc]
    """The progress of Dask's widget, without the widget."""

    def _draw_bar(self, all: Any, **_: Any) -> None:  # noqa: A002 - its name there
        self.names = {str(name) for name in all}


def test_progress_of_a_client_shows_the_names_of_functions(
    lab: Any, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    client.cluster.scale(1)
    futures = client.compute([lab.delayed(numbers)(5), lab.delayed(total)([1, 2])])
    shown = _ShownProgress(futures, complete=True)
    client.sync(shown.listen)
    assert shown.names == {"numbers-tf", "total-tf"}
    progress(futures, notebook=False)
    assert "100% Completed" in capsys.readouterr().out


def test_hits_are_objects_with_no_worker(lab: Any, client: Client) -> None:
    made = lab.delayed(numbers)(3)
    made.compute(scheduler="sync")
    assert client.compute(made).result(60) == [0, 1, 2]
    assert dask.compute(made) == ([0, 1, 2],)
    assert client.scheduler_info()["workers"] == {}


def test_objects_are_loaded_outside_the_event_loop(
    lab: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = lab.delayed(numbers)(3)
    made.compute(scheduler="sync")
    threads: list[threading.Thread] = []
    load = handles.Object.load

    def noted(self: handles.Object, **wishes: bool) -> Any:
        threads.append(threading.current_thread())
        return load(self, **wishes)

    monkeypatch.setattr(handles.Object, "load", noted)
    client.compute(made).result(60)

    async def here() -> threading.Thread:
        return threading.current_thread()

    assert len(threads) == 1
    assert threads[0] != client.sync(here)


def test_an_asynchronous_client_hands_over_objects(lab: Any, client: Client) -> None:
    made = lab.delayed(numbers)(3)
    made.compute(scheduler="sync")

    async def asked() -> Any:
        async with Client(client.cluster.scheduler_address, asynchronous=True) as other:
            return await other.compute(made)

    assert asyncio.run(asked()) == [0, 1, 2]


def test_a_client_raises_what_the_function_raised(lab: Any, client: Client) -> None:
    client.cluster.scale(1)
    future = client.compute(lab.delayed(failing)(2))
    for ask in (
        lambda: future.result(60),
        lambda: client.gather([future]),
        lambda: list(as_completed([future], with_results=True)),
    ):
        with pytest.raises(LookupError, match="no 2"):
            ask()
    assert repr(future.exception()) == "LookupError('no 2')"
    [(_, (kind, error, _))] = as_completed([future], with_results=True, raise_errors=False)
    assert (kind, str(error)) == (LookupError, "no 2")


def test_what_cannot_be_loaded_fails_for_those_only_who_asked_for_it(
    lab: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = (lab.delayed(numbers)(count) for count in (1, 2))
    dask.compute(bad, good, scheduler="sync")
    load = handles.Object.load

    def refused(self: handles.Object, **wishes: bool) -> Any:
        if self.checksum == bad.result_checksum:
            raise UntrustedValue("not this one")
        return load(self, **wishes)

    monkeypatch.setattr(handles.Object, "load", refused)
    futures = client.compute([bad, good])
    with pytest.raises(UntrustedValue, match="not this one"):
        client.gather(futures)
    assert futures[1].result(60) == [0, 1]


def test_results_for_a_client_that_is_not_as_assumed_are_loaded_where_they_are_unpickled(
    lab: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(handles, "_delivers", None)
    made = lab.delayed(numbers)(3)
    made.compute()
    found = pickle.dumps(handles.of("json/1", made.result_checksum, made.key))
    assert isinstance(pickle.loads(found), handles.Object)

    def other(self: Any) -> None: ...

    for name in ("_gather_remote", "_gather"):
        monkeypatch.setattr(Client, name, other)
        monkeypatch.setattr(dask_client, "_is_installed", False)
        dask_client.hand_over_objects()
        assert getattr(Client, name) is other
        assert "results are loaded in the event loop" in caplog.text
    assert pickle.loads(found) == [0, 1, 2]
