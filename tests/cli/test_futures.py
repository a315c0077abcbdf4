"""Results that are still being made, and what their makers leave behind when they are killed."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from .conftest import ended, wait_for

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from .conftest import Cli


def askers(cli: Cli, number: int) -> bool:
    """Whether so many wait for jobs, altogether."""
    jobs = json.loads(cli("seamless-status", "--json").stdout)["jobs"]
    return sum(job["askers"] for job in jobs) >= number


def test_ctrl_c_cancels(cli: Cli, work: Path, slow: tuple[str, Path, Path]) -> None:
    command, mark, _ = slow
    process = cli.start("seamless-run", "-cp", ":out", command)
    wait_for(mark.exists)
    assert (work / "out.FUTURE").exists()
    os.killpg(process.pid, signal.SIGINT)
    status, out, err = ended(process)
    assert (status, out) == (130, b"")
    assert err.splitlines()[-1] == "seamless-run: interrupted"
    assert not (work / "out.FUTURE").exists()
    assert "running     nothing" in cli("seamless-status").text


def test_two_at_once_run_it_once(cli: Cli, work: Path, slow: tuple[str, Path, Path]) -> None:
    command, mark, go = slow
    processes = [cli.start("seamless-run", command) for _ in range(2)]
    wait_for(mark.exists)
    wait_for(lambda: "2 askers" in cli("seamless-status").text)
    go.touch()
    assert [ended(process)[:2] for process in processes] == [(0, b"done\n")] * 2
    assert mark.read_text() == "begun\n"


def test_a_killed_asker_leaves_the_work_and_a_rerun_attaches(
    cli: Cli, work: Path, slow: tuple[str, Path, Path]
) -> None:
    command, mark, go = slow
    process = cli.start("seamless-run", "-cp", ":out", command)
    wait_for(mark.exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    again = cli.start("seamless-run", "-cp", ":out", command)
    wait_for(lambda: "2 askers" in cli("seamless-status").text)
    go.touch()
    assert ended(again)[0] == 0
    assert (work / "out").read_text() == "done\n"
    assert mark.read_text() == "begun\n"
    assert not (work / "out.FUTURE").exists()


def test_a_future_of_a_finished_job_is_settled_by_a_download(
    cli: Cli, work: Path, slow: tuple[str, Path, Path]
) -> None:
    command, mark, go = slow
    process = cli.start("seamless-run", "-cp", ":out", command)
    wait_for(mark.exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    go.touch()
    wait_for(lambda: "running     nothing" in cli("seamless-status").text)
    cli("seamless-download", "out")
    assert (work / "out").read_text() == "done\n"
    assert not (work / "out.FUTURE").exists()


def test_whoever_names_a_pending_result_waits_for_it(
    cli: Cli, work: Path, slow: tuple[str, Path, Path]
) -> None:
    command, mark, go = slow
    first = cli.start("seamless-run", "-cp", ":out.txt", command)
    wait_for(mark.exists)
    others = [
        cli.start("seamless-run", "cat", "out.txt"),
        cli.start("seamless-run", "--stdin", "out.txt", "cat -"),
        cli.start("seamless-run", "cat out*.txt | cat"),
        cli.start("seamless-download", "--stdout", "out.txt"),
    ]
    wait_for(lambda: askers(cli, 5))
    go.touch()
    assert ended(first)[0] == 0
    assert [ended(process)[:2] for process in others] == [(0, b"done\n")] * 4
    assert mark.read_text() == "begun\n"


def test_a_pending_member_of_a_directory_is_waited_for(
    cli: Cli, work: Path, slow: tuple[str, Path, Path]
) -> None:
    command, mark, go = slow
    (work / "set").mkdir()
    (work / "set" / "a.txt").write_text("here\n")
    first = cli.start("seamless-run", "-cp", ":set/b.txt", command)
    wait_for(mark.exists)
    listing = cli.start("seamless-run", "ls", "set")
    wait_for(lambda: askers(cli, 2))
    go.touch()
    assert ended(first)[0] == 0
    assert ended(listing)[:2] == (0, b"a.txt\nb.txt\n")
    assert mark.read_text() == "begun\n"


def test_a_file_in_a_pending_directory(cli: Cli, work: Path, slow: tuple[str, Path, Path]) -> None:
    command, mark, go = slow
    first = cli.start("seamless-run", "-cp", "res", f"mkdir res; ({command}) > res/x.txt")
    wait_for(mark.exists)
    second = cli.start("seamless-run", "cat", "res/x.txt")
    wait_for(lambda: "cat" in cli("seamless-status").text)
    go.touch()
    assert ended(first)[0] == 0
    assert ended(second)[:2] == (0, b"done\n")
    assert mark.read_text() == "begun\n"


def kill_all(cli: Cli, process: subprocess.Popen[bytes]) -> None:
    """Kill a command and the runner of its job."""
    runner = json.loads(cli("seamless-status", "--json").stdout)["jobs"][0]["pid"]
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    os.kill(runner, signal.SIGKILL)


@pytest.mark.parametrize("command", ["seamless-download", "seamless-run"])
def test_a_stale_future_is_submitted_again(
    cli: Cli, work: Path, slow: tuple[str, Path, Path], command: str
) -> None:
    line, mark, go = slow
    process = cli.start("seamless-run", "-cp", ":out.txt", line)
    wait_for(mark.exists)
    kill_all(cli, process)
    assert "seamless-download out.txt" in cli("seamless-checksum", "out.txt", status=1).error
    go.touch()
    if command == "seamless-run":
        assert cli(command, "cat", "out.txt").stdout == b"done\n"
    cli("seamless-download", "out.txt")
    assert (work / "out.txt").read_text() == "done\n"
    assert mark.read_text() == "begun\n" * 2
    assert not (work / "out.txt.FUTURE").exists()


def test_a_stale_future_in_a_directory_is_submitted_again(
    cli: Cli, work: Path, slow: tuple[str, Path, Path]
) -> None:
    line, mark, go = slow
    process = cli.start("seamless-run", "-cp", ":set/b.txt", line)
    wait_for(mark.exists)
    kill_all(cli, process)
    go.touch()
    assert cli("seamless-run", "-q", "ls", "set").text == "b.txt\n"
    assert not (work / "set" / "b.txt.FUTURE").exists()
    assert cli("seamless-run", "cat", "set/b.txt").text == "done\n"


def test_a_stale_future_whose_job_fails(cli: Cli, work: Path, slow: tuple[str, Path, Path]) -> None:
    line, mark, go = slow
    process = cli.start("seamless-run", "-cp", ":out.txt", f"{line}; echo why >&2; exit 3")
    wait_for(mark.exists)
    kill_all(cli, process)
    go.touch()
    (work / "a.txt").write_text("other\n")
    cli("seamless-upload", "--move", "a.txt")
    done = cli("seamless-download", "out.txt", "a.txt", status=1)
    assert "why\n" in done.stderr
    assert "out.txt failed" in done.stderr
    assert (work / "a.txt").exists()


def test_a_future_goes_before_an_older_result_and_replaces_it(
    cli: Cli, work: Path, slow: tuple[str, Path, Path]
) -> None:
    line, mark, go = slow
    cli("seamless-run", "-cp", ":out.txt", "echo old")
    process = cli.start("seamless-run", "-cp", ":out.txt", line)
    wait_for(mark.exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    go.touch()
    assert cli("seamless-run", "cat", "out.txt").text == "done\n"
    cli("seamless-download", "out.txt")
    assert (work / "out.txt").read_text() == "done\n"


def test_a_known_result_takes_the_place_of_an_older_future(
    cli: Cli, work: Path, slow: tuple[str, Path, Path]
) -> None:
    line, mark, go = slow
    cli("seamless-run", "echo known")
    process = cli.start("seamless-run", "-cp", ":out.txt", line)
    wait_for(mark.exists)
    kill_all(cli, process)
    cli("seamless-run", "-cp", ":out.txt", "echo known")
    go.touch()
    assert cli("seamless-run", "cat", "out.txt").text == "known\n"
    assert mark.read_text() == "begun\n"


def test_a_failed_run_leaves_no_directory_that_it_made(cli: Cli, work: Path) -> None:
    (work / "mine").mkdir()
    cli("seamless-run", "-c", "false", "--capture", "new/deep/a", "--capture", "mine/b", status=1)
    assert [path.name for path in work.iterdir()] == ["mine"]
