"""Calls of functions in Python, for the commands that take a transformation or a result."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from hashserver.checksum import Checksum
from seamless_dask.context import Context

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Cli

SCRIPT = """\
from helpers import FACTORS, Table
from seamless_dask import File, delayed

@delayed
def table(path, scale=2):
    words = path.read_text().split()
    return Table([FACTORS[word] * scale for word in words]).total() + len(BIG)

BIG = list(range(1, 300_000))
made = table(File("words.txt"))
made.compute()
print(made.key, made.result_checksum)
"""
HELPERS = """\
FACTORS = {"one": 1, "two": 2}

class Table:
    def __init__(self, rows):
        self.rows = rows

    def total(self):
        return sum(self.rows)
"""
TOTAL = b"300005"
BESIDE = """\
from helpers import FACTORS
from seamless_dask import delayed

@delayed(version="1", ignore="jobs")
def factor(word, jobs):
    return [FACTORS[word], jobs]

made = factor("two", jobs=[4])
made.compute()
print(made.key, made.result_checksum)
"""


class Call(NamedTuple):
    key: str
    result: str


def ran(script: str, project: Path, cache: Path) -> Call:
    """Have a script make a call; it is gone afterwards, with its modules and files."""
    project.mkdir()
    (project / "helpers.py").write_text(HELPERS)
    (project / "words.txt").write_text("one two\n")
    (project / "script.py").write_text(script)
    said = subprocess.run(
        [sys.executable, "script.py"],
        cwd=project,
        env=os.environ | {"SEAMLESS_CACHE": str(cache), "XDG_CONFIG_HOME": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    shutil.rmtree(project)
    return Call(*said.stdout.split())


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Call, Path]]:
    """What each script has called, and the cache that it has left."""
    found = {}
    for name, script in (("script", SCRIPT), ("beside", BESIDE)):
        directory = tmp_path_factory.mktemp(name)
        found[name] = ran(script, directory / "project", directory / "cache"), directory / "cache"
    return found


@pytest.fixture(params=["script"])
def call(calls: dict[str, tuple[Call, Path]], home: Path, request: pytest.FixtureRequest) -> Call:
    """A call that has been made by a script that is gone, with its modules and files."""
    made, cache = calls[request.param]
    shutil.copytree(cache, home / "cache")
    return made


def test_a_call_runs_again_without_the_callers_files(cli: Cli, call: Call, tmp_path: Path) -> None:
    database = str(tmp_path / "another.db")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = cli("seamless-run-transformation", call.key, cwd=elsewhere, SEAMLESS_DATABASE=database)
    assert done.stdout.decode().split() == [call.result]


def test_the_document_of_a_call_can_be_run(cli: Cli, call: Call, tmp_path: Path) -> None:
    document = tmp_path / "transformation.json"
    document.write_bytes(cli("seamless-resolve", call.key).stdout)
    assert b'"language":"python"' in document.read_bytes()
    done = cli(
        "seamless-run-transformation", document, cwd=tmp_path, SEAMLESS_DATABASE=str(tmp_path / "another.db")
    )
    assert done.stdout.decode().split() == [call.result]


def test_what_a_call_returned_is_resolved(cli: Cli, call: Call) -> None:
    assert cli("seamless-resolve", call.result).stdout == TOTAL


def test_what_a_call_returned_is_made_again(cli: Cli, call: Call) -> None:
    Context().store.delete(Checksum(call.result))
    cli("seamless-resolve", call.result, status=1)
    assert cli("seamless-fingertip", call.result).stdout == TOTAL


@pytest.mark.parametrize("call", ["beside"], indirect=True)
def test_what_does_not_count_is_known_where_a_result_is_made_again(cli: Cli, call: Call) -> None:
    Context().store.delete(Checksum(call.result))
    assert cli("seamless-fingertip", call.result).stdout == b"[2,[4]]"


@pytest.mark.parametrize("call", ["beside"], indirect=True)
def test_a_version_alone_is_imported_by_its_name(cli: Cli, call: Call, tmp_path: Path) -> None:
    done = cli(
        "seamless-run-transformation", call.key, status=1, SEAMLESS_DATABASE=str(tmp_path / "another.db")
    )
    assert "No module named 'script'" in done.stderr
