"""Buffers that Seamless 1.x keeps compressed: read, verified, unpacked on first use; bombs are not."""

from __future__ import annotations

import gzip
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import BufferMissing, ServiceUnavailable
from hashserver.results.database import Database
from hashserver.storage import compressed
from hashserver.storage.directory import LocalStore
from tests.hashserver.server.conftest import Running, own  # noqa: F401 - a fixture

DATA = b"".join(b"%d\n" % number for number in range(100_000))
SUM = hash_bytes(DATA)


def zstd(data: bytes) -> bytes:
    packed: bytes = pytest.importorskip("zstandard").ZstdCompressor().compress(data)
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": zstd}


@pytest.fixture(params=PACKERS)
def suffix(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def plant(
    root: str, suffix: str, data: bytes = DATA, checksum: Checksum = SUM, length: int | None = -1
) -> Path:
    """Put a buffer there as ``seamless-upload --destination`` of Seamless 1.4 does."""
    path = Path(root, checksum[:2], checksum + suffix)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(PACKERS[suffix](data))
    if length is not None:
        Path(root, checksum[:2], f"{checksum}.BUFFERLENGTH").write_text(
            str(len(data) if length < 0 else length)
        )
    return path


def opened(store: LocalStore) -> bytes:
    with store.open(SUM) as file:
        return file.read()


@pytest.mark.parametrize("said", [True, False])
def test_it_is_there_with_its_raw_length_and_read_in_every_way(
    store: LocalStore, suffix: str, said: bool, tmp_path: Path
) -> None:
    reads: list[Callable[[], bytes]] = [
        lambda: store.get(SUM),
        lambda: b"".join(store.read(SUM)),
        lambda: opened(store),
        lambda: Path(store.local_path(SUM) or "").read_bytes(),
        lambda: (store.get_file(SUM, tmp_path / "out"), (tmp_path / "out").read_bytes())[1],  # type: ignore[func-returns-value]
        lambda: dict(store.get_many([SUM]))[SUM],
    ]
    for read in reads:
        plant(store.root, suffix, length=-1 if said else None)
        assert store.has([hash_bytes(b"other"), SUM]) == [-1, len(DATA)]
        assert read() == DATA
        assert store.verify(SUM)
        store.delete(SUM)
        assert store.has([SUM]) == [-1], "nothing of it is left"
        assert not list(Path(store.root, SUM[:2]).iterdir())


def test_it_is_unpacked_once(store: LocalStore, suffix: str) -> None:
    packed = plant(store.root, suffix)
    store.get(SUM)
    packed.write_bytes(b"no longer needed")
    assert store.get(SUM) == DATA
    assert not store.is_packed(SUM)


def test_many_are_asked_for_at_once(store: LocalStore, suffix: str) -> None:
    buffers = [b"%d" % number for number in range(3000)]
    packed = buffers[::3]
    for data in packed:
        plant(store.root, suffix, data, hash_bytes(data))
    lengths = store.has([hash_bytes(data) for data in buffers])
    assert lengths == [-1 if number % 3 else len(data) for number, data in enumerate(buffers)]


def test_where_nothing_may_be_written_it_is_read_all_the_same(store: LocalStore, suffix: str) -> None:
    packed = plant(store.root, suffix)
    store.unpacks = False
    before = sorted(Path(store.root).rglob("*"))
    assert store.get(SUM) == DATA
    assert b"".join(store.read(SUM, 10, 10)) == DATA[10:20]
    assert store.verify(SUM)
    assert sorted(Path(store.root).rglob("*")) == before
    packed.write_bytes(packed.read_bytes()[:-20])
    assert not store.verify(SUM)
    assert sorted(Path(store.root).rglob("*")) == before


@pytest.mark.parametrize(
    "how", ["other bytes", "cut short", "not compressed", "empty", "longer than it says"]
)
def test_what_does_not_hold_its_bytes_is_put_away_and_missing(
    store: LocalStore, suffix: str, how: str
) -> None:
    path = plant(store.root, suffix, length=10 if how == "longer than it says" else -1)
    packed = path.read_bytes()
    changes = {
        "other bytes": PACKERS[suffix](DATA[:-1] + b"x"),
        "cut short": packed[: len(packed) // 2],
        "not compressed": DATA,
        "empty": b"",
    }
    path.write_bytes(changes.get(how, packed))
    with pytest.raises(BufferMissing):
        store.get(SUM)
    assert (store.root, path.exists()) == (store.root, False)
    assert Path(store.root, ".quarantine", path.name).exists()
    assert store.put(DATA) == SUM
    assert store.get(SUM) == DATA


def test_a_bomb_is_not_written_to_the_disk(
    store: LocalStore, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mebibyte that unpacks to a gibibyte, under the name of something else."""
    plant(store.root, suffix, bytes(1 << 28), length=None)
    written: list[Any] = []
    monkeypatch.setattr(store, "put_stream", lambda *words: written.append(words))
    monkeypatch.setattr(compressed, "_nameless", lambda *words: written.append(words))
    with pytest.raises(BufferMissing):
        store.get(SUM)
    assert not written


def test_without_the_library_it_is_refused_by_name(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plant(store.root, ".zst")
    for name in ("zstandard", "compression.zstd", "backports.zstd"):
        monkeypatch.setitem(sys.modules, name, None)
    assert store.has([SUM]) == [-1]
    with pytest.raises(ServiceUnavailable, match=r"pip install 'seamless-dask\[zstd\]'"):
        store.get(SUM)
    assert path.exists()


def test_a_link_or_a_pipe_is_none(store: LocalStore, suffix: str, tmp_path: Path) -> None:
    path = plant(store.root, suffix)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert store.has([SUM]) == [-1]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(BufferMissing):
        store.get(SUM)


@pytest.mark.parametrize("options", [(), ("--read-only",)])
def test_a_server_serves_it(suffix: str, options: tuple[str, ...], tmp_path: Path) -> None:
    plant(str(tmp_path / "store"), suffix)
    with Database(tmp_path / "seamless.db") as database:
        database.counts()
    server = Running(tmp_path, *options)
    try:
        head = server.ask("HEAD", f"/{SUM}")
        assert (head.status, head.headers["content-length"]) == (200, str(len(DATA)))
        part = server.ask("GET", f"/{SUM}", Range="bytes=100-199")
        assert (part.status, part.body) == (206, DATA[100:200])
        assert server.ask("GET", f"/{SUM}").body == DATA
        assert server.client().has([SUM]) == [len(DATA)]
        assert dict(server.client().get_many([SUM])) == {SUM: DATA}
        assert (server.files() == {f"{SUM}{suffix}", f"{SUM}.BUFFERLENGTH"}) == bool(options)
    finally:
        server.stop()


def test_a_server_takes_the_bytes_of_one_without_a_word_about_its_length(own: Running, suffix: str) -> None:  # noqa: F811
    plant(str(own.store), suffix, length=None)
    assert own.ask("PUT", f"/{SUM}", DATA).status == 200
    assert own.ask("GET", f"/{SUM}").body == DATA
