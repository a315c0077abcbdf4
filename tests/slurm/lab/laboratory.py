"""All hosts, and what an administrator does to them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .configuration import CONFIGURATION, SSHD, SYSTEM_PATH
from .host import Host, command_line, wait_until

NODES = 3
CPUS, MEMORY = 4, 4096
ROOT = Path(__file__).parents[3]
BIN = str(Path(sys.executable).parent)


class Lab:
    """The cluster: ``login``, ``nodes``, two ``laptops``, and what an administrator can do."""

    wait_until = staticmethod(wait_until)

    def __init__(self) -> None:
        self.state = Path(tempfile.mkdtemp(prefix="slurm-lab-", dir="/var/tmp"))
        self.shared = self.state / "shared"
        self.common = self.shared / "common"
        """A directory that all hosts see, under the same path: a shared file system."""
        self.path = f"{BIN}:{SYSTEM_PATH}"
        self.python = sys.executable
        self.login = Host(self, "login", "10.78.0.1")
        self.laptop = Host(self, "laptop", "10.79.0.2")
        self.nodes = [Host(self, f"n{i}", f"10.78.0.{10 + i}") for i in range(1, NODES + 1)]
        self.traveller = Host(self, "traveller", "10.79.1.2")
        self.laptops = [self.laptop, self.traveller]
        self.hosts = [self.login, *self.laptops, *self.nodes]
        self._init: subprocess.Popen[str] | None = None

    def up(self) -> None:
        self._write_files()
        self._make_hosts()
        self.login.run(
            [
                "munged", f"--key-file={self.shared}/munge/key", f"--socket={self.shared}/munge/socket",
                f"--pid-file={self.shared}/munge/pid", f"--log-file={self.shared}/log/munged.log",
                f"--seed-file={self.shared}/munge/seed", "--num-threads=2",
            ]
        )  # fmt: skip
        self.start_controller()
        for host in [self.login, *self.nodes]:
            host.run(["/usr/sbin/sshd", "-f", self.shared / "sshd_config"])
        for node in self.nodes:
            node.run(["slurmd", "-N", node.name])
        self.wait_for_nodes()

    def down(self) -> None:
        for host in self.hosts:  # first: no process namespace ends while it has members to be waited for
            host.kill_started()
        if self._init:
            assert self._init.stdin
            self._init.stdin.close()
            assert self._init.stdout
            self._init.stdout.close()
            self._init.wait(30)
            self._init = None
        shutil.rmtree(self.state, ignore_errors=True)

    def _write_files(self) -> None:
        self.state.chmod(0o755)
        for name in (
            "files",
            "controller",
            "shared",
            "shared/run",
            "shared/log",
            "shared/munge",
            "shared/ssh",
            "shared/common",
        ):
            (self.state / name).mkdir(mode=0o755)
        for host in self.hosts:
            (self.state / "files" / host.name).mkdir()
        nodes = [
            f"NodeName={node.name} NodeAddr={node.address} CPUs={CPUS} RealMemory={MEMORY}"
            + (" Gres=gpu:1" if node is self.nodes[-1] else "")
            for node in self.nodes
        ]
        settings = {"shared": self.shared, "state": self.state, "path": self.path, "nodes": "\n".join(nodes)}
        (self.shared / "slurm.conf").write_text(CONFIGURATION.format(**settings))
        (self.shared / "gres.conf").write_text(f"NodeName={self.nodes[-1].name} Name=gpu File=/dev/null\n")
        (self.shared / "cgroup.conf").touch()
        (self.shared / "sshd_config").write_text(SSHD.format(**settings))
        key = self.shared / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-qN", "", "-t", "ed25519", "-f", self.shared / "ssh" / name], check=True
            )
        names = ["127.0.0.1 localhost", *(f"{host.address} {host.name}" for host in self.hosts)]
        (self.shared / "hosts").write_text("\n".join([*names, ""]))

    def _make_hosts(self) -> None:
        hidden = list(dict.fromkeys(["/tmp", "/root", "/home", os.path.realpath(tempfile.gettempdir())]))
        below = tuple(f"{directory}/" for directory in hidden)
        software = [
            sys.prefix,
            sys.base_prefix,
            os.path.realpath(sys.base_prefix),
            str(ROOT),
            str(self.state),
        ]
        keep = [path for path in dict.fromkeys(software) if path.startswith(below)]
        (self.shared / "keep").write_text("".join(f"{path}\n" for path in keep))
        words = [
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount",
            "--mount-proc",
            "--propagation",
            "private",
        ]
        words += ["bash", str(Path(__file__).with_name("hosts.sh")), str(self.state), str(NODES), *hidden]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        environment = os.environ | {"PATH": SYSTEM_PATH}
        self._init = subprocess.Popen(words, text=True, env=environment, **pipes)
        assert self._init.stdout
        assert self._init.stdout.readline() == "up\n", "the hosts could not be made"
        _find_hosts(self._init.pid, {f"host {host.name} infinity ": host for host in self.hosts})
        self._write_ssh()

    def _write_ssh(self) -> None:
        """Users of laptops, and whoever is on the login node, may log in to the login node and the nodes."""
        host_key = (self.shared / "ssh" / "host.pub").read_text()
        names = ("login,10.79.0.1,10.79.1.1,10.78.0.1", "n1", "n2", "n3")
        known = "".join(f"{name} {host_key}" for name in names)
        for host in (*self.laptops, self.login):
            directory = host.file("/root/.ssh")
            directory.mkdir(mode=0o700)
            (directory / "known_hosts").write_text(known)
            shutil.copy(self.shared / "ssh" / "user", directory / "id_ed25519")
        for host in self.laptops:
            gateway = host.address.rpartition(".")[0] + ".1"
            host.file("/root/.ssh/config").write_text(f"Host login\n  HostName {gateway}\n")

    def start_controller(self) -> None:
        self.login.run(["slurmctld"])

    def kill_controller(self) -> None:
        """``kill -9`` of slurmctld, when it has written down what runs (it does so every few seconds)."""
        saved = self.state / "controller" / "job_state"
        for job in self.jobs():
            before = saved.stat().st_mtime_ns if saved.exists() else 0
            self.login.run(["scontrol", "update", f"jobid={job}", "comment=saved"])
            wait_until(lambda before=before: saved.exists() and saved.stat().st_mtime_ns != before)
        for pid in self.login.processes("slurmctld"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.login.processes("slurmctld"))

    def wait_for_nodes(self) -> None:
        up = ["sinfo", "-h", "-N", "-p", "short", "-t", "idle,mix,alloc", "-o", "%N"]
        wait_until(lambda: len(self.login.run(up, check=False).stdout.split()) == NODES, "nodes coming up")

    def jobs(self, form: str = "%i") -> list[str]:
        """The queue, a line for each job, in squeue's format."""
        return self.login.run(["squeue", "-h", "-o", form]).stdout.splitlines()

    def scancel(self, *jobs: str) -> None:
        self.login.run(["scancel", *jobs])

    def clean(self) -> None:
        """End what a test left running."""
        if not self.login.processes("slurmctld"):
            self.start_controller()
            self.wait_for_nodes()
        for host in self.hosts:
            host.kill_started()
        if self.jobs():
            self.scancel("--user=root")
            wait_until(lambda: not self.jobs(), "the end of all jobs")

    def tidy(self) -> None:
        """Remove what tests have left in the hosts' own directories and in the common one."""
        keep = (self.shared / "keep").read_text().splitlines()
        for host in self.hosts:
            for place in ("/root", "/tmp"):
                for path in host.file(place).iterdir():
                    own = f"{place}/{path.name}"
                    if path.name != ".ssh" and not any(f"{kept}/".startswith(f"{own}/") for kept in keep):
                        _remove(path)
        for path in self.common.iterdir():
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _find_hosts(first: int, names: dict[str, Host]) -> None:
    """Find the processes that stand for hosts, as numbers of this process namespace."""

    def below(pid: int) -> Iterator[int]:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from below(int(child))

    for pid in below(first):
        if host := names.get(command_line(pid)):
            host.pid = pid
    assert all(host.pid for host in names.values())
