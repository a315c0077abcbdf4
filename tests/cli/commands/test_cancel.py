"""Cancelling what runs on this host; by way of a daskserver it is tested with the jobserver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from hashserver.checksum import Checksum
from hashserver.workspace.pending import Future, write_future

from ..conftest import ended, wait_for

if TYPE_CHECKING:
    from .conftest import Cli

Slow = tuple[str, Path, Path]


def test_by_key(cli: Cli, slow: Slow) -> None:
    command, mark, _ = slow
    process = cli.start("seamless-run", command)
    wait_for(mark.exists)
    (job,) = json.loads(cli("seamless-status", "--json").stdout)["jobs"]
    facts = json.loads(cli("seamless", "cancel", "--json", job["key"]).stdout)
    assert facts == [{"key": job["key"], "cancelled": True}]
    assert ended(process)[0] == 130
    assert json.loads(cli("seamless-status", "--json").stdout)["jobs"] == []


def test_by_the_path_that_is_made(cli: Cli, slow: Slow, work: Path) -> None:
    command, mark, _ = slow
    cli("seamless-run", "-d", f"({command}) > out.txt")
    wait_for(mark.exists)
    assert cli("seamless-cancel", "out.txt").error == "out.txt is cancelled"
    wait_for(lambda: json.loads(cli("seamless-status", "--json").stdout)["jobs"] == [])
    assert list(work.glob("out.txt*")) == []


def test_what_is_over_cannot_be_cancelled(cli: Cli, work: Path) -> None:
    key = json.loads(cli("seamless-run", "--json", "-nd", "echo hi > out.txt").stdout)["key"]
    assert "is not under way" in cli("seamless-cancel", key, status=1).error
    assert (work / "out.txt.CHECKSUM").exists()


def test_what_is_no_job(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("mine")
    assert "neither a checksum" in cli("seamless-cancel", "a.txt", status=1).error


def test_what_another_host_makes_by_itself(cli: Cli, work: Path) -> None:
    write_future(work / "a.txt", Future(Checksum("0" * 64), None, None, "elsewhere", 1))
    assert (
        "a.txt is made on elsewhere: run seamless-cancel there"
        in cli("seamless-cancel", "a.txt", status=1).error
    )
    assert (work / "a.txt.FUTURE").exists()
