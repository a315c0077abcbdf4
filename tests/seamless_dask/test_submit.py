"""Functions that a stock client of Dask submits and maps: existing lines find their results."""

from __future__ import annotations

import asyncio
import io
import itertools
import pickle
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, NoReturn

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster, as_completed, get_task_stream, span

from seamless_dask import File, checksum_of, put
from seamless_dask.context import Context
from seamless_dask.decorators import delayed, direct
from seamless_dask.errors import SeamlessError, UsageError
from seamless_dask.graph.handles import Object
from seamless_dask.graph.task import PROTOCOL
from seamless_dask.model.requirements import MEMORY
from seamless_dask.scheduler import SeamlessScheduler
from seamless_dask.submitted import PickledArgument, _unpickled

_numbers = itertools.count(1)
OFFSET = 1


class Desk:
    """A stock client, and functions that no other test has."""

    def __init__(self, client: Client, context: Context, directory: Path) -> None:
        self.client, self.context, self.cluster = client, context, client.cluster
        self.log = directory / f"log-{next(_numbers)}"
        self._variables = {"TEST": next(_numbers)}

    def function(self, function: Any, decorate: Any = direct, **options: Any) -> Any:
        return decorate(context=self.context, variables=self._variables, **options)(function)

    def noted(self) -> Any:
        """A function that notes that it runs."""
        return self.function(noted)

    def ran(self) -> int:
        return len(self.log.read_text()) if self.log.exists() else 0

    def state(self, future: Any) -> Any:
        """What the scheduler has of a task."""
        return self.cluster.scheduler.tasks[future.key]


def fit(x: Any, alpha: float = 0.5) -> Any:
    return x * alpha + OFFSET


def noted(x: Any, log: str) -> Any:
    with open(log, "a") as file:
        file.write(".")
    return x


def scanned(x: int) -> int:
    return x


def total(items: list[float]) -> float:
    return sum(items)


def ones(count: int) -> Any:
    return np.ones(count)


def told(value: Any) -> tuple[str, float]:
    return type(value).__name__, float(np.sum(value))


def many(first: Any, *more: Any, by: list[int] = [1, 2], **named: Any) -> Any:  # noqa: B006 - is a default, too
    return [first, more, by, named]


def failing(x: int) -> None:
    raise LookupError(f"no {x}")


class Line:
    def __init__(self, slope: float) -> None:
        self.slope = slope

    def at(self, x: float) -> float:
        return self.slope * x


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Context]]:
    """A scheduler with the plugin, one worker, and a stock client."""
    directory = tmp_path_factory.mktemp("cluster")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEAMLESS_CACHE", str(directory / "cache"))
        patch.setenv("SEAMLESS_ISOLATION", "none")  # what runs writes a log
        with Context() as context, started(context, "tcp://") as client:
            yield client, context


def started(context: Context | None, protocol: str, workers: int = 1) -> Any:
    """A client of a cluster in this process; without a context there is no plugin."""

    class Started:
        def __enter__(self) -> Client:
            self.cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=2,
                processes=False,
                protocol=protocol,
                dashboard_address=":0",
            )
            self.client = Client(self.cluster, set_as_default=False)
            if context is not None:
                self.client.register_plugin(SeamlessScheduler(context.config))
            return self.client

        def __exit__(self, *_: object) -> None:
            self.client.close()
            self.cluster.close()

    return Started()


@pytest.fixture
def desk(cluster: tuple[Client, Context], tmp_path: Path) -> Desk:
    return Desk(*cluster, tmp_path)


@pytest.fixture
def quiet(cluster: tuple[Client, Context], tmp_path: Path) -> Iterator[Desk]:
    """The same context, and a scheduler without workers."""
    with started(cluster[1], "inproc://", workers=0) as client:
        yield Desk(client, cluster[1], tmp_path)


def test_submit_and_map_run_once_and_are_found_without_a_worker(desk: Desk, quiet: Desk) -> None:
    function, log = desk.noted(), str(desk.log)
    future = desk.client.submit(function, 3, log)
    assert future.key.startswith("noted-")
    assert future.result(60) == 3
    assert desk.client.gather(desk.client.map(function, range(4), log=log)) == [0, 1, 2, 3]
    assert desk.ran() == 4
    assert quiet.client.submit(function, 3, log=log).result(60) == 3
    assert quiet.client.gather(quiet.client.map(function, range(4), [log] * 4)) == [0, 1, 2, 3]
    assert function(3, log) == 3
    assert desk.ran() == 4


def test_results_are_arguments_of_each_other_without_a_worker(desk: Desk, quiet: Desk) -> None:
    function, last = desk.function(fit), desk.function(total, delayed)
    for client in (desk.client, quiet.client):
        steps = client.map(function, client.map(function, [1, 2]))
        assert client.submit(last, steps).result(60) == 3.75
        assert client.submit(last, [function.delayed(1), steps[0]]).result(60) == 3.25


def test_what_the_scheduler_cannot_tell_the_worker_can(desk: Desk) -> None:
    function, log, client = desk.noted(), str(desk.log), desk.client
    for _ in range(2):
        assert client.submit(function, np.arange(3), log).result(60).tolist() == [0, 1, 2]
        assert client.submit(function, client.submit(abs, -5), log).result(60) == 5
        assert client.submit(function, {"x": client.submit(abs, -6)}, log).result(60) == {"x": 6}
        assert client.submit(function, {7: Line(2.0).slope, "a": (1, {2})}, log).result(60)[7] == 2.0
    assert desk.ran() == 4


def test_a_large_argument_of_all_calls_arrives(desk: Desk) -> None:
    large = desk.client.map(desk.function(fit), [1.0, 2.0], alpha=np.ones(20_000))
    assert [found.sum() for found in desk.client.gather(large)] == [40_000, 60_000]


@pytest.mark.parametrize("is_known", [False, True])
def test_stock_tasks_are_given_objects(desk: Desk, is_known: bool) -> None:
    function, client = desk.function(ones, delayed), desk.client
    if is_known:
        client.gather(client.map(function, range(5)))
    assert client.submit(told, client.submit(function, 0)).result(60) == ("ndarray", 0.0)
    assert client.submit(told, function(1)).result(60) == ("ndarray", 1.0)
    assert client.submit(told, [function(2), client.submit(function, 2)]).result(60) == ("list", 4.0)
    assert client.gather(client.map(told, [function(3)])) == [("ndarray", 3.0)]
    assert client.submit(np.sum, client.submit(function, 4)).result(60) == 4.0
    assert client.submit(lambda call: call(2), desk.function(fit)).result(60) == 2.0


def test_one_computation_under_several_names_runs_once(desk: Desk) -> None:
    function, log = desk.noted(), str(desk.log)
    names = [desk.client.submit(function, 1, log, key=f"own-{number}-{log}") for number in range(4)]
    keys = function.keys([1], log=log)
    futures = [
        *names,
        *desk.client.map(function, [1], log=log, key=keys),
        desk.client.compute(function.delayed(1, log)),
    ]
    assert desk.client.gather(futures) == [1] * 6
    assert futures[-2].key == futures[-1].key == keys[0]
    assert desk.ran() == 1


def test_what_is_not_pure_runs_again(desk: Desk) -> None:
    """distributed#2367, #1733: that results are shared by default was not understood."""
    function, log = desk.noted(), str(desk.log)
    assert desk.client.submit(function, 1, log).result(60) == 1
    assert desk.client.submit(function, 1, log, pure=False).result(60) == 1
    assert desk.client.gather(desk.client.map(function, [1, 1], log=log, pure=False)) == [1, 1]
    assert desk.ran() == 4
    assert desk.client.compute(dask.delayed(function)(1, log)).result(60) == 1
    assert desk.ran() == 4


def test_options_of_dask_keep_their_meaning_beside_those_of_the_function(desk: Desk) -> None:
    function = desk.function(fit, memory="1 GiB", priority=1)
    with dask.annotate(retries=2):
        future = desk.client.submit(function, 7, priority=5, resources={"nowhere": 1})
    other = desk.client.submit(function, 8)
    assert other.result(60) == 5.0
    assert desk.state(other).priority[0] == -1
    state = desk.state(future)
    assert state.resource_restrictions == {MEMORY: 1 << 30, "nowhere": 1}
    assert state.priority[0] == -5
    assert state.retries == 2
    assert state.state == "no-worker"
    (worker,) = desk.cluster.scheduler.workers
    assert desk.client.submit(function, 9, workers=[worker]).result(60) == 5.5


def test_a_name_must_be_that_of_the_call(desk: Desk) -> None:
    function = desk.function(fit)
    xs = [1, np.ones(2)]
    for x in xs:
        with pytest.raises(UsageError, match=r"give fit\.keys\(\) all arguments"):
            desk.client.map(function, [x], alpha=3, key=function.keys([x]))[0].result(60)


CALLS = [
    (fit, (1,), {}, {}),
    (fit, (1.5,), {"alpha": 2}, {"ignore": "alpha"}),
    (fit, (), {"x": [1, {"y": (2, b"3")}], "alpha": None}, {}),
    (fit, (np.arange(4),), {}, {"version": "2"}),
    (many, (1,), {}, {}),
    (many, (1, 2, "3"), {"by": [], "other": {4}}, {"format": "pickle"}),
    (Line(3).at, (2,), {}, {}),
    (np.sin, (2.0,), {}, {}),
    (max, ([1, 2],), {}, {}),
    (sorted, ([1, 2],), {"reverse": True}, {}),
    (np.linspace, (0, 1), {"num": 3}, {}),
]


@pytest.mark.parametrize(("function", "args", "kwargs", "options"), CALLS)
def test_a_function_is_text_on_its_way_and_its_calls_keep_their_identity(
    lab: Any, function: Any, args: Any, kwargs: Any, options: Any
) -> None:
    mine = lab.delayed(**options)(function)
    data = pickle.dumps(mine)
    given, travelled = mine.transformation(*args, **kwargs), pickle.loads(data)
    found = travelled.transformation(lab.context, args, kwargs)
    assert (found.key, found.options) == (given.key, given.options)
    assert travelled.plain_key(args, kwargs) in (None, given.key)
    assert imported(data) <= {"seamless_dask.submitted", "inspect"}


def test_an_argument_as_its_pickle_is_passed_on_without_a_copy_any_number_of_times() -> None:
    array = np.arange(1000)
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(PickledArgument.of([array]), 5, buffer_callback=buffers.append)
    assert len(data) < 1000
    arrived = pickle.loads(data, buffers=[memoryview(bytes(buffer)) for buffer in buffers])
    for found in (arrived, pickle.loads(pickle.dumps(arrived, 5))):
        assert found.load()[0].tolist() == array.tolist()


def imported(data: bytes) -> set[str]:
    """Return the modules that a pickle imports from."""
    found = set()

    class Noting(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            found.add(module)
            return super().find_class(module, name)

    Noting(io.BytesIO(data)).load()
    return found


def test_a_function_that_changes_between_two_calls_is_another_one(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = desk.function(fit)
    first = desk.client.submit(function, 10)
    monkeypatch.setitem(globals(), "OFFSET", 2)
    second = desk.client.submit(function, 10)
    assert (first.result(60), second.result(60)) == (6.0, 7.0)


def test_functions_of_one_name_and_other_code_have_other_results(desk: Desk) -> None:
    def adding(number: int) -> Any:
        def fit(x: int) -> int:
            return x + number

        return desk.function(fit)

    with Client(desk.cluster, set_as_default=False) as other:
        assert desk.client.submit(adding(1), 1).result(60) == 2
        assert other.submit(adding(2), 1).result(60) == 3


@pytest.mark.parametrize("is_known", [False, True])
def test_what_can_only_be_pickled_comes_back(desk: Desk, quiet: Desk, is_known: bool) -> None:
    function = desk.function(fit, format="pickle")
    assert desk.client.submit(function, 2).result(60) == 2.0
    if is_known:
        assert quiet.client.submit(function, 2).result(60) == 2.0
        assert quiet.client.gather(quiet.client.map(function, [2])) == [2.0]


def test_all_ways_to_wait_hand_over_objects(desk: Desk, quiet: Desk) -> None:
    function = desk.function(ones)
    for client in (desk.client, quiet.client):
        futures = client.map(function, [1, 2])
        found = {len(value) for _, value in as_completed(futures, client.loop, with_results=True)}
        assert found == {1, 2}
        assert client.compute(dask.delayed(function)(1)).result(60).tolist() == [1.0]

    async def ask(cluster: LocalCluster) -> list[Any]:
        async with Client(cluster.scheduler_address, asynchronous=True, set_as_default=False) as client:
            one = await client.submit(function, 1)
            return [one, *await client.gather(client.map(function, [2]))]

    for cluster in (desk.cluster, quiet.cluster):
        assert [len(value) for value in asyncio.run(ask(cluster))] == [1, 2]


def test_map_over_nothing_and_over_unequal_lengths_is_as_of_dask(desk: Desk) -> None:
    function = desk.function(fit)
    assert desk.client.gather(desk.client.map(function, [])) == []
    assert desk.client.gather(desk.client.map(function, [1, 2, 3], [1])) == [2]
    with pytest.raises(TypeError, match="Iterators"):
        desk.client.map(function, (number for number in [1]))


def test_errors_are_those_of_the_call(desk: Desk) -> None:
    with pytest.raises(TypeError, match="too many positional arguments"):
        desk.client.submit(desk.function(fit), 1, 2, 3).result(60)
    with pytest.raises(TypeError, match="can't multiply"):
        desk.client.submit(desk.function(fit), "text", alpha=None).result(60)


def test_a_method_and_files_are_arguments(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text\n")
    reading = desk.function(Path.read_text)
    assert desk.client.submit(desk.function(Line(3.0).at), 2).result(60) == 6.0
    assert desk.client.submit(reading, File(tmp_path / "text")).result(60) == "text\n"
    assert desk.client.submit(desk.function(told), put(np.ones(3), context=desk.context)).result(60)[1] == 3.0


# ------------------------------------------------------------------------ what does not fit


def test_the_checksum_of_a_future_is_told_without_its_bytes(
    desk: Desk, quiet: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = desk.function(ones)
    expected = checksum_of(np.ones(2))

    def load(*_: Any, **__: Any) -> NoReturn:
        raise AssertionError("loaded")

    with monkeypatch.context() as patch:
        patch.setattr(Object, "load", load)
        assert desk.client.submit(function, 2).checksum == expected
        assert quiet.client.submit(function, 2).checksum == expected
        with pytest.raises(UsageError, match="no result of a transformation"):
            _ = desk.client.submit(abs, -next(_numbers)).checksum
    with pytest.raises(LookupError):
        _ = desk.client.submit(desk.function(failing), 1).checksum


def test_a_scheduler_without_the_plugin_leaves_all_to_the_workers(cluster: Any, tmp_path: Path) -> None:
    with started(None, "inproc://") as client:
        desk = Desk(client, cluster[1], tmp_path)
        function, log = desk.noted(), str(desk.log)
        for _ in range(2):
            assert client.submit(function, 1, log, key=f"plain-{next(_numbers)}").result(60) == 1
        assert desk.ran() == 1
        assert client.submit(function, 1, log, pure=False).result(60) == 1
        assert desk.ran() == 2
        assert client.submit(told, client.submit(desk.function(ones), 2)).result(60) == ("ndarray", 2.0)


class Elsewhere:
    """Can be unpickled where it was made only."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _missing, ()


def _missing() -> NoReturn:
    raise ModuleNotFoundError("No module named 'mine'")


def test_what_the_scheduler_cannot_read_is_told_with_what_to_do(quiet: Desk) -> None:
    with pytest.raises(UsageError, match=r"No module named 'mine'\): pass put\(value\) in its place"):
        quiet.client.submit(quiet.function(fit), Elsewhere()).result(60)


def test_large_arguments_by_value_are_warned_of(lab: Any, quiet: Desk) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        future = quiet.client.submit(quiet.function(told), np.ones(1_500_000))
        lab.wait_until(lambda: any("put(value)" in str(warning.message) for warning in caught))
    future.cancel()


class Other:
    """A function of another version of this package."""

    def __init__(self, function: Any) -> None:
        self.__name__, self._facts = "fit", tuple(function.submitted().facts)

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (PROTOCOL + 1, self._facts)

    def __call__(self) -> None: ...


def test_a_plugin_of_another_version_says_so(quiet: Desk) -> None:
    with pytest.raises(SeamlessError, match="install the same version on both"):
        quiet.client.submit(Other(quiet.function(fit)), 1).result(60)


@pytest.mark.parametrize("is_ours", [False, True])
def test_the_future_of_another_cluster_is_lost_as_that_of_any_task(
    desk: Desk, quiet: Desk, is_ours: bool
) -> None:
    theirs = desk.client.submit(desk.function(fit) if is_ours else abs, -next(_numbers))
    for function in (quiet.function(fit), abs):
        with pytest.raises(CancelledError):
            quiet.client.submit(function, theirs).result(60)


def test_known_ones_are_found_after_a_restart(lab: Any, desk: Desk, quiet: Desk) -> None:
    function = desk.function(fit)
    assert desk.client.submit(function, 20).result(60) == 11.0
    before = quiet.client.submit(function, 20)
    assert before.result(60) == 11.0
    quiet.client.restart(wait_for_workers=False)
    lab.wait_until(before.cancelled)
    assert quiet.client.submit(function, 20).result(60) == 11.0


def test_a_scheduler_that_goes_ends_the_waiting(desk: Desk, quiet: Desk) -> None:
    future = quiet.client.submit(quiet.function(fit), next(_numbers))
    quiet.client.sync(quiet.client.scheduler.identity)
    quiet.cluster.close()
    with pytest.raises(CancelledError):
        future.result(60)


def test_story_stream_and_spans_show_calls_as_any_task(desk: Desk) -> None:
    function, number = desk.function(scanned), next(_numbers)
    with desk.client.as_current(), span(f"scan {number}"), get_task_stream(desk.client) as stream:
        future = desk.client.submit(function, number)
        assert future.result(60) == number
    assert "memory" in [event[3] for event in desk.client.story(future.key)]
    assert future.key in [record["key"] for record in stream.data]
    extension = desk.cluster.scheduler.extensions["spans"]
    [found] = extension.spans_search_by_name[f"scan {number}",]
    assert [(group.name, len(group)) for group in found.groups] == [("scanned", 1)]


def test_nothing_is_left_of_names_that_are_forgotten(desk: Desk) -> None:
    submissions = desk.cluster.scheduler.plugins["seamless"].gate.submissions
    futures = desk.client.map(desk.function(fit), range(3))
    desk.client.gather(futures)
    names = {future.key for future in futures}
    assert names <= submissions.keys.keys()
    desk.client.cancel(futures)
    del futures
    desk.client.sync(desk.client.scheduler.identity)
    assert names.isdisjoint(submissions.keys)
