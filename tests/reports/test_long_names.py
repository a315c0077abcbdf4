"""Names that a file may have, but that leave no room for what we write beside it.

https://github.com/snakemake/snakemake/issues/1771: an output whose name is long, and which the rule has
written, ends in ``File name too long``, since the record of it has a longer name still.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ..cli.conftest import Cli, cli, work

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["cli", "work"]

SIZES = [246, 248, 249, 250, 255]
"""The longest that has room for ``.CHECKSUM``; for ``.FUTURE``; for ``.INDEX``; for none; the longest."""


def name_of(size: int) -> str:
    """A name of so many bytes, fewer characters."""
    return f"é{'x' * (size - 2)}"


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_is_there_is_read(cli: Cli, work: Path, size: int) -> None:
    name = name_of(size)
    (work / name).write_text("long\n")
    assert cli("seamless-run", f"cat {name}").text == "long\n"
    assert cli("seamless-run", "--stdin", name, "cat").text == "long\n"
    assert name in cli("seamless-checksum", name).text


@pytest.mark.parametrize("size", SIZES)
def test_a_directory_and_its_members(cli: Cli, work: Path, size: int) -> None:
    name = name_of(size)
    (work / name).mkdir()
    (work / name / name).write_text("long\n")
    assert cli("seamless-run", f"cat {name}/*").text == "long\n"
    cli("seamless-upload", "--move", name)
    assert cli("seamless-run", f"cat {name}/{name}").text == "long\n"
    cli("seamless-download", name)
    assert (work / name / name).read_text() == "long\n"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("words", [["echo long > {name}"], ["--capture", "{name}", "echo long | tee {name}"]])
def test_a_result_is_taken_or_refused_before_anything_runs(
    cli: Cli, work: Path, tmp_path: Path, words: list[str], size: int
) -> None:
    name, mark = name_of(size), tmp_path / "ran"
    line = [word.format(name=name) for word in words]
    line[-1] = f"touch {mark}; {line[-1]}"
    if size == 246:
        cli("seamless-run", *line, SEAMLESS_ISOLATION="none")
        assert (work / name).read_text() == "long\n"
        assert (work / f"{name}.CHECKSUM").exists()
        return
    error = cli("seamless-run", *line, status=2, SEAMLESS_ISOLATION="none").error
    assert f"a name of {size} bytes leaves no room for its sidecar" in error
    assert not mark.exists()
    assert list(work.iterdir()) == []
    cli("seamless-run", "--capture", f"{name}:short", line[-1], SEAMLESS_ISOLATION="none")
    assert (work / "short").read_text() == "long\n"


@pytest.mark.parametrize("options", ["", "--write", "--move"])
def test_a_file_that_can_have_no_sidecar_is_named_and_kept(cli: Cli, work: Path, options: str) -> None:
    name = name_of(247)
    (work / name).write_text("long\n")
    command = "seamless-checksum" if options == "--write" else "seamless-upload"
    error = cli(command, *options.split(), name, status=1).error
    assert "a name of 247 bytes leaves no room for its sidecar (246 do)" in error
    assert [path.read_text() for path in work.iterdir()] == ["long\n"]


@pytest.mark.parametrize("size", SIZES)
def test_a_member_of_a_captured_directory(cli: Cli, work: Path, size: int) -> None:
    name = name_of(size)
    line = ("--capture", "d", f"mkdir -p d; echo long > d/{name}")
    cli("seamless-run", "-nd", *line)
    cli("seamless-download", f"d/{name}")
    assert (work / "d" / name).read_text() == "long\n"
    cli("seamless-run", *line)
    assert cli("seamless-run", f"cat d/{name}").text == "long\n"


@pytest.fixture(params=[4095 - 9, 4095 - 8, 4095], ids=["sidecar", "no sidecar", "longest"])
def deep(request: pytest.FixtureRequest, work: Path) -> str:
    """The relative path of a file whose absolute one has so many bytes."""
    room = request.param - len(str(work)) - 1
    folders, last = divmod(room - 20, 201)
    path = "/".join(["d" * 200] * folders + ["f" * (last + 20)])
    assert len(f"{work}/{path}") == request.param
    (work / path).parent.mkdir(parents=True)
    (work / path).write_text("deep\n")
    return path


@pytest.fixture(params=[4087, 4088, 4092, 4093])
def bottom(request: pytest.FixtureRequest, work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory whose path has so many bytes: none, or one of the two letters of a file is over."""
    room = request.param - len(str(work)) - 1
    folders, last = divmod(room - 20, 201)
    path = work / "/".join(["d" * 200] * folders + ["e" * (last + 20)])
    path.mkdir(parents=True)
    assert len(str(path)) == request.param
    return path


def test_what_is_named_from_where_it_is_and_deleted_after_its_upload(cli: Cli, bottom: Path) -> None:
    """The sidecar has a longer path than the system takes, and a short one from here."""
    (bottom / "f").write_text("deep\n")
    cli("seamless-upload", "--move", "f", cwd=bottom)
    assert sorted(os.listdir(bottom)) == ["f.CHECKSUM"]
    assert cli("seamless-run", "cat f", cwd=bottom).text == "deep\n"
    assert cli("seamless-run", "cat *", cwd=bottom).text == "deep\n"
    assert cli("seamless-run", "cat < f", cwd=bottom).text == "deep\n"
    assert cli("seamless-run", "--input", "f", "cat *", cwd=bottom).text == "deep\n"
    cli("seamless-download", "f", cwd=bottom)
    assert (bottom / "f").read_text() == "deep\n"


def test_a_directory_too(cli: Cli, bottom: Path) -> None:
    (bottom / "m").write_text("deep\n")
    cli("seamless-upload", "--move", bottom.name, cwd=bottom.parent)
    assert sorted(os.listdir(bottom)) == [".CHECKSUM", ".INDEX"]
    assert cli("seamless-run", f"ls {bottom.name}", cwd=bottom.parent).text == "m\n"
    assert cli("seamless-run", f"cat {bottom.name}/m", cwd=bottom.parent).text == "deep\n"


def test_what_cannot_be_named_by_its_whole_path_is_not_said_to_be_missing(cli: Cli, bottom: Path) -> None:
    name = "x" * (4096 - len(str(bottom)))
    at = os.open(bottom, os.O_RDONLY)
    try:
        os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=at))
    finally:
        os.close(at)
    for line in (f"cat {name}", f"cat < {name}"):
        error = cli("seamless-run", line, status=2, cwd=bottom).error
        assert "its whole path has 4097 bytes, and the system takes 4095" in error
    cli("seamless-upload", "--move", name, cwd=bottom)
    assert f"{name}.CHECKSUM" in os.listdir(bottom)
    assert "its whole path" in cli("seamless-run", f"cat {name}", status=2, cwd=bottom).error
    cli("seamless-download", name, cwd=bottom)
    assert name in os.listdir(bottom)


def test_one_that_is_named_by_it_is_kept(cli: Cli, bottom: Path) -> None:
    (bottom / "f").write_text("deep\n")
    error = cli("seamless-upload", "--move", bottom / "f", status=1).error
    assert f"a path of {len(str(bottom)) + 2} bytes leaves no room for its sidecar (4085 do)" in error
    assert os.listdir(bottom) == ["f"]


def test_a_path_as_long_as_the_system_takes(cli: Cli, work: Path, deep: str) -> None:
    assert cli("seamless-run", f"cat {deep}").text == "deep\n"
    assert cli("seamless-run", "--stdin", deep, "cat").text == "deep\n"
    assert cli("seamless-checksum", deep).text
    cli("seamless-upload", deep)
    assert cli("seamless-run", f"cat {deep} -").text == "deep\n"
