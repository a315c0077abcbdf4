"""What a connection over ssh believes and refuses. Connections themselves: tests/slurm/test_tunnel.py."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from seamless_dask import connection
from seamless_dask.connection import ConnectionFile
from seamless_dask.errors import UsageError
from seamless_dask.services.tunnel import remote, ssh
from seamless_dask.services.tunnel import target as targets
from seamless_dask.services.tunnel.target import TunnelTarget

FACTS = ConnectionFile(
    "default",
    "login1",
    1,
    0.0,
    "https://127.0.0.1:2",
    "tls://127.0.0.1:1",
    "https://127.0.0.1:3",
    "/store",
    "/there/token",
    "/there/token",
)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for temporary files, with a short path as usual."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        monkeypatch.setattr(tempfile, "tempdir", directory)
        yield Path(directory)


@pytest.fixture
def target(tmp_path: Path, temporary: Path) -> TunnelTarget:
    directory = tmp_path / "a-directory-whose-name-is-long" / ("x" * 100)
    directory.mkdir(parents=True)
    return TunnelTarget(str(directory), "default", "me@login", options=("Port=2222",), ports=(1, 2, 3))


def test_target_is_kept(target: TunnelTarget) -> None:
    targets.write(target)
    assert targets.read(target.directory) == target


def test_control_socket_has_a_short_path_that_only_the_owner_enters(target: TunnelTarget) -> None:
    path = Path(targets.control_path(target))
    assert len(path.name) < 20
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.chmod(0o777)
    targets.control_path(target)
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_prepared_link_in_place_of_the_control_directory_is_refused(
    target: TunnelTarget, temporary: Path
) -> None:
    (temporary / "elsewhere").mkdir(mode=0o700)
    (temporary / f"seamless-ssh-{os.geteuid()}").symlink_to(temporary / "elsewhere")
    with pytest.raises(UsageError, match="must belong to you"):
        targets.control_path(target)


def test_control_socket_does_not_follow_a_long_path_of_temporary_files(
    target: TunnelTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 80)))
    path = targets.control_path(target)
    assert len(path) + 17 < 104
    with suppress(OSError):  # somebody is connected
        Path(path).parent.rmdir()


def test_options_come_before_our_own(target: TunnelTarget) -> None:
    """Of an option that is given twice, ssh takes the first."""
    words = ssh.login_command(target._replace(jump="gate", options=("ServerAliveInterval=1",)))
    assert words.index("ServerAliveInterval=1") < words.index(f"ServerAliveInterval={ssh.ALIVE_INTERVAL}")
    assert words[words.index("-J") + 1] == "gate"


def line(**changes: Any) -> str:
    path = Path(tempfile.gettempdir()) / "connection.json"
    connection.write(str(path), FACTS._replace(**changes))
    return path.read_text().replace("\n", " ").strip()


def test_remote_file_is_read_like_a_local_one(target: TunnelTarget) -> None:
    assert remote.parse(target, "login1", line()) == FACTS
    with pytest.raises(UsageError, match=r"^me@login: the connection file is not a connection file"):
        remote.parse(target, "login1", "{}")
    with pytest.raises(UsageError, match="no daskserver called default is running on login1: seamless-dask"):
        remote.parse(target, "login1", "")


def test_loopback_of_another_host_is_refused(target: TunnelTarget) -> None:
    outside = {"scheduler": "tls://10.0.0.1:1", "jobserver": "https://10.0.0.1:1"}
    remote.parse(target, "login2", line(**outside))
    with pytest.raises(UsageError, match="listens on loopback of login1, and this is login2"):
        remote.parse(target, "login2", line())


@pytest.mark.parametrize(
    ("changes", "public"),
    [
        ({}, False),
        ({"hashserver": "https://10.0.0.1:3"}, False),
        ({"hashserver": "https://data.lan:3", "hashserver_token_file": "/data/token"}, True),
        ({"hashserver": "http://127.0.0.1:3", "hashserver_token_file": "/data/token"}, False),
    ],
)
def test_hashserver_of_others_is_reached_under_its_own_name(changes: dict[str, str], public: bool) -> None:
    assert remote.is_public(FACTS._replace(**changes)) is public


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "new\nme@gate: Permission denied (publickey).\nConnection closed by UNKNOWN port 65535\n",
            "me@g",
        ),
        (
            "ssh: connect to host gate: No route to host\nConnection closed by UNKNOWN port 65535\n",
            "ssh: connect",
        ),
        ("Connection closed by UNKNOWN port 65535\n", "Connection closed"),
        ("", ""),
    ],
)
def test_of_what_ssh_says_the_line_that_says_why_is_shown(said: str, reason: str) -> None:
    assert ssh._telling(said.splitlines()).startswith(reason)
    assert bool(reason) == bool(ssh._telling(said.splitlines()))
