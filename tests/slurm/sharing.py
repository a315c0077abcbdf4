"""A login node and nodes that share a directory, with daskservers that run in jobs themselves."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

from .lab.laboratory import Lab

CONFIGURATION = """
jobqueue:
  slurm: {{cores: 1, memory: 512MiB, interface: eth0, python: {python}}}
distributed: {{adaptive: {{interval: 200 ms}}}}
"""
HOME = "/root/.cache/seamless"
PROJECT = "/root/project"
CONNECTION = f"{HOME}/daskserver/default/connection.json"
PIPES = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}


class Cluster:
    """A login node on which no service runs; its ``~/.cache/seamless`` leads to the shared directory."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.login = lab, lab.login
        self.cache = lab.common / "cache"
        self.directory = self.cache / "daskserver" / "default"
        self.configure(lab.python)
        link = self.login.file(HOME)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(self.cache)
        self.cache.mkdir(mode=0o700)
        self.login.file(PROJECT).mkdir(exist_ok=True)

    def configure(self, python: str) -> None:
        dask = self.login.file("/root/.config/dask")
        dask.mkdir(parents=True, exist_ok=True)
        (dask / "jobqueue.yaml").write_text(CONFIGURATION.format(python=python))

    def __call__(self, *words: str, status: int = 0) -> str:
        """Type ``seamless-daskserver`` on the login node; what it says."""
        done = self.login.run(["seamless-daskserver", *words], check=False, timeout=100)
        assert done.returncode == status, done
        assert "Traceback" not in done.stderr
        return str(done.stdout + done.stderr)

    def start(self, *words: str, status: int = 0) -> str:
        return self("start", "--in-job", "--cluster", "slurm", "--workers", "0:2", *words, status=status)

    def connection(self, name: str = "default") -> Any:
        return json.loads((self.cache / "daskserver" / name / "connection.json").read_text())

    def node(self, name: str = "default") -> Any:
        """The host of a daskserver."""
        host = self.connection(name)["host"]
        return next(node for node in self.lab.nodes if node.name == host)

    def process(self, name: str = "default") -> int:
        """The process of a daskserver, as the tests' own namespace has it."""
        (pid,) = self.node(name).processes(
            f"seamless_dask.services.daskserver {self.cache}/daskserver/{name}"
        )
        return int(pid)

    def job(self, name: str = "default") -> str:
        """The daskserver's job."""
        record = self.cache / "daskserver" / name / "job.json"
        return str(json.loads(record.read_text())["number"])

    def begin(self, *words: str, daskserver: str = "default") -> subprocess.Popen[str]:
        """Type ``seamless-run``."""
        place = {"SEAMLESS_DASKSERVER": f"{HOME}/daskserver/{daskserver}/connection.json"}
        words = ("seamless-run", *words)
        process: subprocess.Popen[str] = self.login.popen(words, cwd=PROJECT, env=place, **PIPES)
        return process

    def run(self, *words: str, daskserver: str = "default") -> str:
        """Type ``seamless-run`` and wait for it; what it prints."""
        process = self.begin(*words, daskserver=daskserver)
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, err
        return out

    def close(self) -> None:
        for directory in sorted(self.cache.glob("daskserver/*")):
            self("stop", "--name", directory.name)
            assert not list(directory.glob("job*"))
        self.lab.wait_until(lambda: not self.lab.jobs(), "the end of all jobs")
        for host in self.lab.hosts:
            self.lab.wait_until(lambda host=host: not host.processes("seamless_dask"), "the end of all")
        self.login.file(HOME).unlink()
        shutil.rmtree(self.cache)
