"""Power cuts: what was acknowledged is there in every state that the disk may be left in.

The system calls of the installed programs are recorded and played on a model of a disk that keeps no more
than was synced; what it may hold after a power cut is then opened with our own code.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.protocol import PackWriter
from hashserver.results.database import Database
from hashserver.storage.directory import LocalStore
from hashserver.workspace.sidecar import find_sidecar

from .conftest import World
from .crash.disk import Disk, Replay, materialise
from .crash.recording import calls, command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .crash.recording import Call

MOST = 60
"""States that are looked at after a call; all of them where there are no more."""


class Cut:
    """The states that a power cut may leave of a directory, one after the other."""

    def __init__(self, trace: Path, disk: Disk, directory: Path, scratch: Path) -> None:
        self._trace, self._disk, self._scratch = trace, disk, scratch
        self._replay = Replay(disk, directory)
        self._chance = random.Random(1)
        self.looked_at = 0

    def at(self, moment: Callable[[Call, Replay], object]) -> Iterator[tuple[Call, Path]]:
        """Yield a call at which `moment` says that something has been promised, and what may be left then."""
        for call in calls(self._trace):
            promised = moment(call, self._replay)
            self._replay.play(call)
            if not promised:
                continue
            for state in self._disk.crashes(self._chance, MOST):
                self.looked_at += 1
                target = self._scratch / "state"
                materialise(state, target)
                yield call, target
                shutil.rmtree(target, ignore_errors=True)


def traced(world: World, scratch: Path) -> tuple[Path, Cut]:
    """Return where strace is to write, and what to make of it; all that is there now is sure."""
    trace = scratch / "trace"
    os.sync()
    return trace, Cut(trace, Disk(world.base), world.work, scratch)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """Where what a disk may hold is opened, hundreds of times: in memory, which has nothing to sync."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as directory:
        yield Path(directory)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world below a directory of its own, so that what is recorded lies outside."""
    base = tmp_path / "world"
    base.mkdir()
    made = World(base)
    yield made
    made.close()


def assert_stored(store: Path, *contents: bytes) -> None:
    """See that the store has the bytes, and gives them back."""
    with LocalStore(store) as opened:
        for content in contents:
            assert opened.get(hash_bytes(content)) == content


def assert_rows_have_bytes(cache: Path) -> int:
    """See that no row of the database names bytes that are not there; return the number of rows."""
    database = cache / "seamless.db"
    if not database.exists() or not database.stat().st_size:
        return 0
    import sqlite3

    with Database(database) as opened:
        opened.counts()  # what the log holds is taken in
    connection = sqlite3.connect(database)
    rows = connection.execute("SELECT lower(hex(checksum)) FROM results").fetchall()
    connection.close()
    with LocalStore(cache / "buffers") as store:
        for (checksum,) in rows:
            assert store.verify(Checksum(checksum))
    return len(rows)


@pytest.mark.parametrize("kind", ["file", "large file", "directory"])
def test_move_deletes_what_is_on_the_disk(world: World, scratch: Path, kind: str) -> None:
    contents = {"d/a": b"a\n", "d/b": os.urandom(5000)} if kind == "directory" else {"a": b"content\n"}
    if kind == "large file":
        contents["a"] = os.urandom(1 << 20)
    for name, content in contents.items():
        world.write(name, content)
    trace, cut = traced(world, scratch)
    upload = "d" if kind == "directory" else "a"
    world("seamless-upload", "--move", upload, prefix=command(trace))

    def deleted(call: Call, _: object) -> bool:
        names = [os.path.basename(word) for word in call.arguments if isinstance(word, bytes)]
        return call.name.startswith("unlink") and any(os.path.basename(n).encode() in names for n in contents)

    for _, state in cut.at(deleted):
        assert_stored(state / "cache" / "buffers", *contents.values())
        sidecar = find_sidecar(state / "work" / upload)
        assert sidecar is not None
        if kind == "file":
            assert sidecar.checksum == hash_bytes(contents["a"])
    assert cut.looked_at


def test_move_of_what_the_store_has_already(world: World, scratch: Path) -> None:
    content = b"here before\n"
    path = world.write("a", content)
    world("seamless-upload", "a")
    # a program that syncs nothing has made both in the meantime
    buffer = world.buffer(hash_bytes(content))
    trace = scratch / "trace"
    disk = Disk(world.base)
    for lost in (buffer, path.with_name("a.CHECKSUM")):
        place = disk.place(str(lost))
        assert place is not None
        node = disk.sure.pop(place)
        node.sure.clear()
        from .crash.disk import Rename, Write

        node.pending.append(Write(0, bytes(node.now)))
        disk.pending.append(Rename(((*place, node),)))
    cut = Cut(trace, disk, world.work, scratch)
    world("seamless-upload", "--move", "a", prefix=command(trace))
    for _, state in cut.at(lambda call, _: call.name == "unlink" and os.fsencode("a") in call.arguments):
        assert_stored(state / "cache" / "buffers", content)
        assert (state / "work" / "a.CHECKSUM").read_text().strip() == hash_bytes(content)
    assert cut.looked_at


@pytest.fixture
def recorded_server(world: World, scratch: Path) -> tuple[World, Path, Cut]:
    """A server whose system calls are recorded until it is stopped."""
    world.cache.mkdir(mode=0o700)
    world.serve()
    world.kill_server()
    trace, cut = traced(world, scratch)
    world.server_prefix = command(trace)
    world.serve()
    return world, trace, cut


def stop(world: World) -> None:
    """End the recorded server, and see the record's end."""
    assert world.server is not None
    children = f"/proc/{world.server.pid}/task/{world.server.pid}/children"
    with open(children, encoding="ascii") as file:
        inner = int(file.read().split()[0])
    os.kill(inner, signal.SIGTERM)
    world.server.communicate(timeout=60)
    world.server = None


def acknowledged(call: Call, replay: Replay) -> bool:
    """Say whether a server begins to answer that it has done what it was asked for."""
    return replay.is_socket(call) and any(
        isinstance(word, bytes) and word.startswith(b"HTTP/1.1 20") for word in call.arguments
    )


def test_what_a_server_acknowledged(recorded_server: tuple[World, Path, Cut]) -> None:
    world, _, cut = recorded_server
    contents = [b"put\n", os.urandom(300_000), b"posted\n", b"in a pack\n", b"in a pack, too\n", b"inline\n"]
    names = [hash_bytes(content) for content in contents]
    pack = PackWriter()
    for content in contents[3:5]:
        pack.add(hash_bytes(content), content)
    pack.end()
    from base64 import b64encode

    key = Checksum(hashlib.sha256(b"a transformation").hexdigest())
    document = {
        "format": "file",
        "checksum": names[5],
        "buffers": {names[5]: b64encode(contents[5]).decode()},
        "record": {"host": "here"},
    }
    requests = [
        ("PUT", f"/{names[0]}", contents[0], 1),
        ("PUT", f"/{names[1]}", contents[1], 2),
        ("POST", "/buffers", contents[2], 3),
        ("PUT", "/pack", pack.take(), 5),
        ("PUT", f"/result/{key}", json.dumps(document).encode(), 6),
        ("PUT", f"/{names[0]}", contents[0], 6),
    ]
    for method, path, body, _ in requests:
        assert world.request(method, path, body).status in (200, 201)
    stop(world)
    number, last = -1, None
    for call, state in cut.at(acknowledged):
        if call is not last:
            number, last = number + 1, call
        promised = requests[number][3]
        assert_stored(state / "cache" / "buffers", *contents[:promised])
        assert assert_rows_have_bytes(state / "cache") == (1 if promised == 6 else 0)
    assert number == len(requests) - 1


def test_what_a_run_gave(world: World, scratch: Path) -> None:
    world.write("a", "words\n")
    trace, cut = traced(world, scratch)
    world("seamless-run", "-cp", ":out", "rev a; head -c 100000 /dev/zero", prefix=command(trace))
    found = 0

    def written(call: Call, _: object) -> bool:
        return call.name in ("pwrite64", "fdatasync", "fsync", "link", "linkat") and cut_chance.random() < 0.3

    cut_chance = random.Random(2)
    for _, state in cut.at(written):
        found = max(found, assert_rows_have_bytes(state / "cache"))
    assert found == 1
    assert cut.looked_at > 100


def test_what_a_run_told(world: World, scratch: Path) -> None:
    trace, cut = traced(world, scratch)
    # in two writes, so that the command's own are not taken for ours
    world("seamless-run", "printf hel; printf 'lo\\n'", prefix=command(trace))

    def told(call: Call, replay: Replay) -> bool:
        return replay.is_socket(call) and call.arguments[1:2] == [b"hello\n"]

    for _, state in cut.at(told):
        assert assert_rows_have_bytes(state / "cache") == 1
    assert cut.looked_at
