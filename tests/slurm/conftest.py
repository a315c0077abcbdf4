"""A SLURM cluster with a login node, and a laptop: hosts with networks and files of their own.

All of it lives in namespaces below one process (``lab.sh``), so that several test processes can each have
one, and nothing is left when that process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "munged": "munge",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ip": "iproute2",
    "unshare": "util-linux",
}
"""Program → Debian package."""
NODES = 3
CPUS, MEMORY = 4, 4096
ROOT = Path(__file__).parents[2]
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BIN = str(Path(sys.executable).parent)

CONFIGURATION = """
ClusterName=lab
SlurmctldHost=login(10.78.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={shared}/munge/socket
StateSaveLocation={state}/controller
SlurmdSpoolDir=/run/slurmd-%n
SlurmctldPidFile={shared}/run/slurmctld.pid
SlurmdPidFile={shared}/run/slurmd-%n.pid
SlurmctldLogFile={shared}/log/slurmctld.log
SlurmdLogFile={shared}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=256
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=50000
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=60
KillWait=5
MessageTimeout=5
MailProg=/bin/true
PropagateResourceLimits=NONE
GresTypes=gpu
{nodes}
PartitionName=short Nodes=ALL Default=YES MaxTime=00:30:00 DefaultTime=00:10:00 State=UP
PartitionName=long Nodes=ALL MaxTime=2-00:00:00 DefaultTime=01:00:00 State=UP
"""

SSHD = """
HostKey {shared}/ssh/host
PidFile none
AuthorizedKeysFile {shared}/ssh/user.pub
PasswordAuthentication no
UsePAM no
StrictModes no
PermitRootLogin yes
SetEnv PATH={path} SLURM_CONF={shared}/slurm.conf
LogLevel ERROR
"""


def wait_until(happened: Callable[[], Any], what: str = "it", seconds: float = 60) -> Any:
    """Wait for something that sends no event, such as what another host's process does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := happened():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen")


def missing() -> str | None:
    """Why there can be no cluster here."""
    if os.geteuid():
        return "namespaces need root"
    path = f"{os.environ['PATH']}:{SYSTEM_PATH}"
    packages = {package for name, package in PROGRAMS.items() if not shutil.which(name, path=path)}
    if packages:
        return f"not installed: {' '.join(sorted(packages))}"
    probe = [
        "unshare",
        "--net",
        "--mount",
        "--uts",
        "--pid",
        "--fork",
        "mount",
        "-t",
        "tmpfs",
        "none",
        "/mnt",
    ]
    done = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"namespaces are not permitted: {done.stderr.strip()}" if done.returncode else None


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
        return [pid for pid in self._here() if pattern in _command_line(pid)]

    def _here(self) -> Iterator[int]:
        mine = os.readlink(f"/proc/{self.pid}/ns/uts")
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and os.readlink(entry / "ns" / "uts") == mine:
                    yield int(entry.name)

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


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


class Lab:
    """The cluster: ``login``, ``laptop``, ``nodes``, and what an administrator can do."""

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
        self.hosts = [self.login, self.laptop, *self.nodes]
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
        if self._init:
            assert self._init.stdin
            self._init.stdin.close()
            assert self._init.stdout
            self._init.stdout.close()
            self._init.wait(30)
            self._init = None
        for host in self.hosts:
            host.kill_started()
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
        names = ["127.0.0.1 localhost", "10.79.0.2 laptop"]
        names += [f"{host.address} {host.name}" for host in [self.login, *self.nodes]]
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
        words += ["bash", str(Path(__file__).with_name("lab.sh")), str(self.state), str(NODES), *hidden]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        environment = os.environ | {"PATH": SYSTEM_PATH}
        self._init = subprocess.Popen(words, text=True, env=environment, **pipes)
        assert self._init.stdout
        assert self._init.stdout.readline() == "up\n", "the hosts could not be made"
        _find_hosts(self._init.pid, {f"host {host.name} infinity ": host for host in self.hosts})
        self._write_ssh()

    def _write_ssh(self) -> None:
        """The laptop's user, and whoever is on the login node, may log in to the login node and the nodes."""
        host_key = (self.shared / "ssh" / "host.pub").read_text()
        known = "".join(f"{name} {host_key}" for name in ("login,10.79.0.1,10.78.0.1", "n1", "n2", "n3"))
        for host in (self.laptop, self.login):
            directory = host.file("/root/.ssh")
            directory.mkdir(mode=0o700)
            (directory / "known_hosts").write_text(known)
            shutil.copy(self.shared / "ssh" / "user", directory / "id_ed25519")
        self.laptop.file("/root/.ssh/config").write_text("Host login\n  HostName 10.79.0.1\n")

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


def _find_hosts(first: int, names: dict[str, Host]) -> None:
    """Find the processes that stand for hosts, as numbers of this process namespace."""

    def below(pid: int) -> Iterator[int]:
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from below(int(child))

    for pid in below(first):
        if host := names.get(_command_line(pid)):
            host.pid = pid
    assert all(host.pid for host in names.values())


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    if reason := missing():
        pytest.skip(reason)
    laboratory = Lab()
    try:
        laboratory.up()
        yield laboratory
    finally:
        laboratory.down()


@pytest.fixture
def slurm(lab: Lab) -> Iterator[Lab]:
    """The cluster; what a test leaves running on it is ended."""
    yield lab
    lab.clean()


@pytest.fixture
def login(slurm: Lab) -> Host:
    return slurm.login


@pytest.fixture
def laptop(slurm: Lab) -> Iterator[Host]:
    yield slurm.laptop
    slurm.laptop.join("10.79.0.2")
