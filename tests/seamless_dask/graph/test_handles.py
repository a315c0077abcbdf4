"""Handles: small on the way, bytes on demand."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from hashserver.checksum import hash_bytes
from hashserver.errors import BufferMissing, MemberPending, SidecarError, TreeError
from hashserver.workspace.index import index_bytes
from hashserver.workspace.pending import Future, write_future
from hashserver.workspace.sidecar import write_file_sidecar
from seamless_dask import Directory, File
from seamless_dask.errors import UsageError
from seamless_dask.graph import handles
from seamless_dask.graph.handles import Results, of
from seamless_dask.model.values import NamedValues


@pytest.fixture(autouse=True)
def used(lab: Any) -> None:
    handles.use(lab.context)


def test_a_file_is_read_and_saved(lab: Any, tmp_path: Path) -> None:
    file = of(*lab.file(b"hello\n"))
    assert isinstance(file, File)
    assert (file.read_bytes(), file.read_text()) == (b"hello\n", "hello\n")
    with file.open() as stream:
        assert stream.read(2) == b"he"
    file.save(tmp_path / "new" / "file")
    assert (tmp_path / "new" / "file").read_bytes() == b"hello\n"


def test_a_directory_is_listed_and_saved(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "a").write_text("1")
    (tmp_path / "d" / "sub" / "b").write_text("2")
    directory = pickle.loads(pickle.dumps(Directory(tmp_path / "d")))
    assert sorted(directory) == ["a", "sub/b"]
    assert directory["sub/b"].read_text() == "2"
    directory.save(tmp_path / "copy")
    assert (tmp_path / "copy" / "sub" / "b").read_text() == "2"


def test_a_member_gets_into_no_git_repository_that_is_there(lab: Any, tmp_path: Path) -> None:
    hook = lab.context.store.put(b"#!/bin/sh\n")
    index = {".git/HEAD": hook, ".git/hooks/post-checkout": hook, "a": hook}
    directory = Directory(checksum=lab.context.store.put(index_bytes(index)))
    directory.save(tmp_path / "new")
    directory.save(tmp_path / "new")  # what is there already is no harm
    (tmp_path / "own" / ".git").mkdir(parents=True)
    (tmp_path / "own" / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    with pytest.raises(UsageError, match="would get into the git repository that is there"):
        directory.save(tmp_path / "own")
    assert os.listdir(tmp_path / "own") == [".git"]
    assert os.listdir(tmp_path / "own" / ".git") == ["HEAD"]


def test_nothing_is_saved_through_a_link(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "victim").mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "sub").symlink_to(tmp_path / "victim")
    index = {"a": lab.context.store.put(b"a"), "sub/keys": lab.context.store.put(b"theirs")}
    with pytest.raises(TreeError, match="sub is in the way"):
        Directory(checksum=lab.context.store.put(index_bytes(index))).save(tmp_path / "d")
    assert os.listdir(tmp_path / "victim") == []
    assert os.listdir(tmp_path / "d") == ["sub"]


def test_results_are_found_by_name(lab: Any) -> None:
    parts = NamedValues(lab.file(b"out"), {"a": lab.file(b"A")}, {})
    found = of("results", lab.context.store.put(parts.to_bytes()))
    assert isinstance(found, Results)
    assert {name: part.read_bytes() for name, part in found.items()} == {"stdout": b"out", "a": b"A"}


def test_only_the_name_travels(lab: Any) -> None:
    handle = of(*lab.file(b"x" * 100_000))
    data = pickle.dumps(handle)
    assert len(data) < 200
    assert pickle.loads(data) == handle
    assert {handle, pickle.loads(data)} == {handle}


def test_the_format_is_kept(lab: Any) -> None:
    handle = of("json/1", hash_bytes(b"1"))
    assert pickle.loads(pickle.dumps(handle)).format == "json/1"
    assert handle != of("file", hash_bytes(b"1"))


def test_a_local_file_is_stored_when_it_travels(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("local")
    file = File(tmp_path / "x")
    assert file.checksum == hash_bytes(b"local")
    assert lab.context.store.has([file.checksum]) == [-1]
    assert pickle.loads(pickle.dumps(file)).read_text() == "local"


def test_a_sidecar_stands_for_a_file_that_is_not_here(lab: Any, tmp_path: Path) -> None:
    write_file_sidecar(tmp_path / "x", lab.file(b"remote").checksum)
    assert File(tmp_path / "x").read_bytes() == b"remote"


def test_what_a_job_is_making_is_not_taken_as_it_was(lab: Any, tmp_path: Path) -> None:
    """The result of a line of `seamless-run` that has not ended, over the one of the last time."""
    (tmp_path / "out").write_text("of the last time\n")
    (tmp_path / "d").mkdir()
    for path in (tmp_path / "out", tmp_path / "d", tmp_path / "gone"):
        write_future(path, Future(key=hash_bytes(b"x"), result="out", server=None, host="h", process=1))
    for make, name in ((File, "out"), (Directory, "d"), (File, "gone")):
        with pytest.raises(MemberPending, match=f"{name} is still being made by a job: .*seamless-download"):
            make(tmp_path / name).checksum  # noqa: B018 - looked for when it is looked at


def test_a_file_that_differs_from_its_sidecar_is_refused(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("new")
    write_file_sidecar(tmp_path / "x", hash_bytes(b"old"))
    with pytest.raises(SidecarError, match="has changed since its sidecar was written"):
        _ = File(tmp_path / "x").checksum


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: File(path / "absent"), "absent: no such file or directory"),
        (lambda path: File(path), r"is a directory: say Directory\("),
    ],
)
def test_a_path_that_is_something_else_is_told(lab: Any, tmp_path: Path, make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _ = make(tmp_path).checksum


def test_a_path_or_a_checksum_is_needed() -> None:
    with pytest.raises(UsageError, match="either a path or a checksum"):
        File()


def test_bytes_that_nobody_has_are_an_error(lab: Any) -> None:
    with pytest.raises(BufferMissing):
        File(checksum="1" * 64).read_bytes()
