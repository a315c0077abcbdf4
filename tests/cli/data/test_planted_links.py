"""Links and sidecars that came with a clone have nothing written where the links lead."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from ..conftest import Cli


@pytest.fixture
def victim(cli: Cli, work: Path, tmp_path: Path) -> Path:
    """A directory of the user's own; the store has what somebody would like to have in it."""
    (work / "src" / "ssh").mkdir(parents=True)
    (work / "src" / "ssh" / "keys").write_text("theirs\n")
    cli("seamless-upload", "src")
    directory = tmp_path / "victim"
    directory.mkdir()
    (directory / "own").write_text("own\n")
    return directory


def plant(work: Path, prefix: str) -> None:
    for name in (".CHECKSUM", ".INDEX"):
        (work / f"{prefix}{name}").write_bytes((work / "src" / name).read_bytes())


@pytest.mark.parametrize("path", ["d", "d/", "./d", "d/ssh", "d/ssh/keys", "."])
def test_sidecars_beside_a_link_to_a_directory(cli: Cli, work: Path, victim: Path, path: str) -> None:
    (work / "d").symlink_to(victim)
    plant(work, "d")
    assert "is a link" in cli("seamless-download", path, status=1).stderr
    assert os.listdir(victim) == ["own"]


@pytest.mark.parametrize("path", ["d", "d/ssh", "d/ssh/keys", "d/ssh/k*"])
@pytest.mark.parametrize("option", [(), ("--overwrite",)], ids=str)
def test_a_link_inside_a_directory_that_has_sidecars(
    cli: Cli, work: Path, victim: Path, path: str, option: tuple[str, ...]
) -> None:
    (work / "d").mkdir()
    plant(work, "d/")
    (work / "d" / "ssh").symlink_to(victim)
    cli("seamless-download", *option, path, status=1)
    assert os.listdir(victim) == ["own"]


def test_what_is_named_is_written_to(cli: Cli, work: Path, victim: Path) -> None:
    (work / "d").symlink_to(victim)
    plant(work, "d")
    cli("seamless-download", "d", "-o", str(victim))
    assert (victim / "ssh" / "keys").read_text() == "theirs\n"


def test_a_link_of_the_users_own_to_what_was_uploaded(cli: Cli, work: Path, victim: Path) -> None:
    (work / "d").symlink_to(victim)
    (victim / "a").write_text("a\n")
    cli("seamless-upload", "d")
    (victim / "a").unlink()
    cli("seamless-download", "d")
    cli("seamless-download", "d/a")
    assert (victim / "a").read_text() == "a\n"


def test_a_future_beside_a_link(cli: Cli, work: Path, victim: Path) -> None:
    """The user has run what the clone says, so that the result is known."""
    line = "mkdir out; echo theirs > out/keys"
    key = json.loads(cli("seamless-run", "--dry-run", "--json", "-cp", "out", line).stdout)["key"]
    cli("seamless-run", "-cp", "out", line)
    (work / "d").symlink_to(victim)
    future = {"seamless-future": 1, "key": key, "result": "out", "server": None, "host": "h", "process": 1}
    (work / "d.FUTURE").write_text(json.dumps(future))
    assert "is a link to" in cli("seamless-download", "d", status=1).stderr
    assert os.listdir(victim) == ["own"]
