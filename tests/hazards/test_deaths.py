"""Clients and servers that die half-way, and servers that are not there."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .conftest import wait_until

if TYPE_CHECKING:
    import subprocess

    from .conftest import World

LARGE = 256 << 20


def is_writing(process: subprocess.Popen[bytes] | subprocess.Popen[str], directory: Path) -> bool:
    """Say whether a process is in the middle of writing a large file in `directory`."""
    assert process.poll() is None, "it was over before it could be killed"
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            if os.readlink(link).startswith(f"{directory}/") and 1 << 20 < link.stat().st_size < LARGE:
                return True
        except OSError:
            continue
    return False


def write_large(world: World, name: str) -> None:
    with open(world.work / name, "wb") as file:
        file.truncate(LARGE)
        file.seek(LARGE - 1)
        file.write(os.urandom(1))


def test_a_client_that_is_killed_during_an_upload(world: World) -> None:
    write_large(world, "large")
    process = world.start("seamless-upload", "large")
    writer = world.server or process
    wait_until(lambda: is_writing(writer, world.store))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (world.work / "large.CHECKSUM").exists()
    world.start_again()
    assert [path for path in world.store.glob("??/*") if path.stat().st_size > 1 << 20] == []
    assert world.leftovers() == []
    world("seamless-upload", "large")
    (world.work / "large").unlink()
    world("seamless-download", "large")


def test_a_client_that_is_killed_during_a_download(world: World) -> None:
    write_large(world, "large")
    world("seamless-upload", "large")
    (world.work / "large").unlink()
    process = world.start("seamless-download", "large")
    wait_until(lambda: is_writing(process, world.work))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (world.work / "large").exists()
    world("seamless-download", "large")
    assert sorted(os.listdir(world.work)) == ["large", "large.CHECKSUM"]
    assert world.leftovers() == []


def test_a_server_that_is_killed_during_an_upload(served: World) -> None:
    write_large(served, "large")
    process = served.start("seamless-upload", "large")
    assert served.server is not None
    server = served.server
    wait_until(lambda: is_writing(server, served.store))
    url = served.url
    served.kill_server()
    done = served.ended(process)
    assert done.status == 1
    assert url in done.error
    assert not (served.work / "large.CHECKSUM").exists()
    served.serve()
    assert list(served.store.glob("??/*")) == []
    assert served.leftovers() == []
    served("seamless-upload", "large")


def test_a_server_that_is_killed_during_a_download(served: World) -> None:
    write_large(served, "large")
    served("seamless-upload", "large")
    (served.work / "large").unlink()
    process = served.start("seamless-download", "large")
    wait_until(lambda: is_writing(process, served.work))
    url = served.url
    served.kill_server()
    done = served.ended(process)
    assert done.status == 1
    assert url in done.error
    assert not (served.work / "large").exists()
    served.serve()
    served("seamless-download", "large")
    assert sorted(os.listdir(served.work)) == ["large", "large.CHECKSUM"]


def test_a_server_that_is_killed_during_a_run(served: World, tmp_path: Path) -> None:
    served.hasten()
    mark, gate = tmp_path / "mark", tmp_path / "gate"
    os.mkfifo(gate)
    text = f"echo begun >> {mark}; read -r _ < {gate}; echo done"
    served.environment["SEAMLESS_ISOLATION"] = "none"
    process = served.start("seamless-run", "-cp", ":out", "--retries", "0", text)
    wait_until(mark.exists)
    served.kill_server()
    gate.write_text("\n")
    done = served.ended(process)
    assert done.status == 1
    assert served.url in done.last
    assert os.listdir(served.work) == []
    served.serve()
    again = served.start("seamless-run", "-cp", ":out", text)
    gate.write_text("\n")
    assert served.ended(again).status == 0
    assert (served.work / "out").read_text() == "done\n"


@pytest.mark.parametrize("whom", ["asker", "runner"])
def test_a_client_that_is_killed_during_a_run(world: World, tmp_path: Path, whom: str) -> None:
    mark, gate = tmp_path / "mark", tmp_path / "gate"
    os.mkfifo(gate)
    world.environment["SEAMLESS_ISOLATION"] = "none"
    text = f"echo begun >> {mark}; read -r _ < {gate}; echo done"
    process = world.start("seamless-run", "-cp", ":out", text)
    wait_until(mark.exists)
    assert sorted(os.listdir(world.work)) == ["out.FUTURE"]
    if whom == "asker":
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        process = world.start("seamless-run", "-cp", ":out", text)
        wait_until(lambda: "2 askers" in world.status_text())
    else:
        (runner,) = {int(pid) for pid in wait_until(lambda: runners(world))}
        os.kill(runner, signal.SIGKILL)
        wait_until(lambda: mark.read_text() == "begun\n" * 2)
    gate.write_text("\n")
    assert world.ended(process).status == 0
    assert sorted(os.listdir(world.work)) == ["out", "out.CHECKSUM"]
    assert (world.work / "out").read_text() == "done\n"


def runners(world: World) -> list[int]:
    """Return the processes that run computations."""
    found = []
    for pid in world.processes():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        found += [pid] if b"seamless_dask.worker.local" in words else []
    return found


COMMANDS = [
    ("seamless-upload", "a.txt"),
    ("seamless-upload", "set"),
    ("seamless-run", "cat", "a.txt"),
    ("seamless-run", "-cp", "out", "cp a.txt out"),
    ("seamless-run", "--undo", "cat", "a.txt"),
    ("seamless-download", "b.txt"),
    ("seamless-resolve", "0" * 64),
    ("seamless-fingertip", "0" * 64),
    ("seamless-run-transformation", "0" * 64),
    ("seamless-status",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: "-".join(command[:2]))
def test_an_unreachable_server(served: World, command: tuple[str, ...]) -> None:
    served.write("a.txt", "hello\n")
    served.write("set/a.txt", "hello\n")
    served.write("b.txt.CHECKSUM", "0" * 64 + "\n")
    before = sorted(os.listdir(served.work))
    served.kill_server()
    done = served(*command, status=1)
    if command[0] == "seamless-status":
        assert f"no connection to {served.url}" in done.stdout.decode()
    else:
        assert served.url in done.error
        assert done.stdout == b""
    assert sorted(os.listdir(served.work)) == before
    assert os.listdir(served.work / "set") == ["a.txt"]
    served.serve()
