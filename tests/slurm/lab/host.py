"""One host of the laboratory."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .laboratory import Lab


def wait_until(happened: Callable[[], Any], what: str = "it", seconds: float = 60) -> Any:
    """Wait for something that sends no event, such as what another host's process does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := happened():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen")


class Host:
    """One host: run commands there, see its files, change its network."""

    def __init__(self, lab: Lab, name: str, address: str) -> None:
        self.lab, self.name, self.address = lab, name, address
        self.pid = 0
        self.started: list[subprocess.Popen[str]] = []

    def words(self, command: Sequence[str | os.PathLike[str]], user: str | None = None) -> list[str]:
        enter = ["nsenter", "--target", str(self.pid), "--net", "--mount", "--uts", "--pid"]
        if user:
            enter += ["setpriv", f"--reuid={user}", "--regid=nogroup", "--clear-groups"]
        return [*enter, "--", *map(os.fspath, command)]

    def environment(self, extra: dict[str, str] | None) -> dict[str, str]:
        """What a login there would have; nothing of the environment that the tests run in."""
        own = {
            "HOME": "/root",
            "USER": "root",
            "LANG": "C.UTF-8",
            "PATH": self.lab.path,
            "SLURM_CONF": str(self.lab.shared / "slurm.conf"),
        }
        return own | (extra or {})

    def popen(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        env: dict[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start a command there, in a process group of its own: ``os.killpg(process.pid, …)`` reaches it."""
        words = self.words(["env", "-C", cwd or ("/tmp" if user else "/root"), *command], user)
        env = ({"HOME": "/tmp", "USER": user} if user else {}) | (env or {})
        process = subprocess.Popen(
            words, env=self.environment(env), text=True, start_new_session=True, **options
        )
        self.started.append(process)
        return process

    def run(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        check: bool = True,
        timeout: float = 60,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there and wait for it."""
        options = {"stdin": subprocess.DEVNULL} | options
        process = self.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
            self.started.remove(process)
        assert not check or process.returncode == 0, (
            f"{self.name}: {command}: {process.returncode}\n{out}{err}"
        )
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def sh(self, script: str, **options: Any) -> str:
        """Run a piece of shell there; its output."""
        return self.run(["bash", "-euo", "pipefail", "-c", script], **options).stdout

    def file(self, path: str) -> Path:
        """Where a file of that host (below /tmp, /root, …) is for the tests."""
        return Path(f"{self.lab.state}/files/{self.name}{path}")

    def processes(self, pattern: str) -> list[int]:
        """Processes of this host whose command line has the pattern, as the tests' own namespace has them."""
        return [pid for pid in self._here() if pattern in command_line(pid)]

    def of_job(self, job: str, pattern: str = "") -> list[int]:
        """The same, of one job of the batch system."""
        variable = f"SLURM_JOB_ID={job}".encode()
        found = []
        for pid in self.processes(pattern):
            with contextlib.suppress(OSError):
                if variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                    found.append(pid)
        return found

    def _here(self) -> Iterator[int]:
        mine = os.readlink(f"/proc/{self.pid}/ns/uts")
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and os.readlink(entry / "ns" / "uts") == mine:
                    yield int(entry.name)

    def half_written(self, pattern: str) -> int:
        """Bytes of the largest file without a name that a process with this pattern is writing."""
        sizes = [0]
        for pid in self.processes(pattern):
            with contextlib.suppress(OSError):
                for entry in Path(f"/proc/{pid}/fd").iterdir():
                    with contextlib.suppress(OSError):
                        status = entry.stat()
                        if stat.S_ISREG(status.st_mode) and not status.st_nlink:
                            sizes.append(status.st_size)
        return max(sizes)

    def cut(self) -> None:
        """Cut its cable."""
        self.run(["ip", "link", "set", "eth0", "down"])

    def join(self, address: str | None = None) -> None:
        """Plug it in again, with another address perhaps."""
        if address and address != self.address:
            self.run(["ip", "addr", "del", f"{self.address}/24", "dev", "eth0"])
            self.run(["ip", "addr", "add", f"{address}/24", "dev", "eth0"])
            self.address = address
        self.run(["ip", "link", "set", "eth0", "up"])

    def kill_started(self) -> None:
        for process in self.started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        self.started.clear()


def command_line(pid: int) -> str:
    """Return it, with spaces between the words."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
