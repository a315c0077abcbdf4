"""A store that a password opens, from the user's configuration to every process that opens it.

The store is on a real WebDAV server. In the end the password stands in files that only their owner reads, and
in no argument, environment, message or log.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from hashserver.checksum import hash_bytes
from hashserver.storage.fsspec import FsspecStore

from ..hashserver.conftest import SshServer, WebdavServer
from ..hashserver.conftest import sshd as sshd  # fixtures
from ..hashserver.conftest import webdav as webdav

BIN = Path(sys.executable).parent
SLOW = "echo begun >> {mark}; while ! test -e {go}; do sleep 0.05; done; cat a.txt"


class Place(NamedTuple):
    """A store, and the home of who may enter."""

    url: str
    server: WebdavServer
    home: Path
    work: Path

    def run(self, *words: str | Path, status: int = 0, **environment: str) -> str:
        """Run a command; it tells no secret."""
        done = subprocess.run(
            [BIN / words[0], *words[1:]],
            cwd=self.work,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == status, done
        assert self.server.password not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr or "-vv" in words
        return done.stdout + (done.stderr if status else "")

    def there(self, data: bytes) -> bool:
        with FsspecStore(self.url, **self.server.options) as store:
            return store.has([hash_bytes(data)]) == [len(data)]

    def is_secret(self) -> None:
        """Look for the password where others might see it."""
        password = self.server.password.encode()
        for path in self.home.rglob("*"):
            with suppress(FileNotFoundError):  # its process ends just now
                if path.is_file() and not path.is_symlink() and password in path.read_bytes():
                    assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
                    assert path.suffix in (".json", ".toml"), path
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                words, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
                if os.fsencode(self.home) in environment:  # one of ours
                    assert password not in words + environment, words


@pytest.fixture
def place(
    webdav: WebdavServer, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    url = f"webdav://{uuid.uuid4().hex}/store"
    config = home / ".config" / "seamless" / "config.toml"
    config.parent.mkdir(parents=True)
    config.touch(0o600)
    config.write_text(
        f'store = "{url}"\n'
        f'[storage_options."{url.rpartition("/")[0]}"]\n'
        f'base_url = "{webdav.url}"\nauth = {json.dumps([webdav.user, webdav.password])}\n'
    )
    work = tmp_path / "work"
    work.mkdir()
    (work / "a.txt").write_text("text\n")
    made = Place(url, webdav, home, work)
    yield made
    made.is_secret()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_embedded_commands(place: Place) -> None:
    place.run("seamless-upload", "a.txt")
    assert place.there(b"text\n")
    (place.work / "a.txt").unlink()
    assert place.run("seamless-run", "cat a.txt; echo more") == "text\nmore\n"
    assert place.there(b"text\nmore\n")
    place.run("seamless-download", "a.txt")
    assert (place.work / "a.txt").read_text() == "text\n"
    status = json.loads(place.run("seamless-status", "--json"))
    assert status["configuration"]["storage_options"] == [place.url.rpartition("/")[0]]
    assert status["stores"][0]["writable"] is True


def test_the_process_that_runs_a_command_has_them_from_a_private_file(place: Place) -> None:
    mark, go = place.home / "mark", place.home / "go"
    line = SLOW.format(mark=mark, go=go)
    process = subprocess.Popen(
        [BIN / "seamless-run", line],
        cwd=place.work,
        env=os.environ | {"SEAMLESS_ISOLATION": "none"},
        stdout=subprocess.PIPE,
    )
    try:
        until(mark.exists)
        (request,) = place.home.rglob("request.json")
        assert stat.S_IMODE(request.stat().st_mode) == 0o600
        assert place.server.password in request.read_text()
        place.is_secret()
    finally:
        go.touch()
        output, _ = process.communicate(timeout=60)
    assert output == b"text\n"


def test_a_wrong_password_is_one_line(place: Place) -> None:
    config = place.home / ".config" / "seamless" / "config.toml"
    config.write_text(config.read_text().replace(place.server.user, "stranger"))
    for words in (
        ["seamless-upload", "a.txt"],
        ["seamless-run", "cat a.txt"],
        ["seamless-upload", "-vv", "a.txt"],
    ):
        error = place.run(*words, status=1)
        assert f"{place.url} does not accept your credentials" in error
        assert "-vv" in words or len(error.splitlines()) == 1


def test_a_misspelt_option_is_one_line(place: Place) -> None:
    config = place.home / ".config" / "seamless" / "config.toml"
    config.write_text(config.read_text() + "pasword = 'x'\n")
    assert "'pasword'" in place.run("seamless-upload", "a.txt", status=1)


def test_a_configuration_that_others_can_read_is_told(place: Place) -> None:
    config = place.home / ".config" / "seamless" / "config.toml"
    config.chmod(0o644)
    done = subprocess.run(
        [BIN / "seamless-upload", "a.txt"], cwd=place.work, capture_output=True, text=True, timeout=100
    )
    config.chmod(0o600)
    assert f"others may read the storage options in {config}: chmod 600 {config}" in done.stderr
    assert done.stderr.count("chmod") == 1


def test_a_hashserver_of_this_host(place: Place) -> None:
    place.run("seamless-init")
    try:
        place.is_secret()
        options = place.home / "cache" / "hashserver.storage-options.json"
        assert stat.S_IMODE(options.stat().st_mode) == 0o600
        place.run("seamless-upload", "a.txt")
        assert place.there(b"text\n")
        assert place.run("seamless-run", "cat a.txt; echo more") == "text\nmore\n"
    finally:
        place.run("seamless-init", "--stop")
    place.run("seamless-init", "--store", str(place.work / "here"))
    assert not options.exists()  # that store has none
    place.run("seamless-init", "--stop", "--store", str(place.work / "here"))


def test_a_daskserver_and_its_workers(place: Place) -> None:
    words = ["--workers", "1:1", "--worker-store", place.url]
    place.run("seamless-daskserver", "start", *words)
    try:
        connection = place.home / "cache" / "daskserver" / "default" / "connection.json"
        environment = {"SEAMLESS_DASKSERVER": str(connection)}
        place.run("seamless-upload", "a.txt", **environment)
        assert place.there(b"text\n")
        assert place.run("seamless-run", "cat a.txt; echo more", **environment) == "text\nmore\n"
        assert place.there(b"text\nmore\n")
        place.is_secret()
        # workers reach it by themselves
        log = (connection.parent / "logs" / "daskserver.log").read_text()
        assert "is not the scheduler's store here" not in log
    finally:
        place.run("seamless-daskserver", "stop")


@pytest.mark.parametrize("command", ["seamless-init", "seamless-daskserver"])
def test_a_password_in_a_url_is_no_argument_of_a_server(
    sshd: SshServer, home: Path, tmp_path: Path, command: str
) -> None:
    sshd.accept(home)  # its key opens it: what counts here is where the password gets to
    url = sshd.url(tmp_path / "there").replace("@", ":open-sesame@")
    place = Place(url, WebdavServer("", tmp_path, password="open-sesame"), home, tmp_path)
    (tmp_path / "a.txt").write_text("text\n")
    workers = ["--workers", "1:1", "--worker-store", url]
    start, stop = ([], ["--stop"]) if command == "seamless-init" else (["start", *workers], ["stop"])
    told = place.run(command, *start, "--store", url)
    try:
        assert "sftp://" in told or command != "seamless-init"
        place.is_secret()
        connection = home / "cache" / "daskserver" / "default" / "connection.json"
        named = {"SEAMLESS_DASKSERVER": str(connection)} if connection.exists() else {}
        place.run("seamless-upload", "a.txt", **named)
        assert place.run("seamless-run", "cat a.txt; echo more", **named) == "text\nmore\n"
        place.is_secret()
        assert list((tmp_path / "there").rglob(str(hash_bytes(b"text\n"))))
    finally:
        place.run(command, *stop)


@pytest.mark.parametrize("case", ["none", "other", "readable", "local"])
def test_a_hashserver_that_cannot_use_what_it_is_given(place: Place, case: str) -> None:
    path = place.work / "options.json"
    path.touch(0o600)
    url = {"other": "webdav://elsewhere", "local": "/data"}.get(case, place.url)
    path.write_text(json.dumps({url: place.server.options}))
    if case == "readable":
        path.chmod(0o644)
    words = ["--store", place.url, "--database", str(place.work / "db"), "--port", "0"]
    words += [] if case == "none" else ["--storage-options", str(path)]
    error = place.run("hashserver", *words, status=2).splitlines()[-1]
    told = {
        "none": "needs other options",
        "other": f"nothing in {path} is for the place that --store names",
        "readable": f"chmod 600 {path}",
        "local": "a directory takes none",
    }
    assert error.startswith("hashserver: ")
    assert told[case] in error
    path.chmod(0o600)
