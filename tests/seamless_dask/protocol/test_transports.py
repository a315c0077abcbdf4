"""A link to the jobserver that is cut without a word."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

SCRIPT = """
import socket, subprocess, sys, threading
from hashserver.errors import ServiceUnavailable
from seamless_dask.protocol import transports
def link(state):
    subprocess.run(["ip", "link", "set", "lo", state], check=True)
link("up")
transports.CUT_SECONDS = 4
server = socket.create_server(("127.0.0.1", 0))
def serve():
    connection, _ = server.accept()
    connection.recv(1 << 16)
    link("down")
threading.Thread(target=serve, daemon=True).start()
way = transports.HttpTransport(f"http://127.0.0.1:{server.getsockname()[1]}")
try:
    way.ask("GET", "/jobs", b"")
except ServiceUnavailable as error:
    print(error)
"""
"""Run where there is no network but its own."""

FROZEN = """
import sys
from hashserver.checksum import Checksum
from seamless_dask.executors.http import JobserverExecutor
executor = JobserverExecutor(None, "", lambda text: print(text, flush=True))
from seamless_dask.jobs.request import JobRequest
from seamless_dask.protocol import transports
executor._open = lambda: transports.HttpTransport(sys.argv[1])
print("begin", flush=True)
executor.run(JobRequest(Checksum("0" * 64)))
"""


def test_it_is_noticed_long_before_an_answer_is_due() -> None:
    alone = ["unshare", "--net", "--map-root-user"]
    if shutil.which("ip") is None or subprocess.run([*alone, "ip", "link"], capture_output=True).returncode:
        pytest.skip("takes a network namespace, and iproute2")
    done = subprocess.run([*alone, sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=30)
    assert done.stdout.endswith(": no answer in time\n"), done.stderr


@pytest.fixture
def silent() -> Iterator[tuple[str, threading.Event]]:
    """A server that takes requests and never answers; it says when it has got one."""
    asked = threading.Event()
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connections.append(server.accept()[0])
                    connections[-1].recv(1 << 16)
                    asked.set()

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_does_not_wait_for_it(silent: tuple[str, threading.Event], times: int) -> None:
    url, asked = silent
    words = [sys.executable, "-c", FROZEN, url]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begin\n"
    assert asked.wait(60)
    os.kill(process.pid, signal.SIGINT)
    assert process.stdout.readline() == f"withdrawing from {url} (Ctrl-C again does not wait for it)\n"
    if times == 2:
        os.kill(process.pid, signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert ("does not answer: the job goes on" in rest) == (times == 1)
    assert process.returncode == -signal.SIGINT
