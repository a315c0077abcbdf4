"""By-products and what ``.seamlessignore`` names: one identity of a directory as an input, wherever it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ..conftest import started_hashserver
from .conftest import contents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Cli

LIST = "find tool -type f | sort"


def key(cli: Cli, *words: str) -> str:
    """The identity of a run."""
    found = json.loads(cli("seamless-run", "-q", "--dry-run", "--json", *words).stdout)
    return str(found["key"])


@pytest.fixture
def tool(work: Path) -> Path:
    folder = work / "tool"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.py").write_text("print('a')\n")
    (folder / "sub" / "b.py").write_text("print('b')\n")
    return folder


def litter(folder: Path) -> None:
    """Leave what Python, git, Jupyter and a Mac leave."""
    for name in ("__pycache__/a.pyc", "sub/__pycache__/b.pyc", ".git/config", ".ipynb_checkpoints/n.ipynb"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    (folder / "old.pyc").write_text("old")
    (folder / "sub" / ".DS_Store").write_text("mac")


def empty(folder: Path) -> None:
    """Delete an uploaded directory: all but its pair."""
    for path in folder.iterdir():
        if path.name not in (".CHECKSUM", ".INDEX"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def test_by_products_do_not_count_and_a_note_counts_them(cli: Cli, tool: Path) -> None:
    clean = key(cli, LIST)
    litter(tool)
    assert key(cli, LIST) == clean
    done = cli("seamless-run", LIST)
    assert done.text.split() == ["tool/a.py", "tool/sub/b.py"]
    assert "tool: 6 files left out" in done.stderr
    assert not cli("seamless-run", "-q", LIST).stderr


def test_it_is_the_same_before_and_after_upload_and_deletion(cli: Cli, tool: Path) -> None:
    litter(tool)
    (tool / ".seamlessignore").write_text("*.log\n")
    (tool / "sub" / ".seamlessignore").write_text("!keep.log\n")
    (tool / "sub" / "keep.log").write_text("keep")
    (tool / "run.log").write_text("run")
    before = contents(tool)
    same = key(cli, LIST)
    done = cli("seamless-upload", "tool")
    assert "1 file left out" in done.stderr
    index = json.loads((tool / ".INDEX").read_text())
    assert index.keys() == before.keys() - {"run.log"}  # uploads keep by-products
    assert key(cli, LIST) == same
    (tool / "__pycache__" / "later.pyc").write_text("later")  # a run of it, after the upload
    assert key(cli, LIST) == same
    empty(tool)
    assert key(cli, LIST) == same
    (tool / "__pycache__").mkdir()
    (tool / "__pycache__" / "later.pyc").write_text("later")
    (tool / "run.log").write_text("what the upload left out stays when the rest is deleted")
    assert key(cli, LIST) == same
    (tool / ".INDEX").unlink()  # only the checksum is under version control
    assert key(cli, LIST) == same
    names = [
        "tool/.seamlessignore",
        "tool/a.py",
        "tool/sub/.seamlessignore",
        "tool/sub/b.py",
        "tool/sub/keep.log",
    ]
    assert cli("seamless-run", "-q", LIST).text.split() == names


def test_move_and_ignored_files(cli: Cli, tool: Path) -> None:
    (tool / ".seamlessignore").write_text("*.log\n")
    (tool / "run.log").write_text("mine")
    cli("seamless-upload", "--move", "tool")
    assert sorted(path.name for path in tool.iterdir()) == [".CHECKSUM", ".INDEX", "run.log"]
    cli("seamless-upload", "tool")
    cli("seamless-checksum-index", "tool")
    cli("seamless-download", "tool")
    assert (tool / "run.log").read_text() == "mine"
    assert (tool / "a.py").exists()


def test_what_cannot_have_an_identity_does_not_matter_there(cli: Cli, tool: Path) -> None:
    clean = key(cli, LIST)
    (tool / ".git").mkdir()
    (tool / ".git" / "gone").symlink_to("nowhere")
    os.mkfifo(tool / ".git" / "fsmonitor--daemon.ipc")
    assert key(cli, LIST) == clean


def test_what_is_named_itself_is_there(cli: Cli, tool: Path) -> None:
    litter(tool)
    words = ("cat tool/.git/config", "--input", "tool", "--input", "tool/.git/config")
    here = key(cli, *words)
    assert cli("seamless-run", "-q", *words).text == ".git/config"
    assert cli("seamless-run", "-q", "ls tool/__pycache__", "--input", "tool").text == "a.pyc\n"
    cli("seamless-upload", "tool")
    empty(tool)
    assert key(cli, *words) == here


def test_a_folder_of_a_deleted_directory_is_what_it_was(cli: Cli, tool: Path) -> None:
    (tool / "sub" / "__pycache__").mkdir()
    (tool / "sub" / "__pycache__" / "b.pyc").write_text("b")
    here = key(cli, "ls -R tool/sub")
    cli("seamless-upload", "tool")
    empty(tool)
    assert key(cli, "ls -R tool/sub") == here
    assert cli("seamless-run", "-q", "ls tool/sub").text == "b.py\n"


def test_a_folder_with_a_sidecar_of_its_own(cli: Cli, tool: Path) -> None:
    (tool / "sub" / "__pycache__").mkdir()
    (tool / "sub" / "__pycache__" / "b.pyc").write_text("b")
    cli("seamless-upload", "tool/sub")
    same = key(cli, LIST)
    empty(tool / "sub")
    assert key(cli, LIST) == same


def test_the_current_directory(cli: Cli, tool: Path) -> None:
    litter(tool)
    (tool / ".seamlessignore").write_text("notes/\n")
    (tool / "notes").mkdir()
    (tool / "notes" / "n.txt").write_text("n")
    done = cli("seamless-run", "find . -type f | sort", "--input", ".", cwd=tool)
    assert done.text.split() == ["./a.py", "./sub/b.py"]
    assert "left out" in done.stderr


def test_captured_results_are_whole(cli: Cli, work: Path) -> None:
    cli("seamless-run", "--capture", "out", "mkdir -p out/__pycache__; echo 1 > out/__pycache__/a.pyc")
    assert (work / "out" / "__pycache__" / "a.pyc").read_text() == "1\n"


def test_rules_that_nobody_has_any_more(cli: Cli, tool: Path, store: Path) -> None:
    (tool / ".seamlessignore").write_text("*.log\n")
    cli("seamless-upload", "tool")
    checksum = json.loads((tool / ".INDEX").read_text())[".seamlessignore"]
    empty(tool)
    (store / checksum[:2] / checksum).unlink()
    assert "tool/.seamlessignore" in cli("seamless-run", LIST, status=1).stderr


def test_it_is_the_same_in_python(cli: Cli, tool: Path, work: Path) -> None:
    litter(tool)
    script = (
        "from seamless_dask import Directory, bash\n"
        f"print(bash({LIST!r}, {{'tool': Directory('tool')}}).key)\n"
        f"print(bash({LIST!r}, {{'tool': Directory('tool')}}).compute().read_text())\n"
    )

    def in_python() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=work, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    expected = [key(cli, LIST), "tool/a.py", "tool/sub/b.py"]
    assert in_python() == expected
    cli("seamless-upload", "--move", "tool")
    assert in_python() == expected
    assert key(cli, LIST) == expected[0]


def test_the_library_is_imported_only_for_rules(cli: Cli, tool: Path) -> None:
    litter(tool)
    assert "pathspec" not in cli.modules("seamless-run", "--dry-run", LIST)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a shell that uses a hashserver."""
    with started_hashserver(tmp_path) as server:
        yield {"SEAMLESS_HASHSERVER": server.url, "SEAMLESS_TOKEN_FILE": server.token_file}


def test_it_is_the_same_with_a_hashserver(cli: Cli, tool: Path, server: dict[str, str]) -> None:
    litter(tool)
    (tool / ".seamlessignore").write_text("*.log\n")
    (tool / "run.log").write_text("run")
    here = key(cli, LIST)
    cli("seamless-upload", "tool", **server)
    empty(tool)
    (tool / ".INDEX").unlink()
    dry = cli("seamless-run", "-q", "--dry-run", "--json", LIST, **server)
    assert json.loads(dry.stdout)["key"] == here
    names = ["tool/.seamlessignore", "tool/a.py", "tool/sub/b.py"]
    assert cli("seamless-run", "-q", LIST, **server).text.split() == names
