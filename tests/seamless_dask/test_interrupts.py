"""Ctrl-C, and the interruption of a cell, while a result is waited for: what nobody else wants is stopped."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from distributed import Client, LocalCluster

from hashserver.checksum import Checksum
from seamless_dask.scheduler import SeamlessScheduler

from .conftest import PLAIN, is_alive, wait_until

SCRIPT = """
import os, sys
from seamless_dask import bash, delayed, direct

def waits(reached, opened):
    with open(reached, "w") as file:
        file.write(str(os.getpid()))
    with open(opened) as file:
        return file.read()

def both(*results):
    return results

if __name__ == "__main__":
    reached, opened = {gate!r}
    first = delayed(waits)(reached, opened)
    command = bash({command!r})
    try:
        {ask}
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
ASKS = {
    "direct": "direct(waits)(reached, opened)",
    "compute": "first.compute()",
    "pipeline": "delayed(both)(first, 1).compute()",
    "dask.compute": "import dask; dask.compute(delayed(both)(first, 1), [first], traverse=True)",
    "bag": "import dask; dask.delayed(list)([first]).compute()",
    "command": "delayed(both)(command, 1).compute()",
}


class Script:
    """A script that asks for what stops at a gate."""

    def __init__(self, lab: Any, how: str, ask: str | None = None) -> None:
        self.gate = lab.gate()
        path = lab.directory / "script.py"
        pair = str(self.gate.reached_by), str(self.gate.opened)
        path.write_text(SCRIPT.format(gate=pair, command=self.gate.command, ask=ask or ASKS[how]))
        words = [sys.executable, str(path)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
        lab.processes.append(self.process)

    def interrupt(self) -> str:
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=60)[0]


@pytest.mark.parametrize("how", ASKS)
def test_what_nobody_else_waits_for_is_stopped(lab: Any, how: str) -> None:
    script = Script(lab, how)
    process = script.gate.wait()
    assert script.interrupt() == "interrupted\n"
    assert not is_alive(process)
    assert lab.leftovers() == []


@pytest.mark.parametrize("how", ["direct", "pipeline"])
def test_who_else_asks_still_gets_the_result(lab: Any, how: str) -> None:
    script = Script(lab, how)
    process = script.gate.wait()
    (name,) = [name for name in lab.leftovers() if lab.job(Checksum(name)).waiting()]
    other = lab.asker(Checksum(name), PLAIN)
    lab.await_askers(Checksum(name), 2)
    assert script.interrupt() == "interrupted\n"
    assert is_alive(process)
    script.gate.open()
    answer = json.loads(other.communicate(timeout=60)[0])
    assert answer[0] in ("text", "json/1")


@pytest.fixture
def cluster(lab: Any) -> Iterator[str]:
    """The address of a scheduler with our plugin."""
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as local:
        with Client(local) as client:
            client.register_plugin(SeamlessScheduler())
        yield local.scheduler_address


STOCK = "from distributed import Client; client = Client({cluster!r}); "
SERVER = "os.environ['SEAMLESS_DASKSERVER'] = {cluster!r}; "


@pytest.mark.parametrize("place", [STOCK, SERVER], ids=["client", "server"])
@pytest.mark.parametrize("how", ["direct", "pipeline"])
def test_a_scheduler_stops_it_too(lab: Any, cluster: str, place: str, how: str) -> None:
    script = Script(lab, how, place.format(cluster=cluster) + ASKS[how])
    process = script.gate.wait()
    assert script.interrupt() == "interrupted\n"
    wait_until(lambda: not is_alive(process))


def test_all_that_is_under_way_is_stopped(lab: Any) -> None:
    gates = [lab.gate(f"gate{number}") for number in range(2)]
    pairs = [(str(gate.reached_by), str(gate.opened)) for gate in gates]
    ask = f"delayed(both)(*[delayed(waits)(*pair) for pair in {pairs!r}]).compute(num_workers=2)"
    script = Script(lab, "pipeline", ask)
    processes = [gate.wait() for gate in gates]
    assert script.interrupt() == "interrupted\n"
    assert [process for process in processes if is_alive(process)] == []


def test_after_an_interrupt_the_same_is_asked_for_again(lab: Any) -> None:
    again = "print(delayed(both)(first, 1).compute())"
    ask = f"""try:
            {ASKS["pipeline"]}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            {again}"""
    script = Script(lab, "pipeline", ask)
    script.gate.wait()
    script.process.send_signal(signal.SIGINT)
    script.gate.wait()
    script.gate.open()
    assert script.process.communicate(timeout=60)[0] == "interrupted\n('go\\n', 1)\n"
