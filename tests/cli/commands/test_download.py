from __future__ import annotations

import hashlib
import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from ..conftest import contents

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Cli

HELLO = hashlib.sha256(b"hello\n").hexdigest()


@pytest.fixture
def uploaded(cli: Cli, work: Path) -> Path:
    """A file that was uploaded and deleted."""
    path = work / "a.txt"
    path.write_text("hello\n")
    cli("seamless-upload", "a.txt")
    path.unlink()
    return path


@pytest.fixture
def away(cli: Cli, tree: Path) -> Path:
    """A directory that was uploaded and emptied; its files are in `kept`."""
    cli("seamless-upload", "set")
    shutil.copytree(tree, tree.parent / "kept")
    for path in tree.iterdir():
        if path.name not in (".CHECKSUM", ".INDEX"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return tree


def test_fetches_a_file(cli: Cli, uploaded: Path) -> None:
    assert cli("seamless-download", "a.txt").stdout == b""
    assert uploaded.read_text() == "hello\n"


def test_stdout(cli: Cli, uploaded: Path) -> None:
    assert cli("seamless-download", "--stdout", "a.txt").stdout == b"hello\n"
    assert not uploaded.exists()


def test_output(cli: Cli, work: Path, uploaded: Path) -> None:
    cli("seamless-download", "a.txt", "-o", "b.txt")
    cli("seamless-download", "a.txt", "-o", "b.txt")
    assert (work / "b.txt").read_text() == "hello\n"
    assert not uploaded.exists()


def test_output_takes_one_path(cli: Cli, uploaded: Path) -> None:
    assert "one path" in cli("seamless-download", "a.txt", "b.txt", "-o", "c", status=2).error


def test_fetches_a_whole_directory(cli: Cli, work: Path, away: Path) -> None:
    cli("seamless-download", "set")
    assert contents(away) == contents(work / "kept")
    assert os.access(away / "run.sh", os.X_OK)
    assert not os.access(away / "a.txt", os.X_OK)


def test_a_pipe_in_place_of_the_index_is_not_waited_for(cli: Cli, work: Path, away: Path) -> None:
    expected = hashlib.sha256((away / ".INDEX").read_bytes()).hexdigest()
    (away / ".INDEX").unlink()
    os.mkfifo(away / ".INDEX")
    cli("seamless-download", str(away))
    assert (away / ".CHECKSUM").read_text().strip() == expected
    assert contents(away)


def test_fetches_one_member_of_a_directory(cli: Cli, work: Path, away: Path) -> None:
    cli("seamless-download", "set/a.txt")
    assert contents(away) == {"a.txt": b"hello\n"}
    cli("seamless-download", "sub", cwd=away)
    assert contents(away / "sub") == contents(work / "kept" / "sub")


def test_a_directory_elsewhere(cli: Cli, work: Path, away: Path) -> None:
    cli("seamless-download", "set", "-o", "other")
    assert contents(work / "other") == contents(work / "kept")


def test_what_is_there_is_not_fetched_again(cli: Cli, work: Path, away: Path) -> None:
    shutil.copy(work / "kept" / "a.txt", away)
    before = (away / "a.txt").stat().st_ino
    assert json.loads(cli("seamless-download", "--json", "set").stdout)[0]["files_written"] == 3
    assert (away / "a.txt").stat().st_ino == before
    assert json.loads(cli("seamless-download", "--json", "set").stdout)[0]["files_written"] == 0


def test_a_file_of_the_users_is_not_replaced(cli: Cli, uploaded: Path) -> None:
    uploaded.write_text("mine\n")
    assert "--overwrite" in cli("seamless-download", "a.txt", status=1).error
    assert uploaded.read_text() == "mine\n"
    cli("seamless-download", "--overwrite", "a.txt")
    assert uploaded.read_text() == "hello\n"


def test_a_member_of_the_users_is_not_replaced(cli: Cli, work: Path, away: Path) -> None:
    (away / "a.txt").write_text("mine\n")
    assert "set/a.txt" in cli("seamless-download", "set", status=1).error
    assert sorted(contents(away)) == ["a.txt"]
    cli("seamless-download", "--overwrite", "set")
    assert contents(away) == contents(work / "kept")


def test_what_does_not_belong_there_is_told_and_kept(cli: Cli, away: Path) -> None:
    (away / "notes").write_text("mine\n")
    assert "set/notes" in cli("seamless-download", "set").stderr
    assert (away / "notes").read_text() == "mine\n"


def test_missing_bytes_are_one_line(cli: Cli, uploaded: Path, store: Path) -> None:
    (store / HELLO[:2] / HELLO).unlink()
    assert HELLO in cli("seamless-download", "a.txt", status=1).error
    assert not uploaded.exists()


def test_a_missing_member_is_named_before_anything_is_written(cli: Cli, away: Path, store: Path) -> None:
    (store / HELLO[:2] / HELLO).unlink()
    assert "set/a.txt" in cli("seamless-download", "set", status=1).error
    assert contents(away) == {}


def test_corrupt_bytes_never_get_to_the_file(cli: Cli, uploaded: Path, store: Path) -> None:
    buffer = store / HELLO[:2] / HELLO
    buffer.chmod(0o600)
    buffer.write_text("jello\n")
    assert HELLO in cli("seamless-download", "a.txt", status=1).error
    assert not uploaded.exists()
    assert cli("seamless-download", "--stdout", "a.txt", status=1).stdout == b""


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "a/../../out", "a//b", ""])
def test_an_index_that_leaves_the_directory_is_refused(cli: Cli, work: Path, store: Path, name: str) -> None:
    (work / "evil").write_text(json.dumps({name: HELLO}))
    (work / "a.txt").write_text("hello\n")
    cli("seamless-upload", "-q", "evil", "a.txt")
    (work / "set").mkdir()
    (work / "set" / ".CHECKSUM").write_text((work / "evil.CHECKSUM").read_text())
    assert "path" in cli("seamless-download", "set", status=1).error
    assert not (work / "out").exists()
    assert [p.name for p in (work / "set").iterdir()] == [".CHECKSUM"]


def test_nothing_is_written_through_a_link(cli: Cli, work: Path, away: Path) -> None:
    (work / "outside").mkdir()
    (away / "sub").symlink_to(work / "outside")
    assert "set/sub" in cli("seamless-download", "set", status=1).error
    assert list((work / "outside").iterdir()) == []


def test_a_link_that_was_cloned_leads_to_no_directory_of_the_users(
    cli: Cli, work: Path, home: Path, away: Path
) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh" / "known_hosts").write_text("mine\n")
    for suffix in ("CHECKSUM", "INDEX"):  # the form of Seamless 1.x: git has it beside a link
        (away / f".{suffix}").rename(work / f"data.{suffix}")
    (work / "data").symlink_to(home / ".ssh")
    error = cli("seamless-download", "data", status=1).error
    assert f"data is a link to {home / '.ssh'}, which holds other files" in error
    assert "data is a link" in cli("seamless-download", ".", status=1).error
    assert contents(home / ".ssh") == {"known_hosts": b"mine\n"}
    cli("seamless-download", "data", "-o", str(home / "elsewhere"))
    assert (home / "elsewhere" / "a.txt").is_file()


def test_a_link_of_the_users_own_is_followed(cli: Cli, work: Path, home: Path, away: Path) -> None:
    (home / "scratch").mkdir()
    for suffix in ("CHECKSUM", "INDEX"):
        (away / f".{suffix}").rename(work / f"data.{suffix}")
    (work / "data").symlink_to(home / "scratch")
    cli("seamless-download", "data")
    (home / "scratch" / "mine.txt").write_text("mine\n")  # beside sidecars of ours
    (home / "scratch" / "a.txt").unlink()
    cli("seamless-download", "data")
    assert (home / "scratch" / "a.txt").is_file()


@pytest.mark.parametrize("word", [".", ".git", ".git/hooks", ".git/hooks/post-checkout"])
def test_nothing_gets_into_a_git_repository_by_sidecars_beside_it(cli: Cli, work: Path, word: str) -> None:
    (work / "made" / "hooks").mkdir(parents=True)
    (work / "made" / "hooks" / "post-checkout").write_text("#!/bin/sh\n")
    cli("seamless-upload", "made")
    clone = work / "clone"
    (clone / ".git" / "hooks").mkdir(parents=True)
    (clone / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    for suffix in ("CHECKSUM", "INDEX"):
        shutil.copy(work / "made" / f".{suffix}", clone / f".git.{suffix}")
    error = cli("seamless-download", word, cwd=clone, status=1).error
    assert "would get into the git repository that is there" in error
    assert not list((clone / ".git" / "hooks").iterdir())


def test_nothing_gets_into_a_git_repository_that_is_there(cli: Cli, work: Path) -> None:
    hook = work / "made" / ".git" / "hooks" / "post-checkout"
    hook.parent.mkdir(parents=True)
    hook.write_text("#!/bin/sh\n")
    cli("seamless-upload", "made")
    clone = work / "clone"
    for name in (".CHECKSUM", ".INDEX"):
        clone.mkdir(exist_ok=True)
        shutil.copy(work / "made" / name, clone / name)
    (clone / ".git" / "hooks").mkdir(parents=True)
    (clone / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    error = cli("seamless-download", "clone", status=1).error
    assert "clone/.git/hooks/post-checkout would get into the git repository that is there" in error
    assert not list((clone / ".git" / "hooks").iterdir())
    (clone / ".git" / "HEAD").unlink()
    cli("seamless-download", "clone")  # one that comes as a whole
    assert (clone / ".git" / "hooks" / "post-checkout").is_file()


def test_no_sidecar(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("x")
    assert "no sidecar" in cli("seamless-download", "a.txt", status=1).error
    assert "no such file" in cli("seamless-download", "b.txt", status=1).error


def test_a_sidecar_instead_of_what_it_stands_for(cli: Cli, uploaded: Path) -> None:
    cli("seamless-download", "a.txt.CHECKSUM")
    assert uploaded.read_bytes() == b"hello\n"


def test_a_pattern_that_only_sidecars_match(cli: Cli, uploaded: Path, away: Path) -> None:
    cli("seamless-download", "*")
    assert uploaded.exists()
    assert (away / "a.txt").exists()


def test_sidecars_of_seamless_1(cli: Cli, work: Path, away: Path) -> None:
    (away / ".CHECKSUM").rename(work / "set.CHECKSUM")
    (away / ".INDEX").rename(work / "set.INDEX")
    away.rmdir()
    cli("seamless-download", "set")
    assert contents(away) == contents(work / "kept")


def test_large_and_many_files(cli: Cli, work: Path) -> None:
    (work / "set").mkdir()
    for number in range(200):
        (work / "set" / str(number)).write_bytes(os.urandom(100))
    (work / "set" / "large").write_bytes(os.urandom(2 << 20))
    (work / "set" / "same").write_bytes((work / "set" / "large").read_bytes())
    before = contents(work / "set")
    cli("seamless-upload", "--move", "set")
    cli("seamless-download", "set")
    assert contents(work / "set") == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_directory_that_cannot_be_written(cli: Cli, work: Path, uploaded: Path) -> None:
    work.chmod(0o500)
    assert "a.txt" in cli("seamless-download", "a.txt", status=1).error
    work.chmod(0o700)
