"""A command ends with everything that came of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from seamless_dask.errors import Cancelled, ComputationFailed, LimitExceeded
from seamless_dask.execution import process
from seamless_dask.execution.resources import Birthdays, StrayFinder
from seamless_dask.execution.supervisor import NoSupervisor, Stop, Usage

if TYPE_CHECKING:
    from .conftest import Lab


class Watch:
    """A supervisor that stops a command once `condition` holds."""

    def __init__(self, condition: object = None, limit: bool = False, stderr: str | None = None) -> None:
        self.condition, self.limit, self.stderr = condition, limit, stderr
        self.peak = 0

    def handed(self) -> tuple[str, ...]:
        return ()

    def scratch(self) -> bool:
        return False

    def gateway(self, control: str, inner: str) -> dict[str, str]:
        return {}

    def begin(self) -> None:
        pass

    def poll(self, usage: Usage) -> Stop | None:
        self.peak = max(self.peak, usage.memory)
        if callable(self.condition) and self.condition(usage):
            return Stop("time limit of 1 s exceeded" if self.limit else "cancelled", limit=self.limit)
        return None


def survivors(word: str) -> list[int]:
    """Return the processes that have `word` in their command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                words = Path("/proc", name, "cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in words:
                found.append(int(name))
    return found


@pytest.fixture
def word(tmp_path: Path) -> str:
    """A number of seconds that no other process sleeps."""
    return f"9{os.getpid()}{time.monotonic_ns() % 10**6}"


LEFT_BEHIND = [
    "sleep {} &",
    "setsid sleep {} &",
    "(setsid sleep {} &) &",
    "nohup sleep {} >/dev/null 2>&1 & disown",
    "env -i setsid sleep {} &",
    "cd /; setsid sleep {} >/dev/null 2>&1 </dev/null &",
    "trap '' TERM HUP INT; sleep {} & sleep {} &",
]


@pytest.mark.parametrize("code", LEFT_BEHIND)
def test_nothing_is_left_running(lab: Lab, isolation: str, code: str, word: str) -> None:
    assert lab.stdout(code.replace("{}", word) + "\necho done", isolation=isolation) == "done\n"
    assert survivors(word) == []


@pytest.mark.parametrize("code", LEFT_BEHIND)
def test_nothing_is_left_of_a_failure(lab: Lab, isolation: str, code: str, word: str) -> None:
    with pytest.raises(ComputationFailed, match="exit status 3"):
        lab.run(code.replace("{}", word) + "\nexit 3", isolation=isolation)
    assert survivors(word) == []


@pytest.mark.parametrize("code", [*LEFT_BEHIND, ""])
def test_cancelled(lab: Lab, isolation: str, code: str, word: str) -> None:
    started = lambda usage: survivors(word)  # noqa: E731
    with pytest.raises(Cancelled):
        lab.run(
            code.replace("{}", word) + f"\nsleep {word}; true", supervisor=Watch(started), isolation=isolation
        )
    assert survivors(word) == []


def test_limit(lab: Lab, isolation: str, word: str) -> None:
    watch = Watch(lambda usage: usage.wall > 0.2, limit=True)
    with pytest.raises(LimitExceeded, match=r"time limit of 1 s exceeded on \S+") as caught:
        lab.run(f"echo so far >&2; sleep {word}", supervisor=watch, isolation=isolation)
    assert caught.value.stderr == "so far\n"
    assert caught.value.exit_status == 137
    assert survivors(word) == []


def test_memory_is_that_of_the_whole_tree(lab: Lab, isolation: str, tmp_path: Path) -> None:
    hold = "python3 -c 'import os; x = bytearray(60 << 20); os.write(1, b\"x\"); os.read(0, 1)'"
    code = f"mkfifo go; exec 3<>go; ({hold} <&3 | cat) & (setsid {hold} <&3 | cat) & wait"
    watch = Watch(lambda usage: usage.memory > 120 << 20, limit=True)
    with pytest.raises(LimitExceeded):
        lab.run(code, supervisor=watch, isolation=isolation)
    assert watch.peak < 400 << 20


def test_an_exception_of_the_supervisor_ends_the_command_too(lab: Lab, isolation: str, word: str) -> None:
    def interrupt(usage: Usage) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lab.run(f"setsid sleep {word} & sleep {word}", supervisor=Watch(interrupt), isolation=isolation)
    assert survivors(word) == []


def test_flood_of_stderr_is_bounded(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SHOWN", 1 << 20)
    shown = tmp_path / "stderr"
    record = lab.run(
        "head -c 20000000 /dev/zero >&2; echo end >&2", supervisor=Watch(stderr=str(shown))
    ).record
    assert record["stderr"].endswith("\0end\n")
    assert len(record["stderr"]) == process.TAIL
    assert shown.stat().st_size < 2 << 20
    assert b"is not shown" in shown.read_bytes()[-100:]


def test_stderr_is_shown_while_the_command_runs(lab: Lab, tmp_path: Path, isolation: str) -> None:
    shown = tmp_path / "stderr"
    seen = lambda usage: shown.exists() and shown.read_bytes() == b"first\n"  # noqa: E731
    with pytest.raises(Cancelled):
        lab.run("echo first >&2; sleep 100", supervisor=Watch(seen, stderr=str(shown)), isolation=isolation)


def test_direct_print_shows_stdout_too(lab: Lab, tmp_path: Path) -> None:
    shown = tmp_path / "stderr"
    outcome = lab.run("echo out", supervisor=Watch(stderr=str(shown)), direct_print=True)
    assert shown.read_bytes() == lab.bytes(outcome) == b"out\n"


def test_large_stdout_takes_no_memory(lab: Lab) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = lab.run("head -c 120000000 /dev/zero")
    assert lab.context.store.has([outcome.value.checksum]) == [120_000_000]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 << 10


def test_undecodable_stderr(lab: Lab) -> None:
    assert lab.run(r"printf '\xff\n' >&2").record["stderr"] == "�\n"


class Seeing(NoSupervisor):
    """Makes a file once a command has been seen with so much memory."""

    def __init__(self, memory: int, file: Path) -> None:
        self.memory, self.file = memory, file

    def poll(self, usage: Usage) -> None:
        if usage.memory > self.memory:
            self.file.touch()


def test_cpu_and_memory_are_recorded(lab: Lab, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    code = f"import os; x = bytearray(50 << 20)\nwhile not os.path.exists({str(seen)!r}): sum(range(100_000))"
    record = lab.run(f'python3 -c "{code}"', supervisor=Seeing(50 << 20, seen)).record
    assert record["cpu"] > 0.01
    assert record["max_rss"] > 50 << 20


KILLED = """
import sys
from seamless_dask.context import Context
from seamless_dask.execution.bash import run_bash
from seamless_dask.model.options import Options
from seamless_dask.model.transformation import ResultSpec, Description
context = Context()
code = context.store.put(sys.argv[1].encode())
run_bash(Description("bash", code, ResultSpec(stdout=True)), context, Options(isolation=sys.argv[2]))
"""


def test_owner_killed(lab: Lab, isolation: str, word: str, tmp_path: Path) -> None:
    """What a killed owner has left is gone after the next start: files and processes."""
    from seamless_dask.execution.workdir import sweep

    code = f"mkdir ro; touch ro/x; chmod 0 ro; setsid sleep {word} & sleep {word}"
    owner = subprocess.Popen([sys.executable, "-c", KILLED, code, isolation], cwd=Path(__file__).parents[3])
    while len(survivors(f"sleep\0{word}")) < 2:
        assert owner.poll() is None
        time.sleep(0.01)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    assert len(os.listdir(lab.temporary)) == 1
    sweep.cache_clear()
    lab.run("true")
    deadline = time.monotonic() + 60
    while survivors(f"sleep\0{word}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert survivors(f"sleep\0{word}") == []


def test_strays_are_found_by_name_or_place(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "100"], cwd=tmp_path) as stray:
        assert StrayFinder("no-such-run", str(tmp_path))() == [stray.pid]
        assert StrayFinder("no-such-run", str(tmp_path / "other"))() == []
        stray.kill()
    with subprocess.Popen(["sleep", "100"], env={"SEAMLESS_RUN": f"run-{tmp_path}"}) as stray:
        while StrayFinder(f"run-{tmp_path}", "/nowhere")() != [stray.pid]:
            assert stray.poll() is None
        process.kill_strays(f"run-{tmp_path}", "/nowhere")
        assert stray.wait() == -signal.SIGKILL


def test_processes_that_began_since_are_found_by_their_numbers() -> None:
    before = subprocess.Popen(["sleep", "60"])
    since = Birthdays()
    after = subprocess.Popen(["sleep", "60"])
    try:
        found = since.processes()
        assert str(after.pid) in found
        assert str(before.pid) not in found
    finally:
        for sleeper in (before, after):
            sleeper.kill()
            sleeper.wait()


class Refusing(Watch):
    def begin(self) -> None:
        time.sleep(0.3)  # its sandbox is there by now
        raise Cancelled("nobody wants it")


def test_a_command_that_may_not_begin_does_not(lab: Lab, isolation: str, tmp_path: Path, word: str) -> None:
    told = tmp_path / "stderr"
    with pytest.raises(Cancelled, match="nobody wants it"):
        lab.run(f"echo ran >&2; sleep {word}", supervisor=Refusing(stderr=str(told)), isolation=isolation)
    assert not told.exists()
    assert survivors(word) == []
