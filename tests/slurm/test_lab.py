"""The laboratory itself: what it hides, and what it reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def test_hosts_share_no_files(slurm: Any, tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    for host in slurm.hosts:
        host.sh(f"! test -e {tmp_path}; hostname > /tmp/name; hostname > /root/name")
    for host in slurm.hosts:
        assert host.sh("cat /tmp/name /root/name").split() == [host.name] * 2
        assert host.file("/tmp/name").read_text() == f"{host.name}\n"
        assert host.sh(f"ls {slurm.state}/files") == ""


def test_common_directory_and_other_user(slurm: Any) -> None:
    slurm.laptop.sh(f"echo here > {slurm.common}/file; echo mine > /root/private")
    assert {host.sh(f"cat {slurm.common}/file") for host in slurm.hosts} == {"here\n"}
    seen = slurm.laptop.run(["sh", "-c", "id -un; echo ~; cat /root/private"], user="nobody", check=False)
    assert seen.stdout.split() == ["nobody", "/tmp"]
    assert "Permission denied" in seen.stderr


def test_laptop_reaches_the_login_node_only(slurm: Any) -> None:
    assert slurm.laptop.sh("ssh login hostname") == "login\n"
    assert slurm.laptop.sh("ssh -J login n1 hostname") == "n1\n"
    assert slurm.laptop.run(["ssh", "-o", "ConnectTimeout=2", "n1", "true"], check=False).returncode == 255


def test_jobs_run_on_nodes(slurm: Any) -> None:
    slurm.login.sh("sbatch -Q --wait -w n2 -D /tmp -o /tmp/out --wrap 'hostname'")
    assert slurm.nodes[1].file("/tmp/out").read_text() == "n2\n"
