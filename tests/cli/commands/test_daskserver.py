from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ..conftest import Cli, Done, ended, wait_for


class Daskserver:
    """What a person types, as ``seamless daskserver``."""

    def __init__(self, cli: Cli) -> None:
        self.cli = cli

    def __call__(self, *words: str, status: int = 0) -> Done:
        return self.cli("seamless", "daskserver", *words, status=status)

    def start(self, *words: str) -> str:
        """Start it; return the path of its connection file."""
        path: str = json.loads(self("start", "--workers", "0:1", "--json", *words).text)["connection"]
        return path


@pytest.fixture
def daskserver(cli: Cli) -> Iterator[Daskserver]:
    server = Daskserver(cli)
    yield server
    server("stop")


def kill(pid: int) -> None:
    process = psutil.Process(pid)
    process.kill()
    wait_for(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


def running(words: list[str]) -> list[psutil.Process]:
    """Processes of a user's command."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] == words:
            found.append(process)
    return found


def test_start_says_what_to_type_next(daskserver: Daskserver, cli: Cli, work: Path) -> None:
    said = daskserver("start", "--workers", "0:1").text.splitlines()
    (path,) = [line.partition("=")[2] for line in said if line.startswith("export SEAMLESS_DASKSERVER=")]
    (work / "a.txt").write_text("hello\n")
    where = {"SEAMLESS_DASKSERVER": path}
    first = cli("seamless-run", "cat a.txt; date +%N", **where).text
    assert first.startswith("hello\n")
    assert cli("seamless-run", "cat a.txt; date +%N", **where).text == first
    assert "seamless-daskserver stop" in "\n".join(said)


def test_status(daskserver: Daskserver) -> None:
    assert "no daskserver is running: seamless-daskserver start" in daskserver("status", status=1).text
    daskserver.start()
    shown = daskserver("status").text
    assert "0 connected (local, 0 to 1)" in shown
    facts = json.loads(daskserver("status", "--json").text)
    assert (facts["running"], facts["problems"]) == (True, [])
    assert psutil.pid_exists(facts["hashserver"]["pid"])
    assert not [
        word for word in Path(facts_token(facts)).read_text().split() if len(word) > 20 and word in shown
    ]


def facts_token(facts: dict[str, object]) -> str:
    return os.path.join(os.environ["SEAMLESS_CACHE"], "daskserver", str(facts["name"]), "token")


def test_logs_and_the_name_of_a_second_one(daskserver: Daskserver, home: Path) -> None:
    assert "seamless-daskserver start" in daskserver("logs", "--name", "other", status=1).error
    path = daskserver.start("--name", "other")
    assert path == str(home / "cache" / "daskserver" / "other" / "connection.json")
    assert "ready: " in daskserver("logs", "--name", "other").text
    assert "listening on https://" in daskserver("--name", "other", "logs", "--part", "hashserver").text
    assert len(daskserver("logs", "--name", "other", "-n", "1").text.splitlines()) == 1
    assert "no daskserver is running" in daskserver("stop").stderr
    daskserver("stop", "--name", "other")
    assert not os.path.exists(path)


def test_in_the_foreground_ctrl_c_stops_it(cli: Cli, home: Path) -> None:
    process = cli.start("seamless", "daskserver", "start", "--foreground")
    wait_for((home / "cache" / "daskserver" / "default" / "connection.json").exists)
    os.kill(process.pid, signal.SIGINT)
    status, _, log = ended(process)
    assert status == 0
    assert "told to stop" in log
    assert not (home / "cache" / "daskserver" / "default" / "connection.json").exists()


def test_a_start_needs_no_connection_file_that_the_environment_names(
    daskserver: Daskserver, cli: Cli, home: Path
) -> None:
    path = str(home / "cache" / "daskserver" / "default" / "connection.json")
    cli("seamless", "daskserver", "start", SEAMLESS_DASKSERVER=path)
    assert cli("seamless-run", "echo hello", SEAMLESS_DASKSERVER=path).text == "hello\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["start", "--workers", "3:1"], "3:1"),
        (["start", "--workers", "0"], "'0'"),
        (["start", "--port", "99999"], "99999"),
        (["start", "--resource", "GPU"], "NAME=NUMBER"),
        (["start", "--cluster", "cloud"], "cloud"),
        (["start", "--in-job"], "--cluster slurm"),
        (["start", "--in-job", "--cluster", "slurm", "--host", "127.0.0.1"], "--interface"),
        (["start", "--in-job", "--cluster", "slurm", "--foreground"], "runs elsewhere"),
        (["start", "--in-job", "--cluster", "slurm", "--insecure"], "other hosts reach it"),
        (["start", "--job-queue", "long"], "for --in-job"),
        (["--daskserver", "x", "status"], "--name"),
        ([], "ACTION"),
        (["sleep"], "sleep"),
    ],
)
def test_a_line_that_makes_no_sense(cli: Cli, words: list[str], said: str) -> None:
    assert said in cli("seamless", "daskserver", *words, status=2).error


def test_a_waiting_command_survives_the_death_of_the_daskserver(daskserver: Daskserver, cli: Cli) -> None:
    path = daskserver.start()
    command = ["sleep", f"86399.{os.getpid()}"]
    client = cli.start("seamless-run", *command, SEAMLESS_DASKSERVER=path)
    wait_for(lambda: running(command))
    kill(json.loads(Path(path).read_text())["pid"])
    wait_for(lambda: not running(command))
    assert "start carries on" in daskserver("status", status=1).text
    daskserver.start()
    wait_for(lambda: running(command))
    os.kill(client.pid, signal.SIGINT)
    assert ended(client)[0] == 130
    wait_for(lambda: not running(command))
