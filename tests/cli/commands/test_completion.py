"""Completion in the shells themselves: a terminal is typed into, or the shell is asked."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from ..conftest import BIN

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Cli

CASES = [
    ("seamless-upload --hard", "--hardlink"),
    ("seamless-run --dry", "--dry-run"),
    ("seamless downl", "download"),
    ("seamless upload --in-", "--in-place"),
]


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")


def type_into(arguments: list[str], setup: str, line: str, expected: str, home: Path) -> str:
    """Type `line` and TAB into a shell on a terminal; return what it shows, up to `expected`."""
    path = f"{BIN}:{os.environ['PATH']}"
    child, fd = pty.fork()
    if child == 0:
        environment = {"PATH": path, "HOME": str(home), "TERM": "dumb", "PS1": "$ ", "ZDOTDIR": str(home)}
        os.execve(shutil.which(arguments[0]) or "", arguments, environment)
    shown = ""
    try:
        os.write(fd, f"{setup}; echo re''ady\n".encode())
        shown = read_until(fd, "ready\r\n")
        os.write(fd, f"{line}\t".encode())
        shown = read_until(fd, expected)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
        os.close(fd)
    return shown


def read_until(fd: int, expected: str) -> str:
    shown, end = "", time.monotonic() + 30
    while expected not in shown and time.monotonic() < end:
        if select.select([fd], [], [], 0.2)[0]:
            shown += os.read(fd, 4096).decode(errors="replace")
    return shown


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_bash(home: Path, line: str, expected: str) -> None:
    needs("bash")
    setup = 'eval "$(seamless completion bash)"'
    assert expected in type_into(["bash", "--norc", "--noprofile", "-i"], setup, line, expected, home)


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_zsh(home: Path, line: str, expected: str) -> None:
    needs("zsh")
    setup = 'autoload -Uz compinit; compinit -u; eval "$(seamless completion zsh)"'
    assert expected in type_into(["zsh", "-f", "-i"], setup, line, expected, home)


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_fish(home: Path, line: str, expected: str) -> None:
    needs("fish")
    script = f"seamless completion fish | source; complete -C {line!r}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        capture_output=True,
        text=True,
        env={"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(home), "TERM": "dumb"},
        timeout=60,
    )
    assert expected in done.stdout.split(), done


def test_a_file_is_completed_too(home: Path, cli: Cli, work: Path) -> None:
    needs("bash")
    (work / "measurements.csv").write_text("x")
    setup = f'eval "$(seamless completion bash)"; cd {work}'
    for line in ("seamless-upload meas", "seamless-run wc meas"):
        shown = type_into(["bash", "--norc", "--noprofile", "-i"], setup, line, "measurements.csv", home)
        assert "measurements.csv" in shown


def test_a_shell_that_is_not_known(cli: Cli) -> None:
    assert "tcsh" in cli("seamless", "completion", "tcsh", status=2).error
