"""Documents become one task each, unless their results are known."""

from __future__ import annotations

from typing import Any

import dask
import pytest

from hashserver.errors import BufferMissing
from seamless_dask.graph import collection
from seamless_dask.graph import names as task_names
from seamless_dask.model.options import Options
from seamless_dask.model.transformation import Deferred, Value

PLAIN = Options(isolation="none", scratch=False, retries=2)


def chain(lab: Any, length: int) -> list[Any]:
    keys = [lab.store(f"{lab.counted('0')}; echo 0")]
    for number in range(1, length):
        code = f"{lab.counted(str(number))}; cat x; echo {number}"
        keys.append(lab.store(code, inputs={"x": Deferred(keys[-1])}))
    return keys


def compute(lab: Any, key: Any, *, fresh: bool = False) -> Any:
    """Have Dask compute the graph of a transformation in this process."""
    graph = collection.build(lab.context, key, PLAIN._replace(fresh=fresh))
    return graph if isinstance(graph, Value) else dask.get(graph.tasks, graph.key).value


def test_a_chain_is_one_task_each(lab: Any, worker: Any) -> None:
    keys = chain(lab, 3)
    graph = collection.build(lab.context, keys[-1], PLAIN)
    assert isinstance(graph, collection.Graph)
    assert set(graph.tasks) == {task_names.dask_key(key, "echo") for key in keys}
    assert graph.tasks[graph.key].dependencies == {task_names.dask_key(keys[1], "echo")}


def test_a_chain_is_computed_and_then_found_in_one_look_up(lab: Any, worker: Any) -> None:
    keys = chain(lab, 3)
    value = compute(lab, keys[-1])
    assert lab.bytes(value) == b"0\n1\n2\n"
    assert collection.build(lab.context, keys[-1], PLAIN) == value
    assert lab.ran() == ["0", "1", "2"]


def test_what_is_known_is_no_task(lab: Any, worker: Any) -> None:
    keys = chain(lab, 3)
    compute(lab, keys[1])
    graph = collection.build(lab.context, keys[2], PLAIN)
    assert isinstance(graph, collection.Graph)
    assert list(graph.tasks) == [task_names.dask_key(keys[2], "echo")]
    assert lab.bytes(compute(lab, keys[2])) == b"0\n1\n2\n"
    assert lab.ran() == ["0", "1", "2"]


def test_a_diamond_runs_its_top_once(lab: Any, worker: Any) -> None:
    top = lab.store(f"{lab.counted('top')}; echo top")
    sides = [lab.store(f"cat x; echo {side}", inputs={"x": Deferred(top)}) for side in "ab"]
    inputs = {f"{number}": Deferred(side) for number, side in enumerate(sides)}
    bottom = lab.store("cat 0 1", inputs=inputs)
    assert lab.bytes(compute(lab, bottom)) == b"top\na\ntop\nb\n"
    assert lab.ran() == ["top"]


def test_fresh_runs_the_last_one_only(lab: Any, worker: Any) -> None:
    keys = chain(lab, 2)
    first = compute(lab, keys[1])
    assert compute(lab, keys[1], fresh=True) == first
    assert lab.ran() == ["0", "1", "1"]


def test_a_reference_to_what_is_not_stored_is_an_error(lab: Any, worker: Any) -> None:
    unstored = lab.transformation("echo 1").key
    key = lab.store("cat x", inputs={"x": Deferred(unstored)})
    with pytest.raises(BufferMissing, match=unstored):
        collection.build(lab.context, key, PLAIN)


def test_a_result_that_is_known_needs_no_document(lab: Any, worker: Any) -> None:
    value = lab.file(b"x\n")
    unstored = lab.transformation("echo x").key
    lab.context.database.put(unstored, *value)
    key = lab.store("cat x", inputs={"x": Deferred(unstored)})
    assert collection.build(lab.context, unstored) == Value(*value)
    with pytest.raises(BufferMissing, match="submit it again"):  # which result is meant stands in it
        compute(lab, key)


@pytest.mark.parametrize(
    ("code", "label"),
    [
        ("sort -u x", "sort"),
        ("LANG=C /usr/bin/awk '{}'", "awk"),
        ("", "bash"),
        ("  ( a )", "bash"),
        ("é", "bash"),
        ("def helper(x):\n    return x\n\n\n__function__ = Model.fit\n", "fit"),
        ("function = lambda x: x\n__function__ = function\n", "function"),
    ],
)
def test_a_label_follows_from_the_code(code: str, label: str) -> None:
    assert task_names.label_of(code) == label


def test_dask_groups_tasks_by_their_label() -> None:
    from dask.utils import key_split

    assert key_split(task_names.dask_key("0" * 64, "sort")) == "sort-tf"
