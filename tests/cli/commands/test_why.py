"""``seamless-why`` and ``seamless-run --explain``: known, or what is another one than it was."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from hashserver.checksum import hash_bytes
from hashserver.workspace.sidecar import Future, write_future

if TYPE_CHECKING:
    from pathlib import Path

    from ..conftest import Cli


def differences(cli: Cli, *line: str) -> list[str]:
    found = json.loads(cli("seamless-why", "--json", *line).stdout)
    return [one["text"] for one in found["nearest"]["differences"]]


@pytest.fixture
def run(cli: Cli, work: Path) -> Cli:
    (work / "a.txt").write_text("b\na\n")
    (work / "set").mkdir()
    for name in ("x", "y", "z"):
        (work / "set" / f"{name}.csv").write_text(name)
    cli("seamless-run", "-nd", "--var", "X=1", "sort -k1 a.txt set/*.csv > out.txt", "--input", "set")
    return cli


LINE = ("--var", "X=1", "sort -k1 a.txt set/*.csv > out.txt", "--input", "set")


def test_what_is_known(run: Cli) -> None:
    assert run("seamless-why", *LINE).text.startswith("known since 2")
    assert run("seamless-run", "--explain", *LINE).text == run("seamless", "why", *LINE).text


def test_a_member_of_a_directory_differs(run: Cli, work: Path) -> None:
    (work / "set" / "y.csv").write_text("other")
    assert differences(run, *LINE) == ["set/y.csv differs"]
    assert run("seamless-why", *LINE).text.endswith(", but set/y.csv differs\n")
    (work / "set" / "z.csv").rename(work / "set" / "w.csv")
    assert differences(run, *LINE) == ["set/w.csv is new", "set/y.csv differs", "set/z.csv is gone"]


def test_a_variable_a_flag_and_a_file_differ(run: Cli, work: Path) -> None:
    (work / "a.txt").write_text("c\n")
    line = ("--var", "X=2", "sort -k2 a.txt set/*.csv > out.txt", "--input", "set")
    assert differences(run, *line) == ["it says '-k2', not '-k1'", "a.txt differs", "variable X=2, it was 1"]


def test_nothing_is_run_stored_or_recorded(run: Cli, work: Path, home: Path, store: Path) -> None:
    (work / "a.txt").write_text("never seen before\n")
    before = sorted(store.rglob("*")), (home / "cache" / "seamless.db").read_bytes()
    run("seamless-why", *LINE)
    assert (sorted(store.rglob("*")), (home / "cache" / "seamless.db").read_bytes()) == before
    assert not (work / "out.txt").exists()


def test_bytes_that_are_gone_are_told(run: Cli, work: Path, store: Path) -> None:
    checksum = (work / "out.txt.CHECKSUM").read_text().strip()
    (store / checksum[:2] / checksum).unlink()
    assert "its bytes are in no store" in run("seamless-why", *LINE).text


def test_a_result_that_was_withdrawn(run: Cli) -> None:
    run("seamless-run", "--undo", *LINE)
    assert "was withdrawn" in run("seamless-why", *LINE).text


def test_a_failure(cli: Cli) -> None:
    cli("seamless-run", "echo oh >&2; exit 3", status=3)
    assert "it failed when it ran" in cli("seamless-why", "echo oh >&2; exit 3").text


def test_documents_that_are_gone_are_told(run: Cli, work: Path, store: Path) -> None:
    shutil.rmtree(store)
    (work / "a.txt").write_text("other")
    assert "whose document is in no store" in run("seamless-why", *LINE).text


def test_without_any_record_it_is_one_line(cli: Cli) -> None:
    assert cli("seamless-why", "echo a").text.count("\n") == 1
    assert cli("seamless-why").text == "no run is on record\n"


def test_without_a_line_the_last_run_is_explained(run: Cli, work: Path) -> None:
    (work / "set" / "y.csv").write_text("other")
    run("seamless-run", "-nd", *LINE)
    shown = run("seamless-why").text.splitlines()
    assert "sort -k1 a.txt" in shown[0]
    assert shown[1].endswith(", but set/y.csv differs")


def test_a_job_that_makes_an_input_is_not_waited_for(run: Cli, work: Path) -> None:
    write_future(work / "a.txt", Future(hash_bytes(b"job"), None, None, os.uname().nodename, 1))
    assert differences(run, *LINE) == ["a.txt is still to be made by a job"]
    (work / "set" / "y.csv").unlink()
    (work / "a.txt.FUTURE").rename(work / "set" / "y.csv.FUTURE")
    assert "set/y.csv is still to be made" in run("seamless-why", *LINE, status=1).error


def test_an_environment_that_differs_is_told(run: Cli, work: Path) -> None:
    assert "the known result was computed with" in run("seamless-why", "--prologue", "A=1", *LINE).text
    assert "it would run" in run("seamless-why", "--same-environment", "--prologue", "A=1", *LINE).text
    (work / "a.txt").write_text("other")
    shown = run("seamless-why", "--prologue", "A=1", *LINE).text.splitlines()
    assert shown[1:] == [
        "  a.txt differs",
        "  the environment, which does not count: prologue is A=1, it was not named",
    ]


def test_through_a_hashserver_and_with_further_databases(cli: Cli, work: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.db"
    cli("seamless-run", "echo theirs > c.txt", SEAMLESS_DATABASE=str(theirs))
    cli("seamless-init")
    try:
        shown = cli("seamless-log", "c.txt", SEAMLESS_DATABASES=str(theirs)).text
        assert f"known from      {theirs}" in shown
        (work / "a.txt").write_text("1")
        cli("seamless-run", "cat a.txt > b.txt")
        (work / "a.txt").write_text("2")
        assert differences(cli, "cat a.txt > b.txt") == ["a.txt differs"]
        assert "cat a.txt > b.txt" in cli("seamless-log").text
        assert "cat a.txt > b.txt" in cli("seamless-log", "b.txt").text
    finally:
        cli("seamless-init", "--stop")


def test_imports_as_little_as_a_cached_run(run: Cli) -> None:
    loaded = run.modules("seamless-why", *LINE)
    assert not loaded & {"dask", "aiohttp", "fsspec", "click", "pathlib", "subprocess", "logging"}
