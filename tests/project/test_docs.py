"""Every command shown in the docs does what is shown there, and the second time nothing runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from seamless_cli.table import COMMANDS, load

ROOT = Path(__file__).parents[2]
README_FILES = "mkdir data && printf '2\\n1\\n' > data/input.txt"
"""What the README takes for granted."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


class Block(NamedTuple):
    """One example: its commands and what they print; ``once`` when what it shows can be done only once."""

    name: str
    script: str
    output: str
    once: bool


def _blocks() -> list[Block]:
    found = []
    for page in PAGES:
        examples = re.findall(r"^```console( once)?\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
        for number, (once, text) in enumerate(examples, 1):
            lines = text.splitlines()
            script = [README_FILES] if page.stem == "README" else []
            script += [line[2:] for line in lines if line.startswith(("$ ", "> "))]
            output = [line for line in lines if not line.startswith(("$ ", "> "))]
            shown = "".join(f"{line}\n" for line in output)
            found.append(Block(f"{page.stem}-{number}", "\n".join(script) + "\n", shown, bool(once)))
    return found


BLOCKS = _blocks()
MODULES = "MODULESHOME" in os.environ or Path("/usr/share/modules/init/bash").exists()


def _run(block: Block, directory: Path) -> None:
    """Run a block in an empty directory, always the same one: ``-W`` makes its path part of what is run."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", block.script],
        cwd=directory,
        env=os.environ | {"PATH": path, "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if block.output:
        assert done.stdout == block.output


@pytest.mark.parametrize("block", BLOCKS, ids=[block.name for block in BLOCKS])
def test_example(block: Block, tmp_path: Path, home: Path) -> None:
    if "--module" in block.script and not MODULES:
        pytest.skip("environment-modules is not installed")
    _run(block, tmp_path / "here")
    if block.once:
        return
    # Whatever runs has a directory of its own here while it does.
    jobs = home / "cache" / "jobs"
    before = jobs.stat().st_mtime_ns if jobs.exists() else None
    _run(block, tmp_path / "here")
    assert (jobs.stat().st_mtime_ns if jobs.exists() else None) == before, "something ran again"


def _options() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the options of all commands and of their actions: the command's name, and the option's."""
    for command in COMMANDS:
        table = load(command).TABLE
        for part in (table, *table.actions.values()):
            yield command, ("-h", "--help")
            for option in part.options():
                yield command, option.names


OPTIONS = sorted(set(_options()))
COMMON = {names for command, names in OPTIONS if command == "checksum-index"}
"""What every command has."""
OWN_PAGES = {
    "run": ["seamless-run"], "daskserver": ["daskserver", "clusters"], "queue": ["queue"],
    "log": ["provenance"], "why": ["provenance", "seamless-run"],
}  # fmt: skip


@pytest.mark.parametrize("command", sorted({command for command, _ in OPTIONS}))
def test_every_option_stands_in_the_docs(command: str) -> None:
    pages = ["commands", *OWN_PAGES.get(command, [])]
    text = "".join((ROOT / "docs" / f"{name}.md").read_text() for name in pages)
    wanted = [
        names for of, names in OPTIONS if of == command and (names not in COMMON or command not in OWN_PAGES)
    ]
    missing = [
        names
        for names in wanted
        if not any(re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) for name in names)
    ]
    assert missing == []


def test_pages_link_to_pages_that_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_tests_that_a_page_names_are_there() -> None:
    named = {
        (page.name, file, name)
        for page in PAGES
        for file, name in re.findall(r"`(tests/[a-z_0-9/]+\.py)::(test_\w+)`", page.read_text())
    }
    assert {page for page, _, _ in named} >= {"security.md"}
    lacking = [one for one in named if f"\ndef {one[2]}(" not in (ROOT / one[1]).read_text()]
    assert not lacking
