"""Command words that are files of the user's: what can be executed here can be there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from seamless_dask import File, bash
from seamless_dask.errors import ComputationFailed

from ..conftest import Cli

LARGE = "# padding\n" * 500_000


@pytest.fixture
def script(work: Path) -> Path:
    """A program of the user's without a ``#!`` line."""
    path = work / "n.sh"
    path.write_text("echo ran $1\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("isolation", ["auto", "none"])
@pytest.mark.parametrize("more", ["", LARGE], ids=["small", "large"])
def test_a_program_without_a_first_line(cli: Cli, script: Path, isolation: str, more: str) -> None:
    script.write_text(script.read_text() + more)
    line = ("seamless-run", "./n.sh", isolation)
    assert cli(*line, SEAMLESS_ISOLATION=isolation).text == f"ran {isolation}\n"


def test_in_python_it_is_said(script: Path) -> None:
    inputs = {"n.sh": File(script)}
    said = bash("./n.sh said", inputs, executables=["n.sh"])
    assert said.compute().read_text() == "ran said\n"
    with pytest.raises(ComputationFailed):
        bash("./n.sh not said", inputs).compute()


def test_that_it_can_be_executed_is_no_part_of_the_identity(cli: Cli, script: Path) -> None:
    def facts() -> dict[str, object]:
        found: dict[str, object] = json.loads(cli("seamless-run", "--json", "./n.sh x > out").text)
        return found

    first = facts()
    script.chmod(0o644)
    second = facts()
    assert (first["cached"], second["cached"]) == (False, True)
    assert first["key"] == second["key"]


def test_one_that_cannot_be_executed_here(cli: Cli, script: Path) -> None:
    script.chmod(0o644)
    assert "Permission denied" in cli("seamless-run", "./n.sh", status=126).stderr


@pytest.mark.parametrize(
    "line",
    [
        ("--input", "d", "-c", "d/n.sh x | cat"),
        ("-c", "for i in 1; do d/n.sh x; done"),
        ("-c", "d/n*.sh x"),
        ("-ms", "-c", "d/n.sh x"),
        ("-mx", "-c", "d/n.sh x"),
        ("-c", "cat d/n.sh > /dev/null; d/n.sh x"),
    ],
    ids=" ".join,
)
def test_wherever_it_stands(cli: Cli, script: Path, work: Path, line: tuple[str, ...]) -> None:
    (work / "d").mkdir()
    script.rename(work / "d" / "n.sh")
    assert cli("seamless-run", "-q", *line).text == "ran x\n"


def test_only_a_command_word(cli: Cli, script: Path) -> None:
    assert cli("seamless-run", "-c", "test -x n.sh && echo yes || echo no").text == "no\n"


def test_a_job_to_be_run_by_hand(cli: Cli, script: Path, work: Path) -> None:
    cli("seamless-run", "--write-job", "job", "./n.sh", "x")
    done = subprocess.run([work / "job" / "run.sh"], capture_output=True, check=True)
    assert done.stdout == b"ran x\n"
