"""What users and attackers do with functions: exact, or one clear line."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seamless_dask import File
from seamless_dask.config import load
from seamless_dask.context import Context
from seamless_dask.decorators import delayed, direct
from seamless_dask.definitions import DefinitionsByCode
from seamless_dask.errors import NotAValue, UntrustedValue, UsageError
from seamless_dask.functions import Direct
from seamless_dask.graph import handles

Decorate = Callable[..., Any]


@pytest.fixture(params=["none", "bubblewrap"])
def run(request: pytest.FixtureRequest, lab: Any) -> Decorate:
    """`direct` in and without the sandbox."""
    return lab.direct(isolation=request.param, time_limit=60)


@pytest.fixture
def plain(lab: Any) -> Decorate:
    return lab.direct(isolation="none", time_limit=60)


def identity(x: Any) -> Any:
    return x


# -------------------------------------------------- processes and threads


def test_a_fork_that_returns_from_the_function_gives_no_result(run: Decorate) -> None:
    @run
    def forking() -> str:
        reader, writer = os.pipe()
        if os.fork() == 0:
            os.set_inheritable(writer, True)
            return "child"
        os.close(writer)
        os.read(reader, 1)  # until the other one has ended
        return "parent"

    assert forking() == "parent"


def test_a_fork_that_exits_does_so_as_in_python(run: Decorate) -> None:
    @run
    def forking() -> int:
        child = os.fork()
        if child == 0:
            sys.exit(3)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert forking() == 3


def test_much_that_is_printed_does_no_harm(plain: Decorate) -> None:
    @plain
    def printing() -> int:
        for _ in range(100):
            print("x" * (1 << 20))
        return 1

    assert printing() == 1


def test_streams_that_are_closed_do_no_harm(plain: Decorate) -> None:
    @plain
    def closing() -> int:
        os.close(1)
        os.close(2)
        return 1

    assert closing() == 1


def test_after_a_fork_a_function_can_be_called(plain: Decorate) -> None:
    called = plain(identity)
    assert called(1) == 1
    child = os.fork()
    if child == 0:
        good = False
        try:
            good = [called(1), called(2)] == [1, 2]
        finally:
            os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert called(3) == 3


def test_threads_call_one_function_at_once(plain: Decorate) -> None:
    called, found = plain(identity), []
    threads = [threading.Thread(target=lambda n=n: found.append(called(n % 2))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 0, 0, 1, 1, 1]


# -------------------------------------------------- files


def test_a_file_elsewhere_that_is_returned_stays_where_it_is(plain: Decorate, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("dear")

    @plain
    def returned(path: str) -> Any:
        return File(path)

    assert returned(str(mine)).read_text() == "dear"
    assert mine.read_text() == "dear"


def test_a_path_that_is_gone_with_the_run_is_no_result(run: Decorate, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("x")
    for argument in (File(tmp_path / "data"), [{"in": (File(tmp_path / "data"), "beside")}]):
        with pytest.raises(
            UsageError, match=r"a path in the directory of the run, which is over: return File\(path\)"
        ):
            run(identity)(argument)
    assert run(identity)([Path("/etc/hosts"), Path("out")]) == [Path("/etc/hosts"), Path("out")]
    assert run(identity)(Path("out")) == Path("out")


# -------------------------------------------------- functions inside of functions


def test_what_is_decorated_inside_is_asked_for(run: Decorate) -> None:
    @run
    def outer(x: int) -> int:
        from seamless_dask.decorators import direct

        return direct(lambda y: y + 1)(x)

    assert outer(1) == 2


def itself(x: int) -> Any:
    from seamless_dask.decorators import direct

    return direct(itself)(x)


def test_a_function_that_asks_for_itself_is_refused(plain: Decorate) -> None:
    with pytest.raises(UsageError, match="cannot wait for itself"):
        plain(itself)(1)


def test_a_transformation_that_is_returned_is_no_result(plain: Decorate) -> None:
    @plain
    def outer() -> Any:
        from seamless_dask.decorators import delayed

        return delayed(len)([1])

    with pytest.raises(NotAValue):
        outer()


# -------------------------------------------------- what is no function, or an odd one


@pytest.mark.parametrize("what", [5, "f", property(identity)])
def test_what_is_no_function_is_refused_in_one_line(what: Any) -> None:
    with pytest.raises(UsageError) as caught:
        direct(what)
    assert "\n" not in str(caught.value)


def test_a_decorator_of_ours_around_another(lab: Any) -> None:
    inner = lab.direct(label="inner", isolation="none")(identity)
    outer = direct(label="outer")(inner)
    assert outer.function is identity
    assert (outer._options.label, outer._options.isolation) == ("outer", "none")
    assert delayed(outer)(1).context is lab.context


def test_attributes_of_a_function_do_not_come_into_our_way(plain: Decorate) -> None:
    def marked(x: int) -> int:
        return x

    vars(marked).update(function=max, _options={"label": "no"}, _lock=3, note="kept")
    made = plain(marked)
    assert made(2) == 2
    assert made.note == "kept"


def test_methods_of_all_instances_have_one_identity_of_code(lab: Any) -> None:
    class Scaled:
        def __init__(self, factor: int) -> None:
            self.factor = factor

        @direct(context=lab.context, isolation="none")
        def of(self, x: int) -> int:
            return x * self.factor

    assert [Scaled(2).of(3), Scaled(3).of(3)] == [6, 9]
    made: Direct[..., int] = Scaled(1).of
    assert made._identified() is Scaled(2).of._identified()


class Meta(type):
    def __eq__(cls, other: object) -> bool:
        raise AssertionError("nobody asks")


class OfMeta(metaclass=Meta):
    value = 3


def test_a_class_whose_metaclass_says_what_is_equal(plain: Decorate) -> None:
    def of() -> int:
        return int(OfMeta().value)

    assert plain(of)() == 3
    with pytest.raises(NotAValue, match="argument 'x' is a OfMeta, a class without a hash"):
        plain(identity)(OfMeta())


class Weighted:
    weights = np.ones(2)


WEIGHTED = Weighted()


def test_an_object_is_of_the_class_that_its_function_names_and_its_values_count(
    plain: Decorate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*given: object) -> list[float]:
        return [float(each.weights.sum()) for each in (WEIGHTED, *given) if isinstance(each, Weighted)]

    assert plain(told)(Weighted()) == [2.0, 2.0]
    monkeypatch.setattr(Weighted, "weights", np.full(2, 3.0))
    assert plain(told)(Weighted()) == [6.0, 6.0]
    Weighted.weights[0] = 4.0
    assert plain(told)(Weighted()) == [7.0, 7.0]


# -------------------------------------------------- arguments


@pytest.mark.parametrize("name", ["a/b", "", "\0", "a/0", "\ud800", "/", "a\nb"])
def test_a_name_that_no_argument_can_have(lab: Any, name: str) -> None:
    def named(**names: Any) -> Any:
        return names

    with pytest.raises(UsageError, match="cannot be the name of an argument") as caught:
        lab.delayed(named)(**{name: 1})
    assert "\n" not in str(caught.value)


def test_other_odd_names_arrive(plain: Decorate) -> None:
    def named(**names: Any) -> Any:
        return names

    given = {"@x": 1, "**": 2, "..": 3, "é": 4, " ": 5, "self": 6, "0": 7}
    assert plain(named)(**given) == given


UNSET = object()


def has_none(x: Any = UNSET) -> bool:
    return x is UNSET


def test_an_object_that_is_known_by_its_identity_alone_is_refused(plain: Decorate) -> None:
    with pytest.raises(NotAValue, match="argument 'x' is an object"):
        plain(has_none)()
    assert plain(has_none)(1) is False


def test_the_bytes_of_the_moment_of_the_call_count(lab: Any) -> None:
    numpy = pytest.importorskip("numpy")
    made, given, array = lab.delayed(identity), [1], numpy.arange(3)
    calls = made(given), made(array)
    given.append(2)
    array[0] = 9
    assert calls[0].compute() == [1]
    assert calls[1].compute().tolist() == [0, 1, 2]


def test_a_function_that_changes_its_argument_changes_that_of_nobody(plain: Decorate) -> None:
    def changing(x: list[int]) -> list[int]:
        x.append(2)
        return x

    given = [1]
    assert [plain(changing)(given), given] == [[1, 2], [1]]


# -------------------------------------------------- whom to trust


def joined() -> Any:
    return os.path.join


def applied(function: Any) -> Any:
    return function("a", "b")


@pytest.fixture
def colleague(lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    """A context that finds what a colleague has computed in a further database."""
    theirs = {"database": str(tmp_path / "theirs.db"), "isolation": "none"}
    with Context(load(theirs, str(tmp_path))) as context:
        delayed(context=context)(joined)().compute()
    monkeypatch.setattr(handles, "_contexts", [])  # it was another process
    ours = {"database": str(tmp_path / "ours.db"), "databases": ["theirs.db"], "isolation": "none"}
    with Context(load(ours, str(tmp_path))) as context:
        yield context


def test_what_a_further_database_names_is_not_run_in_a_function_either(colleague: Context) -> None:
    found = delayed(context=colleague)(joined)()
    assert found.is_known()
    with pytest.raises(UntrustedValue):
        found.compute()
    with pytest.raises(UntrustedValue, match="argument 'function' is a result that only a further database"):
        delayed(context=colleague)(applied)(found).compute()
    with pytest.raises(UntrustedValue):
        delayed(context=colleague)(identity)([found]).compute()


def test_what_we_have_computed_ourselves_is(colleague: Context) -> None:
    found = delayed(context=colleague, fresh=True)(joined)()
    assert delayed(context=colleague)(applied)(found).compute() == "a/b"


def test_a_place_that_does_not_answer_has_nobody_trusted(colleague: Context) -> None:
    with Context(load({"hashserver": "http://localhost:1"}, "/")) as gone:
        handles.use(gone)
        with pytest.raises(UntrustedValue) as caught:
            delayed(context=colleague)(joined)().compute()
        assert "could not be asked" in "".join(caught.value.__notes__)
        trusted = delayed(context=colleague, fresh=True)(joined)()
        assert delayed(context=colleague)(applied)(trusted).compute() == "a/b"


class Changed:
    def value(self) -> int:
        return 1


def test_a_class_that_was_changed_since_stands_for_its_old_code_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    definitions = DefinitionsByCode()
    old = definitions.text(Changed)
    assert old is not None
    assert definitions.find(old) is Changed
    monkeypatch.setattr(Changed, "value", identity)
    found = definitions.find(old)
    assert found is not Changed
    assert found().value() == 1
    assert definitions.find(old) is found
