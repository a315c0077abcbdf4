"""Large arguments of functions are hashed and stored from the object; none of their bytes stays in memory."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from seamless_dask.api import LargeArgument, Parts
from seamless_dask.config import load
from seamless_dask.context import Context
from seamless_dask.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 32 << 20


def total(data: object) -> int:
    return int(np.sum(data))


def test_identity_of_a_large_argument_takes_no_memory(lab: Any) -> None:
    data = np.zeros(SIZE, np.uint8)
    sum_of = lab.direct(total)
    assert sum_of(data) == 0  # imports, and the run itself
    tracemalloc.start()
    try:
        assert sum_of(data) == 0
        assert tracemalloc.get_traced_memory()[1] < SIZE // 8
    finally:
        tracemalloc.stop()


def test_what_is_built_has_a_large_argument_as_it_was_at_the_call(lab: Any) -> None:
    data = np.ones(SIZE // 8, np.uint8)
    built = lab.delayed(total)(data)
    data[:] = 7
    assert built.compute() == SIZE // 8


def test_a_large_argument_is_there_wherever_the_graph_is_sent_to(lab: Any, tmp_path: Path) -> None:
    data = np.ones(2 << 20, np.uint8)
    built = lab.delayed(total)(data)
    checksum = built._parts.stored[0]
    elsewhere = {"cache": str(tmp_path / "other")}
    with Context(load(elsewhere, str(tmp_path), {"HOME": str(tmp_path)})) as other:
        built._parts.copy_stored(other)
        assert other.store.get(checksum) == lab.context.store.get(checksum)


def test_an_argument_that_changes_while_it_is_stored_is_refused(lab: Any) -> None:
    parts = Parts(lab.context, b"")
    absent = lab.context.store.put(b"before")
    lab.context.store.delete(absent)
    parts.large.append(LargeArgument("x", absent, lambda sink: sink(b"after")))
    with pytest.raises(UsageError, match="argument 'x' was changed"):
        parts.store_large()
