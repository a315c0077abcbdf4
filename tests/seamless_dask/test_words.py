"""Errors and arguments in Python's own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hashserver.checksum import hash_bytes
from hashserver.errors import BufferMissing
from hashserver.workspace.sidecar import write_file_sidecar
from seamless_dask import File, bash
from seamless_dask.errors import ComputationFailed, ResultMissing, UsageError
from seamless_dask.graph import handles


def test_variables_may_be_numbers_and_paths(lab: Any) -> None:
    given = bash("true", variables={"x": 3, "y": 0.5, "z": Path("a/b")}, context=lab.context)
    assert given.key == bash("true", variables={"x": "3", "y": "0.5", "z": "a/b"}, context=lab.context).key


@pytest.mark.parametrize("value", [True, None, ["a"], b"a"])
def test_other_variables_are_refused(lab: Any, value: Any) -> None:
    with pytest.raises(UsageError, match="variable 'x' must be text, a number or a path"):
        bash("true", variables={"x": value}, context=lab.context)


def test_a_failure_names_step_and_label(lab: Any) -> None:
    failing = bash("sort nothing.txt", context=lab.context)
    with pytest.raises(ComputationFailed, match=rf"^sort \({failing.key[:8]}\): .*exit status 2"):
        failing.compute()
    with pytest.raises(ComputationFailed, match=r"^by gene \("):
        bash("sort nothing.txt | uniq", label="by gene", context=lab.context).compute()


def test_the_step_that_failed_is_named_not_the_one_that_was_asked_for(lab: Any) -> None:
    first = bash("exit 7", label="first", context=lab.context)
    with pytest.raises(ComputationFailed, match=r"^first \(.*exit status 7") as caught:
        bash("cat x", {"x": first}, label="second", context=lab.context).compute()
    assert "second" not in str(caught.value)


def test_a_missing_result_has_no_words_of_the_command_line(lab: Any) -> None:
    with pytest.raises(ResultMissing, match=r"wrote no out\.csv") as caught:
        bash("true", results="out.csv", context=lab.context).compute()
    assert "--" not in str(caught.value)


def test_a_label_is_shown(lab: Any) -> None:
    assert "by gene" in repr(bash("sort x", label="by gene", context=lab.context))


def test_a_file_whose_bytes_are_gone_is_named(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = hash_bytes(b"never stored")
    write_file_sidecar(tmp_path / "a.txt", gone)
    monkeypatch.setattr(handles, "contexts_of_process", lambda: [lab.context])
    with pytest.raises(
        BufferMissing, match=r"a\.txt is not here.*seamless-fingertip.*seamless-upload"
    ) as caught:
        File(tmp_path / "a.txt").read_bytes()
    assert caught.value.checksum == gone
