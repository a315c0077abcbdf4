"""Functions that run in the process and thread that ask for them: ``run="here"``."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import dask
import pytest

from seamless_dask import File, bash
from seamless_dask.errors import Cancelled, ComputationFailed, LimitExceeded, UsageError
from seamless_dask.graph import handles, here, perform
from seamless_dask.jobs.directory import JobDirectory, all_jobs
from seamless_dask.jobs.local import LocalRequest
from seamless_dask.jobs.request import JobRequest
from seamless_dask.model.options import Options

from .conftest import Blocked, wait_until

SCALE = 3


class Point:
    def __init__(self, x: int) -> None:
        self.x = x


def whereabouts(x: int) -> tuple[int, int]:
    import os
    import threading

    return os.getpid(), threading.get_ident()


def test_it_runs_in_the_process_and_thread_that_ask(lab: Any) -> None:
    call = lab.direct(run="here")(whereabouts)
    assert call(1) == (os.getpid(), threading.get_ident())


def test_where_it_runs_is_no_part_of_its_identity(lab: Any) -> None:
    call = lab.delayed(run="here")(whereabouts)
    assert call(1).key == lab.delayed(whereabouts)(1).key
    first = call(2).compute()
    assert lab.direct(whereabouts)(2) == first


def test_inputs_are_computed_and_files_placed(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "words").write_text("a b c")

    @lab.direct(run="here")
    def words(path: Path, number: bytes) -> list[int]:
        return [len(path.read_text().split()), int(Path(number).read_text())]  # type: ignore[arg-type]

    step = bash("echo 42", context=lab.context)
    assert words(File(tmp_path / "words"), step) == [3, 42]  # type: ignore[arg-type]


def test_a_step_that_runs_here_is_an_input_of_one_that_does_not(lab: Any) -> None:
    call = lab.delayed(run="here")(whereabouts)
    other = lab.delayed(lambda found: found)
    (found,) = dask.compute(other(call(1)), scheduler="synchronous")
    assert found == (os.getpid(), threading.get_ident())


def test_classes_of_arguments_are_those_of_the_text(lab: Any) -> None:
    @lab.direct(run="here")
    def moved(point: Point) -> tuple[bool, Point]:
        return isinstance(point, Point), Point(point.x + SCALE)

    is_one, found = moved(Point(1))
    assert (is_one, type(found), found.x) == (True, Point, 4)


def written(path: str) -> Any:
    from seamless_dask import File

    with open(path, "w") as file:
        file.write("said")
    return File(path)


def test_a_file_that_is_returned_stays_where_it_is(lab: Any, tmp_path: Path) -> None:
    assert lab.direct(run="here")(written)(str(tmp_path / "out")).read_text() == "said"
    assert (tmp_path / "out").read_text() == "said"


@pytest.mark.parametrize(
    "options",
    [{"isolation": "bubblewrap"}, {"conda": "base"}, {"memory": "1 GiB"}, {"variables": {"A": "b"}}],
)
def test_what_takes_a_process_of_its_own_is_refused(lab: Any, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match='run="here"'):
        lab.direct(run="here", **options)(whereabouts)(1)


def test_a_command_cannot_run_here() -> None:
    with pytest.raises(UsageError, match="no option 'run'"):
        bash("true", run="here")


def test_what_it_raises_arrives_and_is_on_record(lab: Any) -> None:
    @lab.delayed(run="here")
    def failing(x: int) -> None:
        raise KeyError(x)

    with pytest.raises(KeyError) as caught:
        failing(7).compute()
    assert caught.value.args == (7,)
    assert "in failing" in caught.value.__notes__[-1]


def test_an_exit_ends_the_call_only(lab: Any) -> None:
    @lab.direct(run="here")
    def leaving() -> None:
        raise SystemExit(3)

    with pytest.raises(ComputationFailed, match="exit status 3") as caught:
        leaving()
    assert "sys.exit(3)" in caught.value.stderr


@pytest.fixture
def at_hand(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is stored counts as in memory, as what a worker has fetched beforehand."""
    monkeypatch.setattr(lab.context.store, "at_hand", lambda checksum: lab.context.store.has([checksum])[0])


def run_directories(size: int) -> bytes:
    import os

    return bytes(size) + ",".join(os.listdir(os.environ["TMPDIR"])).encode()


@pytest.mark.filterwarnings("ignore:it reads")
@pytest.mark.parametrize("size", [0, 100_000])
def test_a_call_that_has_its_inputs_at_hand_takes_no_directory(lab: Any, at_hand: None, size: int) -> None:
    call = lab.delayed(run="here")(run_directories)(size)
    assert call.compute() == bytes(size)
    record = lab.context.database.get(call.key).record
    assert (record["isolation"], record["exit_status"]) == ("none", 0)
    assert os.listdir(os.environ["TMPDIR"]) == []


def test_it_may_return_a_file_all_the_same(lab: Any, at_hand: None, tmp_path: Path) -> None:
    assert lab.direct(run="here")(written)(str(tmp_path / "out")).read_text() == "said"


@pytest.mark.parametrize("size", [1, 100_000])
def test_what_it_raises_is_on_record(lab: Any, at_hand: None, size: int) -> None:
    @lab.delayed(run="here")
    def failing(size: int) -> None:
        raise KeyError("x" * size)

    made = failing(size)
    with pytest.raises(KeyError) as caught:
        made.compute()
    assert caught.value.args == ("x" * size,)
    (failed,) = lab.context.database.failures(made.key)
    assert "in failing" in failed["stderr"] or size > 1
    assert failed["exit_status"] == 1


def test_an_input_that_it_changes_is_its_own(lab: Any, at_hand: None) -> None:
    @lab.direct(run="here")
    def appended(data: bytearray, number: int) -> bytearray:
        data.append(number)
        return data

    assert [appended(bytearray(b"a"), number) for number in (1, 2)] == [b"a\1", b"a\2"]


def test_an_interrupt_arrives_and_nothing_is_on_record(lab: Any) -> None:
    @lab.delayed(run="here")
    def interrupted() -> None:
        raise KeyboardInterrupt

    made = interrupted()
    with pytest.raises(KeyboardInterrupt):
        made.compute()
    assert not made.is_known()
    assert list(all_jobs(lab.context.cache)) == []


class BlockedHere(Blocked):
    """One that runs here, in another thread."""

    def __init__(self, lab: Any, tmp_path: Path, **options: Any) -> None:
        super().__init__(lab.delayed(run="here", **options), tmp_path)
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.await_begin()

    def _run(self) -> None:
        try:
            self.made.compute()
        except Exception as error:
            self.error = error

    def let_go(self) -> None:
        super().let_go()
        self._thread.join()


def _asks_in(thread: threading.Thread) -> bool:
    """Tell whether a thread has come to where it runs a function, or waits for another one that does."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code is not here._Here.share.__code__:
        frame = frame.f_back
    return frame is not None


def test_threads_that_ask_for_one_thing_run_it_once(lab: Any, tmp_path: Path) -> None:
    call = BlockedHere(lab, tmp_path)
    second = threading.Thread(target=call.made.compute)  # it would block for ever
    second.start()
    wait_until(lambda: _asks_in(second))
    call.let_go()
    second.join()
    assert call.error is None


def test_one_who_asks_meanwhile_waits_for_it(lab: Any, tmp_path: Path) -> None:
    call = BlockedHere(lab, tmp_path)
    other = LocalRequest(lab.context, JobRequest(call.made.key)).start()
    call.let_go()
    assert other.wait() == (call.made._known().format, call.made.result_checksum)


def test_a_limit_ends_the_waiting_of_others_at_once(lab: Any, tmp_path: Path) -> None:
    call = BlockedHere(lab, tmp_path)
    other = LocalRequest(lab.context, JobRequest(call.made.key, Options(time_limit=0.1))).start()
    with pytest.raises(LimitExceeded, match=r"time limit of 0\.1 s"):
        other.wait()
    call.let_go()
    assert call.error is None


def test_a_limit_is_told_when_the_function_has_returned(lab: Any, tmp_path: Path) -> None:
    call = BlockedHere(lab, tmp_path, time_limit=0)
    call.let_go()
    assert isinstance(call.error, LimitExceeded)
    assert call.made.compute() == "done"


def test_cancelling_ends_the_waiting(lab: Any, tmp_path: Path) -> None:
    call = BlockedHere(lab, tmp_path)
    other = LocalRequest(lab.context, JobRequest(call.made.key)).start()
    assert JobDirectory(lab.context.cache, call.made.key).cancel()
    with pytest.raises(Cancelled):
        other.wait()
    call.let_go()
    assert isinstance(call.error, Cancelled)
    assert call.made.is_known()


def test_whoever_runs_what_others_ask_for_runs_it_in_a_process(lab: Any, worker: Any) -> None:
    made = lab.delayed(run="here")(whereabouts)(3)
    made.__dask_graph__()  # stores what it takes
    found = handles.of(*perform.compute(worker, made.key, made.options))
    assert isinstance(found, handles.Object)
    assert found.load()[0] != os.getpid()
