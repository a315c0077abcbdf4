"""The fast reader and click read every line alike; help is as it should be."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seamless_cli import by_click, fast_reader
from seamless_cli.run.options import read_optional, read_plain
from seamless_cli.table import COMMANDS, ParsedArguments, load
from seamless_dask.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seamless_cli.table import CommandTable, Option

    from .conftest import Cli

READERS = {"run": read_plain, "why": read_optional}
TABLES = {name: load(name).TABLE for name in COMMANDS}
VALUES = [
    "a", "1", "4G", "2h", "0:3", "x=1", "a=b=c", "cat a | sort", "é", "\udcff", "", "a b", "-", "--", "-3",
    "-x", "-c", "-ix", "-vq", "-nd", "--frob", "--help", "bash", "start", "logs", "connect", "0" * 64,
]  # fmt: skip


def options_of(table: CommandTable) -> list[Option]:
    return [option for part in (table, *table.actions.values()) for option in part.options()]


@st.composite
def lines(draw: st.DrawFn, table: CommandTable) -> list[str]:
    """Lines of options in all forms, values that fit and values that do not, and words that are neither."""
    names = st.sampled_from([name for option in options_of(table) for name in option.names])
    values = st.sampled_from(VALUES)
    short = sorted({name[1] for option in options_of(table) for name in option.names if len(name) == 2})
    part = st.one_of(
        names.map(lambda name: [name]),
        st.tuples(names, values).map(list),
        st.tuples(names, values).map(lambda both: ["=".join(both)]),
        st.lists(st.sampled_from(short), min_size=1, max_size=3).map(
            lambda letters: ["-" + "".join(letters)]
        ),
        names.map(lambda name: [name[:-1]]),
        values.map(lambda value: [value]),
    )
    found = [word for words in draw(st.lists(part, max_size=6)) for word in words]
    if table.actions and draw(st.booleans()):
        found.insert(draw(st.integers(0, len(found))), draw(st.sampled_from(sorted(table.actions))))
    return found


def by_fast_reader(name: str, words: Sequence[str]) -> object:
    try:
        return READERS.get(name, fast_reader.read)(TABLES[name], words)
    except UsageError as error:
        return str(error)


def by_click_alone(name: str, words: Sequence[str]) -> object:
    try:
        return by_click.read(by_click.make(TABLES[name]), words, f"seamless-{name}")
    except UsageError as error:
        return str(error)
    except SystemExit:
        return "help"


@pytest.mark.parametrize("name", TABLES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_both_read_a_line_alike(name: str, data: st.DataObject, capsys: pytest.CaptureFixture[str]) -> None:
    words = data.draw(lines(TABLES[name]))
    fast = by_fast_reader(name, words)
    if fast is not None:  # else it has left the line to click
        assert fast == by_click_alone(name, words)


@st.composite
def plain_lines(draw: st.DrawFn, table: CommandTable) -> list[str]:
    """Lines as people type them who make no mistake: each option once, the arguments last."""
    chosen = draw(
        st.lists(st.sampled_from(list(table.options())), max_size=4, unique_by=lambda option: option.dest)
    )
    among = {name for names in table.exclusive for name in names}
    words: list[str] = []
    for option in chosen:
        if option.takes_value and (option.convert or option.choices):
            continue
        if option.dest in among | {"line"} and option is not chosen[0]:
            continue
        name = draw(st.sampled_from(option.names))
        value = draw(st.sampled_from(["a.txt", "x=1", "dir/b"]))
        if option.takes_value:
            words += [f"{name}={value}"] if name.startswith("--") and draw(st.booleans()) else [name, value]
        else:
            words.append(name)
    return words


@pytest.mark.parametrize("name", sorted({"run", "upload", "download", "checksum", "cancel"}))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_plain_lines_are_not_left_to_click(name: str, data: st.DataObject) -> None:
    words = data.draw(plain_lines(TABLES[name]))
    tail = [] if "-c" in words else ["wc", "-l", "a.txt"] if name == "run" else ["a.txt"]
    assert by_fast_reader(name, [*words, *tail]) is not None


@pytest.mark.parametrize(
    "words",
    [
        ["wc", "-l", "a b.txt"],
        ["cat a | sort", "--capture", "b", "-nd"],
        ["-c", "cat a | sort"],
        ["--cpus", "4", "--memory=4G", "cmd", "x", "--capture", "out", "--var", "a=1"],
        ["cmd", "x", "-cp", "out", "-i", "in"],
        ["--", "cmd", "--capture"],
        ["git", "log", "--", "--scratch"],
        ["sed", "-i", "s/a/b/", "x"],
    ],
)
def test_lines_of_every_day_are_read_fast(words: list[str]) -> None:
    found = by_fast_reader("run", words)
    assert isinstance(found, ParsedArguments)
    assert found == by_click_alone("run", words)


@pytest.mark.parametrize("command", ["seamless-checksum", "seamless"])
def test_a_plain_line_needs_no_click(cli: Cli, command: str) -> None:
    (cli.directory / "a.txt").write_text("a")
    words = ["checksum", "a.txt"] if command == "seamless" else ["a.txt"]
    assert not {"click", "argparse"} & cli.modules(command, *words)


COMMAND_LINES = [
    [f"seamless-{name}", *action]
    for name, table in TABLES.items()
    if name != "completion"
    for action in ([], *([part] for part in table.actions))
]


@pytest.mark.parametrize(
    "words", [["seamless"], ["hashserver"], ["seamless", "completion"], *COMMAND_LINES], ids=" ".join
)
def test_help_fits_and_has_an_example(cli: Cli, words: list[str]) -> None:
    shown = cli(words[0], *words[1:], "--help", COLUMNS="200").text.splitlines()
    assert [line for line in shown if len(line) > 80] == []
    example = next(place for place, line in enumerate(shown) if re.match(r" *Examples?:$", line)) + 1
    assert re.search(rf"\b{words[0]}\b", shown[example])


@pytest.mark.parametrize("name", ["run", "upload"])
def test_help_is_grouped(cli: Cli, name: str) -> None:
    shown = cli(f"seamless-{name}", "--help").text
    groups = [group.title for group in TABLES[name].groups]
    found = re.findall(r"^(\S.*):$", shown, re.MULTILINE)
    assert found[:-1] == ["Arguments", *groups, "Help"]


def test_the_group_is_part_of_dask(cli: Cli) -> None:
    (cli.directory / "a.txt").write_text("a")
    alone = cli("seamless-checksum", "a.txt").text
    assert cli("dask", "seamless", "checksum", "a.txt").text == alone
    assert cli("dask", "seamless", "run", "wc", "-c", "a.txt").text == "1 a.txt\n"
    assert cli("dask", "seamless", "run", "exit 3", status=3).stdout == b""
    assert "no option --nonsense" in cli("dask", "seamless", "checksum", "--nonsense", status=2).error
    assert "NAME=VALUE" in cli("dask", "seamless", "run", "--var", "a", "cmd", status=2).error


def test_dask_does_not_wait_for_our_commands(cli: Cli) -> None:
    assert "  seamless " in cli("dask", "--help").text
    loaded = cli.modules("dask", "--help")
    assert "seamless_cli.group" in loaded
    assert not {name for name in loaded if name.startswith(("seamless_cli.commands", "seamless_cli.run"))}
    assert not {"seamless_dask.context", "hashserver.storage.store", "tree_sitter"} & loaded
