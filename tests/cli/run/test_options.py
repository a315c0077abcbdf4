"""Which words of the line are options of ours, and what they mean."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seamless_cli.run.option_table import TABLE, duration, size
from seamless_cli.run.options import TAIL, parse
from seamless_dask.errors import UsageError


@pytest.mark.parametrize(
    ("argv", "text", "given"),
    [
        (["wc", "-l", "a b.txt"], "wc -l 'a b.txt'", {"words": ["wc", "-l", "a b.txt"]}),
        (["cat a | sort"], "cat a | sort", {"words": None}),
        (["-c", "cat a | sort", "-nd"], "cat a | sort", {"no_download": True}),
        (["-nd", "-i", "x", "--", "-cmd"], "-cmd", {"no_download": True, "input": ["x"]}),
        (["cmd", "-v", "--capture", "out.csv"], "cmd -v", {"capture": ["out.csv"], "verbose": 0}),
        (
            ["cmd", "x", "--capture=a:b", "--var", "t=-1", "-nd"],
            "cmd x",
            {"capture": ["a:b"], "var": {"t": "-1"}},
        ),
        (["cmd", "-nd", "-i", "x"], "cmd", {"no_download": True, "input": ["x"]}),
        (["cmd", "-cp", "out"], "cmd", {"capture": ["out"]}),
        (["sed", "-i", "s/a/b/", "x"], "sed -i s/a/b/ x", {"input": []}),
        (["-c", "--capture", "out", "cp a out"], "cp a out", {"capture": ["out"]}),
        (
            ["-c", "-nd", "cp a out", "--capture", "out"],
            "cp a out",
            {"capture": ["out"], "no_download": True},
        ),
        (["-c", "--capture", "out", "date"], "date", {"capture": ["out"]}),
        (["cmd", "--capture", "a", "b"], "cmd --capture a b", {"capture": []}),
        (["cmd", "--scratch", "x", "--fingertip"], "cmd --scratch x", {"scratch": False, "fingertip": True}),
        (["cmd", "--", "--scratch"], "cmd -- --scratch", {"scratch": False}),
        (["--", "cmd", "--scratch"], "cmd --scratch", {"scratch": False}),
        (["cmd", "--input", "--scratch"], "cmd --input", {"input": [], "scratch": True}),
        (["cmd", "--no-download=1"], "cmd --no-download=1", {"no_download": False}),
        (
            ["cat a > b", "-cp", "b", "-i", "c", "-vv"],
            "cat a > b",
            {"capture": ["b"], "input": ["c"], "verbose": 2},
        ),
        (["-cp", "a", "cmd", "--capture", "b"], "cmd", {"capture": ["a", "b"]}),
        (["-vqv", "-ix", "cmd"], "cmd", {"verbose": 2, "quiet": 1, "input": ["x"]}),
        (["my prog", "a"], "'my prog' a", {"words": ["my prog", "a"]}),
        (["-ms", "-g2", "cmd"], "cmd", {"mapping": "strip", "guess": 2, "workdir": None}),
        (["-mx", "-g1", "cmd"], "cmd", {"mapping": "extension", "guess": 1}),
        (["-W", "cmd"], "cmd", {"workdir": "/"}),
        (["-w", "..", "cmd"], "cmd", {"workdir": ".."}),
        (["cmd", "--metavar", "a=b=c"], "cmd", {"metavar": {"a": "b=c"}}),
    ],
)
def test_a_line_is_split(argv: list[str], text: str, given: dict[str, object]) -> None:
    found = parse(argv)
    assert found.text == text
    assert {name: getattr(found, name) for name in given} == given


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "no command"),
        (["-nd"], "no command"),
        ([""], "no command"),
        (["--frobnicate", "cmd"], "no option --frobnicate"),
        (["--gpus", "0", "cmd"], "--gpus"),
        (["--priority", "high", "cmd"], "--priority"),
        (["--resource", "license", "cmd"], "--resource takes NAME=NUMBER"),
        (["--resource", "license=nan", "cmd"], "--resource takes NAME=NUMBER"),
        (["--resource", "=1", "cmd"], "--resource takes NAME=NUMBER"),
        (["--resource", "a=1", "--resource", "a=2", "cmd"], "two amounts"),
        (["--cpu", "2", "cmd"], "did you mean --cpus"),
        (["--cpus", "0", "cmd"], "--cpus"),
        (["--cpus", "²", "cmd"], "--cpus"),
        (["--retries", "-1", "cmd"], "--retries"),
        (["--memory", "lots", "cmd"], "--memory"),
        (["--time-limit", "0", "cmd"], "--time-limit"),
        (["--var", "a", "cmd"], "NAME=VALUE"),
        (["--var", "1a=b", "cmd"], "NAME=VALUE"),
        (["--var", "a=1", "--var", "a=2", "cmd"], "two values"),
        (["--var", "a=1", "--metavar", "a=1", "cmd"], "--metavar"),
        (["-c", "ls", "x"], "a word too many"),
        (["cat a", "-nd", "x"], "a word too many"),
        (["cat a", "--frobnicate"], "--frobnicate"),
        (["-w", "a", "-ms", "cmd"], "not allowed with"),
        (["-i"], "expected one argument"),
        (["cmd", "\udcff"], "not UTF-8"),
        (["--undo", "--dry-run", "cmd"], "exclude each other"),
        (["--dry-run", "--write-job", "job", "cmd"], "exclude each other"),
        (["--qsubmit", "--undo", "cmd"], "exclude each other"),
        (["--qsubmit", "-d", "cmd"], "exclude each other"),
        (["--conda", "a", "--image", "b", "cmd"], "--conda and --image exclude each other"),
        (["--module", "a", "--image", "b", "cmd"], "--module and --image exclude each other"),
        (["--local", "--daskserver", "tcp://a:1", "cmd"], "--local and --daskserver exclude each other"),
        (["--conda", "", "cmd"], "--conda was given an empty name"),
        (["--input", "", "cmd"], "--input was given an empty name"),
        (
            ["--capture", "-x.txt", "cmd"],
            "--capture -x.txt: a value that begins with a dash is written --capture=-x.txt",
        ),
        (["-cp", "-x.txt", "cmd"], "begins with a dash is written --capture=-x.txt"),
        (["-w", "", "cmd"], "-w was given an empty name"),
        (["--write-job=", "cmd"], "--write-job was given an empty name"),
    ],
)
def test_a_usage_error_is_one_line(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(argv)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_where_it_is_to_run() -> None:
    line = "--gpus 2 --resource a=1 --resource b=0.5 --queue long --node n1 --priority -3 cmd"
    found = parse(line.split())
    assert (found.gpus, found.queue, found.node, found.priority) == (2, "long", "n1", -3)
    assert found.resource == {"a": 1.0, "b": 0.5}


@pytest.mark.parametrize("name", ["--input", "-i", "--scratch", "-cp"])
def test_taking_a_common_option_from_the_tail_is_noted(name: str) -> None:
    found = parse(["cmd", name, *(["x"] if TAIL[name] else [])])
    assert [name in note and "--" in note for note in found.notes] == [True]


def test_the_note_tells_the_truth() -> None:
    assert parse(["--", "cmd", "--input", "x"]).text == "cmd --input x"


def test_an_option_that_is_left_to_the_command_is_noted() -> None:
    assert "--capture" in parse(["cmd", "--capture", "out", "in"]).notes[0]
    assert "-cp" in parse(["java", "-cp", "lib.jar", "Main"]).notes[0]
    assert parse(["--", "cmd", "--capture", "out", "in"]).notes == []


@given(st.lists(st.sampled_from([*TAIL, "a", "x=1", "-x", "--capture=q"]), max_size=6))
def test_no_word_of_the_command_is_lost(words: list[str]) -> None:
    try:
        found = parse(["cmd", *words])
    except UsageError:
        return
    command = found.words or [found.text]
    assert ["cmd", *words][: len(command)] == command
    tail = words[len(command) - 1 :]
    assert not tail or tail[0].partition("=")[0] in TAIL


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("500MB", 500_000_000),
        ("4G", 4_000_000_000),
        ("4GiB", 4 << 30),
        ("1.5k", 1500),
        ("2 Ti", 2 << 40),
        ("7b", 7),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("30s", 30),
        ("1.5m", 90),
        ("2h", 7200),
        ("1d", 86400),
        ("1:30", 90),
        ("1:00:01", 3601),
        ("2-00:00:10", 172810),
    ],
)
def test_durations(text: str, expected: float) -> None:
    assert duration(text) == expected


@pytest.mark.parametrize("text", ["", "-1", "1x", "0", "GB"])
def test_what_is_no_size_or_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a|must be"):
        size(text)
    with pytest.raises(ValueError, match=r"not a|must be"):
        duration(text)


def test_every_option_has_help() -> None:
    assert [option.names for option in TABLE.options() if not option.help] == []


def test_help_is_printed_without_a_command() -> None:
    code = "from seamless_cli.run.options import parse; parse(['--help'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--capture" in done.stdout
    assert done.stderr == ""


def test_help_behind_the_command_is_the_commands() -> None:
    assert parse(["cmd", "--help"]).text == "cmd --help"
