"""What is no value is refused in one line that names the argument."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import itertools
import math
import multiprocessing
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from seamless_dask.errors import NotAValue
from seamless_dask.values.loading import load
from seamless_dask.values.writing import to_bytes


def _refused(value: Any, reason: str) -> None:
    for name, one in (("argument 'x'", value), (r"argument 'x'\['a'\]\[1\]", {"a": [1, value]})):
        with pytest.raises(NotAValue, match=f"^{name} {reason}") as raised:
            to_bytes(one, "argument 'x'")
        assert "\n" not in str(raised.value)


def _generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (_generator, "is a generator, which gives what it has only once: pass a list"),
        (lambda: iter([1]), "is an iterator"),
        (lambda: map(str, [1]), "is an iterator"),
        (lambda: zip([1], [2], strict=True), "is an iterator"),
        (itertools.count, "is an iterator"),
        (lambda: memoryview(b"ab"), "is a view of another object's memory: pass that, or bytes of it"),
        (lambda: math, "is a module: import it inside the function"),
        (threading.Lock, "is a lock"),
        (threading.RLock, "is a lock"),
        (threading.Condition, "is a lock"),
        (threading.Event, "is a lock"),
        (asyncio.Lock, "is a lock"),
        (multiprocessing.Lock, "is a lock"),
        (concurrent.futures.Future, "is a future, which is not computed yet: pass its result"),
        (threading.current_thread, "is a thread"),
        (lambda: sys._getframe(), "is a frame"),
    ],
    ids=lambda one: getattr(one, "__name__", None),
)
def test_what_belongs_to_one_process(make: Callable[[], Any], reason: str) -> None:
    _refused(make(), reason)


def test_a_coroutine() -> None:
    async def late() -> None:
        """Nothing."""

    with closing(late()) as coroutine:
        _refused(coroutine, "is a coroutine, which nobody has awaited: pass its result")


def test_a_task_of_a_loop() -> None:
    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        _refused(future, "is a future")
        _refused(asyncio.get_running_loop(), "is an event loop")

    asyncio.run(main())


@contextmanager
def _process() -> Iterator[Any]:
    process = subprocess.Popen(["true"])
    yield process
    process.wait()


@pytest.mark.parametrize(
    ("opened", "reason"),
    [
        (lambda: open(__file__), "is an open file: pass its path as a File"),  # noqa: SIM115
        (lambda: open(__file__, "rb"), "is an open file"),  # noqa: SIM115
        (lambda: socket.socket(), "is a socket"),
        (lambda: closing(sqlite3.connect(":memory:")), "is a connection"),
        (lambda: concurrent.futures.ThreadPoolExecutor(1), "is an executor"),
        (_process, "is a process"),
    ],
)
def test_what_is_open(opened: Callable[[], Any], reason: str) -> None:
    with opened() as value:
        _refused(value, reason)


def test_files_in_memory_are_values() -> None:
    for value, expected in ((io.BytesIO(b"abc"), b"c"), (io.StringIO("abc"), "c")):
        value.seek(2)
        assert load(*to_bytes(value), trusted=True).read() == expected


def test_dask_collections() -> None:
    import dask
    import dask.bag

    _refused(dask.delayed(int)("1"), r"is a Dask collection: pass what compute\(\) gives")
    _refused(dask.bag.from_sequence([1]), "is a Dask collection")


def test_clients_and_futures_of_dask() -> None:
    from distributed import Client

    with Client(
        processes=False, n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0"
    ) as client:
        _refused(client, "is a client")
        future = client.submit(int, "1")
        _refused(future, "is a future, which is not computed yet")
        del future


def test_an_object_with_a_lock_inside_names_the_lock(tmp_path: Path, shapes: Any) -> None:
    with pytest.raises(NotAValue, match=r"^the value\.n is a lock"):
        to_bytes(shapes.Lazy(threading.Lock()))


def test_what_even_pickle_refuses_is_told_in_one_line() -> None:
    class Closed:
        def __reduce_ex__(self, protocol: Any) -> Any:
            raise TypeError("not me")

    with pytest.raises(NotAValue, match=r"which cannot be stored: TypeError: not me$"):
        to_bytes(Closed())


def test_an_object_of_a_class_without_a_hash() -> None:
    class Meta(type):
        def __eq__(cls, other: object) -> bool:
            return True

    class OfMeta(metaclass=Meta):
        pass

    for value in ([1, OfMeta()], (OfMeta(), 1)):
        place = next(number for number, one in enumerate(value) if one != 1)
        with pytest.raises(NotAValue, match=rf"^x\[{place}\] is a OfMeta, a class without a hash"):
            to_bytes(value, "x")
    with pytest.raises(NotAValue, match=r"^x\['a'\] is a OfMeta, a class without a hash"):
        to_bytes({"a": OfMeta()}, "x")
