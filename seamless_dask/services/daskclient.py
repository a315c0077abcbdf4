"""Computations by Dask's own protocol, for a scheduler that was named by its address.

A task is wanted by this process and by nobody in particular (``fire_and_forget``), so that it goes on when
this process is gone; who withdraws takes both back, unless somebody else wants it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from distributed import CancelledError, Client, Future

from hashserver.errors import ServiceUnavailable

from .. import collection
from ..executors import JobInfo
from ..transformation import Value
from ..values import missing
from . import submission

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from hashserver.checksum import Checksum

    from ..collection import Graph
    from ..context import Context
    from ..options import Options

ANYBODY = "fire-and-forget"
STEP = 0.2
"""Seconds between two looks at what goes on."""
CONNECT_SECONDS = 10.0
SILENT = 10.0
MOST_PAUSE = 10.0


class DaskExecutor:
    """Runs computations on the scheduler at an address; see `Executor`.

    Parameters
    ----------
    context : Context
        Where documents and results are; the workers see the same.
    address : str
        ``tcp://…`` or ``tls://…``; certificates are those of Dask's configuration.
    notify : callable
        Gets what a person who waits should know.
    """

    def __init__(self, context: Context, address: str, notify: Callable[[str], None] | None = None) -> None:
        self._context, self._address = context, address
        self._notify = notify or (lambda _: None)
        self._opened: Any = None

    def run(
        self,
        key: Checksum,
        options: Options | None = None,
        *,
        on_stderr: Callable[[bytes], None] | None = None,
        tick: Callable[[str], None] | None = None,
        need_bytes: bool = False,
        fresh: bool = False,
    ) -> Value:
        """Start or join it, and wait."""
        tick = tick or (lambda _: None)
        tick("looking up")
        found = collection.build(self._context, key, options, fresh=fresh)
        value = found if isinstance(found, Value) else self._compute(found, on_stderr, tick)
        if need_bytes and missing(self._context.store, [value]):
            self._compute(submission.restoring(value), on_stderr, tick)
        return value

    def submit(
        self, key: Checksum, options: Options | None = None, *, need_bytes: bool = False, fresh: bool = False
    ) -> None:
        """Start or join it."""
        del need_bytes  # whoever comes to fetch them has them made again
        found = collection.build(self._context, key, options, fresh=fresh)
        if not isinstance(found, Value):
            future = self._send(found)
            self._flush()
            del future

    def cancel(self, key: Checksum) -> bool:
        """Withdraw everybody."""
        names = [name for name in self._names() if name.rpartition("-tf-")[2].startswith(key)]
        if names:
            self._client.cancel([Future(name, self._client) for name in names], force=True)
        return bool(names)

    def jobs(self) -> list[JobInfo]:
        """Return the transformations that the scheduler has assigned to workers."""
        return [
            JobInfo(
                name.rpartition("-tf-")[2][:64],
                "running",
                submission.label_in(name),
                worker,
                worker.rpartition("://")[2].rpartition(":")[0],
                None,
                1,
            )
            for name, worker in self._names().items()
        ]

    def state(self, key: Checksum) -> str | None:
        """Return ``running`` for what is assigned to a worker."""
        return next((job.state for job in self.jobs() if job.key == key), None)

    def close(self) -> None:
        """Disconnect."""
        client, self._opened = self._opened, None
        if client is not None:
            client.close()

    # ------------------------------------------------------------------ how

    @property
    def _client(self) -> Any:
        if self._opened is None:
            self._opened = connect(self._address)
        return self._opened

    def _compute(
        self, graph: Graph, on_stderr: Callable[[bytes], None] | None, tick: Callable[[str], None]
    ) -> Value:
        future = self._send(graph)
        try:
            return self._wait(future, graph, on_stderr, tick)
        except KeyboardInterrupt:
            self._withdraw(graph.key)
            raise

    def _wait(
        self,
        future: Any,
        graph: Graph,
        on_stderr: Callable[[bytes], None] | None,
        tick: Callable[[str], None],
    ) -> Value:
        shown = 0
        while True:
            try:
                if on_stderr:
                    shown += self._show(graph.key, shown, on_stderr)
                value: Value = future.result(timeout=STEP).value
                return value
            except TimeoutError:
                tick("running" if graph.key in self._names() else "queued")
            except (CancelledError, OSError) as error:
                if self._client.status == "running" and "connection" not in str(error):
                    raise ServiceUnavailable(f"{self._address} dropped the job: {error}") from None
                future = self._again(graph, tick)

    def _again(self, graph: Graph, tick: Callable[[str], None]) -> Any:
        """Connect to a scheduler that was lost, and ask it for the same."""
        start, pause, told = time.monotonic(), 0.1, False
        while True:
            if not told and time.monotonic() - start > SILENT:
                self._notify(f"no connection to {self._address}; trying again until it answers")
                told = True
            tick("reconnecting")
            time.sleep(pause)
            pause = min(1.5 * pause, MOST_PAUSE)
            with suppress(ServiceUnavailable):
                self.close()
                return self._send(graph)

    def _send(self, graph: Graph) -> Any:
        import distributed

        future = submission.send(self._client, [graph])[graph.key]
        keep: Any = distributed.fire_and_forget
        keep(future)
        return future

    def _flush(self) -> None:
        """Return when the scheduler has got what was sent: its answer comes after that."""
        self._client.ncores()

    def _names(self) -> dict[str, str]:
        """Return the transformations that workers have, with the address of each worker."""
        try:
            found = self._client.processing()
        except OSError:
            return {}
        return {str(name): worker for worker, names in found.items() for name in names if "-tf-" in str(name)}

    def _withdraw(self, name: str) -> None:
        with suppress(OSError, TimeoutError):
            self._client.run_on_scheduler(let_go, [name], self._client.id)

    def _show(self, name: str, start: int, on_stderr: Callable[[bytes], None]) -> int:
        """Pass on what the command has written from a place on; returns how much that was."""
        worker = self._names().get(name)
        if worker is None:
            return 0
        message = {"op": "seamless_stderr", "key": name, "start": start}
        try:
            answer = self._client.sync(self._client.scheduler.proxy, msg=message, worker=worker)
            data: bytes = answer["data"]
        except Exception:  # a worker that is gone, or has no plugin, shows nothing
            return 0
        if data:
            on_stderr(data)
        return len(data)


def connect(address: str) -> Any:
    """Connect to a scheduler.

    Raises
    ------
    ServiceUnavailable
        When it does not answer, or does not trust us.
    """
    client: Any = Client
    try:
        return client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise ServiceUnavailable(f"no connection to the scheduler at {address}: {reason}") from None


def ask_places(address: str) -> dict[str, Any]:
    """Ask a scheduler where its buffers and results are.

    Raises
    ------
    ServiceUnavailable
        When it does not answer, or has no plugin of ours.
    """
    client = connect(address)
    try:
        told: dict[str, Any] = client.sync(client.scheduler.seamless_places)
        return told
    except (OSError, AttributeError, ValueError, KeyError) as error:
        raise ServiceUnavailable(
            f"the scheduler at {address} does not say where buffers and results are ({error}):"
            " install the plugin there, or name a hashserver"
        ) from None
    finally:
        client.close()


def let_go(names: Collection[str], client: str, dask_scheduler: Any = None) -> None:
    """Ask no more for some tasks, nor on behalf of `ANYBODY` if nobody else does; runs in the scheduler."""
    for name in names:
        task = dask_scheduler.tasks.get(name)
        if task is None:
            continue
        wanting = {one.client_key for one in task.who_wants or ()}
        ours = [client, *([ANYBODY] if wanting <= {client, ANYBODY} else [])]
        for one in wanting.intersection(ours):
            dask_scheduler.client_releases_keys(keys=[name], client=one)
