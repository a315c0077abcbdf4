"""What a scheduler answers is data, whatever it is."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgpack
import pytest
from distributed.comm import connect
from distributed.core import send_recv
from hypothesis import given
from hypothesis import strategies as st

from hashserver.errors import ServiceUnavailable
from seamless_dask.config import load
from seamless_dask.context import Context
from seamless_dask.executors.opening import executor
from seamless_dask.protocol import discovery
from seamless_dask.protocol.discovery import ask_places
from seamless_dask.protocol.scheduler import Scheduler
from seamless_dask.protocol.wire import NotUnderstood, Wire


def test_dasks_own_client_opens_what_this_one_sends(tmp_path: Path) -> None:
    """The hazard is real: otherwise the tests below show nothing."""
    from ...conftest import HostileScheduler

    made = HostileScheduler(tmp_path / "exploded", True)

    async def ask() -> None:
        comm = await connect(made.address, deserialize=False)
        with suppress(Exception):
            await send_recv(comm, op="seamless_places")
        comm.abort()

    asyncio.run(ask())
    made.close()
    assert made.mark.exists()


def test_places_are_not_unpickled(hostile: Any) -> None:
    with pytest.raises(ServiceUnavailable):
        ask_places(hostile.address)
    assert hostile.asked


def test_answers_about_jobs_are_not_unpickled(hostile: Any, home: Path) -> None:
    (home / "cache").mkdir(0o700)
    config = load({"daskserver": hostile.address, "store": "/s", "database": "/d"}, "/")
    with (
        Context(config) as context,
        closing(executor(context)) as opened,
        pytest.raises(ServiceUnavailable),
    ):
        opened.jobs()
    assert hostile.asked


def test_an_error_is_told_in_its_own_words(hostile: Any) -> None:
    scheduler = Scheduler(hostile.address)
    with suppress(ServiceUnavailable):
        scheduler.call("one")
    with pytest.raises(ServiceUnavailable, match="boo") as caught:
        scheduler.call("two")
    assert "\n" not in str(caught.value)
    scheduler.close()


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        {},
        {"stores": "text", "database": "/d"},
        {"stores": [1], "database": "/d"},
        {"stores": ["/s"], "database": None},
        {"stores": ["relative"], "database": "/d"},
        {"stores": ["/s\x1b[2J"], "database": "/d"},
        {"stores": ["/s"], "database": "/d", "host": 1},
    ],
)
def test_places_that_make_no_sense(told: Any) -> None:
    with pytest.raises(ServiceUnavailable, match="does not tell where"):
        discovery.checked(told, "tcp://host:1")


def test_an_answer_that_was_kept_is_looked_at_again(home: Path) -> None:
    config = load({"daskserver": "tcp://127.0.0.1:1"}, "/")
    discovery.remember(config, "tcp://127.0.0.1:1", {"stores": ["/s"], "database": "/d", "host": None})
    assert discovery.with_places(config).stores == ("/s",)
    (file,) = (home / "cache" / "places").iterdir()
    file.write_text(json.dumps({"server": "tcp://127.0.0.1:1", "told": {"stores": [{}], "database": 1}}))
    assert discovery._remembered(str(file), "tcp://127.0.0.1:1") is None


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Wire, socket.socket]]:
    """A connection after its handshake, and its other end."""
    listening = socket.create_server(("127.0.0.1", 0))
    found: list[Wire] = []
    port = listening.getsockname()[1]
    made = threading.Thread(
        target=lambda: found.append(Wire("127.0.0.1", port, None, connect_seconds=30, answer_seconds=30))
    )
    made.start()
    other, _ = listening.accept()
    frame = msgpack.packb({"pickle-protocol": 5})
    other.sendall(message([frame]))
    made.join()
    other.recv(1 << 16)
    yield found[0], other
    found[0].close()
    other.close()
    listening.close()


def message(frames: list[bytes]) -> bytes:
    head = b"".join(number.to_bytes(8, "little") for number in (len(frames), *map(len, frames)))
    return (len(head) + sum(map(len, frames))).to_bytes(8, "little") + head + b"".join(frames)


@given(frames=st.lists(st.binary(max_size=200), min_size=1, max_size=4))
def test_any_frame_is_plain_data_or_refused(pair: tuple[Wire, socket.socket], frames: list[bytes]) -> None:
    wire, other = pair
    other.sendall(message(frames))
    with suppress(NotUnderstood):
        json.dumps(wire.call("op", {}), default=repr)
    other.recv(1 << 16)


@pytest.mark.parametrize("size", [1 << 62, 1 << 40])
def test_a_length_that_is_announced_takes_no_memory(size: int) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    announced = b"".join(n.to_bytes(8, "little") for n in (size, 1, size - 16))

    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.sendall(announced)
            connection.recv(1 << 16)

    answering = threading.Thread(target=answer)
    answering.start()
    with pytest.raises(NotUnderstood, match="too long"):
        Wire("127.0.0.1", listening.getsockname()[1], None, connect_seconds=30, answer_seconds=30)
    answering.join()
    listening.close()
