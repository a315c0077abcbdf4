"""Completion in the shells themselves: a terminal is typed into, or the shell is asked."""

from __future__ import annotations

import json
import os
import pty
import select
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from seamless_cli.run.options import TAIL

from ..conftest import BIN, ended, wait_for

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
    shown, end = "", time.monotonic() + 60
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
    assert expected in asked_of_fish(line, home, home)


def asked_of_fish(line: str, home: Path, directory: Path) -> list[str]:
    """Return the words that fish offers, and what it says of them."""
    script = f"seamless completion fish | source; complete -C {line!r}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        capture_output=True,
        text=True,
        env={"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(home), "TERM": "dumb"},
        cwd=directory,
        timeout=60,
    )
    return done.stdout.split()


def test_a_file_is_completed_too(home: Path, cli: Cli, work: Path) -> None:
    needs("bash")
    (work / "measurements.csv").write_text("x")
    setup = f'eval "$(seamless completion bash)"; cd {work}'
    for line in ("seamless-upload meas", "seamless-run wc meas"):
        shown = type_into(["bash", "--norc", "--noprofile", "-i"], setup, line, "measurements.csv", home)
        assert "measurements.csv" in shown


def asked(cli: Cli, line: str) -> set[str]:
    """Return what bash is told: a line for each offer, with its kind."""
    command, *words = line.split(" ")
    variable = f"_{command.replace('-', '_').upper()}_COMPLETE"
    said = {"COMP_WORDS": line, "COMP_CWORD": str(len(words)), variable: "bash_complete"}
    return set(cli(command, **said).text.splitlines())


@pytest.mark.parametrize(
    "line", ["seamless-download s", "seamless download s", "seamless-run wc s", "seamless-run -i s"]
)
def test_what_only_a_sidecar_knows_is_offered(cli: Cli, work: Path, line: str) -> None:
    for name in ("s3.txt.CHECKSUM", "seen.txt", "seen.txt.CHECKSUM", "other.txt.CHECKSUM"):
        (work / name).write_text("")
    assert asked(cli, line) == {"plain,s3.txt", "file,s"}


def test_what_only_a_sidecar_knows_is_offered_in_a_directory(cli: Cli, work: Path) -> None:
    (work / "in").mkdir()
    (work / "in" / "s3.txt.CHECKSUM").write_text("")
    assert asked(cli, "seamless-download in/s") == {"plain,in/s3.txt", "file,in/s"}


@pytest.mark.parametrize("name", ["s3-away.txt", "s3-here.txt"])
def test_sidecars_and_files_are_offered_by_each_shell(home: Path, work: Path, name: str) -> None:
    (work / "s3-away.txt.CHECKSUM").write_text("")
    (work / "s3-here.txt").write_text("")
    line = f"seamless-download {name[:4]}"
    needs("bash")
    setup = f'eval "$(seamless completion bash)"; cd {work}'
    shown = type_into(["bash", "--norc", "--noprofile", "-i"], setup, line, f"{name} ", home)
    assert f"{name} " in shown  # the blank: there is nothing else, such as the sidecar itself
    needs("zsh")
    setup = f'autoload -Uz compinit; compinit -u; eval "$(seamless completion zsh)"; cd {work}'
    assert name in type_into(["zsh", "-f", "-i"], setup, line, name, home)
    needs("fish")
    assert name in asked_of_fish(line, home, work)


def test_profiles_are_offered(cli: Cli, home: Path, work: Path) -> None:
    (home / ".config" / "seamless").mkdir(parents=True)
    (home / ".config" / "seamless" / "config.toml").write_text(
        '[profile.cluster]\nstore = "/a"\n[profile.other]\n'
    )
    assert asked(cli, "seamless-upload --profile cl") == {"plain,cluster"}
    assert asked(cli, "seamless-upload --profile=cl") == {"plain,cluster"}


def test_keys_of_running_jobs_are_offered(cli: Cli, slow: tuple[str, Path, Path]) -> None:
    command, mark, go = slow
    process = cli.start("seamless-run", command)
    wait_for(mark.exists)
    (job,) = json.loads(cli("seamless-status", "--json").stdout)["jobs"]
    assert asked(cli, "seamless-cancel ") == {f"plain,{job['key']}"}
    assert asked(cli, f"seamless-cancel {job['key'][:3]}") == {f"plain,{job['key']}"}
    go.touch()
    assert ended(process)[0] == 0


def test_a_project_that_is_not_trusted_is_not_asked_about(cli: Cli, work: Path) -> None:
    (work / "seamless.toml").write_text('store = "s3://elsewhere"\n')
    assert asked(cli, "seamless-cancel x") == {"file,x"}


def test_behind_a_command_only_its_tail_of_options_is_offered(cli: Cli) -> None:
    assert asked(cli, "seamless-run wc --") == {f"plain,{name}" for name in TAIL if name.startswith("--")}
    assert "plain,--dry-run" in asked(cli, "seamless-run --")


def test_a_choice_is_offered(cli: Cli) -> None:
    assert asked(cli, "seamless-daskserver start --cluster s") == {"plain,slurm", "plain,sge"}
    assert asked(cli, "seamless completion ") == {"plain,bash", "plain,fish", "plain,zsh"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_one_command_completes_by_the_way_of_click(cli: Cli, shell: str) -> None:
    alone = cli("seamless-run", _SEAMLESS_RUN_COMPLETE=f"{shell}_source").text
    assert alone in cli("seamless", "completion", shell).text


def test_a_shell_that_is_not_known(cli: Cli) -> None:
    assert "tcsh" in cli("seamless", "completion", "tcsh", status=2).error
