"""The system calls of processes that change files, recorded by strace."""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CALLS = (
    "open,openat,creat,close,dup,dup2,dup3,fcntl,lseek,write,pwrite64,writev,truncate,ftruncate,"
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,mknod,mknodat,symlink,symlinkat,"
    "fsync,fdatasync,sync_file_range,socket,accept,accept4,sendto,sendmsg,chdir,"
    "clone,clone3,fork,vfork,execve,exit_group,copy_file_range,sendfile,fallocate,close_range"
)
_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|0x[0-9a-f]+|\?)(.*)$", re.DOTALL)
_UNFINISHED = "<unfinished ...>"
_FORKS = ("clone(", "clone3(", "fork(", "vfork(")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


class Call(NamedTuple):
    """A system call that has succeeded.

    `arguments` are as strace writes them, texts in them as Latin-1 of their bytes.
    """

    process: int
    name: str
    arguments: list[str | bytes]
    result: int


def command(trace: Path) -> tuple[str, ...]:
    """Return the words that record what a command does into `trace`."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    return (
        *("strace", "-f", "-q", "-xx", "-s", "4000000", "--seccomp-bpf", "-o", str(trace)),
        *("-e", "signal=none", "-e", f"trace={_CALLS}"),
    )


def calls(trace: Path) -> Iterator[Call]:
    """Yield what was recorded, each call where it ended, but the start of a process where it began.

    A call that had begun before another ended may have come before that other one, but whoever waits for an
    end sees both in this order. A child may do much before its parent hears of it (after `vfork` it even
    executes another program), and has what the parent had at the beginning.
    """
    begun: dict[int, str] = {}
    for process, text in _with_early_forks(trace):
        if text.endswith(_UNFINISHED):
            begun[process] = text.removesuffix(_UNFINISHED)
            continue
        if text.startswith("<... "):
            text = begun.pop(process) + text.partition(" resumed>")[2]
        if text.startswith("+++ exited with"):
            yield Call(process, "exit", [text.split()[3]], 0)
            continue
        if (found := _CALL.match(text)) and not found[3].startswith(("-", "?")):
            yield Call(process, found[1], _arguments(found[2]), int(found[3], 0))


def _with_early_forks(trace: Path) -> list[tuple[int, str]]:
    """Return process and text of the lines, calls that start a process whole where they begin."""
    lines: list[tuple[int, str]] = []
    forking: dict[int, int] = {}  # process → the line where its call begins
    with open(trace, encoding="ascii") as file:
        for line in file:
            match = _LINE.match(line.rstrip("\n"))
            assert match is not None, line
            process, text = int(match[1]), match[2]
            if text.startswith("<... ") and process in forking:
                begin = forking.pop(process)
                whole = lines[begin][1].removesuffix(_UNFINISHED) + text.partition(" resumed>")[2]
                lines[begin] = process, whole
                continue
            if text.startswith(_FORKS) and text.endswith(_UNFINISHED):
                forking[process] = len(lines)
            lines.append((process, text))
    return lines


def _arguments(text: str) -> list[str | bytes]:
    found: list[str | bytes] = []
    for number, part in enumerate(re.split(r'("(?:\\x[0-9a-f]{2})*"(?:\.\.\.)?)', text)):
        if number % 2:
            match = _TEXT.fullmatch(part)
            assert match is not None
            assert not match[2], "a longer text than strace was asked to record"
            found.append(bytes.fromhex(match[1].replace("\\x", "")))
        else:
            found += [word for word in re.split(r"[,{}\[\] ]+", part) if word]
    return found


def absolute(directory: bytes, path: bytes) -> str:
    """Return a path as a process that is in `directory` means it."""
    return os.fsdecode(os.path.normpath(os.path.join(directory, path)))
