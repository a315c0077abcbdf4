"""Hashing of files that may change meanwhile."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from hashserver import hashing
from hashserver.checksum import hash_bytes
from hashserver.errors import FileChanged, TreeError
from hashserver.hashing import LARGE, hash_files, hash_stable, in_threads


@pytest.fixture
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "processors", lambda: 2)


def test_what_a_file_was_when_it_was_hashed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    hashed = hash_stable(path)
    assert hashed.checksum == hash_bytes(b"one")
    assert hashed.status == path.stat()
    assert hashed.began > 0


@pytest.mark.usefixtures("two_processors")
def test_large_and_small_files_in_the_order_given(tmp_path: Path) -> None:
    contents = [b"a", b"b" * (LARGE + 1), b"", b"c" * LARGE, b"d" * (2 * LARGE)]
    paths = []
    for number, content in enumerate(contents):
        (tmp_path / str(number)).write_bytes(content)
        paths.append(str(tmp_path / str(number)))
    done: list[int] = []
    expected = [hash_bytes(content) for content in contents]
    assert [one.checksum for one in hash_files(paths, progress=done.append)] == expected
    assert sorted(done) == sorted(map(len, contents))
    # Sizes that are no longer right do no harm.
    assert [one.checksum for one in hash_files(paths, [9 * LARGE] * 5)] == expected
    assert hash_files([]) == []


@pytest.mark.usefixtures("two_processors")
def test_large_files_are_hashed_side_by_side() -> None:
    both = threading.Barrier(2)
    in_threads(lambda item: both.wait(30) and None, [0, 1])


@pytest.mark.usefixtures("two_processors")
def test_the_first_error_ends_the_work() -> None:
    def fail(item: int) -> None:
        raise KeyError(item)

    with pytest.raises(KeyError):
        in_threads(fail, list(range(1000)))


@pytest.mark.usefixtures("two_processors")
@pytest.mark.parametrize("size", [1, LARGE])
def test_a_file_that_is_gone_is_named(tmp_path: Path, size: int) -> None:
    paths = [str(tmp_path / "a"), str(tmp_path / "b")]
    with pytest.raises(TreeError, match=r"cannot read .*/[ab]: No such file"):
        hash_files(paths, [size, size])


def test_a_pipe_in_the_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TreeError, match="Not a regular file"):
        hash_files([str(tmp_path / "pipe")])


def test_a_file_that_is_cut_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    real = os.fstat

    def cut(fd: int) -> os.stat_result:
        status = real(fd)
        os.truncate(path, 10)
        return status

    monkeypatch.setattr(hashing.os, "fstat", cut)
    with pytest.raises(FileChanged, match="changed while it was read"):
        hash_stable(path)
