"""The queue at work: real queues, and real shells that submit to them."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

from ..conftest import SLOW, ended, files, finish, project, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from seamless_dask.jobs.queue import QueueStore

    from .conftest import Cli, StartQueue, Submit


# -------------------------------------------------- submitting


def test_without_a_queue_it_says_how_to_start_one(cli: Cli, work: Path, store: Path, submit: Submit) -> None:
    assert "no queue is running: start one by seamless-queue" in submit("echo 1 > a.txt", status=1).error
    assert files(work) == set()
    assert not store.exists()


def test_standard_output_has_nowhere_to_go(
    submit: Submit, queue: StartQueue, queue_store: QueueStore
) -> None:
    queue()
    error = submit("echo 1", status=2).error
    assert "--capture :FILE" in error
    assert "-nd" in error
    assert queue_store.ids() == []


def test_standard_output_that_is_only_kept(cli: Cli, submit: Submit, queue: StartQueue) -> None:
    queue()
    submit("echo 1", "-nd")
    finish(cli)
    assert cli("seamless-run", "-v", "echo 1").stderr.count("was known") == 1


def test_a_known_result_is_delivered_at_once(cli: Cli, work: Path, submit: Submit) -> None:
    cli("seamless-run", "echo 1 > a.txt")
    (work / "a.txt").unlink()
    submit("echo 1 > a.txt")
    assert (work / "a.txt").read_text() == "1\n"


def test_what_excludes_it(submit: Submit) -> None:
    for option in ("--undo", "-d"):
        assert "exclude each other" in submit(option, "echo 1 > a.txt", status=2).error


def test_facts(cli: Cli, submit: Submit, queue: StartQueue) -> None:
    queue()
    facts = json.loads(submit("--json", "echo 1 > a.txt").text)
    assert facts["submitted"] is True
    assert len(facts["key"]) == 64
    finish(cli)


# -------------------------------------------------- running


def test_as_many_run_at_a_time_as_it_has_workers_whatever_the_processors(
    cli: Cli, work: Path, tmp_path: Path, one_processor: None, submit: Submit, queue: StartQueue
) -> None:
    project(work, 'isolation = "none"\n')
    queue(workers=2)
    marks, go = [tmp_path / "first", tmp_path / "second"], tmp_path / "go"
    for number, mark in enumerate(marks):
        submit(SLOW.format(mark=mark, go=go), "--capture", f":{number}.txt")
    wait_for(lambda: all(mark.exists() for mark in marks))
    go.touch()
    finish(cli)
    assert (work / "0.txt").read_text() == (work / "1.txt").read_text() == "done\n"


def test_it_runs_and_is_delivered(
    cli: Cli, work: Path, slow: tuple[str, Path, Path], submit: Submit, queue: StartQueue
) -> None:
    command, mark, go = slow
    process = queue()
    folder = work / "sub"
    folder.mkdir()
    submit(command, "--capture", ":out.txt", cwd=folder)
    wait_for(mark.exists)
    assert files(folder) == {"out.txt.FUTURE"}
    go.touch()
    finish(cli)
    assert files(folder) == {"out.txt", "out.txt.CHECKSUM"}
    assert (folder / "out.txt").read_text() == "done\n"
    status, _, err = ended(process)
    assert status == 0
    assert "1 done" in err


def test_bytes_stay_in_the_store_with_nd(cli: Cli, work: Path, submit: Submit, queue: StartQueue) -> None:
    queue()
    submit("echo 1 > a.txt", "-nd")
    finish(cli)
    assert files(work) == {"a.txt.CHECKSUM"}
    cli("seamless-download", "a.txt")
    assert (work / "a.txt").read_text() == "1\n"


def test_as_many_at_a_time_as_it_has_workers(
    cli: Cli, slow: tuple[str, Path, Path], tmp_path: Path, submit: Submit, queue: StartQueue
) -> None:
    command, _, go = slow
    log = tmp_path / "log"
    log.touch()
    queue(2)
    for number in range(5):
        submit(f"echo + >> {log}; {command}; echo - >> {log}; echo {number}", "-nd")
    wait_for(lambda: log.read_text().count("+") == 2)
    go.touch()
    finish(cli)
    running = [0]
    for sign in log.read_text().split():
        running.append(running[-1] + (1 if sign == "+" else -1))
    assert (max(running), len(running)) == (2, 11)


def test_shells_submit_at_the_same_time(cli: Cli, work: Path, queue: StartQueue) -> None:
    queue(2)
    loop = f'for i in 1 2 3 4 5; do {cli.path("seamless-run")} --qsubmit -c "echo $0-$i > $0-$i.txt"; done'
    shells = [subprocess.Popen(["bash", "-ec", loop, name], cwd=work) for name in "abcd"]
    assert [shell.wait(60) for shell in shells] == [0] * 4
    finish(cli)
    names = [f"{name}-{number}" for name in "abcd" for number in range(1, 6)]
    assert {name: (work / f"{name}.txt").read_text() for name in names} == {
        name: f"{name}\n" for name in names
    }


def test_the_environment_of_the_shell_counts(
    cli: Cli, work: Path, tmp_path: Path, submit: Submit, queue: StartQueue
) -> None:
    tool = tmp_path / "bin" / "my-tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho of this shell\n")
    tool.chmod(0o755)
    queue()
    submit("my-tool > a.txt", PATH=f"{tool.parent}:{os.environ['PATH']}")
    finish(cli)
    assert (work / "a.txt").read_text() == "of this shell\n"


def test_no_secret_of_the_shell_is_written_down(
    cli: Cli, slow: tuple[str, Path, Path], submit: Submit, queue: StartQueue, queue_store: QueueStore
) -> None:
    command, _, go = slow
    queue()
    submit(command, "-nd", SECRET_TOKEN="hush", SLURM_JWT="hush")
    assert "hush" not in str(queue_store.read(queue_store.ids()[0]))
    assert os.stat(queue_store.path).st_mode & 0o777 == 0o700
    go.touch()
    finish(cli)


def test_what_is_the_users_own_is_not_replaced(
    cli: Cli, work: Path, slow: tuple[str, Path, Path], submit: Submit, queue: StartQueue
) -> None:
    command, mark, go = slow
    queue()
    submit(command, "--capture", ":out.txt")
    wait_for(mark.exists)
    (work / "out.txt").write_text("mine")
    go.touch()
    assert "--overwrite" in finish(cli, status=1).error
    assert (work / "out.txt").read_text() == "mine"


def test_more_is_shown_in_the_log_while_it_runs(
    cli: Cli, slow: tuple[str, Path, Path], submit: Submit, queue: StartQueue, queue_store: QueueStore
) -> None:
    command, _, go = slow
    queue()
    submit("--direct-print", f"echo here >&2; {command}", "-nd")
    log = queue_store.log(queue_store.ids()[0])
    wait_for(lambda: os.path.exists(log) and os.path.getsize(log))
    with open(log) as file:
        assert file.read() == "here\n"
    go.touch()
    finish(cli)


# -------------------------------------------------- dependencies


def test_a_pipeline_with_one_worker(cli: Cli, work: Path, submit: Submit, queue: StartQueue) -> None:
    queue(1)
    submit("echo b > a.txt; echo a >> a.txt")
    submit("sort a.txt > b.txt")
    submit("tr a-z A-Z < b.txt > c.txt")
    finish(cli)
    assert (work / "c.txt").read_text() == "A\nB\n"


def test_what_is_needed_goes_first_whatever_the_priority(
    cli: Cli, work: Path, slow: tuple[str, Path, Path], submit: Submit, queue: StartQueue
) -> None:
    command, mark, go = slow
    log = work.parent / "log"
    queue(1)
    submit(command, "-nd")
    wait_for(mark.exists)
    submit(f"echo a >> {log}; echo a > a.txt")
    submit("--priority", "5", f"echo b >> {log}; cat a.txt > b.txt")
    submit("--priority", "3", f"echo c >> {log}; echo c > c.txt")
    go.touch()
    finish(cli)
    assert log.read_text().split() == ["c", "a", "b"]
    assert (work / "b.txt").read_text() == "a\n"


def test_what_needs_a_failed_result_is_not_run(
    cli: Cli, work: Path, tmp_path: Path, slow: tuple[str, Path, Path], submit: Submit, queue: StartQueue
) -> None:
    command, _, go = slow
    count = tmp_path / "count"
    queue(2)
    submit(f"{command}; echo x >> {count}; echo 1 > a.txt; exit 3", "--capture", "a.txt")
    for number in (1, 2):
        submit(f"cat a.txt > b{number}.txt")
    submit("cat b1.txt > c.txt")
    go.touch()
    lines = finish(cli, status=1).stderr.splitlines()
    assert len(lines) == 4
    assert sum("needs the result of" in line and "exit status 3" in line for line in lines) == 3
    assert count.read_text() == "x\n"
    assert files(work) == {"seamless.toml"}


def test_options_of_what_is_needed_are_kept(
    cli: Cli, work: Path, slow: tuple[str, Path, Path], submit: Submit, queue: StartQueue
) -> None:
    command, mark, go = slow
    process = queue(1)
    submit(command, "-nd")
    wait_for(mark.exists)
    submit("--prologue", "x=given", "--metavar", "Y=too", 'echo "$x $Y" > a.txt')
    submit("cat a.txt > b.txt")
    process.kill()
    process.wait()
    # nobody has run the first step: the second is asked for by a shell, the first by its future
    assert cli("seamless-run", "cat b.txt").text == "given too\n"
    cli("seamless-download", "a.txt")
    assert (work / "a.txt").read_text() == "given too\n"
    go.touch()
    queue(1)
    finish(cli)
