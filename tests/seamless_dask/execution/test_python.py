"""What a function can do to the process that it runs in."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from seamless_dask.decorators import delayed, direct
from seamless_dask.errors import Cancelled, ComputationFailed, LimitExceeded

from ..conftest import is_alive, wait_until
from .conftest import Lab


def test_an_exit_without_a_word_is_a_failure(lab: Lab, isolation: str) -> None:
    @direct(context=lab.context, isolation=isolation)
    def leaving() -> None:
        import os

        os._exit(5)

    with pytest.raises(ComputationFailed, match="exit status 5"):
        leaving()


def test_an_exit_without_a_word_that_claims_success_is_a_failure(lab: Lab, isolation: str) -> None:
    @direct(context=lab.context, isolation=isolation)
    def leaving() -> None:
        import os

        os._exit(0)

    with pytest.raises(ComputationFailed, match=r"ended its process before it returned: os\._exit"):
        leaving()


def test_a_segmentation_fault_is_a_failure_that_names_it(lab: Lab, isolation: str) -> None:
    @direct(context=lab.context, isolation=isolation)
    def crashing() -> None:
        import ctypes

        ctypes.string_at(0)

    with pytest.raises(ComputationFailed, match="SIGSEGV"):
        crashing()


def test_an_interrupt_inside_is_a_failure(lab: Lab, isolation: str) -> None:
    @direct(context=lab.context, isolation=isolation)
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(ComputationFailed) as caught:
        interrupted()
    assert "KeyboardInterrupt" in caught.value.stderr


def test_of_much_that_is_printed_the_end_is_kept(lab: Lab, isolation: str) -> None:
    @delayed(context=lab.context, isolation=isolation)
    def printing(lines: int) -> int:
        for number in range(lines):
            print(f"{number:099d}")
        return lines

    made = printing(100_000)
    assert made.compute() == 100_000
    assert made.record is not None
    assert made.record["stderr"].endswith("099999\n")
    assert len(made.record["stderr"]) <= 64 << 10


def test_a_thread_that_is_left_running_is_not_waited_for(lab: Lab, isolation: str) -> None:
    @direct(context=lab.context, isolation=isolation)
    def starting() -> int:
        import threading

        threading.Thread(target=threading.Event().wait).start()
        return 7

    assert starting() == 7


def test_what_is_to_be_done_at_exit_is_done(lab: Lab, isolation: str) -> None:
    @delayed(context=lab.context, isolation=isolation)
    def registering() -> int:
        import atexit

        atexit.register(print, "at exit")
        return 8

    made = registering()
    assert made.compute() == 8
    assert made.record is not None
    assert made.record["stderr"] == "at exit\n"


def test_a_fork_that_is_left_running_is_killed(lab: Lab, tmp_path: Path) -> None:
    @direct(context=lab.context, isolation="none")
    def forking() -> int:
        import os
        import time

        child = os.fork()
        if child == 0:
            time.sleep(10_000)
        return child

    child = forking()
    wait_until(lambda: not is_alive(child))


def test_a_fork_that_comes_back_too_ends_there(lab: Lab, isolation: str) -> None:
    @delayed(context=lab.context, isolation=isolation)
    def forking() -> int:
        import os

        child = os.fork()
        if child == 0:
            raise KeyError("of the fork")
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    made = forking()
    assert made.compute() == 1
    assert made.record is not None
    assert made.record["stderr"].count("KeyError: 'of the fork'") == 1


def test_a_time_limit_kills_it(lab: Lab, isolation: str) -> None:
    @direct(context=lab.context, isolation=isolation, time_limit=0.5)
    def endless() -> None:
        import threading

        threading.Event().wait()

    with pytest.raises(LimitExceeded, match="time limit"):
        endless()


def test_a_memory_limit_kills_it(lab: Lab, isolation: str) -> None:
    @direct(context=lab.context, isolation=isolation, memory="200 MiB")
    def large() -> None:
        import threading

        kept = b"x" * (400 << 20)
        threading.Event().wait(10_000 + len(kept))

    with pytest.raises(LimitExceeded, match="MiB"):
        large()


def test_cancelling_kills_it(lab: Lab, tmp_path: Path) -> None:
    @delayed(context=lab.context, isolation="none")
    def endless(path: str) -> None:
        import os
        import threading

        with open(f"{path}.new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(f"{path}.new", path)
        threading.Event().wait()

    started = tmp_path / "started"
    made = endless(str(started))
    errors: list[Exception] = []

    def asked() -> None:
        try:
            made.compute()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=asked)
    thread.start()
    wait_until(started.exists)
    process = int(started.read_text())
    assert made.cancel()
    thread.join()
    assert isinstance(errors[0], Cancelled)
    assert not is_alive(process)
    assert process != os.getpid()
