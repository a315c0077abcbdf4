"""A disk that fails when it is read: what cannot be read is named, by every way of reading."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hashserver.checksum import hash_bytes
from hashserver.errors import ServiceUnavailable
from hashserver.storage.chain import StoreChain
from hashserver.storage.directory import LocalStore
from hashserver.storage.references import References

from ..server.conftest import Running

DATA = b"data"
SUM = hash_bytes(DATA)
FAILING = Path("/sys/devices/virtual/net/lo/speed")
"""A regular file that the system opens, but does not read: a wire that is none has no speed."""

pytestmark = pytest.mark.skipif(not FAILING.exists(), reason="no loopback device in /sys")


def fail(root: Path) -> LocalStore:
    """Return a store whose buffer lies where the disk fails."""
    root.mkdir(mode=0o700, exist_ok=True)
    References(str(root), ".references").put(SUM, str(FAILING), os.stat(FAILING))
    return LocalStore(root)


@pytest.mark.parametrize(
    "read",
    [
        lambda store, _: store.get(SUM),
        lambda store, _: list(store.get_many([SUM])),
        lambda store, _: b"".join(store.read(SUM)),
        lambda store, target: store.get_file(SUM, target),
        lambda store, _: store.verify(SUM),
    ],
    ids=["whole", "many", "in parts", "to a file", "verified"],
)
def test_the_error_names_buffer_and_store(tmp_path: Path, read: Callable[[LocalStore, Path], object]) -> None:
    store = fail(tmp_path / "store")
    with pytest.raises(ServiceUnavailable, match=f"buffer {SUM} in {store.url} cannot be read"):
        read(store, tmp_path / "target")
    assert os.listdir(tmp_path) == ["store"]


def test_another_place_is_tried(tmp_path: Path) -> None:
    other = LocalStore(tmp_path / "other")
    other.put(DATA)
    assert StoreChain([fail(tmp_path / "store"), other]).get(SUM) == DATA


def test_a_server_says_so_in_one_line(tmp_path: Path) -> None:
    fail(tmp_path / "store")
    running = Running(tmp_path)
    try:
        whole, pack = running.ask("GET", f"/{SUM}"), running.ask("POST", "/pack", f'["{SUM}"]'.encode())
        verified = running.ask("POST", f"/verify/{SUM}", b"")
    finally:
        running.stop()
    assert [reply.status for reply in (whole, pack, verified)] == [503, 503, 503]
    assert all("Invalid argument" in reply.error for reply in (whole, pack, verified))
    assert "Traceback" not in running.rest
    assert [line.split(": [")[0] for line in running.rest.splitlines() if "[Errno" in line] == [
        "hashserver: GET buffer",
        "hashserver: POST pack",
    ]
