"""What is known is looked up when Dask reads a graph, and is no work for any scheduler."""

from __future__ import annotations

import pickle
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import dask
import pytest
from dask.base import collections_to_expr, is_dask_collection
from distributed import Client, LocalCluster

from hashserver.errors import ServiceUnavailable
from seamless_dask import Transformation, bash
from seamless_dask.context import Context
from seamless_dask.graph import lazy_graph, task


class Desk:
    """Where transformations are described; counts what the database is asked."""

    def __init__(self, lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lab, self.asked = lab, list[int]()
        self._look_up = lab.context.database.lookup_many
        monkeypatch.setattr(lab.context.database, "lookup_many", self._counted)
        self.before: Callable[[], object] = lambda: None

    def _counted(self, keys: Any) -> Any:
        self.asked.append(len(keys))
        self.before()
        return self._look_up(keys)

    def bash(self, code: str, *upstream: Transformation, **options: Any) -> Transformation:
        """A command that notes that it ran, and reads what others give as files ``0``, ``1`` and so on."""
        inputs = {str(number): other for number, other in enumerate(upstream)}
        return bash(f"{code}; {self.lab.counted()}", inputs, context=self.lab.context, **options)

    def chain(self, length: int, **options: Any) -> list[Transformation]:
        steps = [self.bash("echo 0", **options)]
        for number in range(1, length):
            steps.append(self.bash(f"cat 0; echo {number}", steps[-1], **options))
        return steps

    def know(self, *steps: Transformation, data: bytes = b"known\n") -> None:
        for step in steps:
            self.lab.context.database.put(step.key, *self.lab.file(data))


@pytest.fixture
def desk(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(lab, monkeypatch)


def name_of(step: Transformation) -> str:
    return str(step.__dask_keys__()[0])


def nodes_of(step: Transformation) -> dict[str, Any]:
    return dict(step.__dask_graph__())


def is_value(node: Any) -> bool:
    return node.func is task.known


def read(step: Transformation, **options: Any) -> str:
    text: str = step.compute(**options).read_text()
    return text


# ------------------------------------------------------------------------ what becomes of the graph


@pytest.mark.parametrize("optimize_graph", [True, False])
def test_what_only_a_known_one_needs_is_not_run(desk: Desk, optimize_graph: bool) -> None:
    steps = desk.chain(5, priority=1)
    desk.know(steps[-1])
    assert read(steps[-1], scheduler="threads", optimize_graph=optimize_graph) == "known\n"
    assert desk.lab.ran() == []


def test_what_only_a_known_one_needs_is_left_out(desk: Desk) -> None:
    steps = desk.chain(5)
    desk.know(steps[-1])
    [(name, node)] = nodes_of(steps[-1]).items()
    assert (name, is_value(node), node.dependencies) == (name_of(steps[-1]), True, frozenset())
    assert read(steps[-1], scheduler="sync") == "known\n"
    assert desk.lab.ran() == []


def test_what_others_need_of_known_ones_is_an_argument_of_theirs(desk: Desk) -> None:
    steps = desk.chain(5)
    desk.know(steps[2])
    assert set(nodes_of(steps[-1])) == set(map(name_of, steps[3:]))
    assert read(steps[-1], scheduler="sync") == "known\n3\n4\n"
    assert desk.lab.ran() == ["ran"] * 2


def test_a_known_one_that_is_asked_for_too_is_one_value(desk: Desk) -> None:
    steps = desk.chain(3)
    desk.know(steps[1])
    found = dask.compute(*steps[1:], scheduler="sync")
    assert [file.read_text() for file in found] == ["known\n", "known\n2\n"]
    assert desk.lab.ran() == ["ran"]


def test_a_known_one_asks_for_no_resources(desk: Desk) -> None:
    steps = desk.chain(4, cpus=2)
    desk.know(steps[1])
    told = collections_to_expr(steps[1:]).optimize().__dask_annotations__()
    assert set(told["resources"]).intersection(map(name_of, steps[1:])) == set(map(name_of, steps[2:]))


def test_of_two_with_a_step_in_common_one_may_be_known(desk: Desk) -> None:
    """Each step with resources is a layer; Dask keeps one of those that have the same name."""
    first = desk.bash("echo 0", cpus=1)
    one, other = (desk.bash(f"cat 0; echo {name}", first, cpus=1) for name in ("one", "other"))
    desk.know(other)
    for both in ([one, other], [other, one]):
        graph = collections_to_expr(both).optimize().__dask_graph__()
        assert set(graph) == set(map(name_of, (first, one, other)))


def test_a_step_of_many_collections_is_sent_once(desk: Desk) -> None:
    steps = desk.chain(30, priority=1)
    sizes = [len(pickle.dumps(collections_to_expr(some).optimize())) for some in (steps[-1:], steps)]
    assert sizes[1] < 2 * sizes[0]


def test_one_that_is_to_run_whatever_is_known_is_not_looked_up(desk: Desk) -> None:
    first = desk.bash("echo 0")
    step = desk.bash("cat 0", first, fresh=True)
    desk.know(first, step)
    assert set(nodes_of(step)) == {name_of(step)}
    assert read(step, scheduler="sync") == "known\n"
    assert desk.lab.ran() == ["ran"]


def test_what_was_built_on_a_contested_result_is_not_known(desk: Desk) -> None:
    steps = desk.chain(3)
    read(steps[-1], scheduler="sync")
    assert len(nodes_of(steps[-1])) == 1
    desk.lab.context.database.contest(steps[0].key)
    assert len(nodes_of(steps[-1])) == 3
    assert read(steps[-1], scheduler="sync") == "0\n1\n2\n"


def test_of_several_results_the_current_one_counts(desk: Desk) -> None:
    [step] = desk.chain(1)
    desk.know(step, data=b"first\n")
    desk.lab.context.database.contest(step.key)
    desk.know(step, data=b"second\n")
    assert read(step, scheduler="sync") == "second\n"
    assert desk.lab.ran() == []


def test_what_has_been_optimised_keeps_what_was_known(desk: Desk) -> None:
    steps = desk.chain(3)
    desk.know(steps[1])
    [same] = dask.optimize(steps[-1])
    assert set(nodes_of(same)) == {name_of(steps[-1])}
    assert read(same, scheduler="sync") == "known\n2\n"


def test_inside_delayed_it_is_looked_up(desk: Desk) -> None:
    steps = desk.chain(3)
    desk.know(steps[-1])
    assert dask.delayed(lambda file: file.read_text())(steps[-1]).compute(scheduler="sync") == "known\n"
    assert desk.lab.ran() == []


def test_a_pickled_one_is_looked_up_where_it_has_come_to(desk: Desk) -> None:
    steps = desk.chain(3)
    arrived = pickle.loads(pickle.dumps(steps[-1]))
    desk.know(steps[-1])
    assert read(arrived, scheduler="sync") == "known\n"
    assert desk.lab.ran() == []


# ------------------------------------------------------------------------ how often it is asked


def test_all_collections_of_one_call_share_a_request(desk: Desk) -> None:
    steps = [desk.bash(f"echo {number}") for number in range(20)]
    desk.know(*steps)
    dask.compute(*steps, scheduler="sync")
    assert desk.asked == [20]


def test_what_unknown_ones_need_is_one_more_request(desk: Desk) -> None:
    ends = [desk.bash(f"cat 0; echo {number}", desk.chain(5)[-1]) for number in range(3)]
    assert len(collections_to_expr(ends).optimize().__dask_graph__()) == 8
    assert desk.asked == [3, 5]


def test_a_known_end_is_all_that_is_asked_about(desk: Desk) -> None:
    steps = desk.chain(50)
    desk.know(steps[-1])
    nodes_of(steps[-1])
    assert desk.asked == [1]


def test_a_graph_that_nobody_reads_is_not_looked_up(desk: Desk) -> None:
    [step] = desk.chain(1)
    assert is_dask_collection(step)
    assert step.__dask_graph__().layers
    assert desk.asked == []


def test_the_graph_of_a_collection_is_made_once_in_a_call(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    layers_of = lazy_graph.layers_of

    def counted(name: str, *arguments: Any) -> Any:
        made.append(name)
        return layers_of(name, *arguments)

    monkeypatch.setattr(lazy_graph, "layers_of", counted)
    steps = [desk.bash(f"echo {number}") for number in range(3)]
    assert all(map(is_dask_collection, steps))
    dask.compute(*steps, scheduler="synchronous")
    assert made == [name_of(step) for step in steps]


def test_a_layer_does_not_look_at_all_that_is_wanted_of_others(desk: Desk) -> None:
    class Wanted(set[str]):
        def __iter__(self) -> Any:
            raise AssertionError("as often as there are layers this would take hours")

    step = desk.bash("echo")
    layer = step.__dask_graph__().layers[name_of(step)]
    for one in (layer, pickle.loads(pickle.dumps(layer))):
        culled, needs = one.cull(Wanted({name_of(step), "of another layer"}), set())
        assert set(culled) == set(needs) == {name_of(step)}
        assert not one.cull(Wanted({"of another layer"}), set())[1]


def test_a_graph_says_the_same_whenever_it_is_read(desk: Desk) -> None:
    steps = desk.chain(2)
    graph = steps[-1].__dask_graph__()
    assert len(dict(graph)) == 2
    desk.know(steps[-1])
    assert len(dict(graph)) == 2
    assert desk.asked == [1, 1]


def test_an_answer_that_came_with_another_graph_counts_for_a_moment(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = desk.bash("echo 1"), desk.bash("echo 2")
    first, second = one.__dask_graph__(), other.__dask_graph__()
    dict(first)
    desk.know(other)
    monkeypatch.setattr(lazy_graph, "RECENT", 0.0)
    assert is_value(dict(second)[name_of(other)])
    assert desk.asked == [2, 1]


# ------------------------------------------------------------------------ a database that does not answer


def test_a_database_that_fails_is_a_warning_once_and_the_graph_is_whole(desk: Desk) -> None:
    def fail() -> None:
        raise ServiceUnavailable("the database is away")

    steps = desk.chain(3)
    desk.know(steps[0])
    desk.before = fail
    with pytest.warns(UserWarning, match=r"looked up .* by whoever runs them: the database is away"):
        assert len(nodes_of(steps[-1])) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(nodes_of(steps[-1])) == 3
    assert desk.asked == [1]  # it is left alone for a while


def test_a_database_that_is_back_is_asked_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("the database is away")

    steps = desk.chain(2)
    desk.know(steps[-1])
    monkeypatch.setattr(lazy_graph, "PAUSE", 0.0)
    desk.before = fail
    with pytest.warns(UserWarning, match="the database is away"):
        nodes_of(steps[-1])
    desk.before = lambda: None
    assert len(nodes_of(steps[-1])) == 1
    desk.before = fail
    with pytest.warns(UserWarning, match="the database is away"):  # that is news again
        nodes_of(steps[-1])


def test_a_database_that_hangs_is_not_waited_for(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(lazy_graph, "LONGEST", 0.05)
    desk.before = lambda: answers.wait(60)
    with pytest.warns(UserWarning, match=r"no answer within 0\.05 s"):
        assert len(nodes_of(desk.chain(3)[-1])) == 3
    answers.set()


def test_a_server_that_is_gone_is_a_warning(lab: Any) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        gone = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        with Context(lab.context.config._replace(database=gone)) as context:
            first = bash("echo 0", context=context)
            with pytest.warns(UserWarning, match=f"no connection to {gone}"):
                assert len(nodes_of(bash("cat 0", {"0": first}, context=context))) == 2


# ------------------------------------------------------------------------ a cluster without our plugin


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Neither scheduler nor worker has anything of ours."""
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0") as found:
        yield found


@pytest.fixture
def client(cluster: LocalCluster) -> Iterator[Client]:
    with Client(cluster) as found:
        yield found


def seen_by(client: Client) -> set[str]:
    """The tasks that the scheduler has had."""
    return {change.key for change in client.cluster.scheduler.transition_log}


@pytest.mark.parametrize("options", [{}, {"priority": 1}])
def test_a_stock_scheduler_is_given_no_steps_of_what_is_known(
    desk: Desk, client: Client, options: dict[str, int]
) -> None:
    steps = desk.chain(5, **options)
    desk.know(steps[-1])
    assert client.compute(steps[-1]).result(60).read_text() == "known\n"
    assert seen_by(client).intersection(map(name_of, steps)) == {name_of(steps[-1])}
    assert desk.lab.ran() == []


def test_a_stock_scheduler_is_given_what_is_left_to_do(desk: Desk, client: Client) -> None:
    steps = desk.chain(5)
    desk.know(steps[2])
    assert read(steps[-1]) == "known\n3\n4\n"
    assert seen_by(client).intersection(map(name_of, steps)) == set(map(name_of, steps[3:]))
    assert desk.lab.ran() == ["ran"] * 2


@pytest.mark.parametrize("options", [{}, {"priority": 1}])
def test_without_optimisation_too(desk: Desk, client: Client, options: dict[str, int]) -> None:
    steps = desk.chain(3, **options)
    desk.know(steps[-1])
    assert client.compute(steps[-1], optimize_graph=False).result(60).read_text() == "known\n"
    assert seen_by(client).intersection(map(name_of, steps)) == {name_of(steps[-1])}


@pytest.mark.parametrize("options", [{}, {"priority": 1}])
def test_what_is_known_can_be_persisted(desk: Desk, client: Client, options: dict[str, int]) -> None:
    steps = desk.chain(3)
    desk.know(steps[1])
    persisted = client.persist(steps[1])
    assert read(desk.bash("cat 0; echo end", persisted, **options)) == "known\nend\n"
    assert desk.lab.ran() == ["ran"]


def test_worker_processes_read_what_is_known(desk: Desk) -> None:
    steps = desk.chain(3)
    desk.know(steps[1])
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    with LocalCluster(**options, processes=True) as cluster, Client(cluster):
        assert read(steps[-1]) == "known\n2\n"
        assert dask.delayed(lambda file: file.read_text())(steps[1]).compute() == "known\n"
    assert desk.lab.ran() == ["ran"]
