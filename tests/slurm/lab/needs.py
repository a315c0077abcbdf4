"""What a cluster needs of the host that the tests run on."""

from __future__ import annotations

import os
import shutil
import subprocess

from .configuration import SYSTEM_PATH

PROGRAMS = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "munged": "munge",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ip": "iproute2",
    "curl": "curl",
    "unshare": "util-linux",
}
"""Program → Debian package."""


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
