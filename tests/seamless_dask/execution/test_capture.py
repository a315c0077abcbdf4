"""Results of every shape."""

from __future__ import annotations

import os
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hashserver.checksum import hash_bytes
from seamless_dask.errors import ComputationFailed, ResultMissing
from seamless_dask.execution import capture, placement
from seamless_dask.execution.matches import matches
from seamless_dask.model.transformation import ResultSpec

if TYPE_CHECKING:
    from .conftest import Lab

OUT = ResultSpec(paths=("out",))
GLOB = ResultSpec(globs=("*.txt",))


def test_directory(lab: Lab, isolation: str) -> None:
    outcome = lab.run(
        "mkdir -p out/a/b out/empty; echo 1 > out/a/b/c; echo 2 > out/é", OUT, isolation=isolation
    )
    assert outcome.value.format == "directory"
    assert lab.index(outcome.value) == {"a/b/c": b"1\n", "é": b"2\n"}
    assert len(outcome.members) == 2


def test_what_is_small_is_left_to_whoever_records_the_result(lab: Lab) -> None:
    spec = ResultSpec(stdout=True, paths=("out",))
    outcome = lab.run("echo said; mkdir out; echo 1 > out/a", spec)
    assert {b"said\n", b"1\n"} < set(outcome.buffers)
    assert {hash_bytes(data) for data in outcome.buffers} == {outcome.value.checksum, *outcome.members}


def test_what_is_large_is_stored_at_once(lab: Lab) -> None:
    size = capture.ROOM + 1
    outcome = lab.run(f"head -c {size} /dev/zero")
    assert outcome.buffers == []
    assert len(lab.bytes(outcome)) == size
    outcome = lab.run(f"mkdir out; for i in 1 2; do head -c {capture.ROOM} /dev/zero > out/$i; done", OUT)
    assert len(outcome.buffers) == 1  # the index
    assert set(lab.index(outcome.value)) == {"1", "2"}


def test_sidecars_that_a_command_writes_are_data(lab: Lab) -> None:
    outcome = lab.run(f"mkdir out; echo {'0' * 64} > out/x.CHECKSUM", OUT)
    assert set(lab.index(outcome.value)) == {"x.CHECKSUM"}


def test_empty_directory(lab: Lab) -> None:
    assert lab.index(lab.run("mkdir out", OUT).value) == {}


def test_glob(lab: Lab, isolation: str) -> None:
    outcome = lab.run("echo 1 > a.txt; mkdir b.txt; echo 2 > b.txt/c; echo 3 > d", GLOB, isolation=isolation)
    assert lab.index(outcome.value) == {"a.txt": b"1\n", "b.txt/c": b"2\n"}
    outcome = lab.run(
        "echo 1 > o/a.txt; echo 2 > o/b.csv", ResultSpec(globs=("o/*.txt",)), isolation=isolation
    )
    assert lab.index(outcome.value) == {"a.txt": b"1\n"}


def test_nothing_matches(lab: Lab) -> None:
    with pytest.raises(ResultMissing, match=r"nothing that matches \*\.txt"):
        lab.run("true", GLOB)


def test_links_inside_are_followed(lab: Lab, isolation: str) -> None:
    outcome = lab.run(
        "echo 1 > x; mkdir out; ln -s ../x out/rel; ln -s $PWD/x out/abs", OUT, isolation=isolation
    )
    assert lab.index(outcome.value) == {"rel": b"1\n", "abs": b"1\n"}
    assert lab.bytes(lab.run("echo 1 > x; ln -s $PWD/x y; ln -s y out", OUT, isolation=isolation)) == b"1\n"


@pytest.mark.parametrize("code", ["ln -s {} out", "mkdir out; ln -s {} out/x", "ln -s {} y; ln -s y out"])
def test_a_link_out_of_the_work_directory_is_refused(
    lab: Lab, tmp_path: Path, code: str, isolation: str
) -> None:
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(ComputationFailed, match="link out of the work directory"):
        lab.run(code.format(tmp_path / "secret"), OUT, isolation=isolation)
    with pytest.raises(ComputationFailed, match="link out of the work directory"):
        lab.run(code.format(tmp_path), OUT, isolation=isolation)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("mkfifo out", "neither a file nor a directory"),
        ("mkdir out; mkfifo out/x", "result out cannot be captured: out/x"),
        ("ln -s nowhere out", "leads nowhere"),
        ("mkdir out; ln -s nowhere out/x", "result out cannot be captured: out/x"),
        (r"mkdir out; touch out/$'\xff'", "result out cannot be captured"),
        ("ln -s out out", "leads nowhere"),
    ],
)
def test_what_has_no_content(lab: Lab, code: str, message: str) -> None:
    with pytest.raises(ComputationFailed, match=message):
        lab.run(code, OUT)


def test_modes_are_irrelevant(lab: Lab, isolation: str) -> None:
    code = (
        "mkdir out; echo 1 > out/x; chmod 0 out/x; mkdir out/d; echo 2 > out/d/y; chmod 0 out/d; chmod 555 ."
    )
    assert lab.index(lab.run(code, OUT, isolation=isolation).value) == {"x": b"1\n", "d/y": b"2\n"}


def test_result_in_the_place_of_an_input(lab: Lab, isolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "LARGE", 1)
    for code in ("echo new > out", "mv other out", "rm out; echo new > out"):
        inputs = {"out": lab.file(b"old\n"), "other": lab.file(b"new\n")}
        assert lab.bytes(lab.run(code, OUT, inputs=inputs, isolation=isolation)) == b"new\n"


def test_inputs_among_the_results(lab: Lab, isolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is mounted in the sandbox looks empty from outside."""
    monkeypatch.setattr(placement, "LARGE", 1)
    inputs = {"big.txt": lab.file(b"big"), "set": lab.folder({"x": b"1", "y": b"2"})}
    for code, spec, files in (
        ("true", GLOB, {"big.txt": b"big"}),
        ("mkdir out; ln -s ../big.txt out/link", OUT, {"link": b"big"}),
        ("echo 3 > set/z", ResultSpec(paths=("set",)), {"x": b"1", "y": b"2", "z": b"3\n"}),
        ("ln -s set out", OUT, {"x": b"1", "y": b"2"}),
    ):
        outcome = lab.run(code, spec, inputs=inputs, isolation=isolation)
        assert lab.index(outcome.value) == files
    assert lab.bytes(lab.run("ln -s big.txt out", OUT, inputs=inputs, isolation=isolation)) == b"big"


def test_links_in_circles_and_out_lead_a_pattern_nowhere(lab: Lab, isolation: str) -> None:
    code = "mkdir d; echo 1 > d/a.txt; for name in p q r s t; do ln -s . $name; done; ln -s / root"
    outcome = lab.run(code, ResultSpec(globs=("**/*.txt",)), isolation=isolation)
    assert lab.index(outcome.value) == {"d/a.txt": b"1\n"}


def test_a_pattern_goes_through_links_in_the_work_directory_by_name(lab: Lab, isolation: str) -> None:
    spec = ResultSpec(globs=("*/a.txt",))
    code = 'mkdir d; echo 1 > d/a.txt; ln -s d near; ln -s "$PWD/d" far'
    assert sorted(lab.index(lab.run(code, spec, isolation=isolation).value)) == [
        "d/a.txt", "far/a.txt", "near/a.txt",
    ]  # fmt: skip
    with pytest.raises(ComputationFailed, match="etc is a link out of the work directory"):
        lab.run("ln -s /etc etc", ResultSpec(globs=("*/passwd",)), isolation=isolation)


PATTERNS = [
    "*",
    "**",
    "**/*",
    "d/**",
    "d/**/x",
    "**/x",
    "*/**/x",
    "**/**/*.y",
    ".*",
    "**/.h/*",
    "d/[ab]",
    "d/a/x",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_match_as_those_of_python(tmp_path: Path, pattern: str) -> None:
    for name in ("x", "a.y", ".hidden", "d/a/x", "d/b/c/x", "d/b/.h/x", "d/b/c/d/e.y", "e/.h/x", ".h/x"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    expected = {os.path.normpath(name) for name in glob(pattern, root_dir=tmp_path, recursive=True)}
    enter = lambda name: (tmp_path / name).is_dir()  # noqa: E731
    assert matches(str(tmp_path), pattern, enter) == sorted(expected - {"."})
