"""What is unpickled where this package is not usable goes on as what it stands for."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import BufferMissing
from seamless_dask import File, bash
from seamless_dask.errors import ComputationFailed, UsageError
from seamless_dask.graph import handles, task
from seamless_dask.model.transformation import Value
from seamless_dask.worker import bootstrap

NAME = hash_bytes(b"x")

BARE = """
import pickle, sys
source, use = pickle.load(sys.stdin.buffer)
names = {}
exec(source, names)
sys.meta_path.insert(0, names["StandIns"]("nothing is installed"))
one = pickle.load(sys.stdin.buffer)
if use:
    try:
        exec(use)
    except ModuleNotFoundError as error:
        one = str(error)
pickle.dump(one, sys.stdout.buffer)
"""


def through_a_bare_process(value: Any, use: str = "") -> Any:
    """Return what another process that lacks this package pickles, after it has used that."""
    source = Path(bootstrap.__file__).read_text(encoding="utf-8")
    sent = pickle.dumps((source, use)) + pickle.dumps(value)
    words = [sys.executable, "-I", "-c", BARE]
    found = subprocess.run(words, input=sent, capture_output=True, timeout=60)
    assert not found.stderr, found.stderr.decode()
    return pickle.loads(found.stdout)


VALUES = [
    handles.of("file", NAME),
    handles.of("text", NAME),
    handles.of("directory", NAME),
    handles.of("results", NAME),
    NAME,
    Value("file", NAME),
    {NAME: [handles.of("file", NAME)], "set": {NAME}},
    File,
    File.read_text,
    task.run,
]


@pytest.mark.parametrize("value", VALUES, ids=range(len(VALUES)))
def test_it_goes_on_as_what_it_stands_for(value: Any) -> None:
    found = through_a_bare_process(value)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "error", [UsageError("no"), ComputationFailed("no", 3, "tail"), BufferMissing(NAME, "no")], ids=repr
)
def test_so_do_errors(error: Exception) -> None:
    found = through_a_bare_process([error])[0]
    assert type(found) is type(error)
    assert (str(found), vars(found)) == (str(error), vars(error))


def test_so_do_methods_of_a_value() -> None:
    found = through_a_bare_process(handles.of("file", NAME).read_text)
    assert found.__func__ is File.read_text
    assert found.__self__ == handles.of("file", NAME)


def test_so_do_transformations(lab: Any) -> None:
    made = bash("echo x", context=lab.context)
    found = through_a_bare_process(made)
    assert found.__dask_keys__() == made.__dask_keys__()


USES = [
    "one.read_text()",
    "one.checksum == ''",
    "str(one.checksum)",
    "f'{one.checksum:.5}'",
    "'%s' % one.checksum",
    "'x' + one.checksum",
    "if one: pass",
    "one == one",
    "list(one)",
    "one['x']",
    "'x' in one",
    "len(one)",
    "open(one)",
    "isinstance(one, File)",
    "File(checksum='')",
    "File.kind == 'file'",
    "import seamless_dask; seamless_dask.bash('echo')",
    "from seamless_dask.api import bash; bash('echo')",
    "import seamless_dask.graph.task as task; task.run(1, 2, 3, 4)",
    "with one: pass",
]


@pytest.mark.parametrize("use", USES)
def test_who_uses_it_is_told_why_that_cannot_be(use: str) -> None:
    told = through_a_bare_process(handles.of("file", NAME), f"from seamless_dask import File\n{use}")
    assert told == "seamless-dask cannot be used on this worker: nothing is installed"


def test_it_can_be_shown_and_is_hashable() -> None:
    assert through_a_bare_process(handles.of("file", NAME), "one = repr(one), len({one})") == (
        "<something of seamless-dask, which is not usable here>",
        1,
    )


def test_where_the_package_is_stays_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])

    class Worker:
        address = "tcp://worker:1"

        def log_event(self, topic: str, event: dict[str, str]) -> None:
            pass

    bootstrap.unequipped("another protocol", "9.9").setup(Worker())
    assert bootstrap.stand_ins() is None
    assert Checksum(NAME) == NAME


def test_who_once_had_none_keeps_the_stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there already refers to them."""
    monkeypatch.setattr(sys, "meta_path", [bootstrap.StandIns("nothing was installed"), *sys.meta_path])
    told: list[str] = []

    class Worker:
        address = "tcp://worker:1"

        def log_event(self, topic: str, event: dict[str, str]) -> None:
            told.append(event["message"])

    bootstrap.arrive({}, "9.9", task.PROTOCOL).setup(Worker())
    assert told == ["nothing was installed"]
