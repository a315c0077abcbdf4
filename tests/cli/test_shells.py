"""Commands among others in a shell: many at once, closed streams, words that the shell has changed."""

from __future__ import annotations

import signal
import subprocess
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from .conftest import ended

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Cli


def shell(cli: Cli, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which ``run`` is ``seamless-run``."""
    return subprocess.run(
        ["bash", "-c", line.replace("run ", f"{cli.path('seamless-run')} ", 1)],
        cwd=cli.directory,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_eight_shells_at_once(cli: Cli, work: Path, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    lines = [f"echo {n} >> {counter}; echo {n}" for n in (1, 1, 1, 1, 2, 2, 3, 4)]
    processes = [cli.start("seamless-run", "-q", line, SEAMLESS_ISOLATION="none") for line in lines]
    assert [ended(process)[:2] for process in processes] == [(0, f"{n}\n".encode()) for n in "11112234"]
    assert Counter(counter.read_text().split()) == dict.fromkeys("1234", 1)


def test_eight_shells_that_write_one_file(cli: Cli, work: Path) -> None:
    lines = [f"echo {n}; exit 0" for n in range(8)]
    processes = [cli.start("seamless-run", "-cp", ":out.txt", line) for line in lines]
    assert [ended(process) for process in processes] == [(0, b"", "")] * 8
    assert cli("seamless-run", "cat", "out.txt").text == (work / "out.txt").read_text()


def test_a_reader_that_goes_away(cli: Cli) -> None:
    done = shell(cli, "run 'yes | head -100000' | head -1; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGPIPE, "y\n", "")


def test_standard_output_that_cannot_be_written(cli: Cli) -> None:
    assert "No space" in shell(cli, "run echo hi > /dev/full").stderr


@pytest.mark.parametrize("known", [False, True])
def test_standard_output_that_is_closed(cli: Cli, known: bool) -> None:
    if known:
        cli("seamless-run", "echo", "hi")
    done = shell(cli, "run echo hi >&-")
    assert (done.returncode, done.stderr) == (1, "seamless-run: standard output: Bad file descriptor\n")
    assert cli("seamless-run", "echo", "hi").stdout == b"hi\n"


def test_all_streams_closed(cli: Cli, work: Path) -> None:
    assert shell(cli, "run -cp :out 'echo hi' <&- >&- 2>&-").returncode == 0
    assert (work / "out").read_text() == "hi\n"
    assert shell(cli, "run 'exit 7' <&- >&- 2>&-").returncode == 7


def test_a_loop_keeps_its_standard_input(cli: Cli, work: Path) -> None:
    (work / "lines").write_text("a\nb\n")
    assert shell(cli, 'while read x; do run echo "$x"; done < lines').stdout == "a\nb\n"


def test_a_process_substitution_of_the_users_own_shell(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    assert "quote the line" in shell(cli, "run cat <(cat a.txt)").stderr
    assert shell(cli, "run 'cat <(cat a.txt)'").stdout == "hello\n"


def test_a_quoted_line_with_words_behind_it(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    done = cli("seamless-run", "cat a.txt", "a.txt", status=127)
    assert "'cat a.txt' is taken as the name of a program" in done.stderr


@pytest.mark.parametrize(
    "name", ["-dash.txt", "new\nline.txt", "é ☃.txt", "st*r.txt", "$x.txt", "qu'o\"te.txt"]
)
def test_odd_names(cli: Cli, work: Path, name: str) -> None:
    (work / name).write_text("odd\n")
    assert cli("seamless-run", "cat", "--", name).text == "odd\n"
    cli("seamless-run", "--capture", f":{name}.out", "echo", "result")
    assert (work / f"{name}.out").read_text() == "result\n"
    cli("seamless-upload", "--move", "--", name)
    assert cli("seamless-run", "-mx", "cat", "--", name).text == "odd\n"
    cli("seamless-download", "--", name)
    assert (work / name).read_text() == "odd\n"


def test_local_asks_no_server(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    nobody = "http://127.0.0.1:9"
    assert cli("seamless-run", "--local", "cat", "a.txt", SEAMLESS_HASHSERVER=nobody).text == "hello\n"
    assert "was known" in cli("seamless-run", "-v", "cat", "a.txt").stderr
    assert "exclude" in cli("seamless-run", "--local", "--store", "x", "ls", status=2).error
