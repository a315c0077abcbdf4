"""Inputs are placed cheaply, and neither store nor node cache can be harmed by a command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hashserver.errors import BufferCorrupt, OriginalChanged
from seamless_dask.errors import ComputationFailed
from seamless_dask.execution import placement
from seamless_dask.model.transformation import ResultSpec, Value

if TYPE_CHECKING:
    from .conftest import Lab

OUT = ResultSpec(paths=("out",))
BIG = b"0123456789" * 1000


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "LARGE", len(BIG))
    monkeypatch.setattr(placement, "WORTH_CACHING", 100)
    # the file system of the tests may or may not have reflinks
    monkeypatch.setattr(placement.Placement, "_reflink", lambda *_: False)


@pytest.fixture
def remote(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The store is on another host; returns what is fetched from it."""
    fetched: list[str] = []
    store = lab.context.store
    get_file = store.get_file

    def count(checksum: str, *args: object) -> None:
        fetched.append(checksum)
        get_file(checksum, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "get_file", count)
    monkeypatch.setattr(store, "local_path", lambda checksum: None)
    return fetched


def same(lab: Lab, value: Value, data: bytes) -> bool:
    return lab.context.store.get(value.checksum) == data


def test_large_is_mounted_small_is_copied(lab: Lab, bubblewrap: str) -> None:
    inputs = {"big": lab.file(BIG), "small": lab.file(b"s")}
    outcome = lab.run("cat small big", inputs=inputs, isolation=bubblewrap)
    assert lab.bytes(outcome) == b"s" + BIG
    assert outcome.record["placement"] == {"bind": 1, "copy": 1}


def test_mounts_are_bounded(lab: Lab, bubblewrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "MAX_MOUNTS", 3)
    inputs = {"set": lab.folder({str(number): BIG + bytes([number]) for number in range(5)})}
    outcome = lab.run("cat set/* | wc -c", inputs=inputs, isolation=bubblewrap)
    assert outcome.record["placement"] == {"bind": 3, "copy": 2}
    assert lab.bytes(outcome).strip() == b"50005"


def test_copied_without_a_sandbox(lab: Lab) -> None:
    """Never linked: a link can be written to in place, and its times and mode put back."""
    outcome = lab.run("cat in; stat -c %h in >&2", inputs={"in": lab.file(BIG)})
    assert outcome.record["placement"] == {"copy": 1}
    assert outcome.record["stderr"] == "1\n"


def test_a_remote_input_is_copied_from_the_node_cache(lab: Lab, remote: list[str]) -> None:
    value = lab.file(BIG)
    outcome = lab.run("cat in; stat -c %h in >&2", inputs={"in": value})
    assert outcome.record["stderr"] == "1\n"
    assert os.stat(lab.context.node_cache.fetch(value.checksum)).st_nlink == 1
    assert remote == [value.checksum]


IN_PLACE = (
    "import os; kept = os.stat('in'); os.chmod('in', 0o600); open('in', 'r+b', 0).write(b'X' * 100);"
    " os.utime('in', ns=(kept.st_atime_ns, kept.st_mtime_ns)); os.chmod('in', kept.st_mode)"
)
WRITES = [
    f'python3 -c "{IN_PLACE}"; cat in > out',
    "chmod u+w in; echo bad >> in; cat in > out",
    "chmod u+w in; echo bad > in; cat in > out",
    "chmod 777 in; echo ok > out",
    "chmod u+w in; printf X | dd of=in conv=notrunc 2>/dev/null; cat in > out",
    "chmod u+w in; touch -d 2000-01-01 in; cat in > out",
]


@pytest.mark.parametrize("code", WRITES)
def test_what_a_command_does_to_its_input_harms_nobody(lab: Lab, remote: list[str], code: str) -> None:
    value = lab.file(BIG)
    lab.run(code, OUT, inputs={"in": value})
    assert same(lab, value, BIG)
    assert lab.stdout("cat in", inputs={"in": value}).encode() == BIG
    assert remote == [value.checksum], "the cached file had to be fetched again"


def test_a_failed_command_that_modified_its_input(lab: Lab, remote: list[str]) -> None:
    value = lab.file(BIG)
    with pytest.raises(ComputationFailed, match="exit status 3"):
        lab.run("chmod u+w in; echo bad >> in; exit 3", inputs={"in": value})
    assert lab.stdout("cat in", inputs={"in": value}).encode() == BIG


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("echo more >> in; cat in > out", BIG + b"more\n"),
        ("sed -i s/0/x/g in; cat in > out", BIG.replace(b"0", b"x")),
        ("mv in out", BIG),
        ("rm in; echo gone > out", b"gone\n"),
        ('python3 -c \'open("in", "a").write("more")\'; cp in out', BIG + b"more"),
        ("chmod 600 in; cp in out", BIG),
    ],
)
def test_a_command_may_modify_its_inputs(lab: Lab, isolation: str, code: str, expected: bytes) -> None:
    value = lab.file(BIG)
    assert lab.bytes(lab.run(code, OUT, inputs={"in": value}, isolation=isolation)) == expected
    assert same(lab, value, BIG)


@pytest.mark.parametrize("writable", ["set", "set/a", "."])
def test_writable_spares_the_second_run(lab: Lab, bubblewrap: str, writable: str, tmp_path: Path) -> None:
    inputs = {"set": lab.folder({"a": BIG})}
    outcome = lab.run("echo more >> set/a", inputs=inputs, isolation=bubblewrap, writable=(writable,))
    assert outcome.record["placement"] == {"copy": 1}


def test_the_users_own_file_is_safe(lab: Lab, isolation: str, tmp_path: Path) -> None:
    from hashserver.checksum import hash_file

    original = tmp_path / "original"
    original.write_bytes(BIG)
    checksum = hash_file(original)[0]
    lab.context.store.reference(original, checksum)
    inputs = {"in": Value("file", checksum)}
    lab.run("chmod u+w in || true; echo bad >> in", inputs=inputs, isolation=isolation)
    assert original.read_bytes() == BIG
    assert original.stat().st_nlink == 1


def test_an_original_that_has_changed(lab: Lab, isolation: str, tmp_path: Path) -> None:
    from hashserver.checksum import hash_file

    original = tmp_path / "original"
    original.write_bytes(BIG)
    checksum = hash_file(original)[0]
    lab.context.store.reference(original, checksum)
    original.write_bytes(BIG + b"changed")
    with pytest.raises(OriginalChanged, match="original"):
        lab.run("cat in", inputs={"in": Value("file", checksum)}, isolation=isolation)


@pytest.mark.parametrize("data", [BIG, b"small"])
def test_a_corrupt_buffer_is_no_input(lab: Lab, isolation: str, data: bytes) -> None:
    value = lab.file(data)
    path = lab.context.store.local_path(value.checksum)
    assert path is not None
    os.chmod(path, 0o644)
    Path(path).write_bytes(data[::-1])
    os.chmod(path, 0o444)
    with pytest.raises(BufferCorrupt):
        lab.run("cat in", inputs={"in": value}, isolation=isolation)


@pytest.mark.parametrize("data", [BIG, BIG[:5000]])
def test_what_is_remote_is_fetched_once(lab: Lab, isolation: str, remote: list[str], data: bytes) -> None:
    value = lab.file(data)
    for _ in range(3):
        assert (
            lab.stdout("cat in", inputs={"in": value, "again": value}, isolation=isolation).encode() == data
        )
    assert remote == [value.checksum]


def test_one_file_under_many_names(lab: Lab, isolation: str) -> None:
    inputs = {"set": lab.folder({f"{number}": b"same" for number in range(3)}), "set/0": lab.file(b"other")}
    assert lab.stdout("cat set/*", inputs=inputs, isolation=isolation) == "othersamesame"


def test_thousands_of_files(lab: Lab, isolation: str) -> None:
    files = {f"{number % 50}/{number}": str(number).encode() for number in range(3500)}
    found = lab.stdout("find set -type f | wc -l", inputs={"set": lab.folder(files)}, isolation=isolation)
    assert found.strip() == "3500"


def test_large_programs_can_be_executed(lab: Lab, isolation: str, tmp_path: Path) -> None:
    from hashserver.checksum import hash_file

    program = lab.file(b"#!/bin/sh\necho ran\n" + b"#" * len(BIG))
    original = tmp_path / "original"
    original.write_bytes(BIG)
    original.chmod(0o755)
    checksum = hash_file(original)[0]
    lab.context.store.reference(original, checksum)
    inputs = {"program": program, "data": Value("file", checksum)}
    assert lab.stdout("./program; test ! -x data", inputs=inputs, isolation=isolation) == "ran\n"
