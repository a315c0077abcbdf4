from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Cli

HELLO = hashlib.sha256(b"hello\n").hexdigest()
GOLDEN = "1e6a002da99e98f4fa594efdd821fcc8948e89ef92ecee4ab5654f39416d1d87"


def test_prints_what_sha256sum_prints(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    assert cli("seamless-checksum", "a.txt").text == f"{HELLO}  a.txt\n"
    assert not (work / "a.txt.CHECKSUM").exists()


def test_of_a_directory_is_that_of_its_index(cli: Cli, work: Path) -> None:
    (work / "set" / "sub").mkdir(parents=True)
    (work / "set" / "a.txt").write_text("hello\n")
    (work / "set" / "sub" / "b.bin").write_text("x")
    assert cli("seamless-checksum", "set").text == f"{GOLDEN}  set\n"


def test_write_leaves_sidecars_and_stores_nothing(cli: Cli, work: Path, store: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    cli("seamless-checksum", "--write", "a.txt")
    assert (work / "a.txt.CHECKSUM").read_text() == HELLO + "\n"
    assert not store.exists()


def test_json(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    facts = json.loads(cli("seamless", "checksum", "--json", "a.txt").stdout)
    assert facts == [{"path": "a.txt", "kind": "file", "checksum": HELLO, "size": 6}]


def test_of_what_is_not_here_is_what_its_sidecar_says(cli: Cli, work: Path) -> None:
    (work / "a.txt.CHECKSUM").write_text(HELLO + "\n")
    assert cli("seamless-checksum", "a.txt").text == f"{HELLO}  a.txt\n"


def test_a_name_with_a_newline_stays_on_its_line(cli: Cli, work: Path) -> None:
    (work / "a\nb").write_text("hello\n")
    assert cli("seamless-checksum", "a\nb").text == f"\\{HELLO}  a\\nb\n"
    assert cli("seamless-checksum", "no\nsuch", status=1).error.startswith("no\\nsuch: no such file")


@pytest.mark.parametrize(
    ("content", "problem"),
    [("", "is empty"), ("what\n", "does not hold a checksum")],
    ids=["empty", "not-hex"],
)
def test_a_damaged_sidecar_is_one_line(cli: Cli, work: Path, content: str, problem: str) -> None:
    (work / "a.txt.CHECKSUM").write_text(content)
    assert problem in cli("seamless-checksum", "a.txt", status=1).error


def test_links_that_lead_nowhere(cli: Cli, work: Path) -> None:
    (work / "broken").symlink_to("gone")
    (work / "circle").symlink_to("circle")
    os.mkfifo(work / "pipe")
    assert cli("seamless-checksum", "broken", status=1).error == "broken: a broken symbolic link (to gone)"
    assert (
        cli("seamless-checksum", "circle", status=1).error == "circle: a symbolic link that leads in a circle"
    )
    assert cli("seamless-checksum", "pipe", status=1).error == "pipe: neither a file nor a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("x")
    (work / "a.txt").chmod(0)
    assert cli("seamless-checksum", "a.txt", status=1).error == "a.txt: Permission denied"


def test_index_of_a_directory(cli: Cli, work: Path, tree: Path) -> None:
    printed = cli("seamless-checksum-index", "set").text.split()[0]
    assert (tree / ".CHECKSUM").read_text() == printed + "\n"
    assert hashlib.sha256((tree / ".INDEX").read_bytes()).hexdigest() == printed
    assert json.loads((tree / ".INDEX").read_bytes())["a.txt"] == HELLO


def test_index_of_a_file_is_refused(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("x")
    assert "not a directory" in cli("seamless-checksum-index", "a.txt", status=1).error
