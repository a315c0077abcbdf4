"""What tasks have in a worker of Dask."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from distributed import Reschedule

from hashserver.results.result import Put
from hashserver.retry import pauses
from seamless_dask.errors import Cancelled, ComputationFailed, LimitExceeded
from seamless_dask.execution import runners
from seamless_dask.graph import task
from seamless_dask.graph.current_worker import is_about
from seamless_dask.model.options import Options
from seamless_dask.submitted import run_call

from . import internals
from .claim import Claim
from .here import ThreadSupervisor
from .metered_store import MeteredStore
from .nested.sockets import Gateways
from .prefetch import Prefetch, Small
from .reaper import Reaper
from .recorder import NewResult, Recorder
from .supervisor import TOPIC, TaskSupervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from distributed import Worker

    from hashserver.checksum import Checksum
    from hashserver.results.result import Provenance
    from seamless_dask.context import Context
    from seamless_dask.execution.supervisor import Supervisor
    from seamless_dask.model.records import Outcome
    from seamless_dask.model.transformation import Value

FATE = 10.0
"""Seconds in which a worker that is about to be lost shows it, after its command was killed."""
STDERR_TAIL = 4 << 10
STDERR_CHUNK = 1 << 20
KEPT = 32
"""Of how many commands that have ended the standard error can still be asked for."""

KILLING = 5.0
"""Seconds for which a worker that closes waits for its commands to be killed."""

_LOOK = 0.05
# what a batch system, a system that goes down or short of memory sends; a crash sends none of them
_FROM_OUTSIDE = {
    128 + number
    for number in (
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGKILL,
        signal.SIGXCPU,
        signal.SIGUSR1,
        signal.SIGUSR2,
    )
}


class DaskWorker:
    """The `seamless_dask.graph.current_worker.Worker` of a worker of Dask; threads of tasks call its methods.

    Parameters
    ----------
    worker : Worker
        Of Dask.
    context : Context
        Store, database and node cache, opened.
    """

    runs_here = True

    def __init__(self, worker: Worker, context: Context) -> None:
        self.context = context
        self.asked: Checksum | None = None
        self._worker = worker
        self._askers: dict[str, dict[str, Options]] = {}
        self._running: dict[str, TaskSupervisor] = {}
        self._ended: dict[str, str] = {}
        self._lock = threading.Lock()
        self._removed = self._tidied = False
        self._reaper = Reaper()
        self._gateways = Gateways(worker, context)
        self._directory = tempfile.mkdtemp(prefix="seamless-stderr-", dir=worker.local_directory)
        store = context.store
        small = store.small if isinstance(store, MeteredStore) else Small()
        self._recorder = Recorder(context, partial(internals.has_more, worker))
        self._prefetch = Prefetch(context, small, partial(internals.is_waiting, worker))

    # -------------------------------------------------- for tasks

    def share(
        self,
        checksum: Checksum,
        key: Checksum,
        action: Callable[[Supervisor], Value],
        known: Callable[[], Value | None],
        options: Options,
    ) -> Value:
        """Run it here, unless another worker does; tasks of one name Dask itself has only once."""
        name = internals.current_key(self._worker) or f"{checksum}"
        if name.endswith(f"-tf-{checksum}"):
            return self._run(name, checksum, action, options)
        claim = Claim(self._worker, name, checksum, key)
        value: Value | None = None
        try:
            claim.wait()
            value = known()
            if value is None:
                claim.rejoin()
                value = self._run(name, checksum, action, options if is_about(key) else None)
            return value
        finally:
            claim.release(value)

    def is_unknown(self, checksum: Checksum) -> bool:
        """Say whether it was looked up a moment ago, in vain."""
        return self._prefetch.is_unknown(checksum)

    def record(
        self, checksum: Checksum, outcome: Outcome, provenance: Provenance | None, *, last: bool
    ) -> None:
        """Record what a transformation gave, together with what others have to record."""
        (kind, found), record, members, buffers = outcome
        # a task of somebody else's goes on when a function of ours that it has called returns
        last = last and internals.called(self._worker) in (task.run, run_call)
        last = last and not runners.is_kept()  # a thread that leaves does not come back
        put = Put(checksum, kind, found, record, members, provenance)
        self._recorder.record(NewResult(put, buffers), last)

    def excuse(self, error: ComputationFailed) -> None:
        """Wait for the worker's own fate after a death by a signal that may have been meant for it.

        Raises
        ------
        Reschedule
            When the worker is on its way out.
        """
        error.args = (f"{error} (worker {self._worker.name})", *error.args[1:])
        if isinstance(error, LimitExceeded) or error.exit_status not in _FROM_OUTSIDE:
            return
        name = internals.current_key(self._worker)
        for pause in pauses(_LOOK, seconds=FATE):
            if internals.is_closing(self._worker) or not internals.has_scheduler(self._worker):
                raise Reschedule
            if name is not None and not internals.is_wanted(self._worker, name):
                raise Reschedule
            time.sleep(pause)

    def tell(self, value: Value, hit: bool) -> None:
        """Let the scheduler know the value, for the tasks that need it."""
        name = internals.current_key(self._worker)
        if name is not None:
            internals.tell_value(self._worker, name, *value)
            if hit:
                self._event("hit", name)

    # -------------------------------------------------- for the plugin

    def stderr(self, key: str, start: int = 0) -> dict[str, Any]:
        """Return what a command has written to its standard error from a place on."""
        with self._lock:
            watch = self._running.get(key)
            path = watch.stderr if watch else self._ended.get(key)
        data, size = b"", 0
        if path is not None:
            with suppress(OSError), open(path, "rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(start)
                data = file.read(STDERR_CHUNK)
        return {"data": data, "size": size, "over": watch is None and start + len(data) >= size}

    def set_askers(self, key: str, askers: dict[str, str]) -> None:
        """Take note of all who ask for a task, which may not have begun."""
        found = {name: Options.from_json(text) for name, text in askers.items()}
        if internals.is_known(self._worker, key):  # else nobody would tell when to forget them
            with self._lock:
                self._askers[key] = found

    def expect(self, task: str, key: Checksum) -> None:
        """Get ready for a task that waits here."""
        self._prefetch.add(task, key)

    def forget(self, key: str) -> None:
        """Forget who asked for a task that is gone."""
        with self._lock:
            self._askers.pop(key, None)

    def mind(self) -> None:
        """See to what must be there for as long as the worker is."""
        with self._lock:
            if not self._tidied:
                self._reaper.mind()

    def running(self) -> list[dict[str, Any]]:
        """Return what is running."""
        with self._lock:
            watches = list(self._running.values())
        return [watch.facts() for watch in watches]

    def close(self) -> None:
        """Let go of everything as soon as nothing runs any more."""
        self._prefetch.close()
        for pause in pauses(_LOOK, seconds=KILLING):
            # threads of tasks kill their commands, and must not end with the process before
            if not (internals.is_closing(self._worker) and self._running):
                break
            time.sleep(pause)
        with self._lock:
            self._removed = True
        self._tidy()

    # -------------------------------------------------- how

    def _run(
        self, name: str, checksum: Checksum, action: Callable[[Supervisor], Value], options: Options | None
    ) -> Value:
        """Run a command under a watch; `options` are those of who asked, None on the way to something."""
        with self._watched(name, checksum, options) as watch:
            try:
                if options is None or options.run != "here":
                    return action(watch)
                with ThreadSupervisor(watch) as supervisor:
                    value = action(supervisor)
                supervisor.judge()
                return value
            except ComputationFailed as error:
                if options is not None:
                    self._failed(name, error)
                raise
            except Cancelled:
                raise Reschedule from None  # somebody may have asked for it again; else nobody hears of it

    @contextmanager
    def _watched(self, name: str, checksum: Checksum, options: Options | None) -> Iterator[TaskSupervisor]:
        main = options is not None
        own = {} if options is None else {"": options}
        path = self._fresh_path(checksum) if main else None
        identity = name if main else f"{name} for {checksum}"
        if not internals.is_wanted(self._worker, name) or internals.is_closing(self._worker):
            raise Reschedule
        watch = TaskSupervisor(
            self._worker,
            name,
            checksum,
            lambda: (main and self._askers.get(name)) or own,
            path,
            self._gateways,
            options,
        )
        with self._lock:
            self._running[identity] = watch
        try:
            yield watch
        finally:
            watch.close()
            watch.finish()
            with self._lock:
                del self._running[identity]
            if path is not None and os.path.exists(path):
                self._keep_for_readers(name, path)
            self._tidy()

    def _fresh_path(self, checksum: Checksum) -> str:
        path = os.path.join(self._directory, str(checksum))
        with suppress(FileNotFoundError):  # what an earlier attempt has written
            os.unlink(path)
        return path

    def _keep_for_readers(self, name: str, path: str) -> None:
        """Keep what a command has written; what one that ended long ago has written goes."""
        dropped: set[str] = set()
        with self._lock:
            self._ended.pop(name, None)
            self._ended[name] = path
            while len(self._ended) > KEPT:
                dropped.add(self._ended.pop(next(iter(self._ended))))
            dropped.difference_update(self._ended.values())
        for old in dropped:  # outside of the lock: the event loop takes it too
            with suppress(FileNotFoundError):
                os.unlink(old)

    def _failed(self, name: str, error: ComputationFailed) -> None:
        tail = error.stderr.encode()[-STDERR_TAIL:].decode("utf-8", "replace")
        self._event("failed", name, exit_status=error.exit_status, stderr=tail, message=str(error))

    def _event(self, action: str, name: str, **facts: Any) -> None:
        self._worker.log_event(TOPIC, {"action": action, "key": name, **facts})

    def _tidy(self) -> None:
        with self._lock:
            is_over = self._removed and not self._running and not self._tidied
            self._tidied = self._tidied or is_over
        if is_over:
            self._gateways.close()
            self._reaper.close()
            self.context.close()
            shutil.rmtree(self._directory, ignore_errors=True)
