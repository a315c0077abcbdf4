"""A daskserver in a job of a batch system, for login nodes on which no services may run.

The job runs a script in the daskserver's directory, which both must see: that is how it is found, and how
it says that it has begun and how it has ended. No secret travels: token and certificates are made there. A
job whose script is gone ends at once, so that one that was submitted without our learning its number does no
harm.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.atomic import write_atomic
from hashserver.errors import ServiceUnavailable
from hashserver.retry import pauses

from ... import connection, daemon
from ...errors import SeamlessError, UsageError
from ..process import LOG

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...connection import ConnectionFile
    from ..cluster.batch import JobState

RECORD = "job.json"
START_LIMIT, STOP_LIMIT = 90.0, 60.0
"""Seconds between the beginning of the job and the connection file, and until it has ended."""
LOOK_INTERVAL = 1.0
"""Seconds between two questions to the batch system."""


class JobFailed(SeamlessError):
    """The daskserver's job came to nothing; the message says what to do."""


class EnclosingJob(NamedTuple):
    """The job that a daskserver runs in."""

    directory: str
    kind: str
    """Batch system."""
    word: str
    """Tells its files from those of an earlier one."""
    number: str | None = None
    """What the batch system calls it; None until it has said so."""

    def __str__(self) -> str:
        return f"job {self.number or '(number unknown)'}"

    @property
    def script(self) -> str:
        """Path of what it runs."""
        return os.path.join(self.directory, f"job-{self.word}.sh")

    @property
    def marks(self) -> str:
        """Path of what it has written about itself."""
        return os.path.join(self.directory, f"job-{self.word}.marks")


class Look(NamedTuple):
    """How a job is."""

    alive: bool
    begun: bool
    text: str
    """For a person."""
    gone: bool = False
    """Whether the batch system has done with it, as far as one can ask."""


# ---------------------------------------------------------------------------- what is known


def read(directory: str) -> EnclosingJob | None:
    """Return the job of a daskserver's directory; None: it has none."""
    try:
        with open(os.path.join(directory, RECORD), "rb") as file:
            found: dict[str, Any] = json.load(file)
        number = None if found["number"] is None else str(found["number"])
        job = EnclosingJob(directory, str(found["kind"]), str(found["word"]), number)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    begun = _marks(job).get("began", "").split()
    return job if number or len(begun) < 2 else job._replace(number=begun[1])


def write(job: EnclosingJob) -> None:
    """Put down which job a daskserver has."""
    document = {"kind": job.kind, "word": job.word, "number": job.number}
    write_atomic(os.path.join(job.directory, RECORD), json.dumps(document).encode(), 0o600)


def _marks(job: EnclosingJob) -> dict[str, str]:
    """Return what the job has said: ``began`` HOST NUMBER, ``ended`` STATUS."""
    try:
        with open(job.marks, encoding="utf-8", errors="replace") as file:
            return {word: rest for word, _, rest in (line.strip().partition(" ") for line in file)}
    except OSError:
        return {}


def forget(directory: str) -> None:
    """Remove all that a job has left; one that is yet to begin finds nothing and ends."""
    with suppress(FileNotFoundError):
        os.unlink(os.path.join(directory, RECORD))
    for name in os.listdir(directory):
        if name.startswith("job-") and name.endswith((".sh", ".marks")):
            with suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, name))


def look(job: EnclosingJob) -> Look:
    """Say how a job is. Where nobody knows better, it is taken to be there."""
    marks = _marks(job)
    where = f" on {marks['began'].split()[0]}" if marks.get("began") else ""
    if job.number is None:  # also when the submission was interrupted: it finds no script when it begins
        alive = bool(where) and "ended" not in marks
        return Look(alive, bool(where), "the job's number is not known", gone=not alive)
    try:
        state = asyncio.run(_state(job.kind, job.number))
    except ServiceUnavailable as error:
        ended = "ended" in marks
        return Look(not ended, bool(where), f"{job}{where}: {error}", gone=ended)
    over = state is None or state.over
    if "ended" in marks or (state is not None and state.over):
        text = state.told(job.number) if state is not None else f"{job} is over"
        return Look(False, bool(where), text, gone=over)
    if state is not None and state.waits:
        return Look(True, False, f"{job} waits in the queue ({state.reason or state.word})")
    return Look(True, bool(where), f"{job} runs{where}" if where else f"{job} has been submitted")


async def _state(kind: str, number: str) -> JobState | None:
    """Return what the batch system says; None: it cannot say."""
    from ..cluster import batch

    found = await batch.states(kind, [number])
    if found is None:
        return None
    if number in found:
        return found[number]
    return await batch.recorded_end(kind, number) or batch.JobState("")


# ---------------------------------------------------------------------------- beginning


def until_ready(job: EnclosingJob, tell: Callable[[str], None]) -> ConnectionFile:
    """Wait for the connection file; `tell` gets what there is to know meanwhile.

    Raises
    ------
    JobFailed
        The job ended; or it runs, and nothing comes of it.
    """
    begun, said, next_look = None, "", 0.0
    while True:
        with suppress(UsageError):
            return connection.read(os.path.join(job.directory, connection.FILE))
        now = time.monotonic()
        if now >= next_look:
            found, next_look = look(job), now + LOOK_INTERVAL
            if not found.alive:
                raise JobFailed(_what_happened(job, found))
            begun = begun or (now if found.begun else None)
            if found.text != said:
                tell(found.text)
                said = found.text
        if begun and now - begun > START_LIMIT:
            raise JobFailed(f"the daskserver was not ready within {START_LIMIT:.0f} s: {_last_words(job)}")
        time.sleep(0.05)


def _what_happened(job: EnclosingJob, found: Look) -> str:
    if not found.begun:
        return (
            f"{found.text}, and wrote nothing to {job.directory}: is that directory shared with the nodes?"
            " SEAMLESS_CACHE names another one"
        )
    return f"the daskserver did not start, {found.text}: {_last_words(job)}"


def _last_words(job: EnclosingJob) -> str:
    return daemon.last_line(os.path.join(job.directory, LOG))


# ---------------------------------------------------------------------------- the end


def stop(job: EnclosingJob) -> None:
    """Have the daskserver end, and its job; the job is cancelled when the daskserver does not answer.

    Raises
    ------
    JobFailed
        The job may still be there.
    """
    found = look(job)
    if not found.alive:
        return
    if found.begun and _ask(job) and _until_over(job, STOP_LIMIT):
        return
    command = _cancel(job)
    if not _until_over(job, STOP_LIMIT):
        raise JobFailed(f"{job} may be left; look later, and: {command}")


def _ask(job: EnclosingJob) -> bool:
    """Ask the daskserver to end; return whether it heard."""
    from hashserver.errors import HashserverError

    from .client import ask_daskserver

    with suppress(UsageError, HashserverError, OSError):
        facts = connection.read(os.path.join(job.directory, connection.FILE))
        return ask_daskserver(facts, "DELETE")[0] == 202
    return False


def _cancel(job: EnclosingJob) -> str:
    """Cancel it; return the command that does so."""
    from ..cluster import batch
    from ..cluster.jobscript import call

    command: str = batch.job_class(job.kind).cancel_command  # type: ignore[attr-defined]
    words = [*shlex.split(command), job.number or ""]
    try:
        asyncio.run(call(words))
    except RuntimeError:
        pass  # it is over
    except ServiceUnavailable as error:
        raise JobFailed(f"{error}; {job} may be left, later: {' '.join(words)}") from None
    return " ".join(words)


def _until_over(job: EnclosingJob, seconds: float) -> bool:
    for pause in pauses(LOOK_INTERVAL / 5, seconds=seconds):
        if (found := look(job)).gone:
            return True
        time.sleep(pause)
    return not found.alive  # the batch system is still clearing up
