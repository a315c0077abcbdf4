"""What of a call does not count, functions of libraries, and what no function can be made of."""

from __future__ import annotations

import functools
import importlib
import math
import operator
import statistics
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from seamless_dask import File, Transformation, bash, settings
from seamless_dask.context import Context
from seamless_dask.decorators import delayed, direct
from seamless_dask.errors import NotAValue, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OFFSET = 1


def fit(x: int, n_jobs: Any = 1, *, verbose: bool = False, **more: Any) -> list[Any]:
    return [x + OFFSET, n_jobs, verbose, more]


def plain_fit(x: int, n_jobs: Any = 1, *, verbose: bool = False) -> list[Any]:
    return [x + OFFSET, n_jobs, verbose]


def half(x: float) -> float:
    return x / 2


def generated(count: int) -> Any:
    return (number for number in range(count))


def multiplier(factor: int) -> Callable[[int], int]:
    def multiplied(x: int) -> int:
        return x * factor

    return multiplied


class Scale:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def times(self, x: int) -> int:
        return x * self.factor

    @direct
    @staticmethod
    def doubled(x: int) -> int:
        return 2 * x

    @staticmethod
    @direct
    def tripled(x: int) -> int:
        return 3 * x

    @direct
    @classmethod
    def named(cls, x: int) -> list[Any]:
        return [cls.__name__, x]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"ignore": "n_jobs"},
        {"ignore": ("n_jobs", "verbose"), "version": "2"},
        {"version": "2"},
        {"variables": {"A": "50%"}},
        {"format": "json/1"},
    ],
    ids=repr,
)
def test_what_was_computed_as_a_transformation_is_found_by_a_call(
    lab: Any, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """The key of one comes from its description, that of the other from the form of all calls."""
    direct_fit = lab.direct(**options)(plain_fit)
    assert direct_fit.delayed(1, verbose=True).compute() == [2, 1, True]
    monkeypatch.setattr(Transformation, "compute", None)
    for call in (lambda: direct_fit(1, verbose=True), lambda: direct_fit(n_jobs=1, x=1, verbose=True)):
        assert call() == [2, 1, True]
    with pytest.raises(TypeError):  # what is not known would be computed
        direct_fit(2, verbose=True)


def test_what_is_ignored_is_passed_on_and_does_not_count(lab: Any) -> None:
    made = lab.direct(ignore=("n_jobs", "verbose"))(fit)
    assert made(1, n_jobs=4, verbose=True) == [2, 4, True, {}]
    assert made(1, n_jobs=8) == [2, 4, True, {}]
    assert made(2, n_jobs=8) == [3, 8, False, {}]
    assert made.delayed(1).key == made.delayed(1, 7).key != lab.direct(fit).delayed(1).key


def test_a_further_keyword_can_be_ignored(lab: Any) -> None:
    made = lab.delayed(ignore="threads")(fit)
    assert made(1, threads=2).key == made(1, threads=3).key != made(1, other=2).key
    assert made(1, threads=2).compute() == [2, 1, False, {"threads": 2}]


def test_a_file_can_be_ignored(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "hint").write_text("a hint")

    @lab.delayed(ignore="hints")
    def hinted(x: int, hints: Any) -> list[Any]:
        return [x, hints[0].read_text()]

    file: Any = File(tmp_path / "hint")
    made = hinted(1, [file])
    assert list(made.description.inputs) == ["x"]
    assert made.compute() == [1, "a hint"]


def test_a_transformation_that_does_not_count_is_refused(lab: Any) -> None:
    made = lab.delayed(ignore="n_jobs")(fit)
    with pytest.raises(UsageError, match=r"'n_jobs' does not count.*pass its result"):
        made(1, [made(2)])


def test_ignoring_what_is_no_argument_is_an_error_at_once() -> None:
    with pytest.raises(UsageError, match=r"half has no argument 'n_job'; its arguments are: x"):
        direct(ignore=("x", "n_job"))(half)


def test_bytes_that_are_gone_are_made_again_with_what_was_ignored(lab: Any) -> None:
    made = lab.delayed(ignore="n_jobs")(fit)(5, n_jobs=3)
    assert made.compute() == [6, 3, False, {}]
    checksum = made.result_checksum
    assert checksum is not None
    lab.context.store.delete(checksum)
    assert made.compute() == [6, 3, False, {}]


def test_a_version_counts_in_place_of_code(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lab.delayed(version="2")(fit)
    key = first(1).key
    monkeypatch.setattr(sys.modules[__name__], "OFFSET", 10)
    assert first(1).key == key != first(2).key
    assert lab.delayed(version="3")(fit)(1).key != key
    assert first(1).compute() == [11, 1, False, {}]
    text = lab.context.store.get(first(1).description.code).decode()
    assert text == f'# version "2"\nfrom {__name__} import fit\n\n__function__ = fit\n'
    assert "OFFSET = 10" in first.code


def test_versions_of_two_functions_differ() -> None:
    assert delayed(version="1")(half)(1).key != delayed(version="1")(fit)(1).key


def test_a_function_without_source_has_a_version(lab: Any) -> None:
    names: dict[str, Any] = {"__name__": "made_of_text"}
    exec("def f(x):\n    return x + 1\n", names)
    assert lab.direct(version="1")(names["f"])(1) == 2
    assert lab.direct(version="1")(math.sqrt)(4.0) == 2.0


@pytest.mark.parametrize(
    "function",
    [multiplier(2), lambda x: x, functools.partial(half), Scale(2).times],
    ids=["closure", "lambda", "partial", "method"],
)
def test_a_version_needs_a_name_that_no_other_has(function: Any) -> None:
    with pytest.raises(UsageError, match=r"version: .* has no name of its own: define it with `def`"):
        direct(version="1")(function)


def test_a_version_in_a_script_is_that_of_the_module(tmp_path: Path) -> None:
    (tmp_path / "analysis.py").write_text(
        "from seamless_dask import delayed\n"
        "@delayed(version='1')\n"
        "def f(x):\n    return x\n"
        "if __name__ == '__main__':\n    print(f(1).key)\n"
    )
    told = {
        subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout
        for arguments in (
            ["analysis.py"],
            ["-m", "analysis"],
            ["-c", "import analysis as a; print(a.f(1).key)"],
        )
    }
    assert len(told) == 1


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        (math.sqrt, (4.0,), 2.0),
        (math.hypot, (3.0, 4.0), 5.0),
        (statistics.median, ([3, 1, 2],), 2),
        (np.mean, ([1.0, 2.0],), 1.5),
        (np.sin, (0.0,), 0.0),
        (np.linalg.norm, ([3.0, 4.0],), 5.0),
        (len, ([1, 2],), 2),
        (max, (1, 3, 2), 3),
        (int, ("12",), 12),
        (complex, (1, 2), 1 + 2j),
        (operator.itemgetter(1), ([5, 6],), 6),
        (str.upper, ("text",), "TEXT"),
        (dict.fromkeys, ([1], 2), {1: 2}),
    ],
    ids=lambda value: getattr(value, "__name__", "-"),
)
def test_a_function_of_a_library_by_its_name(
    lab: Any, function: Any, arguments: tuple[Any, ...], result: Any
) -> None:
    made = lab.direct(function)
    assert made(*arguments) == result
    assert made.delayed(*arguments).is_known()


def test_a_function_of_a_library_counts_by_its_name_and_arguments(lab: Any) -> None:
    made = lab.delayed
    assert made(math.floor)(2.5).key == made(math.floor)(2.5).key != made(math.ceil)(2.5).key
    assert made(statistics.quantiles)([1, 2]).key == made(statistics.quantiles)([1, 2], n=4).key
    assert "from math import floor" in made(math.floor).code


def test_a_partial_counts_with_what_it_holds(lab: Any) -> None:
    first, second = (lab.direct(functools.partial(fit, 1, verbose=flag)) for flag in (True, False))
    assert first(2) == [2, 2, True, {}]
    assert second(2) == [2, 2, False, {}]
    assert lab.direct(functools.partial(fit, verbose=True)).delayed(1).key != first.delayed().key


def test_closures_of_one_factory_are_never_mixed_up(lab: Any) -> None:
    assert [lab.direct(multiplier(number))(2) for number in (1, 2, 3, 2)] == [2, 4, 6, 4]


def test_bound_methods_count_with_their_instance(lab: Any) -> None:
    assert [lab.direct(Scale(number).times)(2) for number in (2, 3)] == [4, 6]


def test_lambdas_on_one_line_stay_apart(lab: Any) -> None:
    first, second = lab.direct(lambda x: x + 1), lab.direct(lambda x: x + 2)
    assert (first(1), second(1)) == (2, 3)


def test_static_and_class_methods(lab: Any) -> None:
    static, of_class = Scale.doubled.delayed(4), Scale.named.delayed(4)
    assert list(static.description.inputs) == ["x"]
    assert Scale(1).doubled.delayed(4).key == static.key
    assert list(Scale.tripled.delayed(4).description.inputs) == ["x"]
    assert sorted(of_class.description.inputs) == ["cls", "x"]
    assert lab.direct(Scale.named.function)(Scale, 4) == ["Scale", 4]


def test_a_class_is_a_function(lab: Any) -> None:
    made = lab.direct(Scale)(3)
    assert (type(made), made.factor) == (Scale, 3)


@pytest.mark.parametrize(("place", "variable"), [("site-packages", "OWN"), ("project", "LIBRARY")])
def test_settings_say_whose_a_module_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, variable: str
) -> None:
    package = tmp_path / place / f"tools_{variable.lower()}"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "inner.py").write_text("def helper(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(package.parent)
    helper = importlib.import_module(f"{package.name}.inner").helper
    by_name = f"from {package.name}.inner import helper"
    assert (by_name in direct(context=Context())(helper).code) == (variable == "OWN")
    monkeypatch.setenv(f"SEAMLESS_{variable}_MODULES", f"other {package.name}")
    assert (by_name in direct(context=Context())(helper).code) == (variable == "LIBRARY")


def test_a_class_is_whose_settings_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAMLESS_LIBRARY_MODULES", __name__)
    made = delayed(context=Context())(half)
    scale: Any = Scale(2)
    name = made(scale).description.inputs["x"]
    monkeypatch.delenv("SEAMLESS_LIBRARY_MODULES")
    assert delayed(context=Context())(half)(scale).description.inputs["x"] != name


@pytest.mark.parametrize("text", ["'a b'", "['a', 1]", "3", "''"])
def test_settings_that_name_no_modules(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="own-modules must be names of modules"):
        settings.parse(str(tmp_path / "config.toml"), f"own-modules = {text}".encode())


@pytest.mark.parametrize("option", ["lines", "ignored", "source"])
def test_what_travels_beside_a_function_is_no_option(option: str) -> None:
    with pytest.raises(UsageError, match=f"has no option '{option}'"):
        direct(**{option: "x"})(half)
    with pytest.raises(UsageError, match=f"has no option '{option}'"):
        bash("true", **{option: "x"})


def _generated() -> Any:
    yield 1


async def _awaited() -> None: ...


async def _both() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (_generated, "_generated gives a generator.*return a list"),
        (_both, "_both gives a generator.*return a list"),
        (_awaited, "_awaited is a coroutine.*decorate a plain function"),
        (functools.partial(_generated), "_generated gives a generator"),
        (3, "3 is not a function"),
    ],
)
def test_what_no_function_can_be_made_of(function: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        direct(function)


# ------------------------------------------------------------------------ format=


def given_back(value: Any) -> Any:
    return value


def framed(count: int) -> Any:
    import pandas as pd

    return pd.DataFrame({"x": range(count)})


def written(name: str) -> Any:
    with open("out", "w") as file:
        file.write(name)
    return File("out")


VALUES = {
    "json/1": [1, (2,)],
    "text": "text",
    "bytes": b"bytes",
    "npy": np.arange(3),
    "npy-scalar": np.float32(0.5),
    "parts/1": [np.arange(20_000)],
    "pickle": Scale(3),
}


@pytest.mark.parametrize("name", list(VALUES))
def test_a_result_is_kept_in_the_format_that_is_asked_for(lab: Any, name: str) -> None:
    made = lab.delayed(format=name)(given_back)(VALUES[name])
    found = made.compute()
    assert type(found) is type(VALUES[name])
    assert vars(found) == {"factor": 3} if name == "pickle" else repr(found) == repr(VALUES[name])
    assert lab.context.database.get(made.key).format == name


@pytest.mark.parametrize("value", ["text", "half \ud800", b"bytes", bytearray(b"x"), [1]])
def test_text_and_bytes_are_kept_as_a_tree_where_that_is_asked_for(lab: Any, value: Any) -> None:
    made = lab.delayed(format="json/1")(given_back)(value)
    found = made.compute()
    assert (type(found), found) == (type(value), value)
    assert lab.context.database.get(made.key).format == "json/1"


def test_a_frame_and_a_file_are_kept_as_such(lab: Any) -> None:
    assert list(lab.direct(format="arrow")(framed)(2).x) == [0, 1]
    assert lab.direct(format="file")(written)("x").read_text() == "x"


@pytest.mark.parametrize(
    ("function", "argument", "asked", "told"),
    [
        (given_back, [1], "npy", r"given_back\(\) is a list, which is kept as json/1 and not as npy"),
        (given_back, b"x" * 100_000, "json/1", r"is a bytes, which is kept as bytes and not as json/1"),
        (given_back, "out", "file", r"is a str, which is not kept as file: return File\(path\)"),
        (written, "x", "text", r"written\(\) is file, which is not kept as text: return the object"),
        (written, "x", "directory", r"is file, which is not kept as directory: return Directory\(path\)"),
        (generated, 3, "pickle", r"generated\(\) is a generator, which gives what it has only once"),
    ],
)
def test_what_has_another_format_is_refused_by_the_name_of_the_function(
    lab: Any, function: Any, argument: Any, asked: str, told: str
) -> None:
    made = lab.delayed(format=asked)(function)(argument)
    with pytest.raises((NotAValue, UsageError), match=told) as caught:
        made.compute()
    assert "\n" not in str(caught.value)
    assert not made.is_known()


def test_a_format_is_part_of_the_identity_and_its_absence_another_one(lab: Any) -> None:
    keys = {lab.delayed(format=name)(given_back)([1]).key for name in (None, "json/1", "pickle")}
    assert len(keys) == 3
    assert lab.delayed(given_back)([1]).key in keys


def test_a_format_that_there_is_not_is_an_error_at_once() -> None:
    with pytest.raises(UsageError, match=r"format: there is no 'parquet'; there are json/1, .*, directory"):
        direct(format="parquet")(given_back)


def test_a_pickle_has_classes_of_a_notebook_by_their_code(lab: Any, tmp_path: Path) -> None:
    script = tmp_path / "birds.py"
    script.write_text(
        "from seamless_dask import direct\n"
        "class Bird:\n"
        "    def __init__(self, mass):\n"
        "        self.mass = mass\n"
        "@direct(format='pickle')\n"
        "def fed(bird):\n"
        "    return Bird(bird.mass + 1)\n"
        "bird = fed(fed(Bird(1)))\n"
        "print(type(bird) is Bird, bird.mass)\n"
    )
    for _ in range(2):  # computed, and found by another process
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
        assert done.stdout == "True 3\n", done.stderr
