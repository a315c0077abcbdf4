"""Moments, times, sizes and commands as a person reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..text import size_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .documents import Document

LONGEST = 100


def when(record: Mapping[str, Any] | None) -> str:
    """Return when a run began, in local time: ``2026-11-28 23:03:10``."""
    from datetime import datetime

    try:
        begun = datetime.fromisoformat(str((record or {})["started"]))
        return f"{begun.astimezone():%Y-%m-%d %H:%M:%S}"
    except (KeyError, ValueError, OverflowError):
        return "at an unknown time"


def seconds(number: object) -> str:
    """Return a duration: ``3.2 s``, ``2 min 5 s``, ``3 h 12 min``."""
    if not isinstance(number, (int, float)) or not 0 <= number < 1e9:
        return ""
    if number < 1:
        return f"{number:.2f} s"
    if number < 60:
        return f"{number:.1f} s"
    minutes, rest = divmod(round(number), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def memory(record: Mapping[str, Any]) -> str:
    """Return what a run took at most, as far as it was measured."""
    found = record.get("max_rss")
    return size_text(found) if isinstance(found, int) and found > 0 else ""


def failure(record: Mapping[str, Any]) -> str:
    """Return what the record of a failed run says went wrong."""
    found = record.get("error")
    return str(found.get("message", "")) if isinstance(found, dict) else ""


def command(document: Document | None, record: Mapping[str, Any] | None = None) -> str:
    """Return what was run, in one line: a command as it was typed, a function by its name."""
    label = str((record or {}).get("label") or "")
    if document is None:
        return f"{label or 'a command'} (its document is gone)"
    if document.description.language == "python":
        from seamless_dask.graph.names import label_of

        return f"{label or label_of(document.code or '')}(…)"
    if document.code is None:
        return f"{label or 'a command'} (its text is gone)"
    text = " ".join(document.code.split())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
