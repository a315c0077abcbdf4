"""Calls of functions as Dask collections: whoever computes them is handed the object."""

from __future__ import annotations

from typing import Any

import dask
import dask.array
import dask.bag
import numpy as np
import pytest

from seamless_dask.functions import delayed
from seamless_dask.graph import handles


def numbers(count: int) -> list[int]:
    return list(range(count))


def filled(count: int) -> Any:
    return np.ones(count)


def named(name: str) -> str:
    return name


def total(items: list[int]) -> int:
    return sum(items)


def failing(x: int) -> None:
    raise LookupError(f"no {x}")


SCHEDULERS = ["sync", "threads", "processes"]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("optimize_graph", [True, False])
def test_local_schedulers_hand_over_objects(lab: Any, scheduler: str, optimize_graph: bool) -> None:
    first = delayed(context=lab.context)(numbers)(3)
    last = delayed(context=lab.context)(total)(first)
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
    last = delayed(context=lab.context)(total)(delayed(context=lab.context)(numbers)(3))
    assert dask.compute(last, scheduler="sync") == (3,)
    assert loaded == [last.result_checksum]


def test_local_schedulers_raise_what_the_function_raised(lab: Any) -> None:
    with pytest.raises(LookupError, match="no 1") as caught:
        dask.compute(delayed(context=lab.context)(failing)(1), scheduler="threads")
    assert "in failing" in caught.value.__notes__[0]


def test_what_is_persisted_here_is_an_input_for_others(lab: Any) -> None:
    (kept,) = dask.persist(delayed(context=lab.context)(numbers)(4), scheduler="threads")
    (text,) = dask.persist(delayed(context=lab.context)(named)("name"), scheduler="threads")
    assert dask.compute(text, kept) == ("name", [0, 1, 2, 3])
    assert delayed(context=lab.context)(total)(kept).compute() == 6
    assert kept.compute() == [0, 1, 2, 3]


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_stock_functions_are_given_objects(lab: Any, scheduler: str) -> None:
    made = delayed(context=lab.context)(numbers)(3)
    assert dask.delayed(sum)(made).compute(scheduler=scheduler) == 3
    assert dask.delayed(made).compute(scheduler=scheduler) == [0, 1, 2]
    assert (
        dask.delayed(str)([made, {"x": made}]).compute(scheduler=scheduler) == "[[0, 1, 2], {'x': [0, 1, 2]}]"
    )


def test_arrays_and_bags_are_made_of_them(lab: Any) -> None:
    made = delayed(context=lab.context)(numbers)(5)
    assert dask.bag.from_delayed([made]).map(lambda x: x + 1).compute(scheduler="sync") == [1, 2, 3, 4, 5]
    array = dask.array.from_delayed(delayed(context=lab.context)(filled)(5), (5,), dtype=float)
    assert (array + 1).sum().compute(scheduler="sync") == 10.0
