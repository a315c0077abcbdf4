"""Programs that lie in the current directory are run by nobody but the commands that name them."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Cli

PROGRAMS = ("bash", "sh", "bwrap", "conda", "apptainer", "singularity", "tail", "ssh")
COMMANDS: list[tuple[str, ...]] = [
    ("seamless-run", "cat a.txt"),
    ("seamless-run", "cat a.txt | sort && cat a.txt | wc"),
    ("seamless-run", "coproc cat a.txt; if"),  # the grammar does not take it, and bash is asked
    ("seamless-run", "--conda", "none", "cat a.txt"),
    ("seamless-run", "--image", "a.sif", "cat a.txt"),
    ("seamless-status",),
    ("seamless-daskserver", "status"),
]


@pytest.mark.parametrize("first", [".", ""], ids=["dot", "empty"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_relative_place_of_the_search_path_is_not_ours(
    cli: Cli, work: Path, tmp_path: Path, command: tuple[str, ...], first: str
) -> None:
    (work / "a.txt").write_text("a\n")
    (work / "a.sif").write_text("no image\n")
    ran = tmp_path / "ran"
    for name in PROGRAMS:
        (work / name).write_text(f"#!/bin/sh\necho {name} >> {ran}\nexit 1\n")
        (work / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{first}:{os.environ['PATH']}"}
    subprocess.run(
        [cli.path(command[0]), *command[1:]], cwd=work, env=environment, capture_output=True, timeout=60
    )
    assert not ran.exists(), ran.read_text()
