"""A daskserver on the login node, with SLURM jobs as workers, and a laptop that is connected to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import Any

from .lab.host import Host
from .lab.laboratory import Lab

DIRECTORY = "/root/.cache/seamless/daskserver/default"
CONNECTION = f"{DIRECTORY}/connection.json"
PROJECT = "/root/project"
PROGRAMS = "/root/programs"
CONFIGURATION = """
jobqueue:
  slurm:
    cores: 1
    memory: 512MiB
    interface: eth0
    job-script-prologue: ["export PATH={programs}:$PATH"]
distributed:
  adaptive:
    interval: 200 ms
seamless:
  worker-idle-timeout: {idle}
"""


class Service:
    """What the user of a laptop does, and what happens elsewhere meanwhile.

    Parameters
    ----------
    lab
        Where.
    workers
        How many there are.
    options
        Of ``seamless-daskserver start``.
    idle
        How long a worker may be idle.
    programs
        Programs that the nodes have: name → text.
    """

    def __init__(
        self,
        lab: Lab,
        workers: str,
        *options: str,
        idle: str = "60 s",
        programs: Mapping[str, str] | None = None,
    ) -> None:
        self.lab, self.login, self.laptop = lab, lab.login, lab.laptop
        self._start = ["seamless-daskserver", "start", "--cluster", "slurm", "--workers", workers, *options]
        dask = self.login.file("/root/.config/dask")
        dask.mkdir(parents=True, exist_ok=True)
        (dask / "jobqueue.yaml").write_text(CONFIGURATION.format(programs=PROGRAMS, idle=idle))
        self.project = Path(self.laptop.file(PROJECT))
        self.clear()
        for node in lab.nodes:
            for name, text in (programs or {}).items():
                program = node.file(f"{PROGRAMS}/{name}")
                program.parent.mkdir(exist_ok=True)
                program.write_text(text)
                program.chmod(0o755)

    def start(self, **environment: str) -> None:
        """Start it on the login node."""
        self.login.run(self._start, env=environment)

    def connect(self, *options: str) -> None:
        """Connect the laptop to it."""
        self.laptop.run(["seamless-daskserver", "connect", "login", *options])

    def on(self, laptop: Host) -> Service:
        """Return the same, seen from another laptop."""
        other = copy(self)
        other.laptop, other.project = laptop, Path(laptop.file(PROJECT))
        other.clear()
        return other

    def clear(self) -> None:
        """Make the project's directory, empty."""
        shutil.rmtree(self.project, ignore_errors=True)
        self.project.mkdir()

    def close(self) -> None:
        """End both; nothing of them is left, on any host."""
        for host in (*self.lab.laptops, self.login):
            host.run(["seamless-daskserver", "stop"])
            assert host.processes("seamless_dask") == []
        self.lab.wait_until(lambda: not self.lab.jobs(), "the end of all jobs")
        for node in self.lab.nodes:
            self.lab.wait_until(lambda node=node: not node.processes("distributed"), "the end of all workers")

    def sh(self, script: str, **options: Any) -> str:
        """Type commands on the laptop, in the project's directory; what they print."""
        return str(self.laptop.sh(script, cwd=PROJECT, env=_NAMED, **options))

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run one command on the laptop, in the project's directory."""
        done: subprocess.CompletedProcess[str] = self.laptop.run(words, cwd=PROJECT, env=_NAMED, **options)
        return done

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start one command on the laptop, in the project's directory."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process: subprocess.Popen[str] = self.laptop.popen(words, cwd=PROJECT, env=_NAMED, **pipes)
        return process

    def submitted(self) -> int:
        """How many jobs SLURM has been given since it was first started."""
        text = self.login.sh("scontrol show config | sed -n 's/^NEXT_JOB_ID *= //p'")
        return int(text) - 1

    def stored(self, checksum: str) -> Path:
        """Where the store on the login node has a buffer, or would have it."""
        return Path(self.login.file(f"/root/.cache/seamless/buffers/{checksum[:2]}/{checksum}"))

    def scale_to_zero(self) -> None:
        """Wait until no worker is left."""
        self.lab.wait_until(lambda: not self.lab.jobs(), "the end of the idle workers")

    def status(self) -> Any:
        """What `seamless-daskserver status` on the login node says."""
        return json.loads(self.login.run(["seamless-daskserver", "status", "--json"], check=False).stdout)

    def results(self) -> int:
        """How many results are on record."""
        done = self.run("seamless-status", "--json", check=False)
        return int(json.loads(done.stdout)["database"]["results"])

    def jobs(self) -> list[dict[str, Any]]:
        """What is under way, as `seamless-status` on the laptop sees it."""
        found: list[dict[str, Any]] = json.loads(self.run("seamless-status", "--json").stdout)["jobs"]
        return found


@contextmanager
def halfway(host: Host, pattern: str, size: int) -> Iterator[int]:
    """Stop a process when it has written a part of a large file; its number.

    It goes on when the block is left, if it still lives.
    """
    host.lab.wait_until(lambda: host.half_written(pattern), f"a part of a file by {pattern}")
    (process,) = host.processes(pattern)
    os.kill(process, signal.SIGSTOP)
    try:
        assert 0 < host.half_written(pattern) < size
        yield process
    finally:
        for stopped in {process, *host.processes(os.path.basename(pattern))}:  # nsenter stops with its child
            with suppress(ProcessLookupError):
                os.kill(stopped, signal.SIGCONT)


_NAMED = {"SEAMLESS_DASKSERVER": CONNECTION}
