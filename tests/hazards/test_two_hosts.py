"""Two hosts on one cache whose file system shares no locks, or has no FIFOs, as many behind FUSE."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
COMMANDS = 6
DELAYED = "mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,rmdir"
"""Steps before which a host waits, so that the other one comes in between."""
NO_FIFO = ("-e", "trace=mknod,mknodat", "-e", "inject=mknod,mknodat:error=EPERM")
SLOWLY = ("-e", f"trace={DELAYED}", "-e", f"inject={DELAYED}:delay_enter=3000")


class Host:
    """Runs commands under a name of its own, in a directory that it sees the cache from."""

    def __init__(self, directory: Path, cache: Path, database: Path) -> None:
        self.name, self.work = directory.name, directory / "work"
        self.work.mkdir(parents=True)
        own = {"SEAMLESS_CACHE": str(cache), "SEAMLESS_DATABASE": str(database)}
        self.environment = os.environ | own | {"SEAMLESS_ISOLATION": "none", "TMPDIR": str(directory)}

    def __call__(self, *words: str, rules: tuple[str, ...] = SLOWLY) -> subprocess.CompletedProcess[str]:
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "--seccomp-bpf", *rules]
        script = f'hostname {self.name}; exec "$@"'
        return subprocess.run(
            ["unshare", "--map-root-user", "--uts", "sh", "-c", script, "sh", *strace, *words],
            cwd=self.work,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=110,
        )


@pytest.fixture
def alone(tmp_path: Path) -> Host:
    host = Host(tmp_path / "alone", tmp_path / "cache", tmp_path / "db")
    if not shutil.which("strace") or host("true").returncode:
        pytest.skip("needs strace, and a name of a host of its own")
    return host


@pytest.fixture
def hosts(alone: Host, tmp_path: Path) -> Iterator[list[Host]]:
    """Two that see the same cache, each through a file system of its own: it has locks within a host."""
    if shutil.which("bindfs") is None:
        pytest.skip("bindfs is not installed")
    shared, made = tmp_path / "shared", []
    shared.mkdir(mode=0o700)
    mounted: list[Path] = []
    try:
        for name in ("one", "two"):
            mount = tmp_path / name / "cache"
            mount.mkdir(parents=True)
            if subprocess.run(["bindfs", shared, mount], capture_output=True).returncode:
                pytest.skip("file systems cannot be mounted by FUSE here")
            mounted.append(mount)
            made.append(Host(tmp_path / name, mount, tmp_path / "db"))
        yield made
    finally:
        for mount in mounted:
            subprocess.run(["umount", "-l", mount], check=True)


def test_both_get_every_result(hosts: list[Host]) -> None:
    def ask(number: int) -> list[subprocess.CompletedProcess[str]]:
        host = hosts[number % 2]
        return [host(str(BIN / "seamless-run"), f"echo {n}") for n in range(COMMANDS)]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    for answers in found:
        assert [(done.returncode, done.stdout, done.stderr) for done in answers] == [
            (0, f"{n}\n", "") for n in range(COMMANDS)
        ]


def test_a_cache_without_fifos(alone: Host) -> None:
    done = alone(str(BIN / "seamless-run"), "echo waited for", rules=NO_FIFO)
    assert (done.returncode, done.stdout, done.stderr) == (0, "waited for\n", "")


def test_a_queue_without_a_bell(alone: Host) -> None:
    queue, submit, finish = (str(BIN / f"seamless-{name}") for name in ("queue", "run", "queue-finish"))
    script = f"{queue} --workers 1 -d; {submit} --qsubmit 'echo queued > out' --capture out; {finish}"
    done = alone("bash", "-c", script, rules=NO_FIFO)
    assert done.returncode == 0, done.stderr
    assert (alone.work / "out").read_text() == "queued\n"
