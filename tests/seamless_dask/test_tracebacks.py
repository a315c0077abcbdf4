"""What is shown of an error of a function: the user's frames, and next to nothing of ours."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest

from seamless_dask.errors import ComputationFailed, NotAValue
from seamless_dask.graph.tracebacks import MOST, traceback_of


def failing(x: int) -> None:
    raise LookupError(f"no {x}")


def both(*results: Any) -> Any:
    return results


def deep(x: int) -> None:
    failing(x)


def shown(error: BaseException) -> list[str]:
    """The functions that a traceback shows, the first frame being the test's."""
    frames = traceback.extract_tb(error.__traceback__)
    assert frames[0].filename == __file__
    return [frame.name for frame in frames[1:]]


def test_a_call_shows_one_frame_of_ours(lab: Any) -> None:
    with pytest.raises(LookupError) as caught:
        lab.direct(deep)(1)
    assert shown(caught.value) == ["__call__", "deep", "failing"]
    assert traceback.extract_tb(caught.value.__traceback__)[-1].line == 'raise LookupError(f"no {x}")'
    assert "in failing" in caught.value.__notes__[0]


@pytest.mark.parametrize("scheduler", [None, "sync", "threads"])
@pytest.mark.parametrize("pipeline", [False, True])
def test_a_transformation_does_too(lab: Any, scheduler: str | None, pipeline: bool) -> None:
    made = lab.delayed(failing)(1)
    if pipeline:
        made = lab.delayed(both)(made)
    with pytest.raises(LookupError) as caught:
        made.compute(**{} if scheduler is None else {"scheduler": scheduler})
    assert shown(caught.value) == ["compute", "failing"]
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_what_has_no_exception_of_its_own_shows_its_text(lab: Any) -> None:
    def leaving() -> None:
        raise SystemExit(3)

    with pytest.raises(ComputationFailed) as caught:
        lab.direct(leaving)()
    assert shown(caught.value) == ["__call__"]
    assert "sys.exit(3)" in caught.value.stderr


def test_a_bad_argument_does_not_show_our_ways_either(lab: Any) -> None:
    with pytest.raises(NotAValue) as caught:
        lab.direct(both)(iter([]))
    assert shown(caught.value) == ["__call__"]


def test_neither_does_a_wrong_call(lab: Any) -> None:
    for made in (lab.direct(failing), lab.delayed(failing)):
        with pytest.raises(TypeError, match=r"^failing: missing a required argument: 'x'$") as caught:
            made()
        assert shown(caught.value) == ["__call__"]
        assert caught.value.__suppress_context__


def test_a_result_that_is_no_value_shows_none_of_ours_either(lab: Any) -> None:
    with pytest.raises(NotAValue, match="the result is a module") as caught:
        lab.direct(lambda: sys)()
    assert shown(caught.value) == ["__call__"]
    assert "values" not in caught.value.__notes__[0]


class Refused(Exception):
    """One that is made from other arguments than it has."""

    class Twice(ValueError):
        pass

    def __init__(self, what: str, *, code: int) -> None:
        super().__init__(f"{what} was refused")
        self.code = code


def test_exceptions_that_are_made_otherwise_arrive_as_themselves(lab: Any) -> None:
    def refusing() -> None:
        raise Refused("it", code=3)

    def twice() -> None:
        raise Refused.Twice("again")

    def both() -> None:
        raise ExceptionGroup("both", [Refused("it", code=4), Refused.Twice("again")])

    with pytest.raises(Refused, match=r"^it was refused") as caught:
        lab.direct(refusing)()
    assert (caught.value.args, caught.value.code) == (("it was refused",), 3)
    assert "seamless_text" not in caught.value.__notes__[0]
    with pytest.raises(Refused.Twice):
        lab.direct(twice)()
    with pytest.raises(ExceptionGroup) as group:
        lab.direct(both)()
    assert [type(each) for each in group.value.exceptions] == [Refused, Refused.Twice]
    assert shown(group.value) == ["__call__", "both"]


def test_an_error_of_our_own_making_shows_where_it_is(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seamless_dask.api.made", None)
    with pytest.raises(TypeError) as caught:
        lab.direct(both)(1)
    assert len(shown(caught.value)) > 2


def test_a_note_travels_as_text(lab: Any) -> None:
    with pytest.raises(LookupError) as caught:
        lab.direct(failing)(1)
    (note,) = pickle.loads(pickle.dumps(caught.value)).__notes__
    assert type(note) is str


CELL = """
from seamless_dask import direct
@direct
def failing(x):
    raise LookupError(x)  # here
failing(7)
"""
NOTEBOOK = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_line_magic("xmode", sys.argv[1])
shell.run_cell(sys.argv[2])
"""


@pytest.mark.parametrize("mode", ["Context", "Plain", "Verbose"])
def test_a_notebook_shows_the_users_lines(lab: Any, mode: str) -> None:
    words = [sys.executable, "-c", NOTEBOOK, mode, CELL]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=100).stdout
    assert "LookupError" in said
    assert "# here" in said
    assert ("functions.py" in said) == (mode == "Plain"), "only this mode shows what asks to be hidden"


def test_a_program_shows_them_too(lab: Any, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(CELL)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    told = done.stderr.partition("the function failed")[0]
    assert "raise LookupError(x)  # here" in told
    assert told.count(f"seamless_dask{os.sep}") == 1


def frame_names(text: str) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(traceback_of(text))]


FRAMES = '  File "a.py", line 3, in f\n    g()\n  File "b c.py", line 200, in <lambda>\n'


def test_frames_are_those_of_the_last_traceback() -> None:
    header = "Traceback (most recent call last):\n"
    message = 'E: odd\n  File "no.py", line 1, in message\n'
    assert frame_names(f"printed\n{header}{FRAMES}KeyError\n\nDuring:\n\n{header}{FRAMES}{message}") == [
        "f",
        "<lambda>",
    ]
    assert traceback_of("killed") is None
    group = f"  + Exception Group {header}" + "".join(f"  | {each}\n" for each in FRAMES.splitlines())
    inner = f'  | E: 1 of them\n  +-+---- 1 ----\n    | {header}    |   File "no.py", line 2, in no\n'
    assert frame_names(f"{header}{FRAMES}{group}{inner}") == ["f", "<lambda>"]
    deep = "".join(f'  File "a.py", line {number}, in f\n' for number in range(1, 900))
    assert len(frame_names(header + deep)) == MOST
