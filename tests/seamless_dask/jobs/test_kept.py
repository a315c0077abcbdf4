"""Processes that are kept: computations that are given to them are run, and told of, whatever happens."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from seamless_dask.errors import LimitExceeded
from seamless_dask.jobs import processes
from seamless_dask.jobs.local import LocalRequest
from seamless_dask.jobs.request import JobRequest
from seamless_dask.model.transformation import Value

from ..conftest import PLAIN, wait_until

SERVE = """
import os, sys
from seamless_dask.worker import kept

control, lock, asked, go, ran = sys.argv[1:]

class Late:
    def select(self, *_):
        open(asked, "w").close()
        open(go).close()
        return [], [], []

def run(job, lock, asked, context):
    with open(ran, "a") as file:
        file.write(job.key + chr(10))
    os.close(lock)

kept.select = Late()
kept._Contexts.of = lambda *_: None
first = sys.argv[0], "0" * 64, int(lock)
described = lambda cache, key: (kept.JobDirectory(os.path.dirname(ran), key), {"config": {}})
kept.serve(int(control), first, described, run, lambda _: None)
"""


def kept(lab: Any, code: str, **options: Any) -> LocalRequest:
    request = JobRequest(lab.store(code), PLAIN._replace(**options))
    return LocalRequest(lab.context, request, kept=True).start()


def test_a_process_that_goes_on_for_others_is_given_nothing(lab: Any) -> None:
    gate = lab.gate()
    code = f"{gate.command}; echo done"
    hasty = kept(lab, code, time_limit=0.2)
    gate.wait()
    patient = kept(lab, code)
    with pytest.raises(LimitExceeded):
        hasty.wait()
    other = kept(lab, "echo other")
    found: list[Value] = []
    waiting = threading.Thread(target=lambda: found.append(other.wait()))
    waiting.start()
    try:
        wait_until(lambda: found)
    finally:
        gate.open()
        waiting.join()
    assert lab.bytes(patient.wait()) == b"done\n"


def test_one_that_cannot_tell_how_it_ended_is_lost(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(lab, "echo first").wait()
    write, written = processes.write_atomic, []

    def damaged(path: str, data: bytes, mode: int) -> None:
        written.append(path)
        write(path, b"damaged" if len(written) == 1 else data, mode)

    monkeypatch.setattr(processes, "write_atomic", damaged)
    assert lab.bytes(kept(lab, "echo second").wait()) == b"second\n"
    assert len(written) == 2


def test_what_it_is_given_when_it_is_about_to_end_it_still_runs(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    keys = ["1" * 64, "2" * 64]
    for key in keys:
        (tmp_path / "jobs" / key).mkdir()
    asked, go, ran, lock = (str(tmp_path / name) for name in ("asked", "go", "ran", "lock"))
    os.mkfifo(asked)
    os.mkfifo(go)
    control, theirs = socket.socketpair()
    with open(lock, "w") as held, theirs, control:
        descriptors = theirs.fileno(), held.fileno()
        words = [sys.executable, "-c", SERVE, *map(str, descriptors), asked, go, ran]
        process = subprocess.Popen(words, pass_fds=descriptors)
        theirs.close()
        for key in keys:
            with open(asked):
                message = json.dumps([str(tmp_path), key]).encode() + b"\n"
            if key == keys[0]:
                socket.send_fds(control, [message], [held.fileno()])
            else:
                with pytest.raises(BrokenPipeError):
                    socket.send_fds(control, [message], [held.fileno()])
            with open(go, "w"):
                pass
        assert process.wait(60) == 0
    assert Path(ran).read_text().split() == ["0" * 64, keys[0]]


def test_no_more_are_kept_than_can_run_at_a_time(lab: Any) -> None:
    most = len(os.sched_getaffinity(0))
    requests = [kept(lab, f"echo {number}") for number in range(most + 2)]
    for request in requests:
        request.wait()
    assert sum(map(len, processes._idle.values())) == most
