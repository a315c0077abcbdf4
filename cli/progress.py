"""Lines on the terminal that change while something goes on; silent elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress

from hashserver.printable import one_line

from .text import CLEAR, size_text

SPINNER = "|/-\\"


def draw(text: str) -> None:
    """Show `text` in the place of what is on the terminal's last line, as much of it as fits there."""
    text, columns = one_line(text), 0
    with suppress(OSError):
        columns = os.get_terminal_size(2).columns
    _write(CLEAR + (text[: columns - 1] if columns else text))  # what goes on to a second line would stay


def erase() -> None:
    """Take the line away, so that another message can be written."""
    _write(CLEAR)


def _write(text: str) -> None:
    with suppress(OSError):  # the terminal is gone
        sys.stderr.write(text)
        sys.stderr.flush()


class ProgressLine:
    """A line on the terminal that is written over; silent elsewhere.

    Parameters
    ----------
    label : str
        What it is about.
    shown : bool
        Whether standard error is a terminal whose user wants to see it.
    """

    def __init__(self, label: str, shown: bool) -> None:
        self._label, self._shown, self._text = label, shown, ""

    def show(self, text: str) -> None:
        """Show `text` in the place of what was shown before."""
        if self._shown and text != self._text:
            draw(f"{self._label}: {text}")
            self._text = text

    def clear(self) -> None:
        """Take the line away, so that another message can be written."""
        if self._text:
            erase()
            self._text = ""


class Progress(ProgressLine):
    """A line on the terminal that says how far something is.

    Parameters
    ----------
    label, shown
        As of `ProgressLine`.
    total : int
        Bytes altogether.
    """

    def __init__(self, label: str, total: int, shown: bool) -> None:
        super().__init__(label, shown)
        self._total, self._done, self._next = total, 0, time.monotonic() + 0.3

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def add(self, size: int) -> None:
        """`size` more bytes are done."""
        self._done += size
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 0.1
            share = 100 * self._done // max(self._total, 1)
            self.show(f"{size_text(self._done)} of {size_text(self._total)} ({share} %)")


class Spinner:
    """A line on the terminal that says what becomes of something.

    It turns in a thread of its own, since whoever waits is waiting. Other lines go above it.

    Parameters
    ----------
    label, shown
        As of `ProgressLine`.
    """

    def __init__(self, label: str, shown: bool) -> None:
        self._label, self._shown = label, shown
        self._state, self._begun = "", time.monotonic()
        self._thread: threading.Thread | None = None
        self.drawn = False
        """Whether its line is on the terminal."""

    def __enter__(self) -> Spinner:
        if self._shown:
            self._over = threading.Event()
            self._thread = threading.Thread(target=self._turn, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._over.set()
            self._thread.join()

    def state(self, text: str) -> None:
        """Say what it is doing now."""
        self._state = text

    def _turn(self) -> None:
        wait = 0.3
        while not self._over.wait(wait):
            wait, self.drawn = 0.1, True
            seconds = time.monotonic() - self._begun
            sign = SPINNER[int(seconds * 10) % len(SPINNER)]
            clock = f"{int(seconds // 60)}:{int(seconds % 60):02}"
            draw(f"{sign} {clock} {self._label}: {self._state}")
        if self.drawn:
            erase()
            self.drawn = False
