"""Calls in warm runners of this process: each is as it would be in an interpreter of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from seamless_dask.errors import LimitExceeded
from seamless_dask.execution import placement, python, runners
from seamless_dask.execution.python import run_python
from seamless_dask.execution.supervisor import NoSupervisor, Stop, Usage
from seamless_dask.model.options import Options
from seamless_dask.model.transformation import Description, ResultSpec

from ..conftest import is_alive
from .conftest import Lab, needs_kept_sandbox

IN_SERVER = "'SEAMLESS_FUNCTION' not in os.environ"
"""Whether a module is imported beforehand, and not by a call."""


class Calls:
    """Runs functions in this process, by an interpreter that has modules of the test's."""

    def __init__(self, lab: Lab, modules: Path) -> None:
        self.lab, self.modules = lab, modules
        self.stderr = ""

    def module(self, name: str, text: str) -> None:
        (self.modules / f"{name}.py").write_text(f"import os\n{text}\n")

    def __call__(
        self,
        body: str,
        supervisor: NoSupervisor | None = None,
        *,
        variables: dict[str, str] | None = None,
        **options: Any,
    ) -> Any:
        text = "def __function__():\n" + "".join(f"    {line}\n" for line in body.split("\n"))
        context = self.lab.context
        description = Description(
            "python", context.store.put(text.encode()), ResultSpec(value=True), {}, variables=variables
        )
        chosen = Options(**({"isolation": "none"} | options))
        outcome = run_python(description, context, chosen, supervisor)
        context.store.put_many(outcome.buffers)
        self.stderr = outcome.record["stderr"]
        data = context.store.get(outcome.value.checksum)
        return data.decode() if outcome.value.format == "text" else json.loads(data)


@pytest.fixture
def calls(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    place = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    # a sandbox has a /tmp of its own
    known = {"none": str(place / "bin/python"), "bubblewrap": sys.executable}
    monkeypatch.setattr(python, "_python", lambda options: known[options.isolation])
    monkeypatch.setattr(runners, "_unfit", set())
    [modules] = place.glob("lib/python*/site-packages")
    runners.employ()
    try:
        yield Calls(lab, modules)
    finally:
        runners.dismiss()


SERVER = "import os\nreturn os.getppid()"


class Dying(NoSupervisor):
    """Kills the interpreter after a call was prepared."""

    def __init__(self, process: int) -> None:
        self.process = process

    def begin(self) -> None:
        with suppress(ProcessLookupError):  # it is asked again for the interpreter that takes its place
            os.kill(self.process, signal.SIGKILL)
            os.waitid(os.P_PID, self.process, os.WEXITED | os.WNOWAIT)


class Stopping(NoSupervisor):
    def __init__(self) -> None:
        self.polled: list[float] = []

    def poll(self, usage: Usage) -> Stop | None:
        self.polled.append(usage.wall)
        return Stop("limit", limit=True)


def test_a_runner_that_dies_before_a_call_begins_is_no_failure(calls: Calls) -> None:
    server = calls(SERVER)
    assert calls(SERVER) == server
    assert calls("return 1", Dying(server)) == 1


def test_a_call_for_which_there_is_no_fork_has_an_interpreter_of_its_own(calls: Calls) -> None:
    calls.module("refusing", f"def fork(): raise BlockingIOError(11, 'no')\nif {IN_SERVER}: os.fork = fork")
    body = f"import refusing\n{SERVER}"
    assert calls(body) != os.getpid()
    assert calls(body) == os.getpid()


@needs_kept_sandbox
def test_large_inputs_are_copied_into_a_sandbox_that_is_there_unless_they_are_too_large(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python, "ROOM", 1 << 9)
    monkeypatch.setattr(placement, "LARGE", 1 << 10)
    monkeypatch.setattr(placement, "MAX_LATE", 1 << 12)
    monkeypatch.setattr(placement.Placement, "_reflink", lambda *_: False)
    body = "import os\nreturn os.readlink('/proc/self/ns/mnt')  # "
    kept, large, too_large, again = (
        calls(body + "x" * size, isolation="bubblewrap") for size in (0, 1 << 11, 1 << 12, 0)
    )
    assert kept == large == again != too_large


def test_what_a_prologue_leaves_is_there_for_each_call(calls: Calls, isolation: str) -> None:
    prologue = ('echo there > "$TMPDIR/left"; export LEFT="$TMPDIR/left"',)
    body = "import os\nreturn open(os.environ['LEFT']).read()"
    found = [calls(body, prologue=prologue, isolation=isolation) for _ in range(3)]
    assert found == ["there\n"] * 3


def test_what_a_prologue_starts_runs_in_each_call(calls: Calls, isolation: str) -> None:
    prologue = ("sleep 1000 & export LEFT=$!",)
    body = "import os\nos.kill(int(os.environ['LEFT']), 0)\nreturn 1"
    assert [calls(body, prologue=prologue, isolation=isolation) for _ in range(3)] == [1] * 3


def test_who_waits_is_asked_while_a_prologue_hangs(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, isolation: str
) -> None:
    monkeypatch.setattr(runners, "_START_SECONDS", 1e6)
    with pytest.raises(LimitExceeded):
        calls("return 1", Stopping(), prologue=("sleep 1000",), isolation=isolation)


def test_a_prologue_that_fails_is_tried_with_a_runner_once(calls: Calls, tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    for _ in range(3):
        with pytest.raises(Exception, match="the prologue failed"):
            calls("return 1", prologue=(f"echo ran >> {noted}", "exit 3"))
    assert len(noted.read_text().split()) == 4


def test_a_module_that_hangs_beforehand_stops_no_call(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "_IMPORT_SECONDS", 0.5)
    calls.module("hanging", f"import time\nif {IN_SERVER}: time.sleep(1000)")
    body = f"import hanging\n{SERVER}"
    first, second, third = (calls(body) for _ in range(3))
    assert first != second == third
    assert "hanging" in runners._unfit
    assert not is_alive(first)


def test_a_module_that_is_still_imported_when_a_call_is_withdrawn_is_fit(calls: Calls) -> None:
    calls.module("slow", f"import time\nif {IN_SERVER}: time.sleep(1000)")
    calls("import slow\nreturn 1")
    with pytest.raises(LimitExceeded):
        calls("import time\ntime.sleep(1000)", Stopping())
    assert "slow" not in runners._unfit


@pytest.mark.parametrize("how", ["os._exit(1)", "os.abort()", "os.kill(os.getpid(), 9)"])
def test_a_module_that_ends_its_process_beforehand_is_imported_by_calls(calls: Calls, how: str) -> None:
    calls.module("ending", f"if {IN_SERVER}: {how}")
    first, second, third = (calls(f"import ending\n{SERVER}") for _ in range(3))
    assert first != second == third


def test_a_module_that_exits_beforehand_is_imported_by_calls(calls: Calls) -> None:
    calls.module("exiting", f"import sys\nif {IN_SERVER}: sys.exit(1)")
    assert len({calls(f"import exiting\n{SERVER}") for _ in range(3)}) == 1


def test_what_a_module_says_beforehand_no_call_says(calls: Calls) -> None:
    calls.module("noisy", "import ctypes\nprint('noise')\nctypes.CDLL(None).puts(b'more noise')")
    calls("import noisy\nreturn 1")
    assert "noise" in calls.stderr
    for _ in range(2):
        calls("return 1")
        assert calls.stderr == ""


@pytest.mark.parametrize(
    ("does", "seen"),
    [
        ("os.environ['CHANGED'] = '1'", "os.getenv('CHANGED') is not None"),
        ("import sys; sys.path.append('/changed')", "'/changed' in __import__('sys').path"),
        ("import sys; sys.stdout = open(os.devnull, 'w')", "__import__('sys').stdout.name == os.devnull"),
        (
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
            "__import__('signal').getsignal(15) == 1",
        ),
        ("os.chdir('/usr') if os.path.exists('/usr') else None", "False"),
    ],
)
def test_what_a_module_changes_only_those_see_who_import_it(calls: Calls, does: str, seen: str) -> None:
    calls.module("changing", does)
    for _ in range(2):
        calls("import changing\nreturn 1")
        assert calls(f"import os\nreturn {seen}") is False
    assert calls(f"import os, changing\nreturn {seen}") is (seen != "False")


def test_a_file_that_a_module_makes_for_itself_is_there_for_each_call(calls: Calls) -> None:
    calls.module("making", "import tempfile\nplace = tempfile.mkdtemp()")
    assert all(calls("import os, making\nreturn os.path.isdir(making.place)") for _ in range(3))


def test_a_module_that_writes_to_its_cache_is_there_beforehand(calls: Calls) -> None:
    cache = "os.path.expanduser('~/.cache/caching')"
    calls.module("caching", f"os.makedirs({cache})\nos.environ['KMP_INIT_AT_FORK'] = 'FALSE'")
    calls("import caching\nreturn 1")
    there = "import os, sys\nreturn ['caching' in vars(sys)['modules'], os.listdir(os.path.expanduser('~'))]"
    assert [calls(there) for _ in range(2)] == [[True, []]] * 2


def test_a_module_that_the_function_has_put_before_another_is_the_one(calls: Calls, tmp_path: Path) -> None:
    calls.module("double", "WHICH = 'library'")
    own = tmp_path / "own"
    own.mkdir()
    (own / "double.py").write_text("WHICH = 'own'\n")
    plain = "import double\nreturn double.WHICH"
    before = f"import sys\nsys.path.insert(0, {str(own)!r})\n{plain}"
    assert [calls(before) for _ in range(3)] == ["own"] * 3
    assert [calls(plain) for _ in range(3)] == ["library"] * 3
    assert calls(before) == "own"


def test_what_is_set_before_a_module_is_imported_counts(calls: Calls) -> None:
    calls.module("choosing", "CHOSEN = os.environ.get('CHOICE')")
    plain = "import choosing\nreturn choosing.CHOSEN"
    assert [calls(plain) for _ in range(2)] == [None] * 2
    for choice in ("one", "two"):
        assert calls(f"import os\nos.environ['CHOICE'] = {choice!r}\n{plain}") == choice


def test_a_module_that_is_installed_later_is_seen_by_those_that_look_for_it(calls: Calls) -> None:
    calls.module("looking", "try:\n    import later\nexcept ImportError:\n    later = None")
    body = "import looking\nreturn looking.later is not None"
    assert [calls(body) for _ in range(2)] == [False] * 2
    calls.module("later", "")
    assert calls(body) is True


def test_the_memory_of_modules_that_are_there_beforehand_does_not_count_twice(calls: Calls) -> None:
    calls.module("large", "held = bytearray(60 << 20)\nheld[::4096] = bytes([1]) * len(held[::4096])")

    class Looking(NoSupervisor):
        most = 0

        def poll(self, usage: Usage) -> None:
            self.most = max(self.most, usage.memory)

    body = "import large, time\ntime.sleep(0.5)\nreturn 1"
    for _ in range(3):
        looking = Looking()
        calls(body, looking)
        assert (60 << 20) <= looking.most < (120 << 20)


def test_what_the_user_has_set_goes_before_what_a_supervisor_offers(calls: Calls) -> None:
    class Offering(NoSupervisor):
        def gateway(self, control: str, inner: str) -> dict[str, str]:
            del control, inner
            return {"OFFERED": "theirs", "OTHER": "theirs"}

    body = "import os\nreturn [os.environ['OFFERED'], os.environ['OTHER']]"
    assert calls(body, Offering(), variables={"OFFERED": "own"}) == ["own", "theirs"]


def test_another_temporary_directory_is_used_from_the_next_call_on(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "import tempfile\nreturn tempfile.gettempdir()"
    assert calls(body).startswith(str(calls.lab.temporary))
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setenv("TMPDIR", str(other))
    assert calls(body).startswith(str(other))


def test_what_hides_ends_with_a_call_that_is_stopped(calls: Calls, tmp_path: Path) -> None:
    told = tmp_path / "told"

    class Late(NoSupervisor):
        def poll(self, usage: Usage) -> Stop | None:
            return Stop("limit", limit=True) if told.exists() and told.read_text() else None

    body = (
        "import os, subprocess, time\n"
        f"subprocess.Popen(['/bin/sh', '-c', 'echo $$ > {told}; exec sleep 1000'], env={{}}, cwd='/',"
        " start_new_session=True)\n"
        "time.sleep(1000)"
    )
    with pytest.raises(LimitExceeded):
        calls(body, Late())
    assert not is_alive(int(told.read_text()))


@needs_kept_sandbox
def test_a_call_sees_nothing_of_what_its_runner_was_started_with(calls: Calls) -> None:
    body = "import os\nreturn os.listdir('/seamless/control')"
    assert calls(body, isolation="bubblewrap", prologue=(":",)) == []


def test_a_call_may_close_what_is_open(calls: Calls) -> None:
    assert calls("import os\nos.closerange(3, 1000)\nreturn 1") == 1


def test_a_call_has_no_descriptors_but_what_it_tells_its_modules_by(calls: Calls) -> None:
    body = "import os\nreturn [n for n in range(3, 50) if os.path.exists(f'/proc/self/fd/{n}')]"
    assert {len(calls(body)) for _ in range(3)} == {1}
