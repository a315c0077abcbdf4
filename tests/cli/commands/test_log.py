"""``seamless-log``: what made it, from what, and how."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from hashserver.checksum import hash_bytes
from hashserver.results.database import Database
from hashserver.workspace.sidecar import Future, write_future

if TYPE_CHECKING:
    from pathlib import Path

    from ..conftest import Cli


def runs_of(cli: Cli, name: str | os.PathLike[str], **environment: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(cli("seamless-log", "--json", name, **environment).stdout)[
        "runs"
    ]
    return found


def test_a_run_is_told_by_path_sidecar_checksum_and_key(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("b\na\n")
    cli("seamless-run", "--var", "X=1", "echo careful >&2; sort a.txt > b.txt")
    shown = cli("seamless-log", "b.txt").text
    for part in (
        "echo careful >&2; sort a.txt > b.txt",
        "a.txt  file",
        "X=1",
        os.uname().nodename,
        "careful",
    ):
        assert part in shown
    (run,) = runs_of(cli, "b.txt")
    checksum = (work / "b.txt.CHECKSUM").read_text().strip()
    for name in ("b.txt.CHECKSUM", checksum, str(run["transformation"])):
        assert runs_of(cli, name) == [run]
    (work / "b.txt").unlink()
    assert runs_of(cli, "b.txt") == [run]


def test_a_file_that_has_changed_is_told_by_its_sidecar(cli: Cli, work: Path) -> None:
    cli("seamless-run", "echo a > b.txt")
    (work / "b.txt").write_text("other\n")
    done = cli("seamless-log", "b.txt")
    assert "echo a > b.txt" in done.text
    assert "has changed" in done.error


def test_members_of_directories_and_of_several_results_are_found(cli: Cli, work: Path) -> None:
    cli("seamless-run", "mkdir out; echo a > out/a.txt; echo b", "--capture", "out", "--capture", ":b.txt")
    shown = cli("seamless-log", "out/a.txt").text
    assert "out/a.txt in results" in shown
    assert runs_of(cli, "out/a.txt")[0]["within"] == "out/a.txt"
    assert runs_of(cli, "out")[0]["within"] == "out"
    assert runs_of(cli, "b.txt")[0]["within"] == "standard output"


def test_what_a_job_is_still_to_make(cli: Cli, work: Path) -> None:
    write_future(work / "a.txt", Future(hash_bytes(b"job"), None, None, os.uname().nodename, 1))
    for name in ("a.txt", "a.txt.FUTURE"):
        assert (
            f"is still to be made, by job {hash_bytes(b'job')}" in cli("seamless-log", name, status=1).error
        )


def test_what_no_run_made_is_an_error(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("mine")
    assert "no run on record made it" in cli("seamless-log", "a.txt", status=1).error
    assert "no such file" in cli("seamless-log", "b.txt", status=1).error


def test_all_producers_are_told_newest_first(cli: Cli, work: Path, home: Path) -> None:
    (work / "a.txt").write_text("same")
    with Database(home / "cache" / "seamless.db") as database:
        for number in range(10):
            record = {"started": f"2026-01-{(7 * number) % 10 + 10}T00:00:00Z", "label": f"make{number}"}
            database.put(hash_bytes(b"%d" % number), "file", hash_bytes(b"same"), record)
    found = [run["record"]["started"] for run in runs_of(cli, "a.txt")]  # type: ignore[index]
    assert len(found) == 10
    assert found == sorted(found, reverse=True)
    assert cli("seamless-log", "-n", "3", "a.txt").text.splitlines()[-1].startswith("… and more runs")


def test_failures_before_and_without_a_result_are_told(cli: Cli, work: Path, tmp_path: Path) -> None:
    line = f"test -e {tmp_path}/go && echo done"
    cli("seamless-run", "--metavar", "A=1", f"echo broken >&2; {line}", status=1)
    key = json.loads(cli("seamless-run", "--dry-run", "--json", f"echo broken >&2; {line}").stdout)["key"]
    (run,) = runs_of(cli, key)
    assert (run["state"], run["stderr"]) == ("failed", "broken\n")
    assert "failed" in cli("seamless-log").text


def test_nothing_in_a_record_moves_the_cursor(cli: Cli, work: Path, home: Path) -> None:
    (work / "a.txt").write_text("same")
    nasty = "\x1b]0;title\x07\nmade by  me"
    with Database(home / "cache" / "seamless.db") as database:
        record = {
            "started": nasty,
            "label": nasty,
            "host": nasty,
            "stderr": nasty,
            "environment": {"conda": nasty},
        }
        record |= {"programs": {nasty: {"path": nasty}}, "isolation": nasty, "wall": nasty}
        database.put(hash_bytes(b"tf"), "file", hash_bytes(b"same"), record)
    for words in (["a.txt"], []):
        shown = cli("seamless-log", *words).text
        assert "\x1b" not in shown
        assert "\x07" not in shown
        assert not [line for line in shown.splitlines() if line.startswith("made by")]


def test_says_which_further_database_knows(cli: Cli, work: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.db"
    cli("seamless-run", "echo a > b.txt", SEAMLESS_DATABASE=str(theirs))
    (run,) = runs_of(cli, "b.txt", SEAMLESS_DATABASES=str(theirs))
    assert run["source"] == str(theirs)
    assert f"known from      {theirs}" in cli("seamless-log", "b.txt", SEAMLESS_DATABASES=str(theirs)).text


def test_a_document_that_is_gone(cli: Cli, work: Path, store: Path) -> None:
    cli("seamless-run", "echo a > b.txt")
    (run,) = runs_of(cli, "b.txt")
    tf = str(run["transformation"])
    (store / tf[:2] / tf).unlink()
    assert "its document is in no store" in cli("seamless-log", "b.txt").text


@pytest.mark.parametrize("words", [["b.txt"], []])
def test_imports_as_little_as_a_cached_run(cli: Cli, work: Path, words: list[str]) -> None:
    cli("seamless-run", "echo a > b.txt")
    loaded = cli.modules("seamless-log", *words)
    assert not loaded & {"dask", "aiohttp", "fsspec", "click", "pathlib", "subprocess", "logging"}
