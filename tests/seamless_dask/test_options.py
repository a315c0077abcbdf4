"""Options travel as JSON."""

from __future__ import annotations

import pytest

from seamless_dask.errors import UsageError
from seamless_dask.options import Options


def test_they_come_back_as_they_were() -> None:
    options = Options(
        prologue=("a",), modules=("m",), metavars={"A": "1"}, cpus=2, memory=5, time_limit=1.5, scratch=True
    )
    assert Options.from_json(options.to_json()) == options
    assert Options().to_json() == "{}"
    assert Options.from_json("{}") == Options()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"x": 1}',
        '{"cpus": "2"}',
        '{"isolation": "x"}',
        '{"prologue": "a"}',
        '{"metavars": {"A": 1}}',
    ],
)
def test_others_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Options.from_json(text)
