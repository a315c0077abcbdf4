"""Settings of a host that cannot be used: they are told in one line, and taken for no lost worker.

https://github.com/maxplanck-ie/snakepipes/issues/521: a job dies of ``mktemp: failed to create directory
via template``, since the directory for temporary files that was configured is not there.
https://github.com/nextflow-io/nextflow/pull/2888: the same of a scratch directory that does not exist yet,
tried once more before the run is given up.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ..cli.conftest import Cli

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Commands in a directory in which ``file`` is a file and ``empty`` a directory."""
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    return Cli(tmp_path)


@pytest.mark.parametrize("isolation", ["auto", "none"])
@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("{here}/missing", "names {here}/missing, which is no directory on"),
        ("{here}/file", "names {here}/file, which is no directory on"),
        ("empty", "is empty, no absolute path"),
        ("/proc/1", "cannot be written on"),
    ],
)
def test_a_tmpdir_that_cannot_be_used(cli: Cli, isolation: str, named: str, told: str) -> None:
    here = str(cli.directory)
    if named == "/proc/1" and os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    error = cli(
        "seamless-run", "echo hi", status=2, TMPDIR=named.format(here=here), SEAMLESS_ISOLATION=isolation
    ).error
    assert f"TMPDIR {told.format(here=here)}" in error
    assert "attempt" not in error


@pytest.mark.parametrize("isolation", ["bubblewrap", "none"])
@pytest.mark.parametrize("path", ["/nowhere", "{here}/file", "{here}/empty", "empty", ""])
def test_a_search_path_without_bash(cli: Cli, isolation: str, path: str) -> None:
    path = path.format(here=cli.directory)
    line = ("seamless-run", f"echo {isolation} # {path}")
    assert cli(*line, PATH=path, SEAMLESS_ISOLATION=isolation).text == f"{isolation}\n"


@pytest.mark.parametrize("option", ["--metavar", "--var"])
def test_a_search_path_of_the_command_without_bash(cli: Cli, option: str) -> None:
    assert cli("seamless-run", option, "PATH=/nowhere", 'echo "$PATH"').text == "/nowhere\n"


def test_a_program_that_is_not_on_the_search_path_is_the_commands_own_failure(cli: Cli) -> None:
    error = cli("seamless-run", "--metavar", "PATH=/nowhere", "ls", status=127)
    assert "exit status 127" in error.stderr
    assert "attempt" not in error.stderr


def test_names_that_no_directory_can_hold(cli: Cli) -> None:
    """A result so deep that its parents cannot be made."""
    deep = "/".join(["d" * 200] * 30)
    error = cli("seamless-run", "-cp", f"{deep}/out:out", "true", status=2).error
    assert "cannot be set up" in error
    assert "attempt" not in error
