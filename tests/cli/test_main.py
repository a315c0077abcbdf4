from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from seamless_cli.table import COMMANDS

from .conftest import project

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Cli

SCRIPTS = [name for name in COMMANDS if name != "completion"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_command_exists_twice(cli: Cli, name: str) -> None:
    alone = cli(f"seamless-{name}", "--help").text
    grouped = cli("seamless", name, "--help").text
    assert f"Usage: seamless-{name} " in alone
    assert f"Usage: seamless {name} " in grouped
    for option in ("--verbose", "--quiet", "--profile"):
        assert option in alone


def test_help_lists_all_commands(cli: Cli) -> None:
    listed = cli("seamless", "--help").text
    assert all(f"  {name} " in listed for name in COMMANDS)


def test_version(cli: Cli) -> None:
    assert cli("seamless", "--version").text.startswith("seamless-dask ")


def test_no_command_is_a_usage_error(cli: Cli) -> None:
    done = cli("seamless", status=2)
    assert done.stdout == b""
    assert "Usage:" in done.stderr


def test_an_unknown_command_gets_a_suggestion(cli: Cli) -> None:
    assert "did you mean 'upload'" in cli("seamless", "uplaod", status=2).error


@pytest.mark.parametrize("name", SCRIPTS)
def test_an_unknown_option_is_one_line_and_status_2(cli: Cli, name: str) -> None:
    assert "--help" in cli(f"seamless-{name}", "--nonsense", status=2).error


def test_a_traceback_only_with_vv(cli: Cli) -> None:
    assert "Traceback" not in cli("seamless-checksum", "-v", "gone", status=1).stderr
    assert "Traceback" in cli("seamless-checksum", "-vv", "gone", status=1).stderr


def test_an_unknown_profile_is_a_usage_error(cli: Cli) -> None:
    assert "no profile 'x'" in cli("seamless-status", "--profile", "x", status=2).error


def test_a_profile_is_used(cli: Cli, work: Path) -> None:
    project(work, '[profile.other]\nstore = "elsewhere"\n')
    (work / "a.txt").write_text("hello\n")
    cli("seamless-upload", "--profile", "other", "a.txt")
    assert (work / "elsewhere").is_dir()
