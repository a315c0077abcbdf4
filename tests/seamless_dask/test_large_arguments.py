"""Large arguments of functions are hashed and stored from the object; none of their bytes stays in memory."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import numpy as np
import pytest

from seamless_dask import delayed, direct
from seamless_dask.api import LargeArgument, Parts, UsageError
from seamless_dask.config import Config, load
from seamless_dask.context import Context

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 32 << 20


def _config(directory: Path) -> Config:
    return load({"cache": str(directory)}, str(directory.parent), {"HOME": str(directory)})


@pytest.fixture
def context(tmp_path: Path) -> Context:
    """Return a place of its own."""
    return Context(_config(tmp_path / "cache"))


def test_identity_of_a_large_argument_takes_no_memory(context: Context) -> None:
    data = np.zeros(SIZE, np.uint8)

    @direct(context=context)
    def total(data: object) -> int:
        return int(np.sum(data))

    assert total(data) == 0  # imports, and the run itself
    tracemalloc.start()
    try:
        assert total(data) == 0
        assert tracemalloc.get_traced_memory()[1] < SIZE // 8
    finally:
        tracemalloc.stop()


def test_what_is_built_has_a_large_argument_as_it_was_at_the_call(context: Context) -> None:
    data = np.ones(SIZE // 8, np.uint8)

    @delayed(context=context)
    def total(data: object) -> int:
        return int(np.sum(data))

    built = total(data)
    data[:] = 7
    assert built.compute() == SIZE // 8


def test_a_large_argument_is_there_wherever_the_graph_is_sent_to(tmp_path: Path, context: Context) -> None:
    data = np.ones(2 << 20, np.uint8)

    @delayed(context=context)
    def total(data: object) -> int:
        return int(np.sum(data))

    built = total(data)
    other = Context(_config(tmp_path / "other"))
    checksum = built._parts.stored[0]
    built._parts.copy_stored(other)
    assert other.store.get(checksum) == context.store.get(checksum)


def test_an_argument_that_changes_while_it_is_stored_is_refused(context: Context) -> None:
    parts = Parts(context, b"")
    absent = context.store.put(b"before")
    context.store.delete(absent)
    parts.large.append(LargeArgument("x", absent, lambda sink: sink(b"after")))
    with pytest.raises(UsageError, match="argument 'x' was changed"):
        parts.store_large()
