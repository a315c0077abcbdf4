"""Commands that misbehave, and many of them at once."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
from typing import TYPE_CHECKING

import pytest

from .conftest import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import World


@pytest.fixture
def bare(world: World) -> World:
    """Commands run without a sandbox, so that a test can see and signal them."""
    world.environment["SEAMLESS_ISOLATION"] = "none"
    return world


def test_a_command_that_fails(bare: World, tmp_path: Path) -> None:
    there = tmp_path / "there"
    command = (
        "seamless-run",
        "--metavar",
        f"P={there}",
        "-cp",
        "out",
        'echo x > out; test -e "$P" || exit 7',
    )
    for _ in range(2):
        done = bare(*command, status=7)
        assert "exit status 7" in done.error
        assert list(bare.work.glob("out*")) == []
    there.touch()
    bare(*command)
    assert (bare.work / "out").read_text() == "x\n"


def test_a_failing_member_of_a_pipeline(world: World) -> None:
    world("seamless-run", "sh -c 'echo half; exit 3' | cat > out.txt", status=3)
    assert list(world.work.glob("out*")) == []


@pytest.mark.parametrize("declared", ["out", "dir/out", "*.csv:tables"])
def test_a_command_that_writes_nothing_it_declared(bare: World, tmp_path: Path, declared: str) -> None:
    there = tmp_path / "there"
    text = 'if test -e "$P"; then mkdir -p dir; echo x | tee out dir/out a.csv; fi; echo said >&2'
    command = ("seamless-run", "-g1", "--metavar", f"P={there}", "-cp", declared, text)
    done = bare(*command, status=1)
    assert done.stderr.splitlines()[0] == "said"
    assert declared.partition(":")[0] in done.last
    assert [path for path in bare.work.rglob("*") if path.is_file()] == []
    there.touch()
    bare(*command)
    assert [path for path in bare.work.rglob("*") if path.is_file() and path.read_bytes() == b"x\n"] != []


MODIFY = [
    "printf more | tee -a a.txt > /dev/null",
    "sed -i s/h/j/ a.txt",
    "chmod 600 a.txt; truncate -s 9 a.txt",
]


@pytest.mark.parametrize(
    ("user", "isolation", "text"),
    [
        *itertools.product(["embedded", "unprivileged"], ["auto", "none"], MODIFY),
        ("served", "auto", MODIFY[0]),  # what comes from a server comes to the same place
        ("served", "none", MODIFY[1]),
    ],
)
def test_a_command_that_modifies_its_inputs(
    request: pytest.FixtureRequest, user: str, isolation: str, text: str
) -> None:
    world: World = request.getfixturevalue(user)
    world.environment["SEAMLESS_ISOLATION"] = isolation
    content = b"hello\n" + bytes(1 << 20)  # large enough to be linked or mounted
    path = world.write("a.txt", content)
    done = world("seamless-run", f"{text}; cksum < a.txt")
    assert path.read_bytes() == content
    by_hand = subprocess.run(
        ["bash", "-c", f"{text}; cksum < a.txt"], cwd=world.work, stdout=subprocess.PIPE, check=True
    )
    assert done.stdout == by_hand.stdout
    path.write_bytes(content)
    # neither the store nor the cache of inputs was poisoned
    assert world("seamless-run", "head -c 6 a.txt; wc -c < a.txt").stdout == b"hello\n%d\n" % len(content)
    checksum = world("seamless-checksum", "a.txt").stdout.decode()[:64]
    assert world("seamless-resolve", checksum).stdout == content


def test_a_command_that_is_killed(bare: World, tmp_path: Path) -> None:
    mark, there = tmp_path / "mark", tmp_path / "there"
    command = (
        "seamless-run",
        "--metavar",
        f"P={there}",
        f'echo >> {mark}; test -e "$P" || kill -9 $$; echo done',
    )
    done = bare(*command, status=137)
    assert "SIGKILL" in done.last
    assert mark.read_text() == "\n"  # it is not tried again by itself
    there.touch()
    assert bare(*command).stdout == b"done\n"


def test_a_command_that_somebody_kills(bare: World, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = bare.start("seamless-run", "-cp", ":out", f"echo $$ > {fifo}; exec sleep 1000")
    os.kill(int(fifo.read_text()), signal.SIGTERM)
    done = bare.ended(process)
    assert done.status == 143
    assert "SIGTERM" in done.last
    assert os.listdir(bare.work) == []


@pytest.mark.parametrize("isolation", ["auto", "none"])
def test_a_command_that_leaves_background_processes(world: World, isolation: str) -> None:
    world.environment["SEAMLESS_ISOLATION"] = isolation
    text = "sleep 1000 & setsid sleep 1000 & (setsid nohup sleep 1000 > /dev/null 2>&1 &) ; echo done"
    assert world("seamless-run", text).stdout == b"done\n"
    wait_until(lambda: not world.processes())


def test_a_command_that_floods_stderr(world: World) -> None:
    text = "yes flood | head -c 200000000 >&2; echo >&2; echo last >&2; echo done"
    done = world("seamless-run", text)
    assert (done.stdout, done.stderr) == (b"done\n", "")
    done = world("seamless-run", text + "; exit 4", status=4)
    assert "last" in done.stderr.splitlines()
    assert len(done.stderr) < 10_000
    kept = sum(path.stat().st_size for path in world.cache.rglob("*") if path.is_file())
    assert kept < 10 << 20


def test_two_identical_runs_at_once(bare: World, tmp_path: Path) -> None:
    mark, gate = tmp_path / "mark", tmp_path / "gate"
    os.mkfifo(gate)
    text = f"echo begun >> {mark}; read -r _ < {gate}; date +%N"
    processes = [bare.start("seamless-run", text) for _ in range(2)]
    wait_until(mark.exists)
    wait_until(lambda: "2 askers" in bare.status_text())
    gate.write_text("\n")
    first, second = (bare.ended(process) for process in processes)
    assert (first.status, second.status) == (0, 0)
    assert first.stdout == second.stdout
    assert mark.read_text() == "begun\n"


def test_eight_shells_at_once(world: World) -> None:
    world.write("a.txt", "hello\n")
    commands = [("seamless-run", "-cp", f"same-{n}:out-{n}", f"cat a.txt > same-{n}") for n in range(4)]
    commands += [("seamless-run", "cat a.txt; date +%N")] * 4
    processes = [world.start(*command) for command in commands]
    processes += [world.start("seamless-upload", "a.txt") for _ in range(8)]
    done = [world.ended(process) for process in processes]
    assert [each.status for each in done] == [0] * 16, done
    assert len({each.stdout for each in done[4:8]}) == 1
    for number in range(4):
        assert (world.work / f"out-{number}").read_text() == "hello\n"
    if not world.server:
        with sqlite3.connect(world.database) as database:
            assert database.execute("pragma integrity_check").fetchone() == ("ok",)
        database.close()


def test_an_interrupted_run(bare: World, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = bare.start("seamless-run", "-cp", ":out", f"echo $$ > {fifo}; sleep 1000; echo done")
    pid = int(fifo.read_text())
    os.killpg(process.pid, signal.SIGINT)
    done = bare.ended(process)
    assert (done.status, done.last) == (130, "interrupted")
    assert os.listdir(bare.work) == []
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_a_run_that_nobody_waits_for(bare: World, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    command = ("seamless-run", "-cp", ":out.txt", f"read -r _ < {gate}; echo done")
    assert bare(command[0], "--detach", *command[1:]).stdout == b""
    assert os.listdir(bare.work) == ["out.txt.FUTURE"]
    waiting = [bare.start("seamless-run", "cat", "out.txt"), bare.start(*command)]
    wait_until(lambda: bare.status_text().count("1 asker") > 0)
    gate.write_text("\n")
    assert [bare.ended(process).status for process in waiting] == [0, 0]
    assert (bare.work / "out.txt").read_text() == "done\n"
    assert sorted(os.listdir(bare.work)) == ["out.txt", "out.txt.CHECKSUM"]
    assert "was known" in bare("seamless-run", "-v", "-d", *command[1:]).stderr


def test_much_data_is_asked_for(embedded: World) -> None:
    with open(embedded.work / "large", "wb") as file:
        file.truncate(10**9 + 1)
    assert "-y" in embedded("seamless-run", "wc -c < large", status=1).error
    assert embedded("seamless-run", "-y", "wc -c < large").stdout == b"1000000001\n"
