"""What fails in the queue, and how queues end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

from ..conftest import ended, files, finish, project, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from seamless_dask.jobs.queue import QueueStore

    from .conftest import Cli, StartQueue, Submit


# -------------------------------------------------- failures


def test_failures_are_kept_and_reported_once(
    cli: Cli, work: Path, submit: Submit, queue: StartQueue, queue_store: QueueStore
) -> None:
    process = queue()
    submit("echo oops >&2; exit 3", "--capture", "a.txt")
    submit("echo 1 > b.txt")
    done = cli("seamless-queue-finish", "--json", status=1)
    (failure,) = json.loads(done.text)["failures"]
    assert failure["exit_status"] == 3
    with open(failure["log"]) as log:
        assert "oops\n" in log.read()
    assert failure["log"] in done.stderr
    assert files(work) == {"b.txt", "b.txt.CHECKSUM"}
    assert "failed: echo oops >&2; exit 3: the command failed" in ended(process)[2]
    assert queue_store.failures() == []
    assert "no queue is running" in finish(cli, status=1).error


def test_a_failure_that_is_made_good_is_none(
    cli: Cli, work: Path, tmp_path: Path, submit: Submit, queue: StartQueue, queue_store: QueueStore
) -> None:
    project(work, 'isolation = "none"\n')
    there = tmp_path / "there"
    queue()
    command = ("--metavar", f"FILE={there}", "cat $FILE > a.txt")
    submit(*command)
    wait_for(queue_store.failures)
    there.write_text("now")
    submit(*command)
    finish(cli)
    assert (work / "a.txt").read_text() == "now"


def test_failures_outlive_the_queue(
    cli: Cli, submit: Submit, queue: StartQueue, queue_store: QueueStore
) -> None:
    process = queue()
    submit("exit 3", "-nd")
    wait_for(queue_store.failures)
    process.kill()
    process.wait()
    queue()
    assert "exit 3" in finish(cli, status=1).error


def test_a_directory_that_is_gone(
    cli: Cli, work: Path, slow: tuple[str, Path, Path], submit: Submit, queue: StartQueue
) -> None:
    command, _, go = slow
    folder = work / "sub"
    folder.mkdir()
    queue()
    submit(command, "-nd")
    submit("echo 1", "-nd", cwd=folder)
    folder.rmdir()
    go.touch()
    assert f"cannot work in {folder}" in finish(cli, status=1).error


def test_an_entry_of_another_version(cli: Cli, queue: StartQueue, queue_store: QueueStore) -> None:
    queue()
    with open(os.path.join(queue_store.path, "entries", "1.json"), "w") as file:
        file.write('["not", "ours"]')
    assert "another version" in finish(cli, status=1).error


# -------------------------------------------------- ends


def test_two_queues(queue: StartQueue, queue_store: QueueStore) -> None:
    first, second = queue(), queue()
    status, _, err = ended(second)
    assert status == 1
    assert f"a queue is running already (process {first.pid}" in err
    assert (queue_store.queue() or {})["pid"] == first.pid


def test_a_queue_whose_files_are_removed_ends(
    queue: StartQueue, submit: Submit, queue_store: QueueStore
) -> None:
    process = queue()
    submit("true", "-nd")
    wait_for(lambda: not queue_store.ids())
    shutil.rmtree(queue_store.path)
    status, _, err = ended(process)
    assert status == 1
    assert f"{queue_store.path} was removed" in err


def test_detached(cli: Cli, work: Path, submit: Submit, queue_store: QueueStore) -> None:
    facts = json.loads(cli("seamless-queue", "--workers", "1", "-d", "--json").text)
    assert (queue_store.queue() or {})["pid"] == facts["pid"]
    assert "running already" in cli("seamless-queue", "-d", status=1).error
    submit("echo 1 > a.txt")
    finish(cli)
    assert (work / "a.txt").read_text() == "1\n"
    assert queue_store.queue() is None


def test_killed_queue_is_carried_on(
    cli: Cli,
    work: Path,
    slow: tuple[str, Path, Path],
    submit: Submit,
    queue: StartQueue,
    queue_store: QueueStore,
) -> None:
    command, mark, go = slow
    process = queue()
    submit(command, "--capture", ":a.txt")
    submit("cat a.txt > b.txt")
    wait_for(mark.exists)
    children = _children(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: not any(map(_alive, children)))
    assert "2 submitted before still wait" in submit("echo 1 > c.txt", status=1).error
    assert "2 commands left" in finish(cli, status=1).error
    queue()
    go.touch()
    finish(cli)
    assert (work / "b.txt").read_text() == "done\n"
    assert mark.read_text() == "begun\n", "what ran was not run again"


def test_killed_child_of_the_queue(
    cli: Cli, work: Path, slow: tuple[str, Path, Path], submit: Submit, queue: StartQueue
) -> None:
    command, mark, go = slow
    process = queue()
    submit(command, "--capture", ":a.txt")
    wait_for(mark.exists)
    (child,) = _children(process.pid)
    os.kill(child, signal.SIGKILL)
    go.touch()
    finish(cli)
    assert (work / "a.txt").read_text() == "done\n"


def test_ctrl_c_cancels_what_runs_and_keeps_the_queue(
    cli: Cli, work: Path, slow: tuple[str, Path, Path], submit: Submit, queue: StartQueue
) -> None:
    command, mark, go = slow
    process = queue()
    submit(command, "--capture", ":a.txt")
    submit("echo 1 > b.txt")
    wait_for(mark.exists)
    process.send_signal(signal.SIGINT)
    status, _, err = ended(process)
    assert status == 130
    assert "2 commands left" in err
    assert {"a.txt.FUTURE", "b.txt.FUTURE"} <= files(work)
    go.touch()
    queue()
    finish(cli)
    assert mark.read_text() == "begun\nbegun\n"
    assert (work / "a.txt").read_text() == "done\n"


def test_sigterm_lets_what_runs_go_on(
    cli: Cli, work: Path, slow: tuple[str, Path, Path], submit: Submit, queue: StartQueue
) -> None:
    command, mark, go = slow
    process = queue()
    submit(command, "--capture", ":a.txt")
    wait_for(mark.exists)
    process.terminate()
    ended(process)
    go.touch()
    queue()
    finish(cli)
    assert mark.read_text() == "begun\n"
    assert (work / "a.txt").read_text() == "done\n"


def test_a_closed_terminal_is_no_reason_to_end(
    cli: Cli, work: Path, submit: Submit, queue: StartQueue
) -> None:
    process = queue()
    process.send_signal(signal.SIGHUP)
    submit("echo 1 > a.txt")
    finish(cli)
    assert (work / "a.txt").read_text() == "1\n"


def test_what_comes_while_the_queue_ends_is_done_or_refused(cli: Cli, work: Path, queue: StartQueue) -> None:
    queue(2)
    submit = f"{cli.path('seamless-run')} -q --qsubmit"
    loop = f'for i in 1 2 3; do {submit} -c "echo $0-$i > $0-$i.txt" && echo $0-$i; done; true'
    shells = [
        subprocess.Popen(
            ["bash", "-c", loop, name], cwd=work, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for name in "abcd"
    ]
    wait_for(lambda: files(work))
    finish(cli)
    accepted = [name for shell in shells for name in shell.communicate(timeout=60)[0].decode().split()]
    assert accepted
    assert files(work) == {f"{name}.txt{end}" for name in accepted for end in ("", ".CHECKSUM")}


def test_interrupted_finish_takes_nothing_with_it(
    cli: Cli, slow: tuple[str, Path, Path], submit: Submit, queue: StartQueue, queue_store: QueueStore
) -> None:
    command, mark, go = slow
    queue()
    submit(command, "-nd")
    wait_for(mark.exists)
    process = cli.start("seamless-queue-finish")
    wait_for(queue_store.finishing)
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 130
    go.touch()
    wait_for(lambda: not queue_store.ids())
    submit("echo 1", "-nd")
    finish(cli)


def test_a_cancelled_entry_does_not_run_and_nothing_that_needs_it(
    cli: Cli,
    slow: tuple[str, Path, Path],
    submit: Submit,
    queue: StartQueue,
    queue_store: QueueStore,
    tmp_path: Path,
) -> None:
    command, mark, go = slow
    queue()
    submit(command, "-nd")
    wait_for(mark.exists)
    submit(f"touch {tmp_path}/ran; echo 1 > a.txt")
    submit("cat a.txt > b.txt")
    cli("seamless-cancel", "a.txt")
    go.touch()
    lines = finish(cli, status=1).stderr.splitlines()
    assert [line.count("it was cancelled") for line in lines] == [1, 1]
    assert not (tmp_path / "ran").exists()


def test_a_running_entry_is_cancelled(
    cli: Cli, work: Path, slow: tuple[str, Path, Path], submit: Submit, queue: StartQueue
) -> None:
    command, mark, _ = slow
    queue()
    submit(command, "--capture", ":a.txt")
    wait_for(mark.exists)
    cli("seamless-cancel", "a.txt")
    assert "it was cancelled" in finish(cli, status=1).error
    assert files(work) == {"seamless.toml"}


def test_status(
    cli: Cli, slow: tuple[str, Path, Path], submit: Submit, queue: StartQueue, queue_store: QueueStore
) -> None:
    command, _, go = slow
    assert "queue" not in json.loads(cli("seamless-status", "--json").text)
    process = queue(3)
    submit("exit 3", "-nd")
    wait_for(queue_store.failures)
    submit(command, "-nd")
    facts = json.loads(cli("seamless-status", "--json").text)["queue"]
    assert (facts["running"]["pid"], facts["running"]["workers"]) == (process.pid, 3)
    assert (facts["entries"], facts["failed"]) == (1, 1)
    assert "queue       3 at a time; 1 left, 1 failed" in cli("seamless-status").text
    go.touch()
    finish(cli, status=1)


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
