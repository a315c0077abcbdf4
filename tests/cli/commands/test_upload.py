from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from ..conftest import contents

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Cli

HELLO = hashlib.sha256(b"hello\n").hexdigest()


def buffers(store: Path) -> set[str]:
    return {p.name for p in store.glob("??/*")}


def test_stores_a_file_and_writes_its_sidecar(cli: Cli, work: Path, store: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    done = cli("seamless-upload", "a.txt")
    assert done.stdout == b""
    assert (work / "a.txt.CHECKSUM").read_text() == HELLO + "\n"
    assert (store / HELLO[:2] / HELLO).read_bytes() == b"hello\n"


def test_stores_a_directory_with_its_pair_inside(cli: Cli, tree: Path, store: Path) -> None:
    cli("seamless-upload", "set")
    checksum = (tree / ".CHECKSUM").read_text().strip()
    index = json.loads((tree / ".INDEX").read_text())
    assert hashlib.sha256((tree / ".INDEX").read_bytes()).hexdigest() == checksum
    assert {checksum, *index.values()} == buffers(store)


def test_is_idempotent_and_sends_nothing_twice(cli: Cli, work: Path, tree: Path) -> None:
    (work / "big").write_bytes(os.urandom(3 << 20))
    first = json.loads(cli("seamless-upload", "--json", "set", "big").stdout)
    again = json.loads(cli("seamless-upload", "--json", "set", "big").stdout)
    assert [item["files_sent"] for item in first] == [4, 1]
    assert [item["bytes_sent"] for item in again] == [0, 0]
    assert [item["checksum"] for item in first] == [item["checksum"] for item in again]


def test_only_what_has_changed_is_sent(cli: Cli, tree: Path) -> None:
    cli("seamless-upload", "set")
    (tree / "a.txt").write_text("other\n")
    assert json.loads(cli("seamless-upload", "--json", "set").stdout)[0]["files_sent"] == 1


def test_a_sidecar_that_differs_is_brought_up_to_date(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("one\n")
    cli("seamless-upload", "a.txt")
    (work / "a.txt").write_text("hello\n")
    cli("seamless-upload", "a.txt")
    assert (work / "a.txt.CHECKSUM").read_text() == HELLO + "\n"


def test_a_damaged_sidecar_is_written_anew(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    (work / "a.txt.CHECKSUM").write_text("")
    cli("seamless-upload", "a.txt")
    assert (work / "a.txt.CHECKSUM").read_text() == HELLO + "\n"


def test_hardlink_copies_nothing(cli: Cli, work: Path, store: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    (work / "link.txt").symlink_to("a.txt")
    mode = (work / "a.txt").stat().st_mode
    cli("seamless-upload", "--hardlink", "link.txt")
    assert (store / HELLO[:2] / HELLO).stat().st_ino == (work / "a.txt").stat().st_ino
    assert (work / "a.txt").stat().st_mode == mode
    assert (work / "link.txt.CHECKSUM").read_text() == HELLO + "\n"


def test_in_place_keeps_the_file_where_it_is_and_notices_changes(cli: Cli, work: Path, store: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    cli("seamless-upload", "--in-place", "a.txt")
    assert HELLO not in buffers(store)
    assert cli("seamless-resolve", HELLO).stdout == b"hello\n"
    (work / "a.txt").write_text("other\n")
    assert str(work / "a.txt") in cli("seamless-resolve", HELLO, status=1).error


def test_hardlink_needs_a_store_of_this_host(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    done = cli("seamless-upload", "--hardlink", "--store", "s3://bucket/x", "a.txt", status=1)
    assert "--store DIR" in done.error


def test_move_deletes_what_the_store_has(cli: Cli, work: Path, tree: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    before = contents(tree)
    cli("seamless-upload", "--move", "a.txt", "set")
    assert not (work / "a.txt").exists()
    assert sorted(p.name for p in tree.iterdir()) == [".CHECKSUM", ".INDEX"]
    cli("seamless-upload", "a.txt", "set")  # idempotent: the store has it
    cli("seamless-download", "a.txt", "set")
    assert contents(tree) == before


def test_move_does_not_trust_a_copy_it_has_not_sent(cli: Cli, work: Path, store: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    cli("seamless-upload", "a.txt")
    buffer = store / HELLO[:2] / HELLO
    buffer.chmod(0o600)
    buffer.write_text("jello\n")
    assert "corrupt" in cli("seamless-upload", "--move", "a.txt", status=1).stderr
    assert (work / "a.txt").read_text() == "hello\n"


def test_move_and_in_place_exclude_each_other(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    assert "--in-place" in cli("seamless-upload", "--move", "--in-place", "a.txt", status=2).error
    assert (work / "a.txt").exists()


def test_what_is_gone_is_an_error_when_the_store_does_not_have_it(cli: Cli, work: Path) -> None:
    (work / "a.txt.CHECKSUM").write_text(HELLO + "\n")
    assert "does not have" in cli("seamless-upload", "a.txt", status=1).error


def test_one_bad_path_does_not_keep_the_others(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    (work / "broken").symlink_to("gone")
    done = cli("seamless-upload", "-q", "broken", "a.txt", "nothing", status=1)
    assert [line.split(": ")[1] for line in done.stderr.splitlines()] == ["broken", "nothing"]
    assert (work / "a.txt.CHECKSUM").exists()


def test_an_empty_directory_is_told(cli: Cli, work: Path) -> None:
    (work / "empty").mkdir()
    assert "warning: empty is an empty directory" in cli("seamless-upload", "empty").stderr


def test_a_broken_link_in_a_directory(cli: Cli, tree: Path) -> None:
    (tree / "broken").symlink_to("gone")
    assert "broken" in cli("seamless-upload", "set", status=1).error
    assert not (tree / ".CHECKSUM").exists()


def test_a_sidecar_named_as_data_is_taken_literally(cli: Cli, work: Path) -> None:
    (work / "a.txt.CHECKSUM").write_text(HELLO + "\n")
    done = cli("seamless-upload", "a.txt.CHECKSUM")
    assert "did you mean a.txt?" in done.stderr
    assert (work / "a.txt.CHECKSUM.CHECKSUM").exists()


def test_names_with_newlines(cli: Cli, work: Path) -> None:
    (work / "a\nb").write_text("hello\n")
    assert "a\\nb: 1 file" in cli("seamless-upload", "a\nb").error
    assert (work / "a\nb.CHECKSUM").exists()


def test_an_unreachable_server_is_one_line(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    error = cli("seamless-upload", "a.txt", status=1, SEAMLESS_HASHSERVER="http://127.0.0.1:9").error
    assert "127.0.0.1:9" in error
    assert not (work / "a.txt.CHECKSUM").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_store(cli: Cli, work: Path, store: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    store.mkdir(parents=True)
    store.chmod(0o500)
    assert str(store) in cli("seamless-upload", "a.txt", status=1).error
    store.chmod(0o700)
    assert not (work / "a.txt.CHECKSUM").exists()


def test_a_directory_uploaded_elsewhere_is_not_asked_for_again(cli: Cli, work: Path, tree: Path) -> None:
    cli("seamless-upload", "set")
    shutil.copytree(tree, work / "copy")
    assert json.loads(cli("seamless-upload", "--json", "copy").stdout)[0]["files_sent"] == 0


def test_no_room_is_one_line_and_leaves_nothing(cli: Cli, work: Path, store: Path) -> None:
    (work / "a.bin").write_bytes(os.urandom(100_000))
    command = (
        f"ulimit -f 40; exec {cli.path('seamless-upload')} a.bin"  # a file of more than 40 KiB finds no room
    )
    done = subprocess.run(["bash", "-c", command], cwd=work, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "no room" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [p for p in store.rglob("*") if p.is_file() and not p.name.startswith(".HASHSERVER")] == []
    assert not (work / "a.bin.CHECKSUM").exists()
