"""A scheduler with our plugin, and workers that are processes of their own."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import dask
import pytest
from distributed import Client, LocalCluster, Nanny, Worker
from distributed.core import Status

from hashserver.checksum import Checksum
from seamless_dask.api import Transformation, bash
from seamless_dask.config import load
from seamless_dask.context import Context
from seamless_dask.graph import collection, lazy_graph
from seamless_dask.model.options import Options
from seamless_dask.scheduler import SeamlessScheduler

if TYPE_CHECKING:
    from distributed import Future

PLAIN = Options(isolation="none")
UNMANAGED = {"distributed.scheduler.active-memory-manager.start": False}
"""Every two seconds it takes away copies that nothing needs, also those that a test has just made."""
_numbers = itertools.count()


class Farm:
    """A local cluster that runs transformations, for one test."""

    def __init__(self, lab: Any, cluster: LocalCluster, client: Client) -> None:
        self.lab, self.cluster, self.client = lab, cluster, client
        self.scheduler = cluster.scheduler
        self.plugin: SeamlessScheduler = self.scheduler.plugins["seamless"]
        self._salt, self._cut = next(_numbers), self.plugin.cutoff.cut
        self.workers(2)

    @property
    def cut(self) -> int:
        """How many tasks were completed without a worker, in this test."""
        return self.plugin.cutoff.cut - self._cut

    def store(self, code: str, **members: Any) -> Checksum:
        """Store a transformation that no other test has."""
        key: Checksum = self.lab.store(f"{code}\n# {self._salt}", **members)
        return key

    def submit(self, key: Checksum, options: Options = PLAIN) -> Future:
        graph = collection.build(self.lab.context, key, options)
        assert isinstance(graph, collection.Graph), "it is known already"
        resources = collection.annotations_of(options).get("resources")
        return self.client.get(
            graph.tasks, graph.key, sync=False, resources=resources, priority=options.priority
        )

    def submit_all(self, keys: list[Checksum]) -> list[Future]:
        """Submit many as one graph."""
        graphs = [collection.build(self.lab.context, key, PLAIN) for key in keys]
        tasks = {name: task for graph in graphs for name, task in graph.tasks.items()}
        return self.client.get(tasks, [graph.key for graph in graphs], sync=False)

    def run(self, key: Checksum, options: Options = PLAIN) -> Any:
        return self.submit(key, options).result(60)

    def state(self, key: str) -> str | None:
        ts = self.scheduler.tasks.get(key)
        return None if ts is None else ts.state

    def states(self, futures: list[Future]) -> Counter[str | None]:
        """How many are in which state."""
        return Counter(self.state(future.key) for future in futures)

    def workers(self, number: int) -> None:
        """Wait until there are so many that can run transformations."""
        self.lab.wait_until(lambda: len(self._up()) >= number)

    def _up(self) -> set[str]:
        """Workers that can run transformations, and that may be killed.

        One that is dead counts as equipped until the scheduler notices. And one that dies before its nanny
        has heard that it is up leaves a nanny behind that cannot be closed, up to Dask 2025.5 at least: the
        nanny starts the next process, and what waits for the first one takes the news of the second.
        """
        up = {address_of(worker, self.lab) for worker in self.cluster.workers.values()}
        return up & self.plugin.recovery.equipped

    def let_go(self, gate: Any, future: Future) -> None:
        """Let a command go on, once the scheduler knows that it has begun."""
        self.await_begin(gate, future)
        gate.open()

    def await_begin(self, gate: Any, future: Future) -> int:
        """Wait until a command has begun, and the scheduler knows; its process."""
        process: int = gate.wait()
        self.lab.wait_until(lambda: self.plugin.recovery.has_begun(future.key))
        worker = self.scheduler.tasks[future.key].processing_on.address
        self.lab.wait_until(lambda: worker in self._up())
        return process

    def kill(self, address: str) -> None:
        os.kill(self.client.run(os.getpid)[address], signal.SIGKILL)


def address_of(worker: Nanny | Worker, lab: Any) -> str | None:
    """The address of a worker that is up; None: it is not, or its nanny does not know yet."""
    if isinstance(worker, Worker):
        return str(worker.address)
    process = worker.process
    if process is None or process.status != Status.running or not lab.is_alive(process.pid):
        return None
    return str(process.worker_address)


@contextmanager
def started(processes: bool = True) -> Iterator[tuple[LocalCluster, Client]]:
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 2, "dashboard_address": ":0"}
    settings = UNMANAGED | {
        "distributed.scheduler.worker-saturation": "inf",
        # a worker that takes long to come again, on a machine that has much to do, is to come all the same
        "distributed.deploy.lost-worker-timeout": "1 hour",
        # they are copies of a process that has imported Dask already, and not of this test's environment
        "distributed.worker.multiprocessing-method": "forkserver",
    }
    options |= {"env": dict(os.environ)} if processes else {"protocol": "tcp://"}
    with dask.config.set(settings):
        cluster = LocalCluster(**options, processes=processes)
        try:
            with Client(cluster) as client:
                client.register_plugin(SeamlessScheduler())
                assert cluster.scheduler.plugins["seamless"].stepped_aside is None
                yield cluster, client
        finally:
            close(cluster)


def close(cluster: LocalCluster) -> None:
    """Close a cluster; one that cannot be closed is killed, and the test fails instead of hanging."""
    nannies = [worker for worker in cluster.workers.values() if isinstance(worker, Nanny)]
    try:
        cluster.close(timeout=60)
    finally:
        for nanny in nannies:
            if nanny.pid is not None:
                os.kill(nanny.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LocalCluster, Client, Context]]:
    """What the tests of a module have in common, results included.

    Its workers are processes, unless the module says by ``PROCESSES`` that none of its tests kills one.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SEAMLESS_CACHE", str(tmp_path_factory.mktemp("shared")))
        environment.setenv("SEAMLESS_ISOLATION", "none")
        with (
            started(getattr(request.module, "PROCESSES", True)) as (cluster, client),
            Context(load()) as context,
        ):
            yield cluster, client, context


@pytest.fixture
def farm(lab: Any, shared: tuple[LocalCluster, Client, Context]) -> Iterator[Farm]:
    """Workers may die in it: others come."""
    cluster, client, context = shared
    lab.context = context
    found = Farm(lab, cluster, client)
    yield found
    found.workers(2)


@pytest.fixture
def own_farm(lab: Any) -> Iterator[Farm]:
    """Whose workers, or scheduler, are not what they were afterwards."""
    with started() as (cluster, client):
        yield Farm(lab, cluster, client)


@pytest.fixture
def quick_farm(lab: Any) -> Iterator[Farm]:
    """Such a one whose workers are not killed: they are in this process."""
    with started(processes=False) as (cluster, client):
        yield Farm(lab, cluster, client)


# ------------------------------------------------------------------------ the gate


class Desk:
    """A scheduler with the plugin, whose state is checked in the end; no workers at first."""

    def __init__(self, lab: Any, cluster: LocalCluster, client: Client) -> None:
        self.lab, self.cluster, self.client = lab, cluster, client
        self.scheduler = cluster.scheduler
        client.register_plugin(SeamlessScheduler())
        self.plugin: SeamlessScheduler = self.scheduler.plugins["seamless"]
        assert self.plugin.stepped_aside is None
        self._ask = self.plugin.lookups._ask
        self.asked: list[int] = []
        self._open = threading.Event()
        self._open.set()
        self.plugin.lookups._ask = self._counted

    def bash(self, code: str, *upstream: Transformation, **options: Any) -> Transformation:
        """A command that reads what others give as files ``0``, ``1`` and so on."""
        inputs = {str(number): other for number, other in enumerate(upstream)}
        return bash(code, inputs, context=self.lab.context, isolation="none", **options)

    def know(self, transformation: Transformation, data: bytes = b"known\n") -> str:
        """Record a result, as anybody may who uses the same database; its checksum."""
        value = self.lab.file(data)
        self.lab.context.database.put(transformation.key, *value)
        return str(value.checksum)

    def submit(self, *wanted: Transformation, client: Client | None = None) -> list[Future]:
        """Submit transformations as one graph, with all that they need, as if nothing had been known then."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lazy_graph, "_ask", lambda context, keys: {})
            graph = {name: task for tf in wanted for name, task in dict(tf.__dask_graph__()).items()}
        found: list[Future] = (client or self.client).get(graph, list(map(name_of, wanted)), sync=False)
        return found

    def state(self, transformation: Transformation) -> str | None:
        ts = self.scheduler.tasks.get(name_of(transformation))
        return None if ts is None else ts.state

    def await_state(self, transformation: Transformation, *states: str | None) -> None:
        self.lab.wait_until(lambda: self.state(transformation) in states)

    def await_workers(self, number: int) -> None:
        self.cluster.scale(number)
        self.client.wait_for_workers(number, timeout=60)

    def call(self, function: Callable[[], Any]) -> Any:
        """Call a function in the scheduler's event loop."""

        async def called() -> Any:
            return function()

        return self.cluster.sync(called)

    @contextmanager
    def slow_database(self) -> Iterator[None]:
        """Look-ups do not end within this block."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def await_look_up(self) -> None:
        """Wait until the database is asked."""
        before = len(self.asked)
        self.lab.wait_until(lambda: len(self.asked) > before)

    def _counted(self, keys: list[Checksum]) -> Any:
        self.asked.append(len(keys))
        assert self._open.wait(60)
        return self._ask(keys)


def name_of(transformation: Transformation) -> str:
    """The key of its task."""
    return str(transformation.__dask_keys__()[0])


@pytest.fixture
def desk(lab: Any) -> Iterator[Desk]:
    with (
        dask.config.set(UNMANAGED | {"distributed.scheduler.worker-saturation": 1.0}),
        LocalCluster(n_workers=0, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        found = Desk(lab, cluster, client)
        yield found
        found.call(found.scheduler.validate_state)
