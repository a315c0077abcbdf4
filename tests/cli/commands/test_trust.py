"""What was cloned runs no code, reads no files and takes no tokens."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from seamless_cli import table

from ..conftest import BIN, Cli, project

NAME = "a" * 64
COMMANDS: list[tuple[str, ...]] = [
    ("seamless-run", "cat", "a.txt"),
    ("seamless-run", "--dry-run", "cat", "a.txt"),
    ("seamless-run", "--qsubmit", "-nd", "cat", "a.txt"),
    ("seamless-upload", "a.txt"),
    ("seamless-download", "gone.txt"),
    ("seamless-resolve", NAME),
    ("seamless-fingertip", NAME),
    ("seamless-run-transformation", NAME),
    ("seamless-checksum", "a.txt"),
    ("seamless-checksum-index", "set"),
    ("seamless-cancel", NAME),
    ("seamless", "log", "a.txt"),
    ("seamless", "why", "cat a.txt"),
    ("seamless-status",),
    ("seamless-init",),
    ("seamless-queue",),
    ("seamless-queue-finish",),
]


@pytest.fixture
def files(work: Path) -> Path:
    (work / "a.txt").write_text("a\n")
    (work / "gone.txt.CHECKSUM").write_text(NAME + "\n")
    (work / "set").mkdir()
    (work / "set" / "b.txt").write_text("b\n")
    return work


@pytest.mark.parametrize("hostile", [True], indirect=True)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_scheduler_that_a_clone_names_is_not_even_asked(
    cli: Cli, files: Path, hostile: Any, home: Path, command: tuple[str, ...]
) -> None:
    (files / "seamless.toml").write_text(f'daskserver = "{hostile.address}"\n')
    error = cli(*command, status=2).error
    assert f"seamless trust {files} if you want that" in error
    assert not hostile.asked
    assert not (home / "cache").exists()  # nothing was done in the embedded store either


@pytest.mark.parametrize("hostile", [True], indirect=True)
def test_nor_by_a_command_that_is_not_among_these(files: Path, hostile: Any, home: Path) -> None:
    (files / "seamless.toml").write_text(f'daskserver = "{hostile.address}"\n')
    tried = {words[1] if words[0] == "seamless" else words[0].partition("-")[2] for words in COMMANDS}
    for name in sorted(set(table.COMMANDS) - tried):
        words = [BIN / "seamless", name, "a.txt"]
        subprocess.run(words, cwd=files, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        assert not hostile.asked, name


@pytest.mark.parametrize(
    ("command", "hostile"),
    [*((command, True) for command in COMMANDS[:14]), (COMMANDS[0], False), (COMMANDS[5], False)],
    indirect=["hostile"],
    ids=str,
)
def test_nor_unpickled_when_the_user_has_named_it(
    cli: Cli, files: Path, hostile: Any, command: tuple[str, ...]
) -> None:
    needs_none = command[0] == "seamless-checksum"
    done = cli(*command, status=0 if needs_none else 1, SEAMLESS_DASKSERVER=hostile.address)
    assert "\x1b" not in done.stderr
    assert "Traceback" not in done.stderr
    if needs_none:
        assert not hostile.asked


@pytest.mark.parametrize("hostile", [True], indirect=True)
@pytest.mark.parametrize("action", ["stop", "status", "logs"])
def test_a_daskserver_of_a_clone(cli: Cli, work: Path, hostile: Any, action: str) -> None:
    (work / "seamless.toml").write_text('cache = "there"\n')
    environment = {"SEAMLESS_CACHE": ""}
    assert "is not trusted" in cli("seamless-daskserver", action, status=2, **environment).error
    assert not (work / "there").exists()


@pytest.mark.parametrize("hostile", [True], indirect=True)
@pytest.mark.parametrize(
    "program",
    ["bash('echo x').compute()", "connect()", "put(3)", "direct(len)([])", "File('a.txt').checksum"],
)
def test_python_asks_no_scheduler_of_a_clone(cli: Cli, files: Path, hostile: Any, program: str) -> None:
    (files / "seamless.toml").write_text(f'daskserver = "{hostile.address}"\n')
    done = cli("python", "-c", f"from seamless_dask import *\n{program}\n", status=1)
    assert done.stderr.splitlines()[-1].startswith("seamless_dask.errors.Untrusted: ")
    assert not hostile.asked


def test_trusted_listed_changed_and_taken_back(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("a\n")
    file = work / "seamless.toml"
    file.write_text('store = "buffers"\n')
    cli("seamless-upload", "a.txt", status=2)
    said = cli("seamless", "trust").stderr
    assert f"{file} is trusted from now on" in said
    assert f"store = '{work}/buffers'" in said
    cli("seamless-upload", "a.txt")
    assert (work / "buffers").is_dir()
    assert cli("seamless-trust", "--list").text == f"trusted  {file}\n"
    file.write_text('store = "others"\n')
    assert "has changed since it was trusted" in cli("seamless-upload", "a.txt", status=2).error
    assert json.loads(cli("seamless-trust", "--list", "--json").stdout)[0]["state"] == "changed"
    assert not (work / "others").exists()
    assert "is not trusted any more" in cli("seamless-trust", "--undo", work).error
    assert "nothing is trusted" in cli("seamless-trust", "--undo", status=1).error
    assert cli("seamless-trust", "--list").text == ""


def test_one_profile_is_shown(cli: Cli, work: Path) -> None:
    (work / "seamless.toml").write_text('[profile.a]\nstore = "a"\n[profile.b]\nstore = "b"\n')
    said = cli("seamless-trust", "--profile", "a").stderr
    assert "[profile.'a'] store" in said
    assert "[profile.'b'] store" not in said
    assert "no profile 'c'" in cli("seamless-trust", "--profile", "c", status=2).error


def test_there_is_nothing_to_trust(cli: Cli) -> None:
    assert "there is no seamless.toml in" in cli("seamless-trust", status=2).error


def test_this_host_alone_needs_no_trust(cli: Cli, work: Path) -> None:
    (work / "seamless.toml").write_text('hashserver = "http://evil:1"\n')
    assert cli("seamless-run", "--local", "echo", "x").text == "x\n"


@pytest.mark.parametrize(("answer", "status"), [("y", 0), ("n", 2)])
def test_on_a_terminal_it_is_asked(cli: Cli, work: Path, answer: str, status: int) -> None:
    (work / "a.txt").write_text("a\n")
    (work / "seamless.toml").write_text('store = "buffers\\u001b[2J"\n')
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(work)
        os.execv(str(BIN / "seamless-upload"), ["seamless-upload", "a.txt"])
    shown = b""
    while b"[y/N]" not in shown:
        shown += os.read(terminal, 1 << 16)
    assert b"is not trusted" in shown
    assert b"\x1b[2J" not in shown
    os.write(terminal, answer.encode() + b"\n")
    try:
        while os.read(terminal, 1 << 16):
            pass
    except OSError:  # the terminal is gone
        pass
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == status
    assert (work / "buffers\x1b[2J").exists() == (answer == "y")


class Server:
    """Remembers what it is sent, and answers everything with one status."""

    def __init__(self, status: int = 404, location: str = "") -> None:
        seen = self.seen = []  # type: list[str | None]

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                seen.append(self.headers["Authorization"])
                self.send_response(status)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Length", "0")
                self.send_header("Connection", "close")
                self.end_headers()

            do_GET = do_HEAD = do_PUT = do_POST = answer  # noqa: N815

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def evil() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


@pytest.fixture
def token(home: Path) -> Path:
    path = home / "token"
    path.write_text("read-write 0123456789abcdef0123456789abcdef\n")
    path.chmod(0o600)
    return path


def users(home: Path, text: str) -> None:
    (home / ".config" / "seamless").mkdir(parents=True, exist_ok=True)
    (home / ".config" / "seamless" / "config.toml").write_text(text)


@pytest.mark.parametrize("how", ["file", "variable"])
def test_a_projects_server_is_sent_no_token(
    cli: Cli, work: Path, home: Path, evil: Server, token: Path, how: str
) -> None:
    users(
        home, 'hashserver = "http://127.0.0.1:1"\n' + (f'token-file = "{token}"\n' if how == "file" else "")
    )
    environment = {"SEAMLESS_TOKEN_FILE": str(token)} if how == "variable" else {}
    (work / "a.txt").write_text("a\n")
    (work / "seamless.toml").write_text(f'hashserver = "{evil.url}"\n')
    for command in (
        ("seamless-upload", "a.txt"),
        ("seamless-run", "cat", "a.txt"),
        ("seamless-resolve", NAME),
    ):
        cli(*command, status=2, **environment)
    assert evil.seen == []
    project(work, f'hashserver = "{evil.url}"\n')
    for command in (
        ("seamless-upload", "a.txt"),
        ("seamless-run", "cat", "a.txt"),
        ("seamless-resolve", NAME),
    ):
        assert cli(*command, status=1, **environment).stdout == b""
    assert evil.seen
    assert set(evil.seen) == {None}
    users(home, f'[credentials."{evil.url}"]\ntoken-file = "{token}"\n')
    cli("seamless-resolve", NAME, status=1)
    assert evil.seen[-1] == "Bearer 0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nobody_is_followed_to_another_place(
    cli: Cli, work: Path, evil: Server, token: Path, status: int
) -> None:
    (work / "a.txt").write_text("a\n")
    turning = Server(status, f"{evil.url}/{NAME}")
    environment = {"SEAMLESS_HASHSERVER": turning.url, "SEAMLESS_TOKEN_FILE": str(token)}
    for command in (
        ("seamless-resolve", NAME),
        ("seamless-upload", "a.txt"),
        ("seamless-run", "cat", "a.txt"),
    ):
        assert "sends its clients to another place" in cli(*command, status=1, **environment).stderr
    turning.close()
    assert evil.seen == []
