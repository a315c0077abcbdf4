"""Numbers as people read them, and what moves the cursor."""

from __future__ import annotations

CLEAR = "\r\x1b[K"
"""Erases the line."""


def size_text(size: int) -> str:
    """`size` in bytes as a person reads it: ``"3.1 MB"``."""
    number = float(size)
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{size} bytes" if unit == "bytes" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def count_text(count: int, noun: str) -> str:
    """`count` things in words: ``"1 file"``, ``"2,000 files"``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
