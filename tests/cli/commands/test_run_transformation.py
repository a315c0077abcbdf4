from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Cli


@pytest.fixture
def document(cli: Cli, work: Path) -> Path:
    """A transformation that has not been run yet; its inputs are stored."""
    (work / "a.txt").write_text("hello\n")
    cli("seamless-run", "--write-job", "job", "cat a.txt; echo more")
    return work / "job" / "transformation.json"


def test_by_document_then_by_checksum(cli: Cli, document: Path) -> None:
    first = json.loads(cli("seamless-run-transformation", "--json", document).stdout)
    again = json.loads(cli("seamless", "run-transformation", "--json", first["key"]).stdout)
    assert (first["cached"], again["cached"]) == (False, True)
    assert cli("seamless-resolve", again["checksum"]).stdout == b"hello\nmore\n"
    assert cli("seamless-run-transformation", first["key"]).text == first["checksum"] + "\n"


def test_gives_what_run_gives(cli: Cli, document: Path) -> None:
    printed = cli("seamless-run-transformation", document).text.strip()
    assert "was known" in cli("seamless-run", "-v", "cat a.txt; echo more").stderr
    assert cli("seamless-run", "cat a.txt; echo more").stdout == cli("seamless-resolve", printed).stdout


def test_a_failed_command_gives_its_status(cli: Cli, work: Path) -> None:
    cli("seamless-run", "--write-job", "job", "echo why >&2; exit 4")
    done = cli("seamless-run-transformation", "job/transformation.json", status=4)
    assert "why" in done.stderr
    assert done.stdout == b""


def test_what_is_no_transformation(cli: Cli, work: Path) -> None:
    (work / "x.json").write_text("{}")
    assert "not a transformation" in cli("seamless-run-transformation", "x.json", status=1).error
    assert "neither a checksum" in cli("seamless-run-transformation", "y.json", status=1).error
    assert "no transformation" in cli("seamless-run-transformation", "0" * 64, status=1).error
