"""How a worker comes to be: as a process of this host, or as a job of a batch system."""

from __future__ import annotations

import os
import shlex
import socket
from typing import Any, Protocol

import dask.config
from dask.utils import parse_bytes

from ...errors import UsageError
from ...model.requirements import CPUS, GPU, MEMORY, NODE, QUEUE
from . import batch, jobscript
from .batch import Shape
from .jobscript import Files
from .load import Base, threads_of

ENDLESS = 1e6
"""Amount of a resource that only says what a worker is."""


class Process(Protocol):
    """What Dask calls a process interface: a worker or a job that starts and closes."""

    async def start(self) -> Any:
        """Start it, or hand it to the batch system."""

    async def close(self) -> Any:
        """End it."""


class Launcher(Protocol):
    """Starts workers of one kind."""

    kind: str
    base: Base

    def make(self, shape: Shape, name: str) -> Process:
        """Return a worker that can be started.

        Raises
        ------
        UsageError
            There is none of that shape.
        """

    def names(self, name: str) -> list[str]:
        """Return the names under which the scheduler will know it."""


def announced(shape: Shape, base: Base) -> dict[str, float]:
    """Return the Dask resources of a worker of a shape."""
    found: dict[str, float] = {CPUS: threads_of(shape, base), MEMORY: shape.memory or base.memory}
    found |= dict(base.resources) | dict(shape.extra)
    if shape.gpus:
        found[GPU] = shape.gpus
    if queue := shape.queue or base.queue:
        found[f"{QUEUE}{queue}"] = ENDLESS
    if shape.node:
        found[f"{NODE}{shape.node}"] = ENDLESS
    return found


def variables(shape: Shape, base: Base) -> dict[str, str]:
    """Return what a worker finds in its environment about itself."""
    queue = shape.queue or base.queue
    found = {"SEAMLESS_WORKER_CPUS": str(threads_of(shape, base)), jobscript.NO_HTTP: "[]"}
    return found | ({"SEAMLESS_WORKER_QUEUE": queue} if queue else {})


class LocalLauncher:
    """Worker processes of this host, under a nanny that lives in this process."""

    kind = "local"

    def __init__(
        self, scheduler: Any, base: Base, queues: tuple[str, ...], files: Files, directory: str
    ) -> None:
        self.scheduler, self.base, self.queues, self.files = scheduler, base, queues, files
        self.directory = directory

    def make(self, shape: Shape, name: str) -> Process:
        """Return a nanny."""
        from distributed import Nanny

        self._refuse(shape)
        nanny: Process = Nanny(
            self.scheduler.address,
            name=name,
            nthreads=threads_of(shape, self.base),
            memory_limit=shape.memory + batch.HEADROOM if shape.memory else self.base.memory,
            resources=announced(shape, self.base),
            security=self.scheduler.security,
            local_directory=self.directory,
            env=variables(shape, self.base) | self.files.variables(),
            host=_host(self.scheduler.address),
            dashboard=False,
            dashboard_address="127.0.0.1:0",
            # the daskserver's death ends its workers: they notice a scheduler that is gone at once, but not
            # one that was never there
            death_timeout=60,
            config={"distributed.worker.http.routes": []},
        )
        return nanny

    def names(self, name: str) -> list[str]:
        """Return its name."""
        return [name]

    def _refuse(self, shape: Shape) -> None:
        cpus, memory = os.cpu_count() or 1, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if shape.cpus > cpus:
            raise UsageError(f"cpus={shape.cpus} is more than this host has: {cpus}")
        if shape.memory > memory:
            raise UsageError(f"memory={shape.memory} is more than this host has: {memory}")
        if shape.gpus:
            raise UsageError(
                "no worker has a GPU: start the daskserver with --resource GPU=1 if this host has one"
            )
        if shape.queue and shape.queue not in self.queues:
            raise UsageError(f"no queue {shape.queue!r}; there is {', '.join(self.queues) or 'none'}")
        if shape.node not in (None, socket.gethostname()):
            raise UsageError(f"no worker is on {shape.node}: they are all on {socket.gethostname()}")
        if shape.extra:
            raise UsageError(f"no worker has {shape}")


def _host(address: str) -> str | None:
    """Return where workers of this host listen: on loopback when the scheduler does."""
    host = address.rpartition("://")[2].rpartition(":")[0]
    return host if host in ("127.0.0.1", "[::1]", "localhost") else None


class JobLauncher:
    """Jobs of a batch system, as dask-jobqueue submits them and Dask's configuration describes them."""

    def __init__(
        self,
        scheduler: Any,
        kind: str,
        base_options: dict[str, Any],
        base: Base,
        queues: tuple[str, ...],
        files: Files,
        directory: str,
        name: str,
    ) -> None:
        self.scheduler, self.kind, self.base, self.queues, self.files = scheduler, kind, base, queues, files
        self.options, self.server = base_options, name
        self.carries = kind not in batch.INLINE
        job = batch.job_class(kind)
        self.job_class = type(job.__name__, (jobscript.PrivateJob, job), {"directory": directory})
        self.cancel_command: str = job.cancel_command  # type: ignore[attr-defined]

    def make(self, shape: Shape, name: str) -> Process:
        """Return a job."""
        if shape.queue and self.queues and shape.queue not in self.queues:
            raise UsageError(f"no queue {shape.queue!r}; there is {', '.join(self.queues)}")
        options = batch.options(self.kind, shape, self.options)
        own = batch.setting(self.kind, "job-script-prologue") or []
        python = batch.interpreter(self.kind)
        job: Process = self.job_class(
            self.scheduler.address,
            name=name,
            job_name=self._job_name(),
            job_script_prologue=[*self._prologue(shape, name), *own],
            python=f"seamless_worker {python}" if self.carries else python,
            worker_extra_args=self._worker_arguments(shape),
            **options,
        )
        return job

    def names(self, name: str) -> list[str]:
        """Return its name, or those of its processes."""
        number = self.options["processes"]
        return [f"{name}-{i}" for i in range(number)] if number > 1 else [name]

    def _job_name(self) -> str:
        name = batch.setting(self.kind, "name")
        return str(name) if name and name != "dask-worker" else f"seamless-{self.server}"

    def _prologue(self, shape: Shape, name: str) -> list[str]:
        environment = variables(shape, self.base)
        if not self.carries:
            return jobscript.naming(self.files, environment)
        log = None if batch.setting(self.kind, "log-directory") else name
        cache = dask.config.get("seamless.worker-cache", None)
        word = shlex.quote(cache) if cache else '"/tmp/seamless-$(id -un)"'
        return jobscript.carrying(self.files, environment, word, log)

    def _worker_arguments(self, shape: Shape) -> list[str]:
        resources = ",".join(f"{name}={amount}" for name, amount in announced(shape, self.base).items())
        words = [*(batch.setting(self.kind, "worker-extra-args") or [])]
        words += jobscript.tls_options(self.files, self.carries)
        words += [
            "--no-dashboard",
            "--dashboard-address",
            "127.0.0.1:0",
            "--resources",
            shlex.quote(resources),
        ]
        if self.carries and not batch.setting(self.kind, "local-directory"):
            words += ["--local-directory", '"$seamless"']
        return words


def job_base(kind: str, threads: int | None, memory: int | None) -> dict[str, Any]:
    """Return cores, memory and processes of a job: as asked for, else as ``jobqueue.yaml`` says.

    Raises
    ------
    UsageError
        Nobody has said.
    """
    batch.job_class(kind)
    cores, total = threads or batch.setting(kind, "cores"), memory or batch.setting(kind, "memory")
    if not cores or not total:
        raise UsageError(
            f"how large is a job? Say so with --threads and --memory,"
            f" or as jobqueue.{kind}.cores and .memory in Dask's configuration"
        )
    processes = 1 if threads else batch.setting(kind, "processes") or 1
    return {"cores": int(cores), "memory": parse_bytes(total), "processes": int(processes)}
