"""Nothing that others named or wrote moves the cursor of who reads our messages."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

import pytest

from seamless_cli.table import COMMANDS

from ..conftest import http_server
from .conftest import Cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVIL = "\x1b]0;x\x07\x08\x7f\x9b2J\u202e\u2066\u2069\u2028\u2029e"


def on_terminal(cli: Cli, command: str, *arguments: str) -> str:
    """Return what a command shows on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [cli.path(command), *arguments],
        cwd=cli.directory,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    timer = threading.Timer(60, process.kill)
    timer.start()
    shown = b""
    try:
        with suppress(OSError):  # the other end is closed
            while data := os.read(ours, 1 << 16):
                shown += data
    finally:
        process.kill()
        process.wait()
        timer.cancel()
        os.close(ours)
    return shown.decode("utf-8", "surrogateescape")


def piped(cli: Cli, command: str, *arguments: str) -> str:
    """Return what a command writes to its standard error."""
    done = subprocess.run(
        [cli.path(command), *arguments],
        cwd=cli.directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    return done.stderr.decode("utf-8", "surrogateescape")


def assert_safe(shown: str) -> None:
    """Nothing but lines and tabs; the line that we draw ourselves is taken away by its own sequence."""
    rest = shown.replace("\r\x1b[K", "")
    assert [c for c in rest if not c.isprintable() and c not in "\r\n\t"] == [], shown


@pytest.mark.parametrize("words", [(EVIL,), (f"--{EVIL}",), ("-vv", "--profile", EVIL, f"x{EVIL}")], ids=str)
@pytest.mark.parametrize("name", COMMANDS)
def test_words_of_the_user(cli: Cli, home: Path, name: str, words: tuple[str, ...]) -> None:
    assert_safe(on_terminal(cli, "seamless", name, *words))


@pytest.mark.parametrize("words", [(EVIL,), (f"--{EVIL}",)], ids=str)
def test_what_is_piped_is_safe_as_well(cli: Cli, home: Path, words: tuple[str, ...]) -> None:
    assert_safe(piped(cli, "seamless", *words))
    assert_safe(piped(cli, "seamless-upload", *words))


@pytest.mark.parametrize("run", [on_terminal, piped])
@pytest.mark.parametrize("option", ["--port", "--host", "--max-size", "--nothing"])
def test_hashservers_own_command(cli: Cli, home: Path, option: str, run: object) -> None:
    assert callable(run)
    assert_safe(run(cli, "hashserver", "--database", "db", "--store", "store", option, EVIL))


def test_names_are_exact_in_a_pipe_and_safe_on_a_terminal(cli: Cli, work: Path, home: Path) -> None:
    (work / EVIL).write_text("text")
    assert EVIL in cli("seamless-checksum", EVIL).text
    assert_safe(on_terminal(cli, "seamless-checksum", EVIL))
    shown = on_terminal(cli, "seamless-checksum", "--json", EVIL)
    assert_safe(shown)
    assert (
        json.loads(shown)[0]["path"] == json.loads(cli("seamless-checksum", "--json", EVIL).stdout)[0]["path"]
    )


@pytest.mark.parametrize("command", ["seamless-download", "seamless-resolve", "seamless-fingertip"])
def test_sidecars(cli: Cli, work: Path, home: Path, command: str) -> None:
    for suffix in (".CHECKSUM", ".FUTURE"):
        (work / f"a{suffix}").write_text(EVIL)
    assert_safe(on_terminal(cli, command, "a"))


@pytest.mark.parametrize("option", [(), ("--direct-print",), ("-vv",)], ids=str)
def test_standard_error_of_commands(cli: Cli, work: Path, home: Path, option: tuple[str, ...]) -> None:
    (work / "says.sh").write_text(f"printf '%s\\n\\tmore\\n' '{EVIL}' >&2; exit 3")
    shown = on_terminal(cli, "seamless-run", *option, "bash says.sh")
    assert_safe(shown)
    assert "\\x1b" in shown
    assert "\tmore\r\n" in shown


class _Evil(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        body = json.dumps({"error": EVIL, "message": EVIL}).encode()
        self.send_response(400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = _answer  # noqa: N815 - the library's names

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def evil_server() -> Iterator[str]:
    with http_server(_Evil) as url:
        yield url


@pytest.mark.parametrize("command", [("run", "echo a"), ("status",), ("resolve", "0" * 64), ("upload", "f")])
def test_messages_of_servers(
    cli: Cli, work: Path, home: Path, evil_server: str, command: tuple[str, ...]
) -> None:
    (work / "f").write_text("text")
    assert_safe(on_terminal(cli, f"seamless-{command[0]}", "--hashserver", evil_server, *command[1:]))


def test_logs(cli: Cli, work: Path, home: Path) -> None:
    logs = home / "cache" / "daskserver" / "default" / "logs"
    logs.mkdir(parents=True)
    for name in ("daskserver", "hashserver"):
        (logs / f"{name}.log").write_text(f"{EVIL}\n")
        shown = on_terminal(cli, "seamless-daskserver", "logs", "--part", name)
        assert "\\x1b" in shown
        assert_safe(shown)
