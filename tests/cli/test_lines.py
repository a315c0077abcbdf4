"""Words of a line that mean something else than they seem to: lists, targets, directories, special files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .conftest import Cli


@pytest.fixture
def project(work: Path) -> Path:
    (work / "lists").mkdir()
    (work / "lists" / "a.txt").write_text("of the list\n")
    (work / "a.txt").write_text("of the project\n")
    return work


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "dos"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "marked"])
def test_entries_of_a_list_are_relative_to_it(cli: Cli, project: Path, end: str, mark: str) -> None:
    (project / "lists" / "list").write_bytes(f"{mark}{end}a.txt{end}../a.txt{end}".encode())
    done = cli("seamless-run", "-I", "lists/list", "-c", "cat lists/a.txt a.txt")
    assert done.text == "of the list\nof the project\n"


def test_entries_of_a_pipe_are_relative_to_the_current_directory(cli: Cli, project: Path) -> None:
    done = cli("seamless-run", "-I", "-", "-c", "for file in a*; do cat $file; done", stdin=b"a.txt\n")
    assert done.text == "of the project\n"


def test_an_entry_that_is_not_there_is_told_with_its_line(cli: Cli, project: Path) -> None:
    (project / "lists" / "list").write_text("a.txt\nnone.txt\n")
    error = cli("seamless-run", "-I", "lists/list", "true", status=2).error
    assert error == (
        "--input-file lists/list, line 2: none.txt: no such file or directory, and no sidecar beside it"
    )


@pytest.mark.parametrize("capture", ["res.txt:tag", "'res.*:tag'"], ids=["file", "glob"])
def test_where_a_result_is_delivered_is_no_input_the_second_time(cli: Cli, work: Path, capture: str) -> None:
    for known in (False, True):
        done = cli("seamless-run", "-v", "--capture", capture.strip("'"), "echo tag > res.txt")
        assert ("no result is known" in done.stderr) is not known
    assert (work / "tag").exists()


def test_a_target_is_the_same_however_it_is_written(cli: Cli, work: Path) -> None:
    line = ("--capture", "res.txt:sub/tag", f"echo {work}/sub/tag ./sub/tag > res.txt")
    for known in (False, True):
        assert ("no result is known" in cli("seamless-run", "-v", *line).stderr) is not known


def test_a_target_cannot_be_named_as_an_input(cli: Cli, project: Path) -> None:
    error = cli("seamless-run", "--capture", "out:a.txt", "--input", "a.txt", "touch out", status=2).error
    assert "a result is delivered there" in error


def test_a_bare_word_that_names_a_directory_is_told(cli: Cli, project: Path) -> None:
    assert "without extension: lists" in cli("seamless-run", "ls lists").stderr
    assert cli("seamless-run", "ls lists/").stderr == ""
    assert cli("seamless-run", "-g1", "ls", "lists/").stderr == ""


def test_one_that_leads_elsewhere_is_told_by_name(cli: Cli, project: Path, tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "x").write_text("x")
    (project / "data").symlink_to(tmp_path / "volume")
    (project / "lists" / "data").symlink_to(tmp_path / "volume")
    for word in ("data", "lists/data"):
        told = cli("seamless-run", f"ls {word}").stderr
        assert f"{word} is an input: it leads to the directory {tmp_path / 'volume'}" in told


@pytest.mark.parametrize("word", ["many", "sub/many"])
def test_one_that_is_large_is_told_before_it_is_read(cli: Cli, work: Path, word: str) -> None:
    (work / word).mkdir(parents=True)
    for number in range(3001):
        (work / word / str(number)).write_text(str(number))
    done = cli("seamless-run", f"ls {word}", status=1)
    lines = done.stderr.splitlines()
    assert f"{word} is an input: a directory of more than 3,000 entries" in lines[0]
    assert "-y does so" in lines[-1]


def test_directories_keep_their_names_where_files_are_renamed(cli: Cli, project: Path) -> None:
    done = cli("seamless-run", "-mx", "-c", "cat lists/a.txt a.txt; ls", "--input", "lists")
    assert done.text.split() == [
        "of",
        "the",
        "list",
        "of",
        "the",
        "project",
        "file1.txt",
        "file2.txt",
        "lists",
    ]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/proc/version", "the system makes it when it is read"),
        ("pipe", "no file, but a pipe, socket or device"),
        ("/dev/null", "it is empty, and so is standard input without --stdin"),
        ("/dev/zero", "no file, but a pipe, socket or device"),
    ],
)
def test_what_cannot_be_standard_input(cli: Cli, work: Path, path: str, told: str) -> None:
    os.mkfifo(work / "pipe")
    assert told in cli("seamless-run", "--stdin", path, "cat", status=2).error


@pytest.mark.parametrize(
    "words", [("seamless-run", "echo x"), ("seamless-upload", "x"), ("seamless-status",)]
)
def test_a_directory_that_was_deleted(cli: Cli, work: Path, words: tuple[str, ...]) -> None:
    (work / "gone").mkdir()
    script = 'cd gone; rmdir ../gone; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", cli.path(words[0]), *words[1:]],
        cwd=work,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == f"{words[0]}: the current directory was deleted: cd to another one\n"


def test_a_way_back_in_a_path_is_no_obstacle(cli: Cli, project: Path) -> None:
    assert cli("seamless-run", "cat lists/../a.txt").text == "of the project\n"


INTO = {
    "captured": ("--capture", "d/out.txt", "-c", "ls d/ > d/out.txt"),
    "redirected": ("-c", "ls d/ > d/out.txt"),
    "delivered": ("--capture", "res.txt:d/out.txt", "-c", "ls d/ > res.txt"),
    "standard output": ("--capture", ":d/out.txt", "ls d/"),
    "directory": ("--capture", "d/out", "-c", "ls d/ > list; mkdir d/out; mv list d/out/out.txt"),
    "glob": ("--capture", "d/*.txt:d/out", "-c", "ls d/ > list; mv list d/out.txt"),
    "named": ("--input", "d", "--capture", "d/out.txt", "-c", "echo d/* > d/out.txt"),
}


@pytest.fixture
def around(work: Path) -> Path:
    (work / "d").mkdir()
    (work / "d" / "in.csv").write_text("in\n")
    return work / "d"


def is_hit(cli: Cli, *line: str) -> bool:
    return "no result is known" not in cli("seamless-run", "-v", *line).stderr


@pytest.mark.parametrize("kind", INTO)
def test_a_result_in_an_input_directory_is_no_part_of_it(cli: Cli, around: Path, kind: str) -> None:
    assert not is_hit(cli, *INTO[kind])
    assert is_hit(cli, *INTO[kind])
    made = around / "out" / "out.txt" if (around / "out").is_dir() else around / "out.txt"
    assert "in.csv" in made.read_text()
    (around / "in.csv").write_text("changed\n")
    assert not is_hit(cli, *INTO[kind])


def test_nor_where_only_its_sidecar_is_there(cli: Cli, around: Path) -> None:
    line = INTO["captured"]
    assert not is_hit(cli, "-nd", *line)
    assert is_hit(cli, "-nd", *line)


def test_nor_in_a_directory_that_was_uploaded_with_it_or_deleted(cli: Cli, around: Path) -> None:
    line = INTO["captured"]
    assert not is_hit(cli, *line)
    cli("seamless-upload", "d")
    assert is_hit(cli, *line)
    cli("seamless-upload", "--move", "d")
    assert is_hit(cli, *line)


def test_what_is_indexed_is_no_part_of_its_index(cli: Cli, work: Path) -> None:
    (work / "ref.fa").write_text(">r\nACGT\n")
    (work / "bwa").write_text('#!/bin/sh\nfor end in amb ann; do echo "$@" $end > "$2.$end"; done\n')
    (work / "bwa").chmod(0o755)
    line = ("--input", "bwa", "--capture", "ref.fa.*:index", "-c", "PATH=.:$PATH bwa index ref.fa")
    assert not is_hit(cli, *line)
    assert is_hit(cli, *line)
    assert sorted(path.name for path in (work / "index").iterdir() if path.suffix in (".amb", ".ann")) == [
        "ref.fa.amb",
        "ref.fa.ann",
    ]
