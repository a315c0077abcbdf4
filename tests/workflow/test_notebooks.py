"""Functions that are defined in the cells of a notebook, in IPython's own kernel."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jupyter_client import BlockingKernelClient
from jupyter_client.manager import KernelManager, start_new_kernel

FIT = """
def half(x):
    return x / 2

@direct
def fit(x):
    return half(x) + 1
"""


class Notebook:
    """A kernel, and what a front end does with it.

    Parameters
    ----------
    manager, client
        The process, and the connection to it.
    """

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager, self.client = manager, client
        self.run("from seamless_dask import direct, delayed")

    def run(self, cell: str, meanwhile: Callable[[], None] = lambda: None) -> str:
        """Run a cell and return what it shows, the error's name and message where it ends in one."""
        asked = self.client.execute(cell)
        meanwhile()
        shown = ""
        while True:
            message = self.client.get_iopub_msg(timeout=90)
            if message["parent_header"].get("msg_id") != asked:
                continue
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    shown += content["text"]
                case "execute_result":
                    shown += content["data"]["text/plain"]
                case "error":
                    shown += f"{content['ename']}: {content['evalue']}"
                case "status" if content["execution_state"] == "idle":
                    return shown

    def known(self, call: str) -> bool:
        """Return whether a call ``function(arguments)`` would be found."""
        function, arguments = call.split("(", 1)
        return self.run(f"{function}.delayed({arguments}.is_known()") == "True"

    def close(self) -> None:
        """End the process and the connection."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.context.destroy(linger=0)


@pytest.fixture
def open_notebook(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Notebook]]:
    monkeypatch.setenv("IPYTHONDIR", str(home / "ipython"))
    monkeypatch.chdir(tmp_path)
    opened = []

    def open_notebook() -> Notebook:
        opened.append(Notebook(*start_new_kernel(kernel_name="python3")))
        return opened[-1]

    yield open_notebook
    for notebook in opened:
        notebook.close()


@pytest.fixture
def notebook(open_notebook: Callable[[], Notebook]) -> Notebook:
    return open_notebook()


def test_a_cell_run_again_is_found_and_a_redefined_helper_is_seen(notebook: Notebook) -> None:
    notebook.run(FIT)
    assert notebook.run("fit(3)") == "2.5"
    notebook.run("\n# The same below a comment and an empty line.\n" + FIT)
    assert notebook.known("fit(3)")
    notebook.run("def half(x):\n    return x // 2")
    assert not notebook.known("fit(3)")
    assert notebook.run("fit(3)") == "2"
    notebook.run("def half(x):\n    return x / 2  # as it was")
    assert notebook.known("fit(3)")


def test_another_kernel_finds_what_one_has_computed(open_notebook: Callable[[], Notebook]) -> None:
    first = open_notebook()
    first.run(FIT)
    assert first.run("fit(5)") == "3.5"
    second = open_notebook()
    second.run("unrelated = 1")
    second.run(FIT)
    assert second.known("fit(5)")


def test_classes_and_exceptions_of_a_notebook_come_back_as_they_are(notebook: Notebook) -> None:
    notebook.run(
        """
class Bird:
    def __init__(self, mass): self.mass = mass

class TooLight(Exception): pass

@direct
def fed(bird):
    if bird.mass < 1000:
        raise TooLight(bird.mass)
    return Bird(bird.mass + 100)
"""
    )
    assert notebook.run("bird = fed(Bird(4000)); type(bird) is Bird, bird.mass") == "(True, 4100)"
    caught = "try:\n    fed(Bird(10))\nexcept TooLight as error:\n    print(error.args)"
    assert notebook.run(caught) == "(10,)\n"
    assert notebook.run("fed(Bird(10))").startswith("TooLight: 10")


def test_an_interrupted_cell_withdraws_what_it_asked_for(notebook: Notebook, tmp_path: Path) -> None:
    pipe = tmp_path / "started"
    os.mkfifo(pipe)
    notebook.run(
        """
import os, time

@direct(isolation="none")
def slow(pipe):
    stream = os.open(pipe, os.O_WRONLY)
    os.write(stream, b"x")
    time.sleep(600)
"""
    )
    reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    def interrupt() -> None:
        assert select.select([reading], [], [], 60)[0], "it has not begun"
        assert os.read(reading, 1) == b"x"
        notebook.manager.interrupt_kernel()

    assert notebook.run(f"slow({str(pipe)!r})", interrupt).startswith("KeyboardInterrupt")
    assert select.select([reading], [], [], 60)[0], "it still runs"
    assert os.read(reading, 1) == b"", "its end of the pipe is closed: it is dead"
    os.close(reading)
    assert not notebook.known(f"slow({str(pipe)!r})")
    assert notebook.run("1 + 1") == "2"


def test_what_a_function_prints_is_shown_under_its_cell_while_it_runs(
    notebook: Notebook, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    notebook.run(
        """
@direct(isolation="none")
def slow(pipe):
    import logging
    print("half of it")
    logging.warning("a warning")
    open(pipe).read()
    print("the rest")
"""
    )
    shown: list[str] = []

    def meanwhile() -> None:
        while "a warning" not in "".join(shown):
            message = notebook.client.get_iopub_msg(timeout=60)
            if message["msg_type"] == "stream":
                shown.append(message["content"]["text"])
        pipe.write_text("go on")

    rest = notebook.run(f"slow({str(pipe)!r})", meanwhile)
    assert "".join(shown) + rest == "half of it\nWARNING:root:a warning\nthe rest\n"


def test_a_loop_that_the_kernel_runs_does_not_stand_in_the_way(notebook: Notebook) -> None:
    notebook.run(FIT)
    assert notebook.run("async def main():\n    return fit(4)\nawait main()") == "3.0"
