"""Sidecars: where they lie, what they hold, what is refused."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import SidecarError
from hashserver.workspace.index import index_bytes
from hashserver.workspace.sidecar import (
    Future,
    Sidecar,
    find_sidecar,
    is_sidecar_name,
    member_stand_in,
    parse_future,
    read_checksum,
    read_future,
    read_index,
    remove_future,
    write_directory_sidecars,
    write_file_sidecar,
    write_future,
)

ONE, TWO = hash_bytes(b"one"), hash_bytes(b"two")
INDEX = index_bytes({"a.txt": ONE})
DEEP = hash_bytes(INDEX)
OTHER = index_bytes({"a.txt": TWO})
DOCUMENT = json.dumps(
    {"seamless-future": 1, "key": ONE, "result": None, "server": None, "host": "h", "process": 77}
)
FUTURE = Future(ONE, "out.csv", "https://host:8000", "node", 123)


def write_pair(prefix: Path | str, index: bytes = INDEX) -> None:
    Path(f"{prefix}.CHECKSUM").write_text(hash_bytes(index) + "\n")
    Path(f"{prefix}.INDEX").write_bytes(index)


def one_line(error: pytest.ExceptionInfo[SidecarError], *parts: object) -> None:
    text = str(error.value)
    assert "\n" not in text
    for part in parts:
        assert str(part) in text


class TestPlaces:
    @pytest.mark.parametrize("name", ["x.CHECKSUM", "x.INDEX", "x.FUTURE", ".CHECKSUM", "a/b.INDEX"])
    def test_names(self, name: str) -> None:
        assert is_sidecar_name(name)
        assert not is_sidecar_name(name.lower())


class TestFiles:
    def test_written_and_found_whether_or_not_the_file_is_there(self, tmp_path: Path) -> None:
        path = tmp_path / "input.txt"
        where = write_file_sidecar(path, ONE)
        assert Path(where).read_bytes() == f"{ONE}\n".encode()
        expected = Sidecar("file", ONE, f"{path}.CHECKSUM")
        assert find_sidecar(path) == expected
        path.write_bytes(b"one")
        assert find_sidecar(path) == expected
        assert os.listdir(tmp_path).sort() == ["input.txt", "input.txt.CHECKSUM"].sort()

    def test_none(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert find_sidecar(tmp_path / "file") is None
        assert find_sidecar(tmp_path / "gone" / "file") is None

    @pytest.mark.parametrize("text", ["", "\n", " "])
    def test_empty(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "x.CHECKSUM").write_text(text)
        with pytest.raises(SidecarError) as caught:
            find_sidecar(tmp_path / "x")
        one_line(caught, "x.CHECKSUM is empty", f"seamless-upload {tmp_path}/x ")

    @pytest.mark.parametrize(
        "data",
        [
            b"hello",
            ONE[:-1].encode(),
            ONE.upper().encode(),
            f"{ONE}\n{TWO}".encode(),
            b"\xff",
            b"<<<<<<< HEAD\n",
        ],
    )
    def test_not_a_checksum(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "x.CHECKSUM").write_bytes(data)
        with pytest.raises(SidecarError) as caught:
            find_sidecar(tmp_path / "x")
        one_line(caught, "x.CHECKSUM", "64 lower-case hex digits")

    def test_white_space_around_it_does_not_matter(self, tmp_path: Path) -> None:
        (tmp_path / "x.CHECKSUM").write_text(f"  {ONE}\r\n\n")
        assert read_checksum(tmp_path / "x.CHECKSUM") == ONE

    def test_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_checksum(tmp_path / "x.CHECKSUM")

    def test_a_cyclic_link(self, tmp_path: Path) -> None:
        (tmp_path / "x.CHECKSUM").symlink_to("x.CHECKSUM")
        with pytest.raises(SidecarError) as caught:
            find_sidecar(tmp_path / "x")
        one_line(caught, "cannot read", "x.CHECKSUM")

    def test_a_pipe_does_not_block(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "x.CHECKSUM")
        assert find_sidecar(tmp_path / "x") is None

    def test_a_directory_has_no_file_sidecar(self, tmp_path: Path) -> None:
        (tmp_path / "set").mkdir()
        with pytest.raises(SidecarError):
            write_file_sidecar(tmp_path / "set", ONE)
        assert os.listdir(tmp_path) == ["set"]

    def test_an_unrelated_index_beside_a_file_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "db.INDEX").write_text("some other program's")
        write_file_sidecar(tmp_path / "db", ONE)
        assert find_sidecar(tmp_path / "db") == Sidecar("file", ONE, f"{tmp_path}/db.CHECKSUM")
        assert (tmp_path / "db.INDEX").exists()

    def test_a_directory_pair_becomes_a_file_sidecar(self, tmp_path: Path) -> None:
        write_pair(tmp_path / "out")
        write_file_sidecar(tmp_path / "out", ONE)
        assert find_sidecar(tmp_path / "out") == Sidecar("file", ONE, f"{tmp_path}/out.CHECKSUM")


class TestDirectories:
    def test_written_inside(self, tmp_path: Path) -> None:
        where = write_directory_sidecars(f"{tmp_path}/set/", DEEP, INDEX)
        assert where == f"{tmp_path}/set/.CHECKSUM"
        sidecar = find_sidecar(tmp_path / "set")
        assert sidecar == Sidecar("directory", DEEP, where, f"{tmp_path}/set/.INDEX")
        assert sidecar is not None
        assert read_index(sidecar) == INDEX
        assert find_sidecar(f"{tmp_path}/set/") == sidecar

    def test_the_checksum_alone_suffices(self, tmp_path: Path) -> None:
        (tmp_path / ".CHECKSUM").write_text(DEEP)
        sidecar = find_sidecar(tmp_path)
        assert sidecar == Sidecar("directory", DEEP, f"{tmp_path}/.CHECKSUM")
        assert sidecar is not None
        assert read_index(sidecar) is None

    @pytest.mark.parametrize("exists", [True, False])
    def test_the_forms_of_seamless_1_are_read(self, tmp_path: Path, exists: bool) -> None:
        if exists:
            (tmp_path / "set").mkdir()
        write_pair(tmp_path / "set")
        expected = Sidecar("directory", DEEP, f"{tmp_path}/set.CHECKSUM", f"{tmp_path}/set.INDEX")
        assert find_sidecar(tmp_path / "set") == expected

    def test_both_forms_may_agree(self, tmp_path: Path) -> None:
        write_directory_sidecars(tmp_path / "set", DEEP, INDEX)
        write_pair(tmp_path / "set")
        found = find_sidecar(tmp_path / "set")
        assert found is not None
        assert found.checksum == DEEP

    def test_both_forms_must_not_disagree(self, tmp_path: Path) -> None:
        write_directory_sidecars(tmp_path / "set", DEEP, INDEX)
        write_pair(tmp_path / "set", OTHER)
        with pytest.raises(SidecarError) as caught:
            find_sidecar(tmp_path / "set")
        one_line(caught, "set/.CHECKSUM", "set.CHECKSUM", "disagree")

    def test_writing_brings_old_forms_in_line(self, tmp_path: Path) -> None:
        write_pair(tmp_path / "set", OTHER)
        write_directory_sidecars(tmp_path / "set", DEEP, INDEX)
        found = find_sidecar(tmp_path / "set")
        assert found is not None
        assert found.checksum == DEEP

    @pytest.mark.parametrize("prefix", ["set/", "set"])
    def test_an_index_of_something_else(self, tmp_path: Path, prefix: str) -> None:
        (tmp_path / "set").mkdir()
        write_pair(f"{tmp_path}/{prefix}")
        Path(f"{tmp_path}/{prefix}.INDEX").write_bytes(OTHER)
        with pytest.raises(SidecarError) as caught:
            find_sidecar(tmp_path / "set")
        one_line(caught, ".INDEX", "seamless-upload")

    def test_an_index_that_changes_after_it_was_found(self, tmp_path: Path) -> None:
        write_directory_sidecars(tmp_path, DEEP, INDEX)
        sidecar = find_sidecar(tmp_path)
        assert sidecar is not None
        (tmp_path / ".INDEX").write_bytes(OTHER)
        with pytest.raises(SidecarError):
            read_index(sidecar)

    @pytest.mark.parametrize("name", [".INDEX", ".CHECKSUM"])
    def test_data_of_that_name_are_not_overwritten(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("precious")
        with pytest.raises(SidecarError) as caught:
            write_directory_sidecars(tmp_path, DEEP, INDEX)
        one_line(caught, name, "move it away")
        assert os.listdir(tmp_path) == [name]
        assert (tmp_path / name).read_text() == "precious"


class TestFutures:
    def test_written_and_read(self, tmp_path: Path) -> None:
        for future in (
            FUTURE,
            FUTURE._replace(result=None, server=None),
            FUTURE._replace(result="é\n"),
        ):
            assert write_future(tmp_path / "out.csv", future) == f"{tmp_path}/out.csv.FUTURE"
            found = read_future(tmp_path / "out.csv")
            assert found == future
            assert found is not None
            assert type(found.key) is Checksum

    def test_none(self, tmp_path: Path) -> None:
        assert read_future(tmp_path / "out.csv") is None

    def test_only_the_own_one_is_removed(self, tmp_path: Path) -> None:
        write_future(tmp_path / "out.csv", FUTURE)
        assert not remove_future(tmp_path / "out.csv", TWO)
        assert read_future(tmp_path / "out.csv") == FUTURE
        assert remove_future(tmp_path / "out.csv", ONE)
        assert not remove_future(tmp_path / "out.csv", ONE)
        assert os.listdir(tmp_path) == []

    def test_its_form(self, tmp_path: Path) -> None:
        (tmp_path / "x.FUTURE").write_text(DOCUMENT)
        assert read_future(tmp_path / "x") == Future(ONE, None, None, "h", 77)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "stock prices",
            "[]",
            "{}",
            '{"seamless-future": 2}',
            '{"seamless-future": 1}',
            DOCUMENT.replace("null", "3"),
            DOCUMENT.replace('"h"', "1"),
            DOCUMENT.replace("77", "true"),
            DOCUMENT.replace("77", '77, "more": 1'),
            DOCUMENT.replace(ONE, "x"),
            "[" * 60_000,
        ],
    )
    def test_a_file_of_that_name_with_other_content_is_not_ours(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "out.csv.FUTURE").write_text(text)
        assert read_future(tmp_path / "out.csv") is None
        assert member_stand_in(f"{tmp_path}/out.csv.FUTURE") is None
        assert not remove_future(tmp_path / "out.csv")
        assert (tmp_path / "out.csv.FUTURE").exists()


def test_stand_ins(tmp_path: Path) -> None:
    write_file_sidecar(tmp_path / "x", ONE)
    write_future(tmp_path / "y", FUTURE)
    (tmp_path / "z.CHECKSUM").write_text("md5 of something")
    assert member_stand_in(f"{tmp_path}/x.CHECKSUM") == ONE
    assert member_stand_in(f"{tmp_path}/y.FUTURE") == FUTURE
    assert member_stand_in(f"{tmp_path}/z.CHECKSUM") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FIELDS = st.sampled_from(["seamless-future", "key", "result", "server", "host", "process", "options", "x"])
WRITTEN = {"seamless-future": 1, **FUTURE._asdict()}


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_a_future_holds_it_is_read_or_is_none(data: bytes) -> None:
    assert parse_future(data) is None or isinstance(parse_future(data), Future)


@given(st.dictionaries(FIELDS, JSON), st.sets(FIELDS))
def test_a_future_with_other_fields_is_of_our_form_or_is_none(
    changed: dict[str, object], left_out: set[str]
) -> None:
    document = {name: value for name, value in (WRITTEN | changed).items() if name not in left_out}
    found = parse_future(json.dumps(document).encode())
    if found is not None:
        assert Checksum(found.key) == document["key"]
        assert isinstance(found.host, str)
        assert type(found.process) is int
        assert all(text is None or isinstance(text, str) for text in (found.result, found.server))


@given(st.none() | st.text(), st.none() | st.text(), st.text(), st.integers())
def test_a_future_is_read_as_it_was_written(
    result: str | None, server: str | None, host: str, process: int
) -> None:
    future = Future(ONE, result, server, host, process)
    with tempfile.TemporaryDirectory() as directory:
        write_future(f"{directory}/x", future)
        assert read_future(f"{directory}/x") == future
