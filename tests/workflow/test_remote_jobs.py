"""The workflow of upload, run and download, word for word as its users type it.

``mycommand`` and ``analyse`` are programs on the PATH that write the files they are said to write.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

MYCOMMAND = """#!/bin/sh
{ cat "$@"; echo end; } > result.csv
"""
ANALYSE = """#!/bin/sh
echo run >> "$RUNS" 2>/dev/null
wc -c < "$1" > "out-$threshold.csv"
echo "$threshold" >> "out-$threshold.csv"
"""


@pytest.fixture(params=["embedded", "hashserver"])
def shell(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project directory, the programs on the PATH, and no server or one started by seamless-init."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("mycommand", MYCOMMAND), ("analyse", ANALYSE), ("analyze", ANALYSE)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    (project / "data/input.txt").write_text("input\n")
    (project / "data/params.json").write_text("{}\n")
    (project / "data/large-dataset.h5").write_bytes(b"large" * 1000)
    monkeypatch.setenv("PATH", f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.chdir(project)
    if request.param == "hashserver":
        _sh("seamless-init -q")
    yield project
    if request.param == "hashserver":
        _sh("seamless-init -q --stop")


def _sh(script: str) -> str:
    done = subprocess.run(
        ["bash", "-euc", script], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_three_steps(shell: Path) -> None:
    _sh("seamless-upload data/input.txt data/params.json")
    assert len((shell / "data/input.txt.CHECKSUM").read_text().strip()) == 64
    assert len((shell / "data/params.json.CHECKSUM").read_text().strip()) == 64
    _sh("rm data/input.txt data/params.json")
    _sh("seamless-run mycommand data/input.txt data/params.json --capture result.csv")
    assert (shell / "result.csv.CHECKSUM").exists()
    _sh("seamless-download result.csv")
    assert (shell / "result.csv").read_text() == "input\n{}\nend\n"


def test_uploading_again_does_nothing(shell: Path) -> None:
    _sh("seamless-upload data/input.txt data/params.json")
    before = (shell / "data/input.txt.CHECKSUM").read_text()
    _sh("seamless-upload data/input.txt data/params.json")
    assert (shell / "data/input.txt.CHECKSUM").read_text() == before


def test_staged_runs_over_one_input(shell: Path) -> None:
    _sh("""
        seamless-upload data/large-dataset.h5
        rm data/large-dataset.h5
        seamless-run analyse data/large-dataset.h5 --var threshold=0.1 --capture out-0.1.csv -nd
        seamless-run analyse data/large-dataset.h5 --var threshold=0.2 --capture out-0.2.csv -nd
        seamless-run analyse data/large-dataset.h5 --var threshold=0.5 --capture out-0.5.csv --no-download
        test ! -e out-0.1.csv
        seamless-download out-0.1.csv out-0.2.csv out-0.5.csv
    """)
    for threshold in ("0.1", "0.2", "0.5"):
        assert (shell / f"out-{threshold}.csv").read_text() == f"5000\n{threshold}\n"


def test_dataset_removed_after_its_upload(shell: Path) -> None:
    _sh("""
        cd data
        seamless-upload large-dataset.h5
        rm large-dataset.h5
        seamless-run analyze large-dataset.h5 --var threshold=1 --capture out-1.csv
    """)
    assert (shell / "data/out-1.csv").read_text() == "5000\n1\n"


def test_sidecar_named_as_input_is_taken_literally(shell: Path) -> None:
    _sh("seamless-upload data/large-dataset.h5")
    done = subprocess.run(
        ["seamless-run", "wc", "-c", "data/large-dataset.h5.CHECKSUM"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["65", "data/large-dataset.h5.CHECKSUM"]
    assert "large-dataset.h5.CHECKSUM" in done.stderr


def test_dataset_linked_into_the_store(shell: Path, tmp_path: Path) -> None:
    _sh(f"""
        mkdir {tmp_path}/tmp
        cd {tmp_path}/tmp
        ln -s {shell}/data/large-dataset.h5
        seamless-upload --hardlink large-dataset.h5
        cp large-dataset.h5.CHECKSUM {shell}
        rm large-dataset.h5
    """)
    assert (shell / "data/large-dataset.h5").stat().st_nlink == 2
    assert _sh("seamless-run wc -c large-dataset.h5") == "5000 large-dataset.h5\n"


def test_resolve_and_fingertip(shell: Path) -> None:
    _sh("seamless-run mycommand data/input.txt --capture result.csv --scratch")
    checksum = (shell / "result.csv.CHECKSUM").read_text().strip()
    missing = subprocess.run(["seamless-resolve", checksum], capture_output=True, check=False)
    assert (missing.returncode, missing.stdout) == (1, b"")
    _sh(f"seamless-fingertip {checksum} > result.csv")
    assert (shell / "result.csv").read_text() == "input\nend\n"


def test_directory_uploaded_with_a_slash(shell: Path) -> None:
    _sh("""
        mkdir -p data/my-dataset/sub
        echo 1 > data/my-dataset/one.txt
        echo 2 > data/my-dataset/sub/two.txt
        seamless-checksum-index data/my-dataset
        seamless-upload data/my-dataset/
    """)
    assert (shell / "data/my-dataset/.CHECKSUM").exists()
    assert _sh("seamless-run cat data/my-dataset/sub/two.txt") == "2\n"
