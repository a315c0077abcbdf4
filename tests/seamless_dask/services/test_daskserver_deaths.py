"""Parts of a daskserver that end when nobody told them to, and starts that compete."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading

import psutil
import pytest

from hashserver.checksum import hash_bytes
from hashserver.client.store import connect
from seamless_dask.daemon import DaemonFailed
from seamless_dask.locks import try_lock
from seamless_dask.services import process
from seamless_dask.services.daskserver import control

from .conftest import Daskserver, eventually, lives


def kill(pid: int) -> None:
    """Kill a process, and wait until it is gone."""
    process = psutil.Process(pid)
    process.kill()
    eventually(lambda: not lives(process))


def test_of_two_starts_at_once_one_wins(daskserver: Daskserver) -> None:
    said = []
    threads = [threading.Thread(target=lambda: said.append(daskserver("start").stderr)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    daskserver.processes()
    assert sum("is running already" in text for text in said) == 2
    assert len(said) == 3


def test_a_killed_one_leaves_nothing_running_and_start_carries_on(daskserver: Daskserver) -> None:
    before = daskserver.start()
    with connect(before.hashserver, before.token_file, before.ca_file) as store:
        store.put(b"kept")
    files = {path: path.read_bytes() for path in (daskserver.directory / "tls").iterdir()}
    files[daskserver.directory / "token"] = (daskserver.directory / "token").read_bytes()
    with daskserver.client(timeout=60) as client:
        worker = client.submit(os.getpid).result()
        assert worker in {process.pid for process in daskserver.processes()}
        kill(before.pid)
        eventually(lambda: not [process for process in daskserver.seen if lives(process)])
    assert "carries on" in daskserver("status", status=1).stdout
    after = daskserver.start()
    assert after._replace(pid=0, started=0) == before._replace(pid=0, started=0)
    assert {path: path.read_bytes() for path in files} == files
    with connect(after.hashserver, after.token_file, after.ca_file) as store:
        assert store.has([hash_bytes(b"kept")]) == [4]


def test_a_killed_hashserver_comes_back_and_status_says_so(daskserver: Daskserver) -> None:
    facts = daskserver.start()
    hashserver = daskserver.status()["hashserver"]
    kill(hashserver["pid"])
    eventually(lambda: daskserver.status()["hashserver"]["pid"] not in (None, hashserver["pid"]))
    assert daskserver.status()["hashserver"]["url"] == facts.hashserver
    with connect(facts.hashserver, facts.token_file, facts.ca_file) as store:
        store.has([hash_bytes(b"")])
    assert "SIGKILL" in daskserver("status", status=1).stdout
    assert "SIGKILL" in daskserver("logs").stdout


def test_a_killed_worker_is_told_and_replaced(daskserver: Daskserver) -> None:
    daskserver.start()
    with daskserver.client() as client:
        kill(client.submit(os.getpid, pure=False).result())
        assert eventually(lambda: daskserver.status()["lost_workers"])
        assert client.submit(os.getpid, pure=False).result()
    assert "was lost" in daskserver("status", status=1).stdout


def test_one_that_hangs_is_stopped_all_the_same(
    daskserver: Daskserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = daskserver.start()
    os.kill(facts.pid, signal.SIGSTOP)
    monkeypatch.setattr(process, "STOP_LIMIT", 0.2)
    assert control.stop(str(daskserver.directory)) is True
    eventually(lambda: not [process for process in daskserver.seen if lives(process)])
    assert not daskserver.file.exists()


def test_a_process_that_is_none_of_ours_is_not_killed(daskserver: Daskserver) -> None:
    """A number that a dead daskserver, or one on another host, has left is somebody else's."""
    directory = control.private_place(str(daskserver.cache), "default")
    lock = daskserver.directory / process.LOCK
    with subprocess.Popen(["sleep", "86398"]) as bystander:
        lock.write_text(json.dumps({"pid": bystander.pid, "host": os.uname().nodename}))
        descriptor = try_lock(str(lock))
        assert descriptor is not None
        with pytest.raises(DaemonFailed, match="cannot tell which process holds"):
            control.stop(directory)
        assert bystander.poll() is None
        os.close(descriptor)
        assert control.stop(directory) is False
        bystander.kill()


def test_a_stop_while_it_starts_waits_for_that(daskserver: Daskserver) -> None:
    starting = threading.Thread(target=lambda: daskserver("start"))
    starting.start()
    eventually(lambda: control.find(str(daskserver.directory)).alive)
    stopped = control.stop(str(daskserver.directory))
    starting.join()
    assert stopped
    assert not control.find(str(daskserver.directory)).alive
    assert not daskserver.file.exists()


def test_it_ends_by_itself_when_there_is_nothing_to_do(daskserver: Daskserver) -> None:
    daskserver.start("--idle-timeout", "1")
    eventually(lambda: not daskserver.alive)
    assert not daskserver.file.exists()
    assert "nothing to do" in daskserver("logs").stdout


def test_jobs_that_cannot_be_cancelled_are_named(
    daskserver: Daskserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = control.private_place(str(daskserver.cache), "default")
    journal = daskserver.directory / "jobs.json"
    journal.write_text(json.dumps({"kind": "slurm", "jobs": ["7", "8"]}))
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(DaemonFailed, match="scancel 7 8"):
        control.stop(directory)
    journal.unlink()
