"""The parts of a daskserver: scheduler with plugin, jobserver, page, hashserver, workers."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from ... import connection
from ...client.security import security_of
from ...config import load
from ...context import Context
from ...errors import UsageError
from ...worker.data_locations import DataLocations
from . import credentials, settings
from .hashserver_process import HashserverChild
from .settings import DaskserverSettings, Ports

if TYPE_CHECKING:
    from distributed import Scheduler

    from hashserver.client.transport import Transport

    from ...config import Config
    from ..cluster.autoscaler import Autoscaler
    from ..cluster.jobscript import Files
    from ..cluster.opening import Workers
    from ..jobserver.jobserver import Jobserver
    from ..plugin import SeamlessScheduler
    from .health import Losses

logger = logging.getLogger(__name__)

CLOSE_LIMIT = 10.0
"""Seconds that the scheduler gets to take leave of clients and workers."""


class HashserverPlace(NamedTuple):
    """A hashserver, and the files that open it."""

    url: str
    token_file: str | None
    ca_file: str | None


class Daskserver:
    """All parts of one daskserver.

    Parameters
    ----------
    told
        What it is started with.
    """

    plugin: SeamlessScheduler
    scheduler: Scheduler
    jobserver: Jobserver
    losses: Losses
    autoscaler: Autoscaler

    def __init__(self, told: DaskserverSettings) -> None:
        self.settings = told
        self.started = time.time()
        self.own: HashserverChild | None = None
        """The hashserver, unless one was named."""

    async def open(self, stack: AsyncExitStack) -> None:
        """Start the parts, one on top of the other; leaving `stack` ends them in the other order."""
        import dask.config

        from ..cluster.opening import open_cluster

        told = self.settings
        settings.refuse_unshared(told)
        self.address = settings.address_of(told)
        if told.insecure and not settings.is_loopback(self.address):
            raise UsageError(f"--insecure is for loopback only, and this would listen at {self.address}")
        self.credentials = credentials.make(told.directory, [self.address], told.insecure)
        self.certificate_end = credentials.end_of(self.credentials)
        dask.config.set(settings.dask_settings(self.credentials))
        ports = settings.free_ports(told, self.address)
        await self._open_hashserver(stack, ports.hashserver)
        await self._open_scheduler(stack, ports)
        cluster = open_cluster(self.scheduler, self._workers(), self._files(), told.directory, self._tell_end)
        self.autoscaler = await stack.enter_async_context(cluster)
        self.jobserver.why = self.autoscaler.why
        self.plugin.recovery.expects_more = self.autoscaler.expects_more
        self.plugin.recovery.is_told = self.autoscaler.tells
        self._announce(stack)

    def _tell_end(self, worker: str, how: str) -> None:
        """Pass on how a worker came to its end."""
        self.plugin.recovery.tell(worker, how)
        self.losses.tell(worker, how)

    async def _open_hashserver(self, stack: AsyncExitStack, port: int) -> None:
        told = self.settings
        if told.hashserver:
            self.place = HashserverPlace(told.hashserver, told.token_file, told.ca_file)
            return
        self.own = HashserverChild(told, self.address, port, self.credentials)
        stack.push_async_callback(self.own.stop)
        await self.own.start()
        self.place = HashserverPlace(self.own.url, self.credentials.token_file, self.credentials.ca_file)

    async def _open_scheduler(self, stack: AsyncExitStack, ports: Ports) -> None:
        from ...scheduler.dask.assumptions import NotAsAssumed
        from ..jobserver import opening
        from ..plugin import SeamlessScheduler
        from ..web import guard, page, redirect
        from ..web.direct import DirectHits
        from . import health

        self.losses = health.Losses()
        config = self._configuration()
        self.plugin = SeamlessScheduler(config, self._worker_places(config))
        self.scheduler = self._new_scheduler(ports)
        stack.push_async_callback(self._close_scheduler)
        # its HTTP server listens already, but answers nobody before the next await
        guard.install(self.scheduler, self.credentials.token_file)
        health.install(self.scheduler, self.facts, lambda: signal.raise_signal(signal.SIGTERM))
        try:
            page.install(self.scheduler, self.plugin)
            if self.own:
                self.scheduler.http_application.settings[page.NAME].direct = DirectHits(self._transport)
            if not self.settings.insecure:
                redirect.install(self.scheduler)
        except NotAsAssumed as error:
            logger.warning("no page beside Dask's own: %s", error)
        await self.scheduler
        self.jobserver = await opening.install(self.scheduler, self.plugin, self.settings.directory)
        stack.push_async_callback(self.jobserver.close)

    @property
    def _host(self) -> str:
        """The address as it stands before a port."""
        return f"[{self.address}]" if ":" in self.address else self.address

    def _new_scheduler(self, ports: Ports) -> Scheduler:
        from distributed import Scheduler

        return Scheduler(
            host=self._host,
            port=ports.scheduler,
            protocol="tcp" if self.settings.insecure else "tls",
            security=security_of(self.credentials),
            dashboard=True,
            # as a string it may have but one colon
            dashboard_address=[(self.address, ports.jobserver)],  # type: ignore[arg-type]
            plugins=[self.plugin, self.losses],
        )

    async def _close_scheduler(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self.scheduler.close(reason="the daskserver was stopped"), CLOSE_LIMIT)

    def _configuration(self) -> Config:
        """Return where the scheduler looks results up."""
        place = self.place
        given: dict[str, Any] = {"cache": self.settings.cache, "hashserver": place.url}
        given |= {"token_file": place.token_file, "ca_file": place.ca_file}
        return load(given, "/", remote=False)

    def _worker_places(self, config: Config) -> DataLocations:
        """Return where workers find buffers: directly where they can, else by the hashserver."""
        places, told = DataLocations.of(config), self.settings
        if told.worker_store:
            stores = told.worker_store, self.place.url
            return places._replace(stores=stores, host=None, beacon=self._beacon(config))
        if os.path.isabs(told.store):
            return places._replace(stores=(told.store, self.place.url))
        return places

    def _beacon(self, config: Config) -> str:
        """Store a buffer by which workers tell our store from an empty directory of the same name."""
        told = self.settings
        text = f"the store {told.store} of {told.directory} on {os.uname().nodename}\n"
        with Context(config).store as store:
            return store.put(text.encode())

    def _workers(self) -> Workers:
        from ..cluster.opening import Workers

        told = self.settings
        return Workers(
            kind=told.cluster,
            name=told.name,
            minimum=told.minimum,
            maximum=told.maximum,
            threads=told.threads,
            memory=told.memory,
            queues=told.queues,
            resources=told.resources,
        )

    def _files(self) -> Files:
        from ..cluster.jobscript import Files

        own = self.credentials
        told = self.settings
        options = told.options_file if told.worker_store else None
        tls = own.ca_file, own.cert_file, own.key_file
        return Files(self.place.token_file, self.place.ca_file, *tls, options)

    def _announce(self, stack: AsyncExitStack) -> None:
        """Write the connection file, and remember the ports."""
        path = self.settings.file(connection.FILE)
        facts = self.connection()
        ports = (int(url.rpartition(":")[2]) for url in (facts.scheduler, facts.jobserver, facts.hashserver))
        if self.own is not None:
            settings.write_ports(self.settings, Ports(*ports))
        connection.write(path, facts)
        stack.callback(_remove, path)
        logger.info("ready: %s", path)

    def connection(self) -> connection.ConnectionFile:
        """Return what the connection file says."""
        own, scheme = self.credentials, "http" if self.settings.insecure else "https"
        return connection.ConnectionFile(
            name=self.settings.name,
            host=os.uname().nodename,
            pid=os.getpid(),
            started=self.started,
            jobserver=f"{scheme}://{self._host}:{self.scheduler.services['dashboard'].port}",
            scheduler=self.scheduler.address,
            hashserver=self.place.url,
            store=self.settings.store,
            token_file=own.token_file,
            hashserver_token_file=self.place.token_file or own.token_file,
            hashserver_ca_file=self.place.ca_file,
            ca_file=own.ca_file,
            cert_file=own.cert_file,
            key_file=own.key_file,
            insecure=self.settings.insecure,
        )

    async def until_over(self) -> None:
        """Wait until there has been nothing to do for long enough, or for ever."""
        from .health import Traffic, until_idle

        over = [asyncio.ensure_future(self.scheduler.finished())]
        if self.settings.idle_timeout:
            traffic = Traffic(self._transport()) if self.own else None
            over.append(
                asyncio.create_task(
                    until_idle(self.settings.idle_timeout, self._busy, traffic, self.scheduler)
                )
            )
        try:
            await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in over:
                task.cancel()

    def _busy(self) -> bool:
        """Whether jobs are waited for that are no task of the scheduler yet."""
        return bool(self.jobserver.registry.active)

    def _transport(self) -> Transport:
        from hashserver.auth import read_token_file
        from hashserver.client.transport import Transport

        token = read_token_file(self.credentials.token_file)[0].secret
        return Transport(self.place.url, token, self.place.ca_file)

    def facts(self) -> dict[str, Any]:
        """Return how all parts are, as JSON has it; no secret is in it."""
        from .health import scheduler_facts

        return {
            "name": self.settings.name,
            "host": os.uname().nodename,
            "pid": os.getpid(),
            "started": self.started,
            "scheduler": scheduler_facts(self.scheduler),
            "certificate_end": self.certificate_end,
            "stepped_aside": self.plugin.stepped_aside,
            "unequipped": dict(self.plugin.recovery.unequipped),
            "cluster": self.autoscaler.facts(),
            "hashserver": self._hashserver_facts(),
            "lost_workers": self.losses.found,
        }

    def _hashserver_facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"url": self.place.url, "own": self.own is not None}
        if self.own is not None:
            facts |= {"running": self.own.running, "pid": self.own.pid, "deaths": self.own.deaths}
        return facts


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)
