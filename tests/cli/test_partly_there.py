"""A directory whose files are partly elsewhere: its index may be the only record of them."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from .conftest import contents

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Cli

WRITERS = [
    ("seamless-upload",),
    ("seamless-checksum", "--write"),
    ("seamless-checksum-index",),
]


def index(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / ".INDEX").read_text())
    return found


def delete_files(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name not in (".CHECKSUM", ".INDEX"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@pytest.fixture
def linked(tree: Path, work: Path) -> Path:
    """An uploaded directory with a link to a directory and an empty directory."""
    (work / "elsewhere").mkdir()
    (tree / "link").symlink_to(work / "elsewhere")
    (tree / "hollow" / "deeper").mkdir(parents=True)
    return tree


def pair_beside(folder: Path) -> None:
    """Give a directory the pair that Seamless 1.x writes."""
    for suffix in (".CHECKSUM", ".INDEX"):
        (folder / suffix).rename(folder.with_name(folder.name + suffix))


def test_move_keeps_what_it_says_it_leaves(cli: Cli, linked: Path) -> None:
    told = cli("seamless-upload", "--move", "set").stderr
    assert "link to a directory" in told
    assert "hollow is empty" in told
    assert (linked / "link").is_symlink()
    assert (linked / "hollow" / "deeper").is_dir()
    assert sorted(p.name for p in linked.iterdir()) == [".CHECKSUM", ".INDEX", "hollow", "link"]


@pytest.mark.parametrize("form", ["inside", "beside"])
@pytest.mark.parametrize("command", WRITERS, ids=lambda words: words[0])
def test_links_to_directories_and_empty_ones_are_not_there(
    cli: Cli, linked: Path, command: tuple[str, ...], form: str
) -> None:
    before = contents(linked)
    known = cli("seamless-checksum", "set").stdout
    cli("seamless-upload", "--move", "set")
    if form == "beside":
        pair_beside(linked)
    cli(*command, "set")
    assert cli("seamless-checksum", "set").stdout == known
    assert cli("seamless-run", "cat set/a.txt").stdout == (before["a.txt"])
    cli("seamless-download", "set")
    assert contents(linked) == before


def test_member_sidecars_that_stayed_are_not_there_either(cli: Cli, tree: Path) -> None:
    before = contents(tree)
    cli("seamless-upload", "set/a.txt")
    cli("seamless-upload", "--move", "set")
    assert (tree / "a.txt.CHECKSUM").exists()
    assert cli("seamless-run", "cat set/a.txt set/sub/*").status == 0
    cli("seamless-upload", "set")
    cli("seamless-download", "set")
    assert before.items() <= contents(tree).items()


def test_move_of_a_directory_in_which_another_was_moved(cli: Cli, tree: Path) -> None:
    before = contents(tree)
    cli("seamless-upload", "--move", "set/sub")
    cli("seamless-upload", "--move", "set")
    cli("seamless-download", "set")
    assert before.items() <= contents(tree).items()


@pytest.mark.parametrize("form", ["inside", "beside"])
@pytest.mark.parametrize("command", WRITERS, ids=lambda words: words[0])
@pytest.mark.parametrize("left", ["some", "extra", "changed"])
def test_an_index_never_loses_members_unasked(
    cli: Cli, tree: Path, command: tuple[str, ...], left: str, form: str
) -> None:
    cli("seamless-upload", "set")
    names = index(tree)
    if left == "extra":
        delete_files(tree)
        (tree / "new.txt").write_text("new\n")
    else:
        (tree / "a.txt").unlink()
        if left == "changed":
            (tree / "sub" / "b.bin").write_bytes(b"other")
    if form == "beside":
        pair_beside(tree)
    known = {path: path.read_bytes() for path in tree.parent.glob("set*") if path.is_file()}
    error = cli(*command, "set", status=1).error
    number = len(names) if left == "extra" else 1
    assert f"{number} file" in error
    assert "a.txt" in error
    assert "seamless-download" in error
    assert "--replace" in error
    assert {path: path.read_bytes() for path in known} == known
    cli(*command, "--replace", "set")
    assert ("new.txt" in index(tree)) == (left == "extra")
    assert "a.txt" not in index(tree)


def test_what_the_error_of_a_run_advises_brings_all_back(cli: Cli, tree: Path) -> None:
    before = contents(tree)
    cli("seamless-upload", "set")
    (tree / "a.txt").unlink()
    error = cli("seamless-run", "ls -R set/", status=1).error
    assert "partly there" in error
    assert "1 file (a.txt)" in error
    assert "seamless-download set" in error
    cli("seamless-download", "set")
    assert before.items() <= contents(tree).items()
    cli("seamless-run", "ls -R set")


def test_a_run_on_a_directory_with_changed_and_missing_files(cli: Cli, tree: Path) -> None:
    cli("seamless-upload", "set")
    (tree / "a.txt").unlink()
    (tree / "sub" / "b.bin").write_bytes(b"my own work")
    assert "set/a.txt" in cli("seamless-run", "ls -R set/", status=1).error
    cli("seamless-download", "set/a.txt")
    cli("seamless-upload", "set")
    assert (tree / "sub" / "b.bin").read_bytes() == b"my own work"
    cli("seamless-run", "ls -R set")


def test_a_new_name_is_no_loss(cli: Cli, tree: Path) -> None:
    cli("seamless-upload", "set")
    (tree / "a.txt").rename(tree / "renamed.txt")
    cli("seamless-upload", "set")
    assert "renamed.txt" in index(tree)


def test_an_index_that_nobody_has(cli: Cli, tree: Path, store: Path) -> None:
    cli("seamless-upload", "set")
    checksum = (tree / ".CHECKSUM").read_text().strip()
    (tree / ".INDEX").unlink()
    (tree / "a.txt").unlink()
    assert "a.txt" in cli("seamless-upload", "set", status=1).error  # the store has it
    os.unlink(store / checksum[:2] / checksum)
    assert "neither here nor in the store" in cli("seamless-upload", "set", status=1).error
    assert (tree / ".CHECKSUM").read_text().strip() == checksum
    cli("seamless-upload", "--replace", "set")


@pytest.mark.parametrize("command", [WRITERS[0], WRITERS[1]], ids=lambda words: words[0])
def test_a_file_in_the_place_of_a_directory(cli: Cli, tree: Path, command: tuple[str, ...]) -> None:
    cli("seamless-upload", "--move", "set")
    pair_beside(tree)
    tree.rmdir()
    tree.write_text("a file\n")
    pair = tree.with_name("set.INDEX").read_text()
    assert "a.txt" in cli(*command, "set", status=1).error
    assert tree.with_name("set.INDEX").read_text() == pair
    cli(*command, "--replace", "set")
    assert not tree.with_name("set.INDEX").exists()


def test_a_download_to_another_place_does_not_take_its_record(cli: Cli, tree: Path, work: Path) -> None:
    (work / "other").mkdir()
    (work / "other" / "z.txt").write_text("z\n")
    cli("seamless-upload", "--move", "set", "other")
    assert "z.txt" in cli("seamless-download", "set", "-o", "other", status=1).error
    assert index(work / "other").keys() == {"z.txt"}
    cli("seamless-download", "set", "-o", "other", "--overwrite")
    assert "a.txt" in index(work / "other")
