"""What a command has printed is what explains its failure, on whichever stream.

https://github.com/ddev/ddev/issues/3518: a script that prints on both streams and fails is run by a tool
that shows either all of its output or, when it is told to be quiet, nothing but the exit status.
"""

from __future__ import annotations

import traceback

import pytest

from seamless_dask import bash
from seamless_dask.errors import ComputationFailed

from ..cli.conftest import Cli, cli, work

__all__ = ["cli", "work"]

FAILS = "echo 'this is some stdout'; {more}exit 1"


@pytest.mark.parametrize("quiet", [[], ["-q"], ["-qq"]])
@pytest.mark.parametrize("isolation", ["auto", "none"])
def test_a_failure_is_explained_though_one_is_quiet(cli: Cli, isolation: str, quiet: list[str]) -> None:
    text = FAILS.format(more="")
    done = cli("seamless-run", *quiet, text, status=1, SEAMLESS_ISOLATION=isolation)
    assert "this is some stdout" in done.stderr
    assert done.stdout == b""


def test_what_stands_on_standard_error_is_shown_alone(cli: Cli) -> None:
    done = cli("seamless-run", FAILS.format(more="echo 'this is some stderr' >&2; "), status=1)
    assert "this is some stderr" in done.stderr
    assert "this is some stdout" not in done.stderr


def test_a_command_that_ends_well_stays_quiet(cli: Cli) -> None:
    done = cli("seamless-run", "-q", "echo 'this is some stderr' >&2; echo result")
    assert (done.text, done.stderr) == ("result\n", "")


def test_it_is_shown_of_a_failure_whose_standard_output_goes_to_a_file(cli: Cli) -> None:
    done = cli("seamless-run", "--capture", "out", "echo 'no such gene'; touch out; exit 3", status=3)
    assert "no such gene" in done.stderr


def test_the_same_in_python() -> None:
    with pytest.raises(ComputationFailed) as caught:
        bash(FAILS.format(more=""), isolation="none").compute()
    assert caught.value.exit_status == 1
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.endswith("[standard error is empty; the end of standard output:]\nthis is some stdout\n")
