"""Every error survives the way to another process: as JSON, and as a pickle."""

from __future__ import annotations

import pickle

import pytest

from hashserver import errors as data
from seamless_dask import errors
from seamless_dask.model import outcomes

ERRORS = [
    errors.ComputationFailed("failed", 7, "why\n"),
    errors.LimitExceeded("too long", 137, ""),
    errors.ResultMissing("nothing written", 1, "x"),
    errors.Cancelled("cancelled"),
    errors.WorkerLost("lost"),
    errors.UsageError("wrong"),
    data.BufferMissing("1" * 64, "gone"),
    data.BufferCorrupt("1" * 64, "corrupt"),
    data.Irreproducible("1" * 64, "2" * 64, "3" * 64),
    data.ServiceUnavailable("no answer"),
    data.NoSpace("full"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "travel",
    [
        lambda error: outcomes.error_of(outcomes.failure(error)),
        lambda error: pickle.loads(pickle.dumps(error)),
    ],
    ids=["json", "pickle"],
)
def test_an_error_arrives_as_it_was(error: Exception, travel: object) -> None:
    arrived = travel(error)  # type: ignore[operator]
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    for name in ("exit_status", "stderr", "checksum", "transformation", "known", "found"):
        assert getattr(arrived, name, None) == getattr(error, name, None)


def test_what_was_measured_does_not_travel() -> None:
    error = errors.ComputationFailed("failed", 7, "why\n")
    error.record = {"stderr": "why\n" * 1000}
    assert pickle.loads(pickle.dumps(error)).record == {}


def test_an_error_by_the_name_that_earlier_versions_gave_it() -> None:
    error = outcomes.error_of({"error": "hashserver.UsageError", "message": "it is no list"})
    assert isinstance(error, data.InvalidRequest)
    assert str(error) == "it is no list"
