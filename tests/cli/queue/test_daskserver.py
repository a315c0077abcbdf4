"""The queue in front of a daskserver."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ..conftest import finish, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Cli, StartQueue, Submit


@pytest.fixture
def daskserver(cli: Cli) -> Iterator[dict[str, str]]:
    """What makes commands use a daskserver with one worker."""
    started = cli("seamless-daskserver", "start", "--workers", "1", "--json")
    yield {"SEAMLESS_DASKSERVER": json.loads(started.text)["connection"]}
    cli("seamless-daskserver", "stop")


def test_entries_go_to_the_daskserver_of_their_shell(
    cli: Cli, work: Path, daskserver: dict[str, str], submit: Submit, queue: StartQueue
) -> None:
    queue(4)
    for number in range(3):
        submit(f"echo {number} > {number}.txt", **daskserver)
    submit("cat 0.txt 1.txt 2.txt > all.txt", **daskserver)
    submit("exit 3", "-nd", **daskserver)
    assert "exit status 3 (worker " in finish(cli, status=1).error
    assert (work / "all.txt").read_text() == "0\n1\n2\n"


def test_a_killed_queue_loses_nothing_that_runs_there(
    cli: Cli,
    work: Path,
    daskserver: dict[str, str],
    slow: tuple[str, Path, Path],
    submit: Submit,
    queue: StartQueue,
) -> None:
    command, mark, go = slow
    process = queue(2)
    submit(command, "--capture", ":a.txt", **daskserver)
    submit("cat a.txt > b.txt", **daskserver)
    wait_for(mark.exists)
    process.kill()
    process.wait()
    queue(2)
    go.touch()
    finish(cli)
    assert mark.read_text() == "begun\n"
    assert (work / "b.txt").read_text() == "done\n"
