"""What a daskserver is started with, and what that means for Dask."""

from __future__ import annotations

import json
import logging
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from hashserver.retry import pauses

from ...errors import UsageError

if TYPE_CHECKING:
    from hashserver.storage.options import StorageOptions

    from .credentials import Credentials

logger = logging.getLogger(__name__)

FILE, PORTS, OPTIONS = "settings.json", "ports.json", "storage-options.json"
OF_THE_ASKER = (
    *("cache", "store", "database", "databases", "hashserver", "daskserver", "token_file", "ca_file"),
    *("profile", "credentials", "storage_options"),
)
"""Keys of the configuration that say where things are for whoever starts a daskserver."""
PORT_SECONDS = 5.0
"""How long the ports of the last time are waited for: one that was killed may not have let go of them."""


class DaskserverSettings(NamedTuple):
    """What ``seamless-daskserver start`` was told; all paths are absolute."""

    directory: str
    """The daskserver's own directory, which nobody else can enter."""
    name: str
    cache: str
    store: str
    """Where the hashserver keeps buffers."""
    database: str
    cluster: str = "local"
    host: str | None = None
    """Name or address to listen at; None: what the cluster needs."""
    interface: str | None = None
    port: int | None = None
    """First of three that follow each other; None: those of the last time, else any."""
    minimum: int = 0
    maximum: int | None = None
    threads: int | None = None
    memory: int | None = None
    queues: tuple[str, ...] = ()
    resources: tuple[tuple[str, float], ...] = ()
    hashserver: str | None = None
    """URL of one that runs already; None: one of our own."""
    token_file: str | None = None
    ca_file: str | None = None
    worker_store: str | None = None
    """Where workers reach the same buffers by themselves."""
    idle_timeout: float | None = None
    insecure: bool = False
    in_job: bool = False
    """In a job of the cluster, and not on the host of whoever starts it."""
    job_queue: str | None = None
    job_memory: int | None = None
    job_time_limit: float | None = None
    dask: str | None = None
    """Dask's configuration where it was started: in a job it may be another one that is found."""
    shared: tuple[tuple[str, int], ...] = ()
    """Directories that must be the same ones in a job, with their inodes."""
    store_timeout: float = 60.0
    """How long nothing may move in a request to a store."""
    storage_options: tuple[StorageOptions, ...] = ()
    """What is told about `store` and `worker_store`; the process finds it in a file of its own."""

    @property
    def options_file(self) -> str | None:
        """Path of the file with storage options, if there is one."""
        path = self.file(OPTIONS)
        return path if os.path.exists(path) else None

    def file(self, name: str) -> str:
        """Path of a file of the daskserver's directory."""
        return os.path.join(self.directory, name)


class Ports(NamedTuple):
    """Where the services listened the last time: clients that wait look there. 0 is any."""

    scheduler: int = 0
    jobserver: int = 0
    hashserver: int = 0


def write(settings: DaskserverSettings) -> None:
    """Write the file that the daskserver's process reads."""
    from hashserver.storage.options import write as write_options

    _write_json(settings.file(FILE), settings._replace(storage_options=())._asdict())
    try:
        write_options(settings.file(OPTIONS), settings.storage_options)
    except OSError as error:
        raise UsageError(f"cannot write {settings.file(OPTIONS)}: {error.strerror}") from None


def read(directory: str) -> DaskserverSettings:
    """Return what a daskserver is to be started with.

    Raises
    ------
    UsageError
        If there is nothing usable.
    """
    try:
        with open(os.path.join(directory, FILE), "rb") as file:
            found: dict[str, Any] = json.load(file)
        found["queues"] = tuple(found["queues"])
        for name in ("resources", "shared"):
            found[name] = tuple((key, value) for key, value in found[name])
        found["storage_options"] = ()
        return DaskserverSettings(**found)
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"no settings in {directory}: seamless-daskserver start writes them") from None


def to_share(*paths: str) -> tuple[tuple[str, int], ...]:
    """Return directories as `DaskserverSettings.shared` has them; they are made if need be.

    Raises
    ------
    UsageError
        One cannot be made.
    """
    try:
        for path in paths:
            os.makedirs(path, exist_ok=True)
        return tuple((path, os.stat(path).st_ino) for path in dict.fromkeys(paths))
    except OSError as error:
        raise UsageError(f"cannot make {error.filename}: {error.strerror}") from None


def refuse_unshared(settings: DaskserverSettings) -> None:
    """Refuse to keep things where they would be found on this host only.

    Raises
    ------
    UsageError
        A directory is not the one that `to_share` has seen.
    """
    for path, inode in settings.shared:
        if not os.path.isdir(path) or os.stat(path).st_ino != inode:
            raise UsageError(
                f"{path} is another directory on {os.uname().nodename}: --in-job needs store and database"
                " on a file system that the nodes share"
            )


def free_ports(settings: DaskserverSettings, address: str) -> Ports:
    """Return the ports to listen at: as told, else those of the last time, as far as they are free.

    Those of one that was killed are free when the last of its processes has gone, which takes a moment:
    clients that wait there are not to lose it.

    Raises
    ------
    UsageError
        If one of those that the command line names is taken.
    """
    if settings.port is not None:
        ports = Ports(*range(settings.port, settings.port + 3))
        if busy := [port for port in ports if not _is_free(address, port)]:
            raise UsageError(f"port {busy[0]} is in use: --port names the first of three that are free")
        return ports
    last = _last_ports(settings)
    for pause in pauses(0.05, seconds=PORT_SECONDS):
        ports = Ports(*(port if _is_free(address, port) else 0 for port in last))
        if ports == last:
            break
        time.sleep(pause)
    if ports != last:
        logger.warning("ports of the last time are in use: clients that wait there will not find this one")
    return ports


def _last_ports(settings: DaskserverSettings) -> Ports:
    try:
        with open(settings.file(PORTS), "rb") as file:
            return Ports(*(int(port) for port in json.load(file)))
    except (OSError, ValueError, TypeError):
        return Ports()


def _is_free(address: str, port: int) -> bool:
    import socket

    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((address, port))
            sock.listen(1)
        except (OSError, OverflowError):
            return False
    return True


def write_ports(settings: DaskserverSettings, ports: Ports) -> None:
    """Remember where the services listen."""
    _write_json(settings.file(PORTS), list(ports))


def _write_json(path: str, value: Any) -> None:
    from hashserver.atomic import write_atomic

    try:
        write_atomic(path, json.dumps(value, indent=2).encode() + b"\n", 0o600)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def address_of(settings: DaskserverSettings) -> str:
    """Return the address to listen at.

    That is what the command line names, else loopback for workers of this host, else what Dask's
    configuration of the batch system says, else the address under which this host reaches others.

    Raises
    ------
    UsageError
        For a host or interface that this machine does not have.
    """
    host, interface = settings.host, settings.interface
    if not host and not interface and settings.cluster != "local":
        host, interface = _configured(settings.cluster)
        host = None if settings.in_job else host  # that one is where it was started
    try:
        if interface:
            from distributed.utils import get_ip_interface

            return str(get_ip_interface(interface))
        if host:
            return _resolve(host)
    except (ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot listen at {interface or host}: {reason}") from None
    return "127.0.0.1" if settings.cluster == "local" else _reaching()


def _reaching() -> str:
    """Return the address under which this host reaches others."""
    import warnings

    from distributed.utils import get_ip

    with warnings.catch_warnings(), suppress(OSError):
        warnings.simplefilter("ignore")  # what it falls back to is refused here
        if not is_loopback(address := str(get_ip())):
            return address
    raise UsageError(
        f"cannot tell at which address jobs reach {os.uname().nodename}: say so with --host or --interface"
    )


def _configured(cluster: str) -> tuple[str | None, str | None]:
    """Return host and interface of the scheduler in Dask's configuration (``jobqueue.yaml``)."""
    import dask.config
    import dask_jobqueue  # noqa: F401 - brings the defaults of its configuration

    options = dask.config.get(f"jobqueue.{cluster}.scheduler-options", None) or {}
    interface = options.get("interface") or dask.config.get(f"jobqueue.{cluster}.interface", None)
    return options.get("host"), interface


def _resolve(host: str) -> str:
    import socket

    return str(socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][4][0])


def is_loopback(address: str) -> bool:
    """Whether only this host reaches an address."""
    return address.startswith("127.") or address == "::1"


def own_dask() -> str:
    """Return Dask's configuration as it is here, but for what it says of places, for `use_dask` elsewhere."""
    import dask.config

    return str(dask.config.serialize(_without_places(dask.config.config)))


def forget_places() -> None:
    """Leave in Dask's configuration nothing of places: here counts what the daskserver was told."""
    import dask.config

    dask.config.config["seamless"] = _without_places(dask.config.config)["seamless"]


def _without_places(config: dict[str, Any]) -> dict[str, Any]:
    section = config.get("seamless") or {}
    kept = {key: value for key, value in section.items() if key.replace("-", "_") not in OF_THE_ASKER}
    return config | {"seamless": kept}


def use_dask(serialized: str) -> None:
    """Have Dask's configuration be what it was elsewhere."""
    import dask.config

    dask.config.update(dask.config.config, dask.config.deserialize(serialized))


def dask_settings(credentials: Credentials) -> dict[str, Any]:
    """Return what Dask's configuration has to say in a daskserver, whatever the user's says.

    One who needs other values of these runs ``dask scheduler --preload seamless_dask.scheduler``.
    """
    secure = credentials.ca_file is not None
    return {
        # A transformation that waits on a worker behind one that takes an hour is not where a free
        # worker takes it from; the round trip that this costs is short beside a process's start.
        "distributed.scheduler.worker-saturation": 1.0,
        # the time-out is our own: what goes on at the jobserver and the hashserver counts
        "distributed.scheduler.idle-timeout": None,
        "distributed.scheduler.no-workers-timeout": None,
        # the proxy leads to other hosts' ports
        "distributed.scheduler.http.routes": [
            "distributed.http.scheduler.prometheus",
            "distributed.http.scheduler.info",
            "distributed.http.scheduler.json",
            "distributed.http.health",
            "distributed.http.statics",
        ],
        # workers listen for HTTP with no token: they have nothing to say there
        "distributed.worker.http.routes": [],
        "distributed.scheduler.dashboard.tls.cert": credentials.cert_file,
        "distributed.scheduler.dashboard.tls.key": credentials.key_file,
        "distributed.scheduler.dashboard.tls.ca-file": credentials.ca_file,
        # workers of a class of their own inherit it: no plain connection even by mistake
        "distributed.comm.require-encryption": secure,
        # a link that went down unnoticed (a laptop's sleep) is found out by the next message
        "distributed.comm.timeouts.tcp": "60s",
    }
