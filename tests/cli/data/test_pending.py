"""Results that are still being made, and what their makers leave behind when they are killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from ..conftest import ended, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Cli


class SlowRun:
    """A run whose command begins, and ends when `go` is there."""

    process: subprocess.Popen[bytes]

    def __init__(self, cli: Cli, command: str, mark: Path, go: Path) -> None:
        self._cli, self.command, self.mark, self.go = cli, command, mark, go

    def begin(self, *options: str, code: str | None = None) -> None:
        """Start it, and wait until the command has begun."""
        self.process = self._cli.start("seamless-run", *options, code or self.command)
        wait_for(self.mark.exists)

    def kill_asker(self) -> None:
        """Kill the one who waits for it."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def kill(self) -> None:
        """Kill the process that runs the command, too."""
        runner = json.loads(self._cli("seamless-status", "--json").stdout)["jobs"][0]["pid"]
        self.kill_asker()
        os.kill(runner, signal.SIGKILL)


@pytest.fixture
def making(cli: Cli, slow: tuple[str, Path, Path]) -> SlowRun:
    return SlowRun(cli, *slow)


def askers(cli: Cli, number: int) -> bool:
    """Whether so many wait for jobs, altogether."""
    jobs = json.loads(cli("seamless-status", "--json").stdout)["jobs"]
    return sum(job["askers"] for job in jobs) >= number


def test_ctrl_c_cancels(cli: Cli, work: Path, making: SlowRun) -> None:
    making.begin("-cp", ":out")
    assert (work / "out.FUTURE").exists()
    os.killpg(making.process.pid, signal.SIGINT)
    status, out, err = ended(making.process)
    assert (status, out) == (130, b"")
    assert err.splitlines()[-1] == "seamless-run: interrupted"
    assert not (work / "out.FUTURE").exists()
    assert "running     nothing" in cli("seamless-status").text


def test_two_at_once_run_it_once(cli: Cli, work: Path, making: SlowRun) -> None:
    processes = [cli.start("seamless-run", making.command) for _ in range(2)]
    wait_for(making.mark.exists)
    wait_for(lambda: "2 askers" in cli("seamless-status").text)
    making.go.touch()
    assert [ended(process)[:2] for process in processes] == [(0, b"done\n")] * 2
    assert making.mark.read_text() == "begun\n"


def test_a_killed_asker_leaves_the_work_and_a_rerun_attaches(cli: Cli, work: Path, making: SlowRun) -> None:
    making.begin("-cp", ":out")
    making.kill_asker()
    again = cli.start("seamless-run", "-cp", ":out", making.command)
    wait_for(lambda: "2 askers" in cli("seamless-status").text)
    making.go.touch()
    assert ended(again)[0] == 0
    assert (work / "out").read_text() == "done\n"
    assert making.mark.read_text() == "begun\n"
    assert not (work / "out.FUTURE").exists()


def test_a_future_of_a_finished_job_is_settled_by_a_download(cli: Cli, work: Path, making: SlowRun) -> None:
    making.begin("-cp", ":out")
    making.kill_asker()
    making.go.touch()
    wait_for(lambda: "running     nothing" in cli("seamless-status").text)
    cli("seamless-download", "out")
    assert (work / "out").read_text() == "done\n"
    assert not (work / "out.FUTURE").exists()


def test_whoever_names_a_pending_result_waits_for_it(cli: Cli, work: Path, making: SlowRun) -> None:
    making.begin("-cp", ":out.txt")
    others = [
        cli.start("seamless-run", "cat", "out.txt"),
        cli.start("seamless-run", "--stdin", "out.txt", "cat -"),
        cli.start("seamless-run", "cat out*.txt | cat"),
        cli.start("seamless-download", "--stdout", "out.txt"),
    ]
    wait_for(lambda: askers(cli, 5))
    making.go.touch()
    assert ended(making.process)[0] == 0
    assert [ended(process)[:2] for process in others] == [(0, b"done\n")] * 4
    assert making.mark.read_text() == "begun\n"


def test_a_pending_member_of_a_directory_is_waited_for(cli: Cli, work: Path, making: SlowRun) -> None:
    (work / "set").mkdir()
    (work / "set" / "a.txt").write_text("here\n")
    making.begin("-cp", ":set/b.txt")
    listing = cli.start("seamless-run", "ls", "set")
    wait_for(lambda: askers(cli, 2))
    making.go.touch()
    assert ended(making.process)[0] == 0
    assert ended(listing)[:2] == (0, b"a.txt\nb.txt\n")
    assert making.mark.read_text() == "begun\n"


def test_a_file_in_a_pending_directory(cli: Cli, work: Path, making: SlowRun) -> None:
    making.begin("-cp", "res", code=f"mkdir res; ({making.command}) > res/x.txt")
    second = cli.start("seamless-run", "cat", "res/x.txt")
    wait_for(lambda: "cat" in cli("seamless-status").text)
    making.go.touch()
    assert ended(making.process)[0] == 0
    assert ended(second)[:2] == (0, b"done\n")
    assert making.mark.read_text() == "begun\n"


@pytest.mark.parametrize("command", ["seamless-download", "seamless-run"])
def test_a_stale_future_is_submitted_again(cli: Cli, work: Path, making: SlowRun, command: str) -> None:
    making.begin("-cp", ":out.txt")
    making.kill()
    assert "seamless-download out.txt" in cli("seamless-checksum", "out.txt", status=1).error
    making.go.touch()
    if command == "seamless-run":
        assert cli(command, "cat", "out.txt").stdout == b"done\n"
    cli("seamless-download", "out.txt")
    assert (work / "out.txt").read_text() == "done\n"
    assert making.mark.read_text() == "begun\n" * 2
    assert not (work / "out.txt.FUTURE").exists()


def test_a_stale_future_in_a_directory_is_submitted_again(cli: Cli, work: Path, making: SlowRun) -> None:
    making.begin("-cp", ":set/b.txt")
    making.kill()
    making.go.touch()
    assert cli("seamless-run", "-q", "ls", "set").text == "b.txt\n"
    assert not (work / "set" / "b.txt.FUTURE").exists()
    assert cli("seamless-run", "cat", "set/b.txt").text == "done\n"


def test_a_stale_future_whose_job_fails(cli: Cli, work: Path, making: SlowRun) -> None:
    making.begin("-cp", ":out.txt", code=f"{making.command}; echo why >&2; exit 3")
    making.kill()
    making.go.touch()
    (work / "a.txt").write_text("other\n")
    cli("seamless-upload", "--move", "a.txt")
    done = cli("seamless-download", "out.txt", "a.txt", status=1)
    assert "why\n" in done.stderr
    assert "out.txt failed" in done.stderr
    assert (work / "a.txt").exists()


def test_a_future_goes_before_an_older_result_and_replaces_it(cli: Cli, work: Path, making: SlowRun) -> None:
    cli("seamless-run", "-cp", ":out.txt", "echo old")
    making.begin("-cp", ":out.txt")
    making.kill_asker()
    making.go.touch()
    assert cli("seamless-run", "cat", "out.txt").text == "done\n"
    cli("seamless-download", "out.txt")
    assert (work / "out.txt").read_text() == "done\n"


def test_a_known_result_takes_the_place_of_an_older_future(cli: Cli, work: Path, making: SlowRun) -> None:
    cli("seamless-run", "echo known")
    making.begin("-cp", ":out.txt")
    making.kill()
    cli("seamless-run", "-cp", ":out.txt", "echo known")
    making.go.touch()
    assert cli("seamless-run", "cat", "out.txt").text == "known\n"
    assert making.mark.read_text() == "begun\n"


def test_a_failed_run_leaves_no_directory_that_it_made(cli: Cli, work: Path) -> None:
    (work / "mine").mkdir()
    cli("seamless-run", "-c", "false", "--capture", "new/deep/a", "--capture", "mine/b", status=1)
    assert [path.name for path in work.iterdir()] == ["mine"]


def requests(home: Path) -> list[Path]:
    """What is written down of those who have asked."""
    folder = home / "cache" / "requests"
    return sorted(folder.iterdir()) if folder.exists() else []


def test_a_stale_future_is_submitted_again_as_it_was_asked_for(
    cli: Cli, work: Path, home: Path, making: SlowRun
) -> None:
    options = ["--prologue", "said=prologue", "--metavar", "told=metavar", "--memory", "1G"]
    making.begin(*options, "-cp", ":out.txt", code=f'{making.command}; echo "$said $told"')
    (request,) = requests(home)
    assert request.stat().st_mode & 0o777 == 0o600
    assert json.loads((work / "out.txt.FUTURE").read_text()).keys() == {
        "seamless-future", "key", "result", "server", "host", "process"
    }  # fmt: skip
    making.kill()
    making.go.touch()
    cli("seamless-download", "out.txt")
    assert (work / "out.txt").read_text() == "done\nprologue metavar\n"
    assert requests(home) == []


def test_a_stale_step_of_a_pipeline_too(cli: Cli, work: Path, home: Path, making: SlowRun) -> None:
    making.begin("--metavar", "told=metavar", "-cp", ":out.txt", code=f"{making.command}; echo $told")
    making.kill()
    making.go.touch()
    assert cli("seamless-run", "cat out.txt").text == "done\nmetavar\n"


def test_whoever_is_done_leaves_no_request(cli: Cli, work: Path, home: Path) -> None:
    cli("seamless-run", "-cp", ":good", "echo good")
    cli("seamless-run", "-cp", ":bad", "false", status=1)
    assert requests(home) == []


def test_requests_are_bounded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hashserver.checksum import hash_bytes
    from seamless_dask.jobs import request_log
    from seamless_dask.model.options import Options

    monkeypatch.setattr(request_log, "MOST", 3)
    cache = str(home / "cache")
    keys = [hash_bytes(b"%d" % number) for number in range(6)]
    for key in keys:
        request_log.note(cache, key, None, Options(label=key))
    found = [request_log.find(cache, key) for key in keys]
    assert [request and request.options.label for request in found] == [None, None, None, *keys[3:]]


@pytest.fixture
def stored(home: Path) -> Callable[[str], str]:
    """Store a command that nobody here has asked for; returns its key."""

    def store(code: str) -> str:
        from seamless_dask.context import Context
        from seamless_dask.model.transformation import Description, ResultSpec

        with Context() as context:
            description = Description("bash", context.store.put(code.encode()), ResultSpec(stdout=True))
            return context.store.put(description.canonical())

    return store


READERS = [
    ("seamless-run", "cat out.csv"),
    ("seamless-run", "cat -", "--stdin", "out.csv"),
    ("seamless-run", "--input", "set", "ls"),
    ("seamless-download", "out.csv"),
    ("seamless-download", "set"),
    ("seamless-checksum", "set"),
    ("seamless-upload", "set"),
    ("seamless-cancel", "out.csv"),
    ("seamless-run", "--qsubmit", "-cp", ":x", "cat out.csv"),
    ("seamless-run", "--write-job", "job", "cat out.csv"),
    ("seamless-run", "--dry-run", "cat out.csv"),
]


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_a_sidecar_from_elsewhere_calls_nobody_and_runs_nothing(
    cli: Cli, work: Path, tmp_path: Path, stored: Callable[[str], str], command: tuple[str, ...]
) -> None:
    mark = tmp_path / "mark"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        forged = {
            "seamless-future": 1,
            "key": stored(f"touch {mark}; echo mine"),
            "result": None,
            "host": os.uname().nodename,
            "process": os.getpid(),
            "options": '{"isolation":"none"}',
        }
        (work / "set").mkdir()
        for place in (f"tcp://127.0.0.1:{server.getsockname()[1]}", None):
            for name in ("out.csv", "set/out.csv"):
                (work / f"{name}.FUTURE").write_text(json.dumps(forged | {"server": place}))
            done = subprocess.run(
                [cli.path(command[0]), *command[1:]], cwd=work, capture_output=True, text=True, timeout=60
            )
            assert done.returncode in (1, 2), done
            assert len(done.stderr.splitlines()) == 1, done
            with pytest.raises(BlockingIOError):
                server.accept()
    assert not mark.exists()
    assert not (work / "out.csv").exists()


def test_a_request_of_somebody_else_does_not_count(home: Path, stored: Callable[[str], str]) -> None:
    from hashserver.checksum import Checksum
    from seamless_dask.jobs import request_log
    from seamless_dask.model.options import Options

    cache, key = str(home / "cache"), Checksum(stored("true"))
    request_log.note(cache, key, None, Options())
    (request,) = requests(home)
    assert request_log.find(cache, key) is not None
    text = request.read_text()
    for broken in (text[:-3], "[]", '{"server": 1}', text.replace("{}", '{\\"isolation\\":7}')):
        request.write_text(broken)
        assert request_log.find(cache, key) is None
    request.write_text(text)
    if os.geteuid() == 0:
        os.chown(request, 65534, 65534)
        assert request_log.find(cache, key) is None


def test_a_sidecar_of_an_older_version_still_says_which_job(cli: Cli, work: Path, making: SlowRun) -> None:
    making.begin("-cp", ":out.txt")
    future = json.loads((work / "out.txt.FUTURE").read_text())
    (work / "old.txt.FUTURE").write_text(json.dumps(future | {"options": "{}"}))
    waiting = cli.start("seamless-run", "cat old.txt")
    wait_for(lambda: askers(cli, 2))
    making.go.touch()
    assert ended(waiting)[:2] == (0, b"done\n")
    assert ended(making.process)[0] == 0
