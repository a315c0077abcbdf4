"""What a connection over ssh believes and refuses. Connections themselves: tests/slurm/test_tunnel.py."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from seamless_dask.errors import UsageError
from seamless_dask.services import connection, ssh, tunnel
from seamless_dask.services.connection import Connection
from seamless_dask.services.ssh import Target
from seamless_dask.services.tunnel import Tunnel

FACTS = Connection(
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
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    directory = tmp_path / "a-directory-whose-name-is-long" / ("x" * 100)
    directory.mkdir(parents=True)
    return Target(str(directory), "default", "me@login", options=("Port=2222",), ports=(1, 2, 3))


def test_target_is_kept(target: Target) -> None:
    ssh.write(target)
    assert ssh.read(target.directory) == target


def test_control_socket_has_a_short_path_that_only_the_owner_enters(target: Target) -> None:
    path = Path(ssh.control_path(target))
    assert len(path.name) < 20
    assert path.parent.stat().st_mode & 0o777 == 0o700
    path.parent.chmod(0o777)
    with pytest.raises(UsageError, match="must belong to you, and to you alone"):
        ssh.control_path(target)


def test_prepared_link_in_place_of_the_control_directory_is_refused(target: Target, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / f"seamless-ssh-{os.geteuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="must belong to you"):
        ssh.control_path(target)


def test_options_come_before_our_own(target: Target) -> None:
    """Of an option that is given twice, ssh takes the first."""
    words = ssh.login_command(target._replace(jump="gate", options=("ServerAliveInterval=1",)))
    assert words.index("ServerAliveInterval=1") < words.index(f"ServerAliveInterval={ssh.ALIVE_INTERVAL}")
    assert words[words.index("-J") + 1] == "gate"


def remote_file(**changes: Any) -> bytes:
    path = Path(tempfile.mkdtemp()) / "connection.json"
    connection.write(str(path), FACTS._replace(**changes))
    return path.read_bytes()


def test_remote_file_is_read_like_a_local_one(target: Target) -> None:
    facts, host = Tunnel(target)._parse(b"login2\n" + remote_file())
    assert (facts, host) == (FACTS, "login2")
    with pytest.raises(UsageError, match=r"^me@login: the connection file is not a connection file"):
        Tunnel(target)._parse(b"login2\n{}")
    assert os.listdir(target.directory) == []


def test_loopback_of_another_host_is_refused(target: Target) -> None:
    one = Tunnel(target)
    one._refuse_other_host("10.0.0.1", FACTS, "login2")
    one._refuse_other_host("127.0.0.1", FACTS, "login1")
    with pytest.raises(UsageError, match="listens on loopback of login1, and this is login2"):
        one._refuse_other_host("127.0.0.1", FACTS, "login2")


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
    assert tunnel._is_public(FACTS._replace(**changes)) is public
