"""Functions and commands that a function asks for while it runs: each a computation that others find too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import dask
import pytest

from seamless_dask import bash
from seamless_dask.decorators import delayed, direct
from seamless_dask.errors import Cancelled, ComputationFailed, UsageError

from .conftest import is_alive, wait_until
from .worker.conftest import Cluster


class Odd(Exception):
    """An exception of the user's own."""


@direct
def clean(x: int) -> int:
    return x + 1


@delayed
def late(x: int) -> int:
    return x * 2


@direct(gpus=1)
def on_a_card(x: int) -> int:
    return x + 50


def wants_a_card(x: int) -> int:
    return on_a_card(x)


@direct
def noted(x: int, path: str) -> int:
    with open(path, "a") as file:
        file.write("x")
    return x


def helper(x: int) -> int:
    return clean(x) + 3


def fit(x: int) -> Any:
    cleaned = helper(x)
    counted = bash("wc -c < data", {"data": b"four"}).compute()
    return cleaned, late(late(cleaned)).compute(), int(counted.read_text()), clean.delayed(10).compute()


def third(x: int) -> int:
    return clean(x) + 100


second = direct(third)


def deep(x: int) -> int:
    return second(x) + 1000


deepest = direct(deep)


def outermost(x: int) -> int:
    return deepest(x) + 10000


@direct
def failing(x: int) -> None:
    raise Odd(f"no {x}")


def catching(x: int) -> str:
    try:
        failing(x)
    except Odd as error:
        return f"caught {error}"
    return "nothing"


def passing_on(x: int) -> None:
    failing(x)


def itself(x: int) -> Any:
    return delayed(itself)(x).compute()


@direct
def ping(x: int) -> Any:
    return pong(x)


@direct
def pong(x: int) -> Any:
    return delayed(ping)(x).compute()


@direct
def waits(reached: str, opened: str) -> str:
    with open(reached, "w") as file:
        file.write(str(os.getpid()))
    with open(opened) as file:
        return file.read()


def waiting(reached: str, opened: str) -> str:
    return waits(reached, opened)


@direct
def total(items: Any) -> int:
    return sum(items)


def of_a_generator(n: int) -> int:
    return total(number for number in range(n))


@direct
def factorial(n: int) -> int:
    return 1 if n < 2 else n * factorial(n - 1)


@direct(variables={"MODE": "first"})
def mode() -> str | None:
    return os.environ.get("MODE")


def moded() -> str | None:
    return mode()


@delayed(version="2")
def versioned(x: int) -> int:
    return x + 1


@delayed(ignore=("jobs",), keep_inputs=False)
def ignoring(x: int, jobs: int) -> int:
    return x + 2


@delayed(run="here")
def here(x: int) -> int:
    return x + 3


def of_all_options(x: int) -> Any:
    return [made.compute() for made in (versioned(x), ignoring(x, jobs=2), here(x))]


@direct(metavars={"KIND": "told"})
def kind() -> str | None:
    return os.environ.get("KIND")


def kinds() -> Any:
    return os.environ.get("KIND"), kind()


def typing(command: str) -> str:
    words = [f"{sys.prefix}/bin/seamless-run", "-c", command]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


class Place:
    """Where functions run."""

    def __init__(self, context: Any, options: dict[str, Any], compute: Callable[[Any], Any]) -> None:
        self.context, self.compute = context, compute
        self.delayed = partial(delayed, context=context, **options)

    def call(self, function: Any, *arguments: Any) -> Any:
        return self.compute(self.delayed(function)(*arguments))

    def known(self, function: Any, *arguments: Any) -> bool:
        return bool(self.delayed(function)(*arguments).is_known())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One worker with one thread and one graphics card."""
    made = Cluster(tmp_path_factory.mktemp("cluster"), n_workers=1, resources={"GPU": 1})
    yield made
    made.close()


def embedded(lab: Any, isolation: str) -> Place:
    return Place(lab.context, {"isolation": isolation}, lambda made: made.compute(scheduler="sync"))


@pytest.fixture(params=["none", "bubblewrap", "cluster"])
def place(request: pytest.FixtureRequest, lab: Any) -> Place:
    if request.param != "cluster":
        return embedded(lab, request.param)
    found = request.getfixturevalue("cluster")
    return Place(found.context, {}, lambda made: found.client.compute(made).result())


@pytest.fixture(params=["none", "cluster"])
def free(request: pytest.FixtureRequest, lab: Any) -> Place:
    """Where functions and the test meet through files."""
    if request.param != "cluster":
        return embedded(lab, request.param)
    found = request.getfixturevalue("cluster")
    return Place(found.context, {}, lambda made: found.client.compute(made).result())


def test_all_kinds_are_asked_for_and_found_by_others(place: Place) -> None:
    assert place.call(fit, 1) == (5, 20, 4, 11)
    assert place.known(clean, 1)
    assert place.known(clean, 10)
    assert place.known(late, 5)
    assert place.known(late, 10)
    assert bash("wc -c < data", {"data": b"four"}, context=place.context).is_known()


def test_what_is_known_does_not_run_again(lab: Any, tmp_path: Path) -> None:
    log = str(tmp_path / "log")
    place = embedded(lab, "none")
    place.call(noted, 7, log)
    assert place.call(lambda x, path: noted(x, path) + 1, 7, log) == 8
    assert Path(log).read_text() == "x"


def test_one_that_is_defined_inside_is_asked_for_too(place: Place) -> None:
    def outer(x: int) -> int:
        @delayed
        def inner(y: int) -> int:
            return y + 7

        result: int = inner(x).compute()
        return result

    assert place.call(outer, 1) == 8


@pytest.fixture
def one_processor() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_processor")
def test_one_thread_or_processor_is_enough_for_any_depth(place: Place) -> None:
    """distributed#2022: a task that asked for another one on its own worker waited for ever."""
    assert place.call(outermost, 1) == 11102
    assert place.known(deep, 1)
    assert place.known(third, 1)
    assert place.known(clean, 1)


def test_the_identity_of_the_outer_one_does_not_change(lab: Any) -> None:
    plain: dict[str, Any] = {"clean": clean.function, "__name__": __name__}
    exec("def helper(x):\n    return clean(x) + 3\n", plain)
    code = lab.direct(helper).code
    assert "def clean(x):\n    return x + 1\n" in code
    assert "direct" not in code


def test_a_failure_arrives_as_the_very_exception(place: Place) -> None:
    assert place.call(catching, 2) == "caught no 2"
    with pytest.raises(Odd, match="no 3"):
        place.call(passing_on, 3)


@pytest.mark.parametrize("function", [itself, ping])
def test_one_that_waits_for_itself_is_refused_at_once(place: Place, function: Any) -> None:
    with pytest.raises(UsageError, match="cannot wait for itself") as caught:
        place.call(function, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("by_dask", [False, True])
def test_one_for_the_card_that_the_outer_one_holds_is_refused_at_once(
    cluster: Cluster, by_dask: bool
) -> None:
    client, later = cluster.client, partial(delayed, context=cluster.context)
    if by_dask:
        future = client.submit(later(wants_a_card), 1, resources={"GPU": 1})
    else:
        future = client.compute(later(gpus=1)(wants_a_card)(2))
    with pytest.raises(UsageError, match=r"asks for .*GPU.* hold themselves: let them ask for less"):
        future.result(60)
    assert client.compute(later(wants_a_card)(3)).result(60) == 53


def test_what_a_function_calls_of_itself_is_the_plain_one(place: Place) -> None:
    assert place.call(factorial, 5) == 120
    assert not place.known(factorial, 4)


def test_what_nobody_can_be_told_of_is_called_plainly(place: Place) -> None:
    assert place.call(of_a_generator, 4) == 6


@pytest.mark.filterwarnings("ignore:it reads the environment")
def test_options_hold_for_what_is_asked_for(lab: Any) -> None:
    assert embedded(lab, "none").call(kinds) == (None, "told")


@pytest.mark.filterwarnings("ignore:it reads the environment")
def test_variables_of_what_is_asked_for_count(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = embedded(lab, "none")
    assert place.call(moded) == "first"
    assert place.known(mode)
    monkeypatch.setitem(globals(), "mode", direct(variables={"MODE": Path("second")})(mode.function))
    assert place.call(moded) == "second"
    assert place.known(mode)


def test_delayed_gives_transformations_inside_whatever_its_options_are(lab: Any) -> None:
    assert embedded(lab, "none").call(of_all_options, 1) == [2, 3, 4]


def test_seamless_run_asks_the_same_server(place: Place) -> None:
    assert place.call(typing, "echo inner; date +%s%N").startswith("inner\n")
    assert bash("echo inner; date +%s%N", context=place.context).is_known()


def test_cancelling_cancels_what_was_asked_for(lab: Any) -> None:
    gate = lab.gate()
    made = lab.delayed(isolation="none")(waiting)(str(gate.reached_by), str(gate.opened))
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            made.compute(scheduler="sync")
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    process = gate.wait()
    assert made.cancel()
    thread.join(60)
    assert [type(error) for error in errors] == [Cancelled]
    wait_until(lambda: not is_alive(process))


def test_releasing_a_future_cancels_it_too(lab: Any, cluster: Cluster) -> None:
    gate = lab.gate()
    made = delayed(waiting, context=cluster.context)(str(gate.reached_by), str(gate.opened))
    future = cluster.client.compute(made)
    process = gate.wait()
    future.cancel()
    wait_until(lambda: not is_alive(process))


def test_what_others_ask_for_too_goes_on(lab: Any) -> None:
    gate = lab.gate()
    paths = str(gate.reached_by), str(gate.opened)
    made = lab.delayed(isolation="none")(waiting)(*paths)
    inner = delayed(waits, context=lab.context, isolation="none")(*paths)
    thread = threading.Thread(target=partial(pytest.raises, Cancelled, made.compute, scheduler="sync"))
    thread.start()
    process = gate.wait()
    dask.compute(inner, scheduler=lambda *_, **__: [None])  # stored, and not asked for
    other = lab.asker(inner.key)
    lab.await_askers(inner.key, 2)
    assert made.cancel()
    thread.join(60)
    assert is_alive(process)
    gate.open()
    assert json.loads(other.communicate(timeout=60)[0])[0] == "text"


def test_a_failure_of_a_command_is_told(place: Place) -> None:
    def asks() -> None:
        bash("echo why >&2; exit 7").compute()

    with pytest.raises(ComputationFailed, match="status 7") as caught:
        place.call(asks)
    assert caught.value.exit_status == 7
