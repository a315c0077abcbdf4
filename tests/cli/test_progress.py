"""Lines that change on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
from pathlib import Path
from typing import TYPE_CHECKING

from .conftest import wait_for

if TYPE_CHECKING:
    from .conftest import Cli

Slow = tuple[str, Path, Path]
COLUMNS = 20


def test_a_narrow_terminal_is_not_written_full(cli: Cli, slow: Slow) -> None:
    command, mark, go = slow
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    words = [cli.path("seamless-run"), "-c", f"{'x' * 30} || {command}"]
    process = subprocess.Popen(words, cwd=cli.directory, stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    wait_for(mark.exists)
    shown = b""
    while shown.count(b" 0:0") < 3:
        shown += os.read(ours, 4096)
    go.touch()
    assert process.communicate(timeout=60)[0] == b"done\n"
    os.close(ours)
    lines = [line for line in shown.replace(b"\x1b[K", b"").split(b"\r") if b" 0:0" in line]
    assert max(map(len, lines)) == COLUMNS - 1


def test_a_terminal_that_is_gone_is_no_reason_to_fail(cli: Cli, slow: Slow, work: Path) -> None:
    command, mark, go = slow
    ours, theirs = pty.openpty()
    run = f"{cli.path('seamless-run')} --direct-print 'echo x >&2; ({command}; echo x >&2) > out.txt'"
    line = f"trap '' HUP; exec {run}"
    process = subprocess.Popen(["bash", "-c", line], cwd=work, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    wait_for(mark.exists)
    os.close(ours)
    go.touch()
    assert process.wait(60) == 0
    assert (work / "out.txt").read_text() == "done\n"
