"""What is left of a directory when its files have gone.

https://github.com/treeverse/dvc/issues/2397: after a checkout of a version that lacks a folder, the folder is
still there, and empty, so that what is on the disk is not what was asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ..cli.conftest import Cli, cli, tree, work

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["cli", "tree", "work"]

MAKE = "mkdir -p out/kept out/old/deep; echo 1 > out/kept/a; echo 2 > out/old/deep/b"
MAKE_LESS = "mkdir -p out/kept; echo 1 > out/kept/a"


def folders(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_dir()}


def test_a_result_with_fewer_folders_leaves_none_of_the_former_one(cli: Cli, work: Path) -> None:
    cli("seamless-run", "--capture", "out", MAKE)
    assert folders(work / "out") == {"kept", "old", "old/deep"}
    cli("seamless-run", "--capture", "out", MAKE_LESS)
    assert folders(work / "out") == {"kept"}


def test_a_download_of_an_earlier_version_leaves_none_of_the_later_one(cli: Cli, work: Path) -> None:
    cli("seamless-run", "--capture", "out", MAKE_LESS)
    earlier = {name: (work / "out" / name).read_bytes() for name in (".CHECKSUM", ".INDEX")}
    checksum = earlier[".CHECKSUM"].decode().strip()
    cli("seamless-run", "--capture", "out", MAKE)
    cli("seamless-download", "--overwrite", checksum, "-o", "out")
    assert folders(work / "out") == {"kept"}
    assert {name: (work / "out" / name).read_bytes() for name in earlier} == earlier


def test_a_folder_of_the_users_own_is_kept(cli: Cli, work: Path) -> None:
    cli("seamless-run", "--capture", "out", MAKE)
    (work / "out" / "old" / "mine").mkdir()
    (work / "out" / "old" / "mine" / "notes").write_text("mine\n")
    cli("seamless-run", "--capture", "out", MAKE_LESS)
    assert (work / "out" / "old" / "mine" / "notes").read_text() == "mine\n"
    assert folders(work / "out") == {"kept", "old", "old/mine"}


@pytest.mark.parametrize("command", ["seamless-upload", "seamless-checksum"])
def test_folders_that_are_left_do_not_stand_for_the_data(cli: Cli, tree: Path, command: str) -> None:
    cli("seamless-upload", "set")
    known = cli("seamless-checksum", "set").text
    for path in [path for path in tree.rglob("*") if path.is_file() and path.parent != tree]:
        path.unlink()
    for path in tree.iterdir():
        if path.is_file() and not path.name.startswith("."):
            path.unlink()
    assert folders(tree) == {"sub"}
    cli(command, "set")
    assert cli("seamless-checksum", "set").text == known
    cli("seamless-download", "set")
    assert (tree / "sub" / "b.bin").read_bytes() == b"x"
