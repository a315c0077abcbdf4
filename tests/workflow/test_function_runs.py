"""Functions of a user on the workers of a daskserver: what is shown, and what is said where one fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import daskserver

BIN = Path(sys.executable).parent

BY_CLIENT = """
import json, os
from distributed import Client, Security
facts = json.load(open(os.environ["SEAMLESS_DASKSERVER"]))
security = Security(require_encryption=True, tls_ca_file=facts["ca_file"],
                    tls_client_cert=facts["cert_file"], tls_client_key=facts["key_file"])
client = Client(facts["scheduler"], security=security)
"""

WAYS = {"here": "", "jobserver": "", "client": BY_CLIENT}

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The connection file of a daskserver."""
    with daskserver(tmp_path_factory.mktemp("daskserver"), 1, 1) as connection:
        yield connection


@pytest.fixture
def start(server: str, tmp_path: Path) -> Iterator[Start]:
    """Start a user's script, by one of the ways to run a function."""
    started: list[subprocess.Popen[str]] = []

    def start(way: str, script: str, *words: str) -> subprocess.Popen[str]:
        own = {name: str(tmp_path) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
        own |= {"SEAMLESS_CACHE": str(tmp_path / "cache"), "SEAMLESS_ISOLATION": "none"}
        own |= {} if way == "here" else {"SEAMLESS_DASKSERVER": server}
        (tmp_path / "script.py").write_text(WAYS[way] + script)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(
            subprocess.Popen(  # type: ignore[call-overload]
                [sys.executable, "script.py", *words], cwd=tmp_path, env=os.environ | own, text=True, **pipes
            )
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


MISSING = """
from seamless_dask import direct

@direct(isolation="none")
def fit(x):
    import no_such_module.part
    return x

try:
    fit(1)
except ModuleNotFoundError as error:
    print(error.name, *error.__notes__, sep="\\n")
"""


@pytest.mark.parametrize("way", ["jobserver", "client"])
def test_a_missing_module_is_named_with_its_worker_and_interpreter(start: Start, way: str) -> None:
    told, errors = start(way, MISSING).communicate(timeout=100)
    host = os.uname().nodename
    name, what, where = told.split("\n")[:3]
    assert name == "no_such_module", errors
    assert what == (
        f"no_such_module is not installed for {sys.executable} on {host}: install it there, or name an"
        " environment that has it (conda=, image=, modules=)"
    )
    assert f"the function failed on {host} with exit status 1 (worker " in where


PRINTING = """
import sys
from seamless_dask import direct

@direct(isolation="none")
def slow(pipe):
    import logging
    print("half", end="")
    print(" of it")
    logging.warning("a warning")
    open(pipe).read()
    print("the rest")
    return "done"

print(slow(sys.argv[1]))
"""


@pytest.mark.parametrize("way", list(WAYS))
def test_what_a_function_prints_is_shown_while_it_runs(start: Start, way: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    user = start(way, PRINTING, str(pipe))
    assert user.stderr is not None
    assert [user.stderr.readline(), user.stderr.readline()] == ["half of it\n", "WARNING:root:a warning\n"]
    pipe.write_text("go on")
    out, rest = user.communicate(timeout=100)
    assert (out, rest) == ("done\n", "the rest\n")


MUCH = """
from seamless_dask import delayed

@delayed
def printing(count):
    line = "x" * 1023
    for _ in range(count):
        print(line)
    print("the end")

made = printing(100 << 10)
made.compute()
print(made.record["stderr"][-8:], len(made.record["stderr"]) <= 64 << 10)
"""


@pytest.mark.parametrize(("way", "most"), [("here", 16 << 20), ("client", 1 << 20)])
def test_of_a_hundred_megabytes_printed_so_much_is_shown(start: Start, way: str, most: int) -> None:
    out, errors = start(way, MUCH).communicate(timeout=200)
    assert out == "the end\n True\n"
    shown, told = errors.split("\n[", 1)
    assert 0 <= len(shown) - most <= 64 << 10
    assert told == "what follows is not shown; its end is kept with the record]\n"


HANDED = """
import numpy, sys
from seamless_dask import checksum_of, delayed
from seamless_dask.graph import handles

@delayed(keep_inputs=False)
def largest(numbers):
    return int(numbers.max())

array = numpy.arange(int(sys.argv[1]))
try:
    print(largest(array).compute())
except Exception as error:
    print(error)
print(handles.default_context().store.has([checksum_of(array)]))
"""


def test_arguments_that_are_not_kept_reach_a_sandbox_of_a_worker(start: Start) -> None:
    out, errors = start("client", HANDED, "1000000").communicate(timeout=100)
    assert out == "999999\n[-1]\n", errors


def test_a_jobserver_is_not_handed_arguments_and_the_error_says_what_is(start: Start) -> None:
    told, size = start("jobserver", HANDED, "1000001").communicate(timeout=100)[0].splitlines()
    assert told.startswith("keep_inputs=False hands arguments over to this host or, by a client of Dask, to")
    assert size == "[-1]"
