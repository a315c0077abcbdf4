"""Names and files that lead elsewhere, cannot be read, or say something else than they should."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import World

HELLO = hashlib.sha256(b"hello\n").hexdigest()
READERS = [("seamless-upload",), ("seamless-checksum",), ("seamless-run", "cat")]


def put(world: World, data: bytes) -> str:
    """Store bytes by the installed command, and return their checksum."""
    world.write("stored", data)
    checksum = world("seamless-checksum", "stored").stdout.decode()[:64]
    world("seamless-upload", "stored")
    (world.work / "stored").unlink()
    (world.work / "stored.CHECKSUM").unlink()
    return checksum


LEAVING = ["../evil", "/tmp/evil-hazard", "a/../../evil", "a\0b", "a//b", "./evil", ""]


@pytest.mark.parametrize(
    ("user", "name"), [("served", LEAVING[0]), *(("embedded", name) for name in LEAVING)]
)
def test_an_index_whose_paths_leave_the_directory(
    request: pytest.FixtureRequest, user: str, name: str
) -> None:
    world: World = request.getfixturevalue(user)
    put(world, b"hello\n")
    index = put(world, (json.dumps({name: HELLO}, indent=2) + "\n").encode())
    world.write("set/.CHECKSUM", index + "\n")
    for command in (("seamless-download", "set"), ("seamless-run", "ls set/")):
        done = world(*command, status=1)
        assert "set: directory index" in done.error
        assert done.stdout == b""
    assert os.listdir(world.work) == ["set"]
    assert os.listdir(world.work / "set") == [".CHECKSUM"]
    assert not list(world.base.rglob("evil"))
    assert not os.path.exists("/tmp/evil-hazard")


def test_a_result_at_an_absolute_path(world: World) -> None:
    done = world("seamless-run", "-cp", "/tmp/out-hazard", "echo x > /tmp/out-hazard", status=2)
    assert "out-hazard" in done.error
    assert not os.path.exists("/tmp/out-hazard")


ELSEWHERE = ["/etc/passwd", "a/../../x", "a\0b", ".", ""]


@pytest.mark.parametrize(
    ("user", "name"), [("served", ELSEWHERE[0]), *(("embedded", name) for name in ELSEWHERE)]
)
def test_a_document_with_inputs_elsewhere(request: pytest.FixtureRequest, user: str, name: str) -> None:
    world: World = request.getfixturevalue(user)
    put(world, b"hello\n")
    code = put(world, b"cat *\n")
    document = {"format": 1, "language": "bash", "code": code, "inputs": {name: ["file", HELLO]}}
    world.write("job.json", json.dumps({**document, "result": "stdout"}))
    done = world("seamless-run-transformation", "job.json", status=1)
    assert done.error
    assert done.stdout == b""


def test_names_with_newlines(world: World) -> None:
    name = "set/a\nb.txt"
    path = world.write(name, "hello\n")
    world("seamless-upload", "set", name)
    path.unlink()
    for lines in (world("seamless-checksum", "set").stdout, world("seamless-checksum", name).stdout):
        assert lines.count(b"\n") == 1
    assert world("seamless-run", "cat", name).stdout == b"hello\n"
    (world.work / f"{name}.CHECKSUM").unlink()
    world("seamless-download", "set")
    assert path.read_text() == "hello\n"
    (world.work / "broken\nlink").symlink_to("nowhere\nat all")
    assert "nowhere" in world("seamless-upload", "broken\nlink", status=1).error


@pytest.mark.parametrize("content", ["", "\n", "xyz\n", HELLO.upper() + "\n", HELLO[:-1], HELLO + HELLO])
def test_a_sidecar_that_is_empty_or_not_hex(embedded: World, content: str) -> None:
    embedded.write("a.txt.CHECKSUM", content)
    for command in (("seamless-download",), ("seamless-run", "cat"), ("seamless-checksum",)):
        done = embedded(*command, "a.txt", status=1)
        assert "a.txt.CHECKSUM" in done.error
        assert done.stdout == b""
    assert os.listdir(embedded.work) == ["a.txt.CHECKSUM"]
    embedded.write("a.txt", "hello\n")
    assert "a.txt.CHECKSUM" in embedded("seamless-run", "cat", "a.txt", status=1).error
    embedded("seamless-upload", "a.txt")
    assert embedded("seamless-run", "cat", "a.txt").stdout == b"hello\n"


def test_a_file_and_a_sidecar_that_differ(world: World) -> None:
    path = world.write("a.txt", "hello\n")
    world("seamless-upload", "a.txt")
    path.write_text("mine\n")
    expected = "a.txt has changed since its sidecar was written: seamless-upload a.txt to use it"
    assert world("seamless-run", "cat", "a.txt", status=1).error == expected
    assert "--overwrite" in world("seamless-download", "a.txt", status=1).error
    assert "--overwrite" in world("seamless-run", "echo new > a.txt", status=1).error
    assert path.read_text() == "mine\n"
    assert (world.work / "a.txt.CHECKSUM").read_text() == HELLO + "\n"
    world("seamless-upload", "a.txt")
    assert world("seamless-run", "cat", "a.txt").stdout == b"mine\n"


def test_a_directory_and_a_sidecar_that_differ(world: World) -> None:
    world.write("set/a.txt", "hello\n")
    world.write("set/b.txt", "b\n")
    world("seamless-upload", "set")
    world.write("set/b.txt", "mine\n")
    assert "set" in world("seamless-run", "ls set/", status=1).error
    assert "--overwrite" in world("seamless-download", "set", status=1).error
    (world.work / "set" / "b.txt").unlink()
    assert "set" in world("seamless-run", "ls set/", status=1).error
    world("seamless-download", "set")
    assert world("seamless-run", "cat set/b.txt").stdout == b"b\n"


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
def test_an_unreadable_file(unprivileged: World, command: tuple[str, ...]) -> None:
    path = unprivileged.write("a.txt", "hello\n")
    path.chmod(0)
    for name in ("a.txt", "."):
        if name == "." and command[0] == "seamless-run":
            continue
        done = unprivileged(*command, name, status=1)
        assert "a.txt: Permission denied" in done.error
        assert done.stdout == b""
    assert os.listdir(unprivileged.work) == ["a.txt"]
    path.chmod(0o644)
    assert unprivileged("seamless-run", "cat", "a.txt").stdout == b"hello\n"


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
def test_a_broken_or_cyclic_link(embedded: World, command: tuple[str, ...]) -> None:
    embedded.write("set/good", "hello\n")
    for name in ("broken", "set/broken"):
        (embedded.work / name).symlink_to("nowhere")
    (embedded.work / "cyclic").symlink_to("cyclic")
    run = command[0] == "seamless-run"
    for name, word in (("broken", "broken"), ("cyclic", "cyclic"), ("set", "set/broken")):
        given = f"{name}/" if run and name == "set" else name
        done = embedded(*command, given, status=2 if run and name != "set" else 1)
        assert word in done.error
        assert done.stdout == b""
    (embedded.work / "set" / "broken").unlink()
    (embedded.work / "set" / "cyclic").symlink_to("../cyclic")
    assert "set/cyclic" in embedded(*command, "set/" if run else "set", status=1).error
    assert not list(embedded.work.rglob("*.CHECKSUM"))


def test_a_link_in_the_place_of_a_result(world: World) -> None:
    elsewhere = world.base / "elsewhere"
    elsewhere.write_text("mine\n")
    (world.work / "out").symlink_to(elsewhere)
    world("seamless-run", "echo new > out", status=1)
    assert elsewhere.read_text() == "mine\n"
    world("seamless-run", "--overwrite", "echo new > out")
    assert elsewhere.read_text() == "mine\n"
    assert (world.work / "out").read_text() == "new\n"


@pytest.fixture
def locked(unprivileged: World) -> Iterator[World]:
    """A current directory that cannot be written, with a file in it."""
    unprivileged.write("a.txt", "a\n")
    unprivileged.work.chmod(0o555)
    yield unprivileged
    unprivileged.work.chmod(0o755)


def test_a_current_directory_that_cannot_be_written_is_enough_to_read(locked: World) -> None:
    for _ in range(2):
        assert locked("seamless-run", "cat a.txt").stdout == b"a\n"
    locked("seamless-checksum", "a.txt")
    locked("seamless-status")


@pytest.mark.parametrize(
    "line",
    [("echo x > out.txt",), ("--capture", "out.txt", "echo x | tee out.txt"), ("-nd", "echo x > out.txt")],
)
def test_a_current_directory_that_cannot_be_written_is_told_before_anything_runs(
    locked: World, line: tuple[str, ...]
) -> None:
    *options, text = line
    mark = locked.temporary / "ran"
    done = locked("seamless-run", *options, f"touch {mark}; {text}", status=1, SEAMLESS_ISOLATION="none")
    assert "cannot be written: there is no place for out.txt" in done.error
    assert not mark.exists()


@pytest.mark.parametrize("line", [("seamless-upload", "a.txt"), ("seamless-checksum", "--write", "a.txt")])
def test_a_sidecar_that_has_no_place_is_told(locked: World, line: tuple[str, ...]) -> None:
    assert locked(*line, status=1).error == "a.txt.CHECKSUM: Permission denied"
    assert [path.name for path in locked.work.iterdir()] == ["a.txt"]
