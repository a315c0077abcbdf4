"""What is kept beside a result, and what a later request makes of it."""

from __future__ import annotations

import os

from seamless_dask.errors import ComputationFailed, LimitExceeded
from seamless_dask.model import outcomes
from seamless_dask.model.options import Options
from seamless_dask.model.records import complete, environment_mismatch, failure, timestamp
from seamless_dask.version import __version__


def test_a_record_is_completed_without_hiding_what_was_measured() -> None:
    record = complete({"wall": 1.5, "host": "node1"}, Options(prologue=("a",), cpus=2))
    assert record["wall"] == 1.5
    assert record["host"] == "node1"
    assert record["environment"] == {"prologue": ["a"]}
    assert record["cpus"] == 2
    assert record["version"] == __version__
    assert complete({}, Options())["host"] == os.uname().nodename


def test_times_are_utc() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00Z"


def test_a_failure_says_why() -> None:
    record = failure(ComputationFailed("it failed", 3, "oops"), Options())
    assert record["error"] == {"kind": "ComputationFailed", "message": "it failed"}
    assert (record["exit_status"], record["stderr"]) == (3, "oops")


def test_no_environment_was_named() -> None:
    assert environment_mismatch({"environment": {"modules": ["gcc/12"]}}, Options()) is None
    assert environment_mismatch(None, Options()) is None


def test_the_same_environment_was_named() -> None:
    assert (
        environment_mismatch({"environment": {"modules": ["gcc/12"]}}, Options(modules=("gcc/12",))) is None
    )


def test_another_environment_was_named() -> None:
    line = environment_mismatch({"environment": {"modules": ["gcc/12"]}}, Options(modules=("gcc/13",)))
    assert line is not None
    assert "modules gcc/12, not gcc/13" in line
    assert "--same-environment" in line
    assert "\n" not in line
    assert "(none)" in (environment_mismatch({}, Options(prologue=("source env",))) or "")


def test_conda_and_image_belong_to_the_environment() -> None:
    record = complete({}, Options(conda="old"))
    assert record["environment"] == {"conda": "old"}
    assert environment_mismatch(record, Options(conda="old")) is None
    assert "conda old, not new" in (environment_mismatch(record, Options(conda="new")) or "")
    assert "image (none), not a.sif" in (environment_mismatch(record, Options(image="a.sif")) or "")


def test_an_error_survives_the_way_between_processes() -> None:
    error = outcomes.error_of(outcomes.failure(LimitExceeded("too long", 137, "tail")))
    assert isinstance(error, LimitExceeded)
    assert (str(error), error.exit_status, error.stderr) == ("too long", 137, "tail")
