"""A daskserver on the login node, with SLURM jobs as workers, and a laptop that is connected to it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DIRECTORY = "/root/.cache/seamless/daskserver/default"
CONNECTION = f"{DIRECTORY}/connection.json"
PROJECT = "/root/project"
PROGRAMS = "/root/programs"
CONFIGURATION = f"""
jobqueue:
  slurm:
    cores: 1
    memory: 512MiB
    interface: eth0
    job-script-prologue: ["export PATH={PROGRAMS}:$PATH"]
distributed:
  adaptive:
    interval: 200 ms
seamless:
  worker-idle-timeout: 1 s
"""


class Service:
    """What the user of a laptop does, and what happens elsewhere meanwhile."""

    def __init__(
        self, lab: Any, workers: str, *options: str, programs: Mapping[str, str] | None = None
    ) -> None:
        self.lab, self.login, self.laptop = lab, lab.login, lab.laptop
        self._start = ["seamless-daskserver", "start", "--cluster", "slurm", "--workers", workers]
        self._options = options
        dask = self.login.file("/root/.config/dask")
        dask.mkdir(parents=True, exist_ok=True)
        (dask / "jobqueue.yaml").write_text(CONFIGURATION)
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

    def connect(self) -> None:
        """Connect the laptop to it."""
        self.laptop.run(["seamless-daskserver", "connect", "login", *self._options])

    def clear(self) -> None:
        """Make the project's directory, empty."""
        shutil.rmtree(self.project, ignore_errors=True)
        self.project.mkdir()

    def close(self) -> None:
        """End both; nothing of them is left, on any host."""
        for host in (self.laptop, self.login):
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


_NAMED = {"SEAMLESS_DASKSERVER": CONNECTION}
