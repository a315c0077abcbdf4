from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from ..conftest import ended, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Cli


def test_a_password_in_a_url_is_not_shown(cli: Cli) -> None:
    done = cli("seamless-status", "--json", "--store", "sftp://me:hush@127.0.0.1:9/store", status=1)
    assert "sftp://me@127.0.0.1:9/store" in done.text
    assert "hush" not in done.text + done.stderr


def test_shows_what_is_in_force(cli: Cli, home: Path, work: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    cli("seamless-run", "cat", "a.txt")
    shown = cli("seamless-status").text
    assert str(home / "cache") in shown
    assert "1 result" in shown
    assert "running     nothing" in shown


def test_json(cli: Cli, home: Path) -> None:
    facts = json.loads(cli("seamless", "status", "--json").stdout)
    assert facts["configuration"]["cache"] == str(home / "cache")
    assert facts["stores"][0]["buffers"] == 0
    assert facts["problems"] == []


def test_a_server_that_does_not_answer_is_a_problem(cli: Cli) -> None:
    done = cli("seamless-status", "--hashserver", "http://127.0.0.1:9", status=1)
    assert "cannot be reached" in done.text
    assert "problem " in done.text


def test_a_damaged_database_is_a_problem(cli: Cli, home: Path) -> None:
    (home / "cache").mkdir(mode=0o700)
    (home / "cache" / "seamless.db").write_bytes(os.urandom(8192))
    done = cli("seamless-status", status=1)
    assert "cannot be used" in done.text
    assert done.stderr == ""


def test_export_makes_a_database_that_works_elsewhere(cli: Cli, work: Path, tmp_path: Path) -> None:
    text = "date +%N > out"
    cli("seamless-run", "-nd", text)
    checksum = (work / "out.CHECKSUM").read_text()
    cli("seamless-status", "--export-db", "copy.db")
    (work / "out.CHECKSUM").unlink()
    elsewhere = {"SEAMLESS_CACHE": str(tmp_path / "other"), "SEAMLESS_DATABASES": str(work / "copy.db")}
    cli("seamless-run", "-nd", text, **elsewhere)
    assert (work / "out.CHECKSUM").read_text() == checksum


def test_an_export_replaces_earlier_ones_and_nothing_else(cli: Cli, work: Path) -> None:
    cli("seamless-run", "echo known")
    cli("seamless-status", "--export-db", "copy.db")
    cli("seamless-status", "--export-db", "copy.db")
    (work / "thesis.txt").write_text("mine")
    (work / "link.txt").symlink_to("thesis.txt")
    os.mkfifo(work / "pipe")
    for name in ("thesis.txt", "link.txt"):
        told = cli("seamless-status", "--export-db", name, status=1).error
        assert told == f"{name} is there already, and is no result database: name another file"
    assert cli("seamless-status", "--export-db", "pipe", status=1).error == "pipe: Not a regular file"
    assert (work / "thesis.txt").read_text() == "mine"


def test_an_export_that_cannot_be_written(cli: Cli) -> None:
    assert "nowhere" in cli("seamless-status", "--export-db", "nowhere/copy.db", status=1).error


def test_tells_what_waits_for_a_processor(
    cli: Cli, slow: tuple[str, Path, Path], one_processor: None
) -> None:
    command, mark, go = slow
    first = cli.start("seamless-run", command)
    wait_for(mark.exists)
    second = cli.start("seamless-run", "echo 2")

    def states() -> list[str]:
        return sorted(job["state"] for job in json.loads(cli("seamless-status", "--json").stdout)["jobs"])

    wait_for(lambda: states() == ["queued", "running"])
    go.touch()
    assert [ended(process)[0] for process in (first, second)] == [0, 0]
