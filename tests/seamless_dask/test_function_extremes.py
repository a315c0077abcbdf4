"""Arguments and results at the edge of what can be: nothing, too much, and what no bytes stand for."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from seamless_dask.errors import ComputationFailed, NotAValue

GIB = 1 << 30


def same(value: Any) -> Any:
    return value


def noted(value: Any, log: str) -> Any:
    with open(log, "a") as file:
        file.write("x")
    return value


def zeros(size: int) -> Any:
    return np.zeros(size, np.uint8)


def length(frame: Any) -> int:
    return len(frame)


def figure() -> Any:
    from matplotlib.figure import Figure

    made = Figure()
    made.add_subplot().plot([1, 2, 3])
    return made


def generated() -> Any:
    return (number for number in [1])


def connected() -> Any:
    import socket

    return {"rows": [socket.socket()]}


def opened() -> Any:
    return open("file", "w")


def holding() -> Any:
    import threading

    return threading.Lock()


@pytest.mark.parametrize("value", [None, [], "", 0, np.zeros((0, 3))])
def test_nothing_is_a_result_like_any_other_and_is_found(lab: Any, tmp_path: Path, value: Any) -> None:
    log = tmp_path / "log"
    made = lab.direct(isolation="none")(noted)
    for _ in range(2):
        found = made(value, str(log))
        assert type(found) is type(value)
        assert found is None or len(found) == 0 if not isinstance(found, int) else found == 0
    assert log.read_text() == "x"


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (generated, "the result is a generator, which gives what it has only once"),
        (connected, r"the result\['rows'\]\[0\] is a socket, which means something in this process only"),
        (opened, "the result is"),
        (holding, "the result is a lock"),
    ],
)
def test_a_result_that_no_bytes_stand_for_is_refused_in_one_line(lab: Any, function: Any, told: str) -> None:
    made = lab.delayed(function)()
    with pytest.raises(NotAValue, match=told) as caught:
        made.compute()
    assert "\n" not in str(caught.value)
    assert not made.is_known()


def test_a_figure_comes_back_as_one(lab: Any) -> None:
    pytest.importorskip("matplotlib")
    found = lab.direct(figure)()
    assert found.axes[0].lines[0].get_ydata().tolist() == [1, 2, 3]


def test_one_moment_in_two_zones_is_two_arguments(lab: Any) -> None:
    moment = dt.datetime(2026, 6, 1, 12, tzinfo=ZoneInfo("Europe/Paris"))
    moved = moment.astimezone(ZoneInfo("Asia/Kolkata"))
    made = lab.delayed(same)
    assert moment == moved
    assert len({made(each).key for each in (moment, moved, moment.replace(tzinfo=None))}) == 3
    found = made(moved).compute()
    assert (found, found.tzinfo) == (moved, ZoneInfo("Asia/Kolkata"))


def test_a_function_of_which_there_is_no_file_runs_and_a_warning_says_what_it_counts_by(
    tmp_path: Path,
) -> None:
    typed = (
        "from seamless_dask import direct\n"
        "OFFSET = 40\n"
        "@direct\n"
        "def add(x):\n"
        "    return x + OFFSET\n"
        "print(add(2))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "always"],
        input=typed,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.stdout == "42\n", done.stderr
    assert "add" in done.stderr
    assert "pickle" in done.stderr


@pytest.mark.timeout(600)
def test_a_result_of_more_than_two_gibibytes(lab: Any) -> None:
    size = 2 * GIB + 1
    found = lab.direct(zeros)(size)
    assert (found.nbytes, found.dtype, int(found[0]), int(found[-1])) == (size, np.uint8, 0, 0)


@pytest.mark.timeout(600)
def test_a_frame_of_two_gibibytes(lab: Any) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": np.zeros(GIB // 4)}, copy=False)
    assert int(frame.memory_usage().sum()) > 2 * GIB
    made = lab.direct(keep_inputs=False)(length)
    assert made(frame) == GIB // 4


def test_what_ends_its_process_while_it_holds_much_is_a_failure(lab: Any) -> None:
    def ending() -> None:
        import os

        held = bytearray(64 << 20)
        os._exit(len(held) and 3)

    with pytest.raises(ComputationFailed, match="exit status 3"):
        lab.direct(ending)()
