from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import stat
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Cli


def runs(pid: int) -> bool:
    """Whether a process is there and is more than an exit status that nobody has read yet."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return bool(file.read())
    except FileNotFoundError:
        return False


@pytest.fixture
def ready(home: Path, cli: Cli) -> Iterator[Path]:
    """The ready file of this cache; its server is stopped at the end."""
    yield home / "cache" / "hashserver.json"
    cli("seamless-init", "--stop")


def test_starts_a_server_that_everything_uses_then(cli: Cli, work: Path, ready: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    facts = json.loads(cli("seamless-init", "--json").stdout)
    assert facts["started"] is True
    assert stat.S_IMODE(os.stat(facts["token_file"]).st_mode) == 0o600
    assert stat.S_IMODE(ready.stat().st_mode) == 0o600
    status = json.loads(cli("seamless-status", "--json").stdout)
    assert status["configuration"]["hashserver"] == facts["url"]
    cli("seamless-upload", "a.txt")
    (work / "a.txt").unlink()
    first = cli("seamless-run", "cat a.txt; date +%N").stdout
    assert cli("seamless-run", "cat a.txt; date +%N").stdout == first
    cli("seamless-download", "a.txt")
    assert (work / "a.txt").read_text() == "hello\n"


def test_a_hit_by_way_of_the_server_imports_nothing_that_is_slow(cli: Cli, work: Path, ready: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    cli("seamless-init")
    cli("seamless-run", "cat", "a.txt")
    loaded = cli.modules("seamless-run", "cat", "a.txt")
    slow = "dask aiohttp fsspec click ssl asyncio http.client encodings.idna seamless_cli.run.compute"
    assert loaded & set(slow.split()) == set()


def test_is_safe_to_repeat(cli: Cli, ready: Path) -> None:
    first = json.loads(cli("seamless-init", "--json").stdout)
    second = json.loads(cli("seamless-init", "--json").stdout)
    assert (first["started"], second["started"]) == (True, False)
    assert first["pid"] == second["pid"]


def test_two_at_once_start_one_server(cli: Cli, ready: Path) -> None:
    processes = [cli.start("seamless-init", "--json") for _ in range(3)]
    facts = [json.loads(process.communicate(timeout=60)[0]) for process in processes]
    assert len({fact["pid"] for fact in facts}) == 1
    assert sum(fact["started"] for fact in facts) == 1


def test_a_server_that_was_killed_is_started_again(cli: Cli, ready: Path) -> None:
    pid = json.loads(cli("seamless-init", "--json").stdout)["pid"]
    fd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    select.select([fd], [], [], 30)
    os.close(fd)
    again = json.loads(cli("seamless-init", "--json").stdout)
    assert again["started"] is True
    assert again["pid"] != pid


def test_a_lock_that_the_callers_shell_holds_is_not_the_servers(cli: Cli, ready: Path, work: Path) -> None:
    subprocess.run(
        ["bash", "-ec", f"(flock 9; {cli.path('seamless-init')} -q) 9> lock"], cwd=work, check=True
    )
    with open(work / "lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_stop(cli: Cli, ready: Path) -> None:
    pid = json.loads(cli("seamless-init", "--json").stdout)["pid"]
    cli("seamless-init", "--stop")
    assert not ready.exists()
    assert not runs(pid)
    assert "no hashserver is running" in cli("seamless-init", "--stop").error
    assert "hashserver" not in json.loads(cli("seamless-status", "--json").stdout)["configuration"]


def test_a_server_that_cannot_start_says_why(cli: Cli, ready: Path) -> None:
    assert "did not start" in cli("seamless-init", "--host", "203.0.113.1", status=1).error
    assert not ready.exists()


def test_a_server_of_another_host_is_told(cli: Cli, home: Path) -> None:
    (home / "cache").mkdir(mode=0o700)
    ready = {"url": "http://127.0.0.1:1", "pid": 1, "host": "elsewhere", "token_file": "/nowhere"}
    (home / "cache" / "hashserver.json").write_text(json.dumps(ready))
    (home / "cache" / "hashserver.json").chmod(0o600)
    assert "elsewhere" in cli("seamless-init", status=1).error


def test_the_store_and_the_database_can_be_named(cli: Cli, work: Path, ready: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    cli("seamless-init", "--store", "mine", "--database", "mine.db")
    cli("seamless-upload", "a.txt")
    assert list((work / "mine").glob("??/*"))


def test_no_token_no_access(cli: Cli, work: Path, ready: Path, tmp_path: Path) -> None:
    (work / "a.txt").write_text("hello\n")
    url = json.loads(cli("seamless-init", "--json").stdout)["url"]
    elsewhere = {"SEAMLESS_CACHE": str(tmp_path / "other"), "SEAMLESS_HASHSERVER": url}
    assert "token" in cli("seamless-upload", "a.txt", status=1, **elsewhere).error
    wrong = tmp_path / "token"
    wrong.write_text("read-write " + "0" * 64 + "\n")
    wrong.chmod(0o644)
    assert (
        "chmod 600"
        in cli("seamless-upload", "a.txt", status=1, SEAMLESS_TOKEN_FILE=str(wrong), **elsewhere).error
    )
    wrong.chmod(0o600)
    done = cli("seamless-upload", "a.txt", status=1, SEAMLESS_TOKEN_FILE=str(wrong), **elsewhere)
    assert "0000" not in done.error
