"""Functions whose calls are transformations: run once, found from then on."""

from __future__ import annotations

import linecache
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest

from hashserver.errors import BufferMissing
from seamless_dask import Checksum, File, bash, checksum_of, delayed, direct, put
from seamless_dask.errors import ComputationFailed, InvalidValue, NotAValue, UsageError

FACTOR = 3


def scaled(x: Any) -> Any:
    return x * FACTOR


def add(a: Any, b: Any = 2, *more: Any, c: Any = "c", **named: Any) -> Any:
    return [a, b, more, c, named]


def test_a_call_returns_what_the_function_returns(lab: Any) -> None:
    @lab.direct
    def fit(x: int) -> dict[str, Any]:
        return {"scaled": scaled(x), "pair": (1, 2.0)}

    assert fit(2) == {"scaled": 6, "pair": (1, 2.0)}


def test_what_was_computed_is_found_and_not_run_again(lab: Any, tmp_path: Path) -> None:
    count = tmp_path / "count"

    @lab.direct(isolation="none")
    def noted(x: int, path: str) -> int:
        with open(path, "a") as file:
            file.write("x")
        return x

    assert [noted(1, str(count)), noted(x=1, path=str(count)), noted(2, str(count))] == [1, 1, 2]
    assert count.read_text() == "xx"


def test_what_another_process_contests_or_finds_is_seen_at_the_next_call(lab: Any) -> None:
    @lab.direct
    def half(x: int) -> float:
        return x / 2

    assert [half(3), half(3)] == [1.5, 1.5]
    other = lab.context.store.put(b"7")
    script = f"""
from hashserver import Checksum, open_database
with open_database({lab.context.config.database!r}) as database:
    key = Checksum({str(half.delayed(3).key)!r})
    database.contest(key)
    database.put(key, "json/1", Checksum({str(other)!r}))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert half(3) == 7


def test_a_hit_after_a_global_or_a_function_was_changed_is_another_ones(lab: Any) -> None:
    table = {"factor": 2}

    def helper(x: int) -> int:
        return x

    @lab.direct
    def times(x: int) -> int:
        return helper(x) * table["factor"]

    assert [times(3), times(3)] == [6, 6]
    table["factor"] = 5
    assert [times(3), times(3)] == [15, 15]
    helper.__code__ = (lambda x: x + 1).__code__
    assert [times(3), times(3)] == [20, 20]


SET_LATER = {
    "__defaults__": ("def f(x, n=1): return x + n", (5,)),
    "__kwdefaults__": ("def f(x, *, n=1): return x + n", {"n": 5}),
    "__code__": ("def f(x, n=1): return x + n", (lambda x, n=1: x + 5).__code__),
    "step": ("def f(x): return x + f.step\nf.step = 1", 5),
}


@pytest.mark.filterwarnings("ignore::seamless_dask.code.identity.CodeWarning")
@pytest.mark.parametrize("on", ["function", "ours"])
@pytest.mark.parametrize("name", SET_LATER)
def test_what_is_set_on_a_function_after_it_was_decorated_is_seen(lab: Any, name: str, on: str) -> None:
    source, value = SET_LATER[name]
    space: dict[str, Any] = {"__name__": __name__}
    linecache.cache["<set later>"] = len(source), None, source.splitlines(keepends=True), "<set later>"
    exec(compile(source, "<set later>", "exec"), space)
    plain = space["f"]
    made = space["f"] = lab.delayed(plain)
    before, called = made(1).key, made.direct
    assert called.delayed(1).key == before
    setattr(plain if on == "function" else made, name, value)
    assert called.delayed(1).key == made(1).key != before
    assert getattr(made, name) == getattr(plain, name)
    assert plain(1) == 6
    if name != "__code__" or on == "ours":  # one is enough
        assert called(1) == 6


def test_a_default_that_was_set_later_counts_for_a_method_too() -> None:
    class Scale:
        @delayed
        def times(self, x: int, by: int = 2) -> int:
            return x * by

    before = Scale().times(1).key
    Scale.times.__defaults__ = (3,)
    assert Scale().times(1).key == Scale().times(1, 3).key != before


def test_the_function_itself_cannot_be_replaced(lab: Any) -> None:
    made = lab.direct(scaled)
    for name in ("function", "__wrapped__"):
        with pytest.raises(AttributeError, match=f"^{name} of <direct scaled> cannot be replaced"):
            setattr(made, name, add)
    assert made.function is scaled


@pytest.mark.parametrize(
    ("args", "named"),
    [((1,), {}), ((1, 2), {}), ((), {"a": 1}), ((1,), {"c": "c"}), ((), {"b": 2, "a": 1, "c": "c"})],
)
def test_however_arguments_are_given_it_is_one_call(
    lab: Any, args: tuple[Any, ...], named: dict[str, Any]
) -> None:
    made = lab.delayed(add)
    assert made(*args, **named).key == made(1).key


@pytest.mark.parametrize(
    ("args", "named"),
    [((1.0,), {}), ((1, 3), {}), ((1, 2, 3), {}), ((1,), {"c": "d"}), ((1,), {"d": "c"}), ((True,), {})],
)
def test_other_arguments_are_another_call(lab: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    made = lab.delayed(add)
    assert made(*args, **named).key != made(1).key


def test_all_kinds_of_parameters_arrive(lab: Any) -> None:
    @lab.direct
    def given(a: Any, /, b: Any, *more: Any, c: Any, **named: Any) -> Any:
        return [a, b, more, c, named]

    assert given(1, 2, 3, 4, c=5, a=6, **{"no name": 7}) == [1, 2, (3, 4), 5, {"a": 6, "no name": 7}]


def test_a_transformation_is_an_argument_at_any_depth(lab: Any) -> None:
    double = lab.delayed(scaled)
    one = double(1)
    last = lab.delayed(add)(one, {"deep": [one, (double(2),)]}, x=one)
    assert last.compute() == [3, {"deep": [3, (6,)]}, (), "c", {"x": 3}]


def test_transformations_inside_of_a_set_keep_their_places(lab: Any) -> None:
    """Whatever order its members have in this process: that of their hashes, which are other ones in each."""
    numbers = [lab.delayed(scaled)(x) for x in range(6)]
    made = lab.delayed(add)({(x, number) for x, number in enumerate(numbers)})
    assert made.compute()[0] == {(x, scaled(x)) for x in range(6)}
    inputs = [made.description.inputs[f"a/{number}"].of for number in range(6)]
    assert inputs == [number.key for number in numbers]


def test_a_file_arrives_as_a_path(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("three words here")

    @lab.direct
    def words(path: Any, others: list[Any]) -> list[Any]:
        return [len(path.read_text().split()), others[0].read_text()]

    file: Any = File(tmp_path / "data.txt")
    assert words(file, [file]) == [3, "three words here"]


def test_commands_and_functions_are_inputs_of_each_other(lab: Any) -> None:
    @lab.delayed
    def upper(path: Any) -> str:
        text: str = path.read_text()
        return text.upper()

    @lab.delayed
    def written(text: str) -> Any:
        with open("out.txt", "w") as file:
            file.write(text + "!")
        return File("out.txt")

    said: Any = bash("echo hello", context=lab.context)
    shouted = written(upper(said))
    last = bash("cat x", {"x": shouted}, context=lab.context)
    assert last.compute().read_text() == "HELLO\n!"
    assert shouted.compute().read_text() == "HELLO\n!"


def test_a_failure_shows_the_users_frames_and_none_of_ours(lab: Any) -> None:
    @lab.direct
    def failing(x: int) -> None:
        raise ValueError(f"no {x}")

    with pytest.raises(ValueError, match="no 1") as caught:
        failing(1)
    (note,) = caught.value.__notes__
    assert "the function failed" in note
    assert "in failing" in note
    assert "site-packages/seamless_dask" not in note


@pytest.mark.parametrize("status", ["0", "3", "'text'", "None"])
def test_a_function_that_exits_has_failed(lab: Any, status: str) -> None:
    @lab.direct
    def exiting(status: Any) -> None:
        sys.exit(status)

    with pytest.raises(ComputationFailed, match="failed") as caught:
        exiting(eval(status))
    assert f"called sys.exit({status})" in caught.value.stderr


def test_what_is_printed_is_standard_error(lab: Any) -> None:
    @lab.delayed
    def talking() -> int:
        print("said")
        return 1

    made = talking()
    assert made.compute() == 1
    assert made.record is not None
    assert made.record["stderr"] == "said\n"


def test_a_function_runs_in_a_fresh_directory(lab: Any) -> None:
    @lab.direct
    def here() -> list[str]:
        return os.listdir()

    with pytest.warns(match="reads the file system"):
        assert here() == []


def test_a_time_limit_ends_it(lab: Any) -> None:
    @lab.direct(time_limit=1.0)
    def endless() -> None:
        while True:
            pass

    with pytest.raises(ComputationFailed, match="limit"):
        endless()


def test_what_is_known_is_told(lab: Any) -> None:
    made = lab.delayed(scaled)(5)
    assert not made.is_known()
    assert made.result_checksum is None
    assert made.record is None
    made.compute()
    assert made.is_known()
    assert made.record is not None
    assert lab.context.store.get(made.result_checksum) == b"15"


def test_what_is_no_value_is_refused_with_the_name_of_the_argument(lab: Any) -> None:
    made = lab.delayed(add)
    with pytest.raises(NotAValue, match=r"argument 'b'.*generator"):
        made(1, (x for x in ()))


def test_a_wrong_call_is_an_error_at_once(lab: Any) -> None:
    with pytest.raises(TypeError, match="missing a required argument: 'a'"):
        lab.delayed(add)()  # type: ignore[call-arg]


@pytest.mark.parametrize("option", ["nonsense", "writable", "direct_print"])
def test_an_option_that_functions_have_not(option: str) -> None:
    with pytest.raises(UsageError, match=option):
        direct(**{option: True})(scaled)


@pytest.mark.parametrize("name", ["options", "key", "label"])
def test_a_transformation_does_not_change(lab: Any, name: str) -> None:
    made = lab.delayed(scaled)(1)
    with pytest.raises(AttributeError, match=f"^{name} cannot be set: .* make another one$"):
        setattr(made, name, None)
    assert made.compute() == 3


def test_each_form_has_the_other_and_the_plain_function(lab: Any) -> None:
    made = lab.direct(scaled)
    assert made.function is scaled
    assert made.delayed(2).key == made.delayed.direct.delayed(2).key
    assert made.delayed(2).compute() == made(2) == 6
    assert made.__name__ == "scaled"
    assert "FACTOR = 3" in made.code


def test_dask_computes_several_at_once(lab: Any) -> None:
    made = lab.delayed(scaled)
    assert made(7).compute(scheduler="synchronous") == 21
    assert dask.is_dask_collection(made(1))


def test_a_hit_imports_no_dask(lab: Any, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from seamless_dask.decorators import direct\n"
        "@direct\n"
        "def double(x):\n"
        "    return 2 * x\n"
        "print(double(4), {'dask', 'numpy', 'aiohttp', 'fsspec'} & set(sys.modules) == set())\n"
    )
    environment = os.environ | {"SEAMLESS_CACHE": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    said = [
        subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert [done.stdout for done in said] == ["8 False\n", "8 True\n"]


class OutOfRange(Exception):
    def __init__(self, value: float, limit: float) -> None:
        super().__init__(value, limit)
        self.limit = limit


class Line:
    def __init__(self, slope: float) -> None:
        self.slope = slope

    @direct
    def at(self, x: float) -> list[Any]:
        if x < 0:
            raise OutOfRange(x, 0.0)
        return [isinstance(self, Line), self.slope * x, self]


def test_a_method_has_its_instance_and_the_very_class_comes_back(lab: Any) -> None:
    is_line, y, line = lab.direct(Line.at.function)(Line(2.0), 3.0)
    assert (is_line, y, type(line), line.slope) == (True, 6.0, Line, 2.0)


def test_a_method_is_bound_to_its_instance() -> None:
    first, second = Line(1.0).at.delayed(3.0), Line(2.0).at.delayed(3.0)
    assert first.key == Line(1.0).at.delayed(3.0).key != second.key


def test_an_exception_of_the_users_comes_as_itself(lab: Any) -> None:
    failing = lab.direct(Line.at.function)
    with pytest.raises(OutOfRange) as caught:
        failing(Line(1.0), -1.0)
    assert (caught.value.args, caught.value.limit) == ((-1.0, 0.0), 0.0)
    (note,) = caught.value.__notes__
    assert f'File "{__file__}", line {Line.at.function.__code__.co_firstlineno + 3}, in at' in note
    assert "raise OutOfRange(x, 0.0)" in note
    assert "site-packages/seamless_dask" not in note


def test_an_exception_that_nothing_stands_for_is_a_failure_with_its_text(lab: Any) -> None:
    @lab.direct
    def failing() -> None:
        error = ValueError("with a generator")
        error.stream = (x for x in ())  # type: ignore[attr-defined]
        raise error

    with pytest.raises(ComputationFailed) as caught:
        failing()
    assert "ValueError: with a generator" in caught.value.stderr


def test_a_path_as_text_is_said_to_be_no_file(lab: Any) -> None:
    @lab.direct
    def words(path: str) -> int:
        with open(path) as file:
            return len(file.read().split())

    with pytest.raises(FileNotFoundError) as caught:
        words("data.csv")
    assert "pass File('data.csv')" in caught.value.__notes__[0]


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A conda environment with a Python of its own, which has the standard library alone."""
    prefix = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    (prefix / "conda-meta").mkdir()
    return prefix


def test_a_missing_module_is_named_with_the_environment(lab: Any, environment: Path) -> None:
    def framed() -> Any:
        import pandas

        return pandas.DataFrame()

    with pytest.raises(ModuleNotFoundError) as caught:
        lab.direct(conda=str(environment))(framed)()
    told = (
        f"pandas is not installed for the conda environment {environment} on {os.uname().nodename}: install"
    )
    assert caught.value.__notes__[0].startswith(told)


def test_a_module_that_an_argument_needs_is_named_with_the_environment(lab: Any, environment: Path) -> None:
    with pytest.raises(InvalidValue, match="an array needs what is not installed here") as caught:
        lab.direct(conda=str(environment))(scaled)(np.arange(3))
    told = f"numpy is not installed for the conda environment {environment}"
    assert caught.value.__notes__[0].startswith(told)


def test_the_failure_of_a_step_names_it(lab: Any) -> None:
    @lab.delayed
    def failing() -> None:
        raise KeyError("upstream")

    made = lab.delayed(scaled)(failing())
    with pytest.raises(KeyError, match="upstream") as caught:
        made.compute()
    assert "failing (" in caught.value.__notes__[-1]


@pytest.mark.filterwarnings("ignore:it looks names up by text")
def test_where_a_function_runs_little_else_is_imported(lab: Any) -> None:
    @lab.direct
    def imported() -> list[str]:
        import sys

        return sorted(name for name in sys.modules if name.startswith(("seamless_dask.", "hashserver.")))

    assert [name for name in imported() if name.startswith("seamless_dask.execution.")] == [
        f"seamless_dask.execution.{name}"
        for name in ("call_files", "calling", "forkserver", "layout", "resources", "supervisor")
    ]
    assert [name for name in imported() if name.startswith("seamless_dask.code.")] == [
        "seamless_dask.code.loading",
        "seamless_dask.code.markers",
        "seamless_dask.code.signatures",
    ]


def test_a_value_is_stored_once_and_passed_by_its_handle(lab: Any) -> None:
    table = put({"rows": list(range(1000))}, context=lab.context)
    assert lab.context.store.has([table.checksum])[0] > 0
    made = lab.delayed(add)
    assert made(table).key == made({"rows": list(range(1000))}).key
    assert made(table, [table]).compute()[1][0]["rows"][-1] == 999


def test_the_checksum_of_a_value_is_that_of_its_bytes(lab: Any, tmp_path: Path) -> None:
    assert checksum_of([1, 2]) == Checksum.of(b"[1,2]")
    (tmp_path / "file").write_bytes(b"content")
    assert checksum_of(File(tmp_path / "file")) == Checksum.of(b"content")
    assert checksum_of(put([1, 2], context=lab.context)) == Checksum.of(b"[1,2]")


def test_a_checksum_gives_its_bytes_and_makes_them_again(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = lab.delayed(scaled)(11)
    made.compute()
    checksum = made.result_checksum
    assert checksum is not None
    monkeypatch.setattr("seamless_dask.graph.handles.contexts_of_process", lambda: [lab.context])
    assert checksum.resolve() == b"33"
    lab.context.store.delete(checksum)
    with pytest.raises(BufferMissing):
        checksum.resolve()
    assert checksum.fingertip() == b"33"


def test_a_result_whose_bytes_are_gone_is_computed_again(lab: Any) -> None:
    made = lab.direct(scaled)
    assert made(12) == 36
    known = made.delayed(12).result_checksum
    assert known is not None
    lab.context.store.delete(known)
    assert made(12) == 36


def test_what_is_done_to_a_result_changes_no_other(lab: Any) -> None:
    made = lab.direct(add)
    first = made([1])
    first[0].append(2)
    assert made([1])[0] == [1]
