"""A command that ends well and has not written what it was to write.

https://github.com/treeverse/dvc/issues/1085: a script forgets one output, ends with status 0, and the
user is told that the command failed, not that something it was to write is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from seamless_dask import bash
from seamless_dask.errors import ComputationFailed

from ..cli.conftest import Cli, cli, work

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["cli", "work"]


@pytest.mark.parametrize("isolation", ["auto", "none"])
def test_the_product_is_named_and_the_command_is_not_blamed(cli: Cli, work: Path, isolation: str) -> None:
    words = ("--capture", "a.tsv", "--capture", "b.tsv", "echo x > a.tsv; echo done")
    error = cli("seamless-run", *words, status=1, SEAMLESS_ISOLATION=isolation).stderr
    assert "the command wrote no b.tsv" in error
    assert "a.tsv" not in error
    assert "exit status" not in error
    assert "correct --capture" in error
    assert list(work.iterdir()) == []


def test_none_of_its_products_is_recorded(cli: Cli, work: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    text = 'echo x > a.tsv; if test -e "$THERE"; then echo y > b.tsv; fi'
    words = ("--metavar", f"THERE={there}", "--capture", "a.tsv", "--capture", "b.tsv", text)
    cli("seamless-run", *words, status=1, SEAMLESS_ISOLATION="none")
    there.touch()
    cli("seamless-run", *words, SEAMLESS_ISOLATION="none")
    assert (work / "b.tsv").read_text() == "y\n"


def test_the_same_in_python() -> None:
    step = bash("echo x > a.tsv", results=["a.tsv", "b.tsv"], isolation="none", label="convert")
    with pytest.raises(ComputationFailed, match=r"wrote no b\.tsv") as caught:
        step.compute()
    assert "convert" in str(caught.value)
    assert "--capture" not in str(caught.value)


def test_a_step_that_needs_it_does_not_run(tmp_path: Path) -> None:
    first = bash("echo x > a.tsv", results=["a.tsv", "b.tsv"], isolation="none")
    last = bash(f"touch {tmp_path / 'ran'}; cat b", {"b": first["b.tsv"]}, isolation="none")
    with pytest.raises(ComputationFailed, match=r"wrote no b\.tsv"):
        last.compute()
    assert not (tmp_path / "ran").exists()
