"""How long others are waited for: who neither answers nor takes anything for too long is given up."""

from __future__ import annotations

import asyncio
import atexit
import threading
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

STORE_SECONDS = 60.0
"""The default; less than a client of a hashserver waits for an answer, so that it hears the reason."""


class Silence(TimeoutError):
    """Nothing came from a place, and nothing could be sent there, for too long."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"nothing came from it, and nothing could be sent to it, for {seconds:g} s")


_left_behind: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
_FAREWELL_SECONDS = 1.0


@atexit.register
def _await_those_left_behind() -> None:
    # Ending with the interpreter while it is in native code, a thread aborts the process ("FATAL: exception
    # not rethrown"). What it waits for has been closed: mostly it is about to end by itself.
    end = time.monotonic() + _FAREWELL_SECONDS
    for thread in list(_left_behind):
        thread.join(max(0.0, end - time.monotonic()))


class Pulse:
    """When one call last got on; any thread may say that it does.

    Parameters
    ----------
    seconds
        For how long it may not.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._last = time.monotonic()

    def beat(self, *_: object) -> None:
        """Say that something moved."""
        self._last = time.monotonic()

    def left(self) -> float:
        """Return how many seconds of patience are left; less than none where it is over."""
        return self._last + self.seconds - time.monotonic()

    def silence(self) -> Silence:
        """Return the error for when it is."""
        return Silence(self.seconds)


def in_thread(
    function: Callable[[], T],
    pulse: Pulse,
    give_up: Callable[[], Any] = lambda: None,
    discard: Callable[[T], Any] = lambda _: None,
) -> T:
    """Call a function that may block for ever, in a thread that may be left behind.

    Parameters
    ----------
    function
        What is called. It must own what it uses: it may go on when its caller is gone.
    pulse
        Tells when it last got on.
    give_up
        Called when it is left behind: it should make it fail soon.
    discard
        Called with what it returns after all.

    Raises
    ------
    Silence
        When the patience is over.
    """
    outcome: list[Any] = []
    ended, lock = threading.Event(), threading.Lock()
    abandoned = False

    def work() -> None:
        try:
            found: tuple[Any, BaseException | None] = function(), None
        except BaseException as error:  # it is raised where the call was made
            found = None, error
        with lock:
            outcome.append(found)
        ended.set()
        if abandoned and found[1] is None:
            discard(found[0])

    # a daemon: the interpreter does not wait for it
    thread = threading.Thread(target=work, name="store", daemon=True)
    thread.start()
    try:
        while not ended.wait(max(pulse.left(), 0.001)):
            if pulse.left() <= 0:
                raise pulse.silence()
    except BaseException:  # an interruption, too
        with lock:
            abandoned = not outcome
        if abandoned:
            _left_behind.add(thread)
            give_up()
        raise
    result, error = outcome[0]
    if error is not None:
        raise error
    value: T = result
    return value


async def in_loop(ask: Callable[[Pulse], Awaitable[T]], seconds: float) -> T:
    """Await what `ask` returns, and cancel it when its pulse has stopped.

    Raises
    ------
    Silence
        When the patience is over.
    """
    pulse = Pulse(seconds)
    task = asyncio.ensure_future(ask(pulse))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())  # it may end unseen
    try:
        while not task.done():
            if pulse.left() <= 0:
                raise pulse.silence()
            await asyncio.wait([task], timeout=max(pulse.left(), 0.001))
        return task.result()
    finally:
        task.cancel()


class Turns:
    """So many at a time, in one loop; those who wait for their turn hear of the silence that others meet.

    Parameters
    ----------
    count
        How many.
    """

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)
        self._silence: Silence | None = None
        """The last one, if nobody was answered since."""

    async def __aenter__(self) -> None:
        before = self._silence
        await self._free.acquire()
        if self._silence is not None and self._silence is not before:
            self._free.release()
            raise Silence(self._silence.seconds)

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        self._free.release()
        if error is None or isinstance(error, Silence):
            self._silence = error


def run(loop: asyncio.AbstractEventLoop, coroutine: Any) -> Any:
    """Run a coroutine in the loop of another thread; it is cancelled when its caller is interrupted."""
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
