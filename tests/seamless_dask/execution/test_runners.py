"""Runners that serve one call after the other: what a call leaves behind, the next one does not find."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy
import pytest

from seamless_dask.decorators import direct
from seamless_dask.errors import ComputationFailed, LimitExceeded
from seamless_dask.execution import forkserver
from seamless_dask.execution.layout import ROOM

from ..conftest import is_alive, wait_until
from .conftest import Lab, needs_bubblewrap, needs_kept_sandbox

# functions of these tests look at what surrounds them, that is what they are for
pytestmark = pytest.mark.filterwarnings("ignore::seamless_dask.code.identity.CodeWarning")

SCRIPT = """
import os, sys
from seamless_dask import direct

@direct(isolation="none")
def called(number):
    import os
    {body}
    return os.getpid(), os.getppid()

{after}
"""


def script(directory: Path, body: str, after: str) -> list[str]:
    path = directory / "script.py"
    path.write_text(SCRIPT.format(body=body, after=after))
    return [sys.executable, str(path)]


def test_calls_are_forks_of_one_interpreter(lab: Lab) -> None:
    @direct(context=lab.context, isolation="none")
    def processes(number: int) -> tuple[int, int]:
        import os

        return os.getpid(), os.getppid()

    found = [processes(number) for number in range(5)]
    assert len({own for own, _ in found}) == 5
    assert len({server for _, server in found}) == 1


@needs_kept_sandbox
def test_calls_of_one_sandbox_share_it(lab: Lab) -> None:
    @direct(context=lab.context, isolation="bubblewrap")
    def namespace(number: int) -> str:
        import os

        return os.readlink("/proc/self/ns/mnt")

    found = {namespace(number) for number in range(3)}
    assert len(found) == 1
    assert os.readlink("/proc/self/ns/mnt") not in found


def test_threads_have_interpreters_of_their_own(lab: Lab) -> None:
    @direct(context=lab.context, isolation="none")
    def server(number: int, meet: str) -> int:
        import os

        Path(f"{meet}/{number}").touch()
        while len(os.listdir(meet)) < 2:
            time.sleep(0.01)
        return os.getppid()

    meet = lab.temporary.parent / "meet"
    meet.mkdir()
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda number=number: found.append(server(number, str(meet))))
        for number in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 2


def test_what_a_call_does_to_its_interpreter_the_next_one_does_not_see(lab: Lab, isolation: str) -> None:
    @direct(context=lab.context, isolation=isolation)
    def spoil() -> None:
        import builtins
        import decimal
        import math
        import os
        import sys

        os.environ["LEFT"] = "1"
        math.pi = 3
        builtins.left = 1  # type: ignore[attr-defined]
        decimal.getcontext().prec = 3
        sys.path.append("/left")
        os.umask(0o077)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.chdir("/")

    @direct(context=lab.context, isolation=isolation)
    def look() -> list[Any]:
        import builtins
        import decimal
        import math
        import os
        import sys

        return [
            os.environ.get("LEFT"), math.pi > 3, hasattr(builtins, "left"), decimal.getcontext().prec,
            "/left" in sys.path, os.umask(0o22) == 0o77, signal.getsignal(signal.SIGTERM) == signal.SIG_IGN,
            os.path.basename(os.getcwd()),
        ]  # fmt: skip

    spoil()
    assert look() == [None, True, False, 28, False, False, False, "work"]


@pytest.mark.parametrize("place", ["work", "home", "temporary", "beside"])
def test_files_that_a_call_leaves_the_next_one_does_not_see(lab: Lab, isolation: str, place: str) -> None:
    @direct(context=lab.context, isolation=isolation)
    def files(place: str, name: str) -> list[str]:
        import os
        import tempfile

        directories = {
            "work": ".", "home": os.environ["HOME"], "temporary": tempfile.gettempdir(), "beside": "..",
        }  # fmt: skip
        directory = directories[place]
        os.makedirs(f"{directory}/{name}/below")
        return [found for found in os.listdir(directory) if "left" in found]

    assert files(place, "left-1") == ["left-1"]
    assert files(place, "left-2") == ["left-2"]


def test_what_a_call_does_to_its_directory_the_next_one_does_not_see(lab: Lab, isolation: str) -> None:
    @direct(context=lab.context, isolation=isolation)
    def spoil(how: str) -> None:
        import os

        here = os.getcwd()
        if how == "mode":
            os.chmod(here, 0o2711)
        elif how == "attribute":
            with suppress(OSError):  # not every file system has them
                os.setxattr(here, "user.left", b"1")
        else:
            os.rmdir(here)
        if how == "link":
            os.symlink("/", here)

    @direct(context=lab.context, isolation=isolation)
    def look(number: int) -> list[Any]:
        import os

        here = os.getcwd()
        return [os.path.realpath(here) == here, os.stat(".").st_mode, os.listdir("."), os.listxattr(".")]

    clean = look(0)
    assert clean[0]
    for number, how in enumerate(("mode", "attribute", "gone", "link"), 1):
        spoil(how)
        assert look(number) == clean, how


def test_what_a_call_does_to_its_way_to_ask_the_next_one_does_not_see(lab: Lab, isolation: str) -> None:
    @direct(context=lab.context, isolation=isolation)
    def inner(number: int) -> int:
        return number + 1

    @direct(context=lab.context, isolation=isolation)
    def outer(number: int, spoil: str = "") -> tuple[str, int]:
        import os

        file = os.environ["SEAMLESS_DASKSERVER"]
        directory = os.path.dirname(file)
        with open(f"{directory}/token") as stream:
            token = stream.read()
        if spoil == "asked":
            return token, inner(number)
        if spoil:
            os.unlink(f"{directory}/{spoil}")
        return token, 0

    hows = ("", "", "token", "asked", "", "socket", "asked", "connection.json", "asked")
    found = [outer(number, how) for number, how in enumerate(hows)]
    assert len({token for token, _ in found}) == len(hows)
    assert [given for _, given in found if given] == [4, 7, 9]


def test_small_arguments_and_results_are_no_files(lab: Lab, isolation: str) -> None:
    @direct(context=lab.context, isolation=isolation)
    def beside(data: bytes) -> list[str]:
        import os

        return sorted(os.listdir(".."))

    assert beside(b"little") == ["work"]
    assert beside(bytes(ROOM + 1)) == ["inputs", "work"]
    assert beside(b"little again") == ["work"]


def test_results_of_all_sizes_come_back(lab: Lab) -> None:
    @direct(context=lab.context, isolation="none")
    def numbers(size: int) -> bytes:
        return bytes(number % 251 for number in range(size))

    for size in (0, 1, ROOM - 1, ROOM, ROOM + 1, 3 * ROOM):
        assert numbers(size) == bytes(number % 251 for number in range(size))


def test_a_small_array_can_be_changed_by_the_function(lab: Lab) -> None:
    @direct(context=lab.context, isolation="none")
    def doubled(array: Any, way: str) -> Any:
        array *= 2
        return array

    array = numpy.arange(5)
    assert doubled(array, "in place").tolist() == [0, 2, 4, 6, 8]
    assert array.tolist() == [0, 1, 2, 3, 4]


def test_a_result_is_not_written_to_a_file_of_the_function(lab: Lab) -> None:
    @direct(context=lab.context, isolation="none")
    def opened(kept: str) -> str:
        import atexit
        import os

        os.closerange(3, 1000)
        files = [open(f"{kept}-{number}", "w+") for number in range(20)]  # noqa: SIM115
        atexit.register(lambda: [file.close() for file in files])
        return "returned"

    kept = str(lab.temporary.parent / "kept")
    assert opened(kept) == "returned"
    assert [os.stat(f"{kept}-{number}").st_size for number in range(20)] == [0] * 20


@needs_bubblewrap
@pytest.mark.parametrize("place", ["/dev/shm", "/", "/dev", "/var"])
def test_files_that_a_call_leaves_in_its_sandbox_the_next_one_does_not_see(lab: Lab, place: str) -> None:
    @direct(context=lab.context, isolation="bubblewrap")
    def files(name: str) -> list[str]:
        import os

        with open(f"{place}/{name}", "w"):
            pass
        return [found for found in os.listdir(place) if "left" in found]

    assert files("left-1") == ["left-1"]
    assert files("left-2") == ["left-2"]


@needs_kept_sandbox
def test_a_call_cannot_write_to_the_files_of_its_interpreter(lab: Lab) -> None:
    @direct(context=lab.context, isolation="bubblewrap")
    def look() -> str:
        import os

        try:
            with open(f"/proc/{os.getppid()}/mem", "r+b"):
                return "opened"
        except OSError as error:
            return type(error).__name__

    assert look() == "PermissionError"


@pytest.mark.filterwarnings("ignore:it draws random numbers")
def test_a_call_begins_with_random_numbers_of_its_own(lab: Lab) -> None:
    @direct(context=lab.context, isolation="none")
    def numbers(number: int) -> tuple[float, float]:

        import numpy

        return random.random(), float(numpy.random.random())

    found = [numbers(number) for number in range(4)]  # from the second one on NumPy is there beforehand
    assert len({one for one, _ in found}) == len({other for _, other in found}) == 4


def test_modules_that_a_call_has_imported_are_there_for_the_next(lab: Lab) -> None:
    @direct(context=lab.context, isolation="none")
    def was_there(number: int) -> bool:
        import sys

        modules = vars(sys)["modules"]  # for those who say it plainly there is none that they do not import
        there = "colorsys" in modules
        import colorsys

        return there and colorsys is modules["colorsys"]

    assert [was_there(number) for number in range(3)] == [False, True, True]


def test_pandas_and_the_threads_of_arrow_are_there_for_the_next_call(lab: Lab, isolation: str) -> None:
    @direct(context=lab.context, isolation=isolation)
    def total(number: int) -> tuple[bool, int]:
        import sys

        there = "pandas" in vars(sys)["modules"]
        import pandas
        import pyarrow
        import pyarrow.compute

        table = pyarrow.Table.from_pandas(pandas.DataFrame({"a": range(number * 1000)}))
        return there, pyarrow.compute.sum(table["a"]).as_py()

    assert [total(number) for number in (1, 2, 3)] == [(False, 499500), (True, 1999000), (True, 4498500)]


def test_a_module_of_the_callers_is_not_imported_beforehand(lab: Lab, isolation: str) -> None:
    @direct(context=lab.context, isolation=isolation)
    def imported(number: int) -> bool:
        import os
        import sys

        there = "own_module" in sys.modules
        with open("own_module.py", "w") as file:
            file.write("VALUE = 1")
        sys.path.insert(0, os.getcwd())
        import own_module  # type: ignore[import-not-found]

        return there or own_module.VALUE != 1

    assert [imported(number) for number in range(3)] == [False, False, False]


@pytest.mark.parametrize("how", ["thread", "child", "session", "daemon"])
def test_what_a_call_leaves_running_has_ended_with_it(lab: Lab, how: str) -> None:
    @direct(context=lab.context, isolation="none")
    def leave(how: str) -> int:
        import os
        import threading

        if how == "thread":
            threading.Thread(target=time.sleep, args=(1000,)).start()
            return os.getpid()
        reader, writer = os.pipe()
        if os.fork() == 0:
            if how != "child":
                os.setsid()
            if how == "daemon" and os.fork() != 0:
                os._exit(0)
            os.write(writer, str(os.getpid()).encode())
            time.sleep(1000)
        return int(os.read(reader, 20))

    left = leave(how)
    assert not is_alive(left)


@pytest.mark.parametrize("isolation", ["none", pytest.param("bubblewrap", marks=needs_kept_sandbox)])
def test_a_call_that_kills_its_interpreter_fails_and_the_next_one_runs(lab: Lab, isolation: str) -> None:
    @direct(context=lab.context, isolation=isolation)
    def kill(really: bool) -> int:
        import os
        import time

        if really:
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(1000)
        return 1

    assert kill(False) == 1
    with pytest.raises(ComputationFailed, match="SIGKILL"):
        kill(True)
    assert direct(kill, fresh=True)(False) == 1


def test_after_a_limit_the_next_call_runs(lab: Lab, isolation: str) -> None:
    def sleep(seconds: float) -> float:

        time.sleep(seconds)
        return seconds

    limited = direct(sleep, context=lab.context, isolation=isolation, time_limit=1)
    assert limited(0.0) == 0.0
    with pytest.raises(LimitExceeded):
        limited(1000.0)
    assert limited(0.001) == 0.001


def test_the_memory_of_the_interpreter_does_not_count(lab: Lab) -> None:
    def use(size: int) -> int:

        held = bytearray(size)
        held[::4096] = bytes([1]) * len(held[::4096])  # a page that nobody has written to takes no memory
        time.sleep(0.5)
        return len(held)

    limited = direct(use, context=lab.context, isolation="none", memory=200 << 20)
    assert limited(100 << 20) == 100 << 20
    with pytest.raises(LimitExceeded, match="limit of 200 MiB"):
        limited(400 << 20)


def test_what_is_printed_is_told_apart(lab: Lab, isolation: str) -> None:
    @direct(context=lab.context, isolation=isolation)
    def said(text: str) -> None:
        import os

        print(text)
        os.system("echo from below")

    for text in ("first", "second"):
        said(text)
        record = said.delayed(text).record
        assert record is not None
        assert record["stderr"].split("\n") == [text, "from below", ""] or record["stderr"].split("\n") == [
            "from below", text, "",
        ]  # fmt: skip


def test_a_changed_environment_is_seen(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    @direct(context=lab.context, isolation="none")
    def told(number: int) -> str | None:
        import os

        return os.environ.get("SLURM_NOTE")

    assert told(1) is None
    monkeypatch.setenv("SLURM_NOTE", "there")
    assert told(2) == "there"


def test_variables_have_an_interpreter_of_their_own(lab: Lab) -> None:
    def told() -> str | None:
        import os

        return os.environ.get("NOTE")

    first = direct(told, context=lab.context, isolation="none", variables={"NOTE": "1"})
    second = direct(told, context=lab.context, isolation="none", variables={"NOTE": "2"})
    assert (first(), second()) == ("1", "2")


def test_a_script_leaves_no_process_and_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    words = script(tmp_path, "", "for number in range(3): print(called(number)[1])")
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, check=True)
    [server] = set(done.stdout.split())
    wait_until(lambda: not is_alive(int(server)) and os.listdir(temporary) == [])


def test_a_killed_script_leaves_its_call_to_its_end(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    body = f"open({str(gate)!r}).read()"
    words = script(tmp_path, body, "print(called(1)); sys.stdout.flush(); called(2)")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        gate.write_text("go")
        assert process.stdout is not None
        process.stdout.readline()
        with open(gate, "w") as file:  # the second call is there
            process.kill()
            process.wait()
            file.write("go")
    after = "print(called.delayed(2).is_known())"
    words = script(tmp_path, body, after)
    wait_until(
        lambda: subprocess.run(words, capture_output=True, text=True, timeout=100).stdout.strip() == "True"
    )


def test_a_fork_of_the_script_has_processes_of_its_own(tmp_path: Path) -> None:
    after = """
first = called(0)
child = os.fork()
if child == 0:
    assert called(1)[1] != first[1]
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert called(2)[1] == first[1]
"""
    subprocess.run(script(tmp_path, "", after), timeout=100, check=True)


# ---------------------------------------------------------------------- the server by itself


SERVE = """
import os, sys
sys.path.insert(0, sys.argv[2])
from seamless_dask.execution.forkserver import serve
serve({"serve": int(sys.argv[1]), "unfit": [], "sandboxed": False}, lambda: os.chdir("work"), os._exit)
"""


class Server:
    def __init__(self, directory: Path) -> None:
        self.modules = directory / "modules"
        self.modules.mkdir()
        (directory / "work").mkdir()
        self.directory = directory
        self.control, theirs = socket.socketpair()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(theirs.fileno()), str(self.modules)],
            pass_fds=[theirs.fileno()],
            cwd=directory,
            stderr=subprocess.PIPE,
        )
        theirs.close()
        self.answers = self.control.makefile("r")

    def read(self) -> dict[str, Any]:
        answer: dict[str, Any] = {"imports": None}
        while "imports" in answer:
            answer = json.loads(self.answers.readline() or "{}")
        return answer

    def tidied(self) -> None:
        self.control.sendall(b'{"import": true}\n')

    def ask(self) -> dict[str, Any]:
        self.control.sendall(b"{}\n")
        return self.read()

    def call(self, code: str) -> dict[str, Any]:
        (self.directory / "code").write_text(code)
        message = json.dumps({"arguments": {}, "foreign": [], "variables": {}}) + "\n"
        with open(os.devnull, "w") as stderr:
            socket.send_fds(self.control, [message.encode()], [stderr.fileno()])
        return self.read()


@contextmanager
def serving(directory: Path) -> Iterator[Server]:
    server = Server(directory)
    try:
        assert server.read() == {"ready": True}
        yield server
    finally:
        server.control.close()
        server.answers.close()
        server.process.communicate()


def calling(body: str) -> str:
    return f"def __function__():\n    {body}\n    return 1\n"


def test_a_server_whose_modules_have_changed_is_not_fresh(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        module = server.modules / "library.py"
        module.write_text("VALUE = 1\n")
        assert server.call(calling("import library"))["status"] == 0
        server.tidied()
        assert server.ask() == {"fresh": True}
        module.write_text("VALUE = 1000\n")
        assert server.ask() == {"fresh": False}


def test_of_libraries_files_are_watched_and_of_python_directories() -> None:
    assert forkserver._watched(json.__file__) == os.path.dirname(json.__file__)
    assert forkserver._watched(pytest.__file__) == pytest.__file__


def test_a_module_that_starts_threads_is_told_and_ends_the_server(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        (server.modules / "threaded.py").write_text(
            "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
        )
        assert server.call(calling("import threaded"))["status"] == 0
        server.tidied()
        assert server.read() == {"unfit": "threaded"}
        assert server.process.wait(60) == 0


def test_a_server_ends_with_whoever_asks(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        server.control.shutdown(socket.SHUT_RDWR)
        assert server.process.wait(60) == 0


def test_a_call_ends_with_whoever_asks(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        pid = tmp_path / "pid"
        body = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
        caller = threading.Thread(target=server.call, args=(calling(body),))
        caller.start()
        child = int(wait_until(lambda: pid.exists() and pid.read_text()))
        server.control.shutdown(socket.SHUT_RDWR)
        caller.join()
        assert server.process.wait(60) == 0
        assert not is_alive(child)
