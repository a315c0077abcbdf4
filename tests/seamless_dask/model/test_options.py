"""Options travel as JSON."""

from __future__ import annotations

import pytest

from seamless_dask.errors import UsageError
from seamless_dask.model.options import Options


def test_they_come_back_as_they_were() -> None:
    options = Options(
        prologue=("a",),
        modules=("m",),
        metavars={"A": "1"},
        conda="lab",
        image="docker://debian",
        cpus=2,
        gpus=1,
        resources={"license": 0.5},
        queue="long",
        node="n1",
        priority=-3,
        memory=5,
        time_limit=1.5,
        scratch=True,
        fresh=True,
        upstream={"key": "{}"},
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
        '{"gpus": 0}',
        '{"gpus": true}',
        '{"resources": {"A": NaN}}',
        '{"resources": {"A": "1"}}',
        '{"queue": ""}',
        '{"priority": 1.5}',
        '{"retries": -1}',
        '{"upstream": {"key": {}}}',
    ],
)
def test_others_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Options.from_json(text)


def test_an_option_of_a_newer_version_says_so() -> None:
    with pytest.raises(UsageError, match=r"unknown execution option .colour.: .*newer seamless-dask"):
        Options.from_json('{"colour": "red"}')


def test_the_environment_is_what_was_named() -> None:
    assert Options(cpus=2).environment() == {}
    named = Options(prologue=("a",), conda="lab", image="b.sif")
    assert named.environment() == {"prologue": ["a"], "conda": "lab", "image": "b.sif"}


def test_wishes_of_one_asker_are_not_kept_for_others() -> None:
    options = Options(scratch=True, fresh=True, direct_print=True, cpus=2, upstream={"key": "{}"})
    assert options.kept() == Options(cpus=2, upstream={"key": "{}"})


def test_what_is_needed_is_run_as_it_was_asked_for() -> None:
    options = Options(cpus=2, isolation="none", retries=1, upstream={"a": '{"modules":["gcc"]}'})
    assert options.of_upstream("a") == Options(modules=("gcc",))
    assert options.of_upstream("b") == Options(isolation="none", retries=1)
