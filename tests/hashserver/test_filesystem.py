"""What kind of file system a path lies on."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from hashserver import filesystem
from hashserver.filesystem import (
    filesystem_type,
    is_network_filesystem,
    local_directory,
    private_directory,
    timestamp_step_ns,
)

TABLE = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:40 / /home rw,relatime shared:1 - nfs4 server:/home rw,vers=4.2
31 27 0:41 / /home/local rw - xfs /dev/vdb rw
32 27 0:42 / /mnt/with\\040space rw - cifs //server/share rw
33 27 0:43 / /remote rw - fuse.sshfs host: rw
35 27 0:45 / /plain rw - fuse x rw
36 27 0:46 / /strange rw - newfs x rw
34 27 0:44 / /sealed rw - fuse.gocryptfs x rw
35 27 0:45 / /auto rw - autofs systemd-1 rw
36 35 0:46 / /auto rw - lustre mgs@tcp:/fs rw
37 27 0:47 / /usb rw - vfat /dev/sdb rw
"""


@pytest.fixture
def _table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    path = tmp_path / "mountinfo"
    path.write_text(TABLE)
    monkeypatch.setattr(filesystem, "MOUNTS", str(path))
    return


@pytest.mark.usefixtures("_table")
@pytest.mark.parametrize(
    ("path", "kind", "network"),
    [
        ("/nowhere/at/all", "ext4", False),
        ("/home", "nfs4", True),
        ("/home/user/data", "nfs4", True),
        ("/homes", "ext4", False),
        ("/home/local/x", "xfs", False),
        ("/mnt/with space/x", "cifs", True),
        ("/remote/x", "fuse.sshfs", True),
        ("/sealed/x", "fuse.gocryptfs", False),
        ("/plain/x", "fuse", True),
        ("/strange/x", "newfs", True),
        ("/auto/x", "lustre", True),
    ],
)
def test_the_innermost_mount_decides(path: str, kind: str, network: bool) -> None:
    assert filesystem_type(path) == kind
    assert is_network_filesystem(path) is network


@pytest.mark.usefixtures("_table")
def test_coarse_and_remote_clocks_have_longer_steps() -> None:
    local, usb, remote = (timestamp_step_ns(path) for path in ("/x", "/usb/x", "/home/x"))
    assert 10_000_000 <= local < 1_000_000_000 < usb < remote


@pytest.mark.usefixtures("_table")
def test_links_are_resolved_first(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/home/user")
    assert is_network_filesystem(tmp_path / "link" / "file")


def test_without_a_mount_table_nothing_is_known_to_be_local(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "MOUNTS", str(tmp_path / "none"))
    assert is_network_filesystem("/")


def test_the_real_table_is_understood() -> None:
    assert filesystem_type("/proc/self") == "proc"


def test_a_private_directory_is_made_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "mine"
    for _ in range(2):
        assert private_directory(str(path)) == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_directory_that_others_may_enter_is_not_private(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o755)
    assert private_directory(str(tmp_path / "open")) is None


def test_a_link_that_somebody_laid_is_not_private(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("target")
    assert private_directory(str(tmp_path / "link")) is None


def test_a_directory_of_somebody_else_is_not_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir(mode=0o700)
    monkeypatch.setattr(filesystem.os, "geteuid", lambda: 12345)
    assert private_directory(str(tmp_path / "theirs")) is None


def test_what_cannot_be_made_is_not_had(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert private_directory(str(tmp_path / "none" / "x")) is None
    assert private_directory(str(tmp_path / "file")) is None


def test_the_local_directory_falls_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def refuse_first(path: str) -> str | None:
        tried.append(path)
        return path if path.startswith(str(tmp_path)) else None

    monkeypatch.setattr(filesystem, "private_directory", refuse_first)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert local_directory() == str(tmp_path / f"seamless-{os.geteuid()}")
    assert tried[0].startswith("/var/tmp/")


def test_no_local_directory_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filesystem, "private_directory", lambda path: None)
    assert local_directory() is None
