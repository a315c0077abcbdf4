"""What is annotated holds for what is built there, whatever is made of it later.

Seen as https://github.com/dask/dask/issues/7036 (a graph that is rewritten loses its annotations) and
https://github.com/dask/dask/issues/7294 (so that a delayed object runs on workers without the resource).
"""

from __future__ import annotations

import pickle
from typing import Any

import dask
import pytest
from dask._expr import HLGExpr
from dask.delayed import optimize

from seamless_dask import bash

GPU = {"GPU": 1}


def annotations_of(collection: Any) -> dict[str, dict[str, Any]]:
    """What the scheduler is told, by task, after Dask has rewritten the graph."""
    graph = optimize(collection.__dask_graph__(), collection.__dask_keys__())
    found: dict[str, dict[str, Any]] = {}
    for kind, told in HLGExpr(graph).__dask_annotations__().items():
        for key, value in told.items():
            found.setdefault(str(key), {})[kind] = value
    return found


def key_of(collection: Any) -> str:
    return str(collection.__dask_keys__()[0])


def path_of(handle: Any) -> str:
    return str(handle)


def test_it_holds_for_what_is_built_there_as_for_a_delayed_object() -> None:
    with dask.annotate(resources=GPU, workers=["alice"], retries=2):
        step, delayed = bash("echo x"), dask.delayed(path_of, pure=True)(1)
    told = {"resources": GPU, "workers": ["alice"], "retries": 2}
    assert annotations_of(delayed) == {key_of(delayed): told}
    assert annotations_of(step) == {key_of(step): told}


@pytest.mark.parametrize("consumer", [lambda step: bash("cat 0", {"0": step}), dask.delayed(path_of)])
def test_it_holds_for_nothing_that_was_built_elsewhere(consumer: Any) -> None:
    step = bash("echo x")
    with dask.annotate(resources=GPU):
        last = consumer(step)
        last.__dask_graph__()
    told = annotations_of(last)
    assert told[key_of(last)] == {"resources": GPU}
    assert key_of(step) not in told


def test_each_step_keeps_its_own() -> None:
    with dask.annotate(priority=1):
        first = bash("echo x")
    with dask.annotate(priority=2):
        second = bash("cat 0", {"0": first})
    assert annotations_of(second) == {key_of(first): {"priority": 1}, key_of(second): {"priority": 2}}


def test_options_come_first() -> None:
    with dask.annotate(priority=1, resources={"GPU": 1, "license": 1}):
        step = bash("echo x", priority=7, gpus=2)
    assert annotations_of(step) == {
        key_of(step): {"priority": 7, "resources": {"GPU": 2, "license": 1}},
    }


def test_it_travels_with_what_is_pickled() -> None:
    with dask.annotate(resources=GPU):
        step = bash("echo x")
    assert annotations_of(pickle.loads(pickle.dumps(step))) == {key_of(step): {"resources": GPU}}
