"""``scripts/test-ceph`` where the gateway does not come up: one line, and nothing of it stays."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/test-ceph"
GATEWAYS = {
    "never listens": "exec sleep 1000",
    "never answers": """exec {python} -c '
import re, socket, sys, time
port = int(re.search(r"127.0.0.1:([0-9]+)", " ".join(sys.argv))[1])
server = socket.create_server(("127.0.0.1", port))
time.sleep(1000)' "$@" """,
    "ends at once": "echo no room >&2; exit 1",
}
"""What stands in for the gateway."""
STAND_IN = """#!/bin/sh
echo $$ >> {pids}
"""
PARTS = ("ceph", "ceph-authtool", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")


@pytest.fixture
def pids(tmp_path: Path) -> Path:
    """The file with the numbers of all that was started."""
    return tmp_path / "pids"


@pytest.fixture
def script(tmp_path: Path, pids: Path) -> list[str | Path]:
    """The script in a checkout that has nothing else, with programs of Ceph that do nothing."""
    for folder in ("bin", "scripts", "temporary"):
        (tmp_path / folder).mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    program(tmp_path / "scripts/environment", f"echo {Path(sys.executable).parent}\n")
    for name in PARTS:
        program(tmp_path / "bin" / name, STAND_IN.format(pids=pids))
    makes = 'mkdir -p "${CEPH_CONF%/*}/osd"; echo 1 > "${CEPH_CONF%/*}/osd/fsid"\n'
    program(tmp_path / "bin/ceph-osd", STAND_IN.format(pids=pids) + makes)
    return ["bash", tmp_path / "scripts/test-ceph"]


def program(path: Path, text: str) -> None:
    path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}")
    path.chmod(0o755)


def environment(tmp_path: Path, seconds: int) -> dict[str, str]:
    found = os.environ | {"TMPDIR": str(tmp_path / "temporary"), "SEAMLESS_TEST_SECONDS": str(seconds)}
    return found | {"PATH": f"{tmp_path}/bin:{found['PATH']}"}


def lives(number: str) -> bool:
    """Whether a process is there and is more than an exit status that nobody has read yet."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("how", GATEWAYS)
def test_a_gateway_that_does_not_come_up(
    script: list[str | Path], tmp_path: Path, pids: Path, how: str
) -> None:
    gateway = STAND_IN.format(pids=pids) + GATEWAYS[how].format(python=sys.executable)
    program(tmp_path / "bin/radosgw", gateway)
    done = subprocess.run(script, env=environment(tmp_path, 1), capture_output=True, text=True, timeout=100)
    assert done.returncode == 1, done
    assert len(done.stderr.splitlines()) == 1, done
    assert done.stderr.startswith("test-ceph: radosgw ")
    assert "gateway is at" not in done.stdout
    assert not [number for number in pids.read_text().split() if lives(number)]
    assert not os.listdir(tmp_path / "temporary")


def test_what_it_has_started_ends_with_it(script: list[str | Path], tmp_path: Path, pids: Path) -> None:
    program(tmp_path / "bin/radosgw", STAND_IN.format(pids=pids) + "exec sleep 1001")
    program(tmp_path / "bin/radosgw-admin", STAND_IN.format(pids=pids) + f"touch {tmp_path}/up\n")
    process = subprocess.Popen(script, env=environment(tmp_path, 100), stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not (tmp_path / "up").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    while any(map(lives, pids.read_text().split())):
        assert time.monotonic() < end
        time.sleep(0.02)
