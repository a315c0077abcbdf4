"""fsspec's SFTP file system with the manners of ``ssh``: known hosts, the user's configuration and keys."""

from __future__ import annotations

import logging
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import paramiko
from fsspec.implementations.sftp import SFTPFileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_CHANNELS = 8  # sshd permits ten on one connection
_KEEPALIVE_SECONDS = 15
_LATER = 2  # times the patience of whoever waits: he gives a channel up before it does, and says why
_WINDOW = 256  # requests of 32 KiB on their way in one download: paramiko keeps what comes until it is taken

# its threads print what goes wrong with a traceback, if nobody listens; whoever waits gets the error
logging.getLogger("paramiko").addHandler(logging.NullHandler())


def _leave_out_prefetching(hook: Callable[[threading.ExceptHookArgs], object]) -> Any:
    """Return `hook` without what paramiko's threads raise that ask for parts of a file ahead.

    They are in the middle of asking when a silent connection is closed under them, and nobody waits for them:
    whoever reads the file gets the error.
    """

    def filtered(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread is not None else ""
        if not (name.endswith("(_prefetch_thread)") and isinstance(args.exc_value, OSError | EOFError)):
            hook(args)

    return filtered


threading.excepthook = _leave_out_prefetching(threading.excepthook)


class UnknownHost(paramiko.SSHException):  # type: ignore[misc]
    """A host that is in no file of known hosts."""


class _Refuse(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        raise UnknownHost(f"{hostname} is not among the known hosts")


class _Window(int):
    """How many requests of one download may be on their way; any number once its channel is closed.

    paramiko's thread that asks ahead compares with it before each request, and waits while as many are on
    their way. When nobody takes answers any more that is for ever, unless it goes on: to ask on a closed
    channel is an error, and ends it.
    """

    channel: paramiko.Channel
    is_used = False

    def __gt__(self, number: int) -> bool:
        self.is_used = True
        return self.channel.closed or super().__gt__(number)


class KnownHosts(SFTPFileSystem):  # type: ignore[misc]
    """Connects to hosts that ``ssh`` knows, and to no others: a password must not go to a stranger.

    Its methods are called within `own_channel`: when two threads wait for answers on one SFTP channel,
    paramiko drops those that the other one reads, so each has a channel while it needs one.
    """

    seconds = 60.0
    """How long an answer may take."""

    def __init__(self, host: str, *, seconds: float = 60.0, **arguments: Any) -> None:
        self.seconds = seconds
        super().__init__(host, **arguments)

    @property
    def ftp(self) -> paramiko.SFTPClient:
        """The channel of this thread."""
        return self._mine.channel

    @contextmanager
    def own_channel(self) -> Iterator[None]:
        """Hold one of a few channels over the one connection; the caller holds one of `slots`."""
        channel = self._idle.pop() if self._idle else self._new_channel()
        self._mine.channel = channel
        try:
            yield
        except TimeoutError:
            channel.close()  # the answer may still come
            raise
        except OSError:
            if not channel.get_channel().closed:  # an answer like any other
                self._idle.append(channel)
            raise
        except BaseException:
            channel.close()  # interrupted: an answer may still be on its way
            raise
        else:
            self._idle.append(channel)
        finally:
            self._mine.channel = None

    def _new_channel(self) -> paramiko.SFTPClient:
        if self.is_lost():  # others gave it up while this one waited for its turn
            raise paramiko.SSHException("the connection was closed")
        channel = self.client.open_sftp()
        channel.get_channel().settimeout(_LATER * self.seconds)
        return channel

    def get_file(self, rpath: str, lpath: str, callback: Any = None, **_: Any) -> None:
        """Fetch a file, telling `callback` how it gets on."""
        window = _Window(_WINDOW)
        window.channel = self.ftp.get_channel()
        try:
            self.ftp.get(
                self._strip_protocol(rpath), lpath, _teller(callback), max_concurrent_prefetch_requests=window
            )
        except BaseException:
            if window.is_used:  # there are answers on their way to nobody, and more may be asked for
                window.channel.close()
            raise

    def put_file(self, lpath: str, rpath: str, callback: Any = None, **_: Any) -> None:
        """Send a file, telling `callback` how it gets on; its directory must be there."""
        self.ftp.put(lpath, self._strip_protocol(rpath), _teller(callback))

    def give_up(self) -> None:
        """Close the connection; all calls that wait for an answer fail."""
        self.client.close()

    hang_up = give_up

    def is_lost(self) -> bool:
        """Whether the session has ended, after sleep or a restart."""
        transport = self.client.get_transport()
        return transport is None or not transport.is_active()

    def _connect(self) -> None:
        self.client = paramiko.SSHClient()
        self.client.load_system_host_keys()
        system = "/etc/ssh/ssh_known_hosts"
        if os.path.exists(system):
            self.client.load_system_host_keys(system)
        self.client.set_missing_host_key_policy(_Refuse())
        try:
            self.client.connect(self.host, **self.ssh_kwargs)
        except BaseException as error:
            self.client.close()  # else its thread stays
            if "No authentication methods" in str(error):
                raise paramiko.AuthenticationException("there is no key, agent or password") from error
            raise
        self.client.get_transport().set_keepalive(_KEEPALIVE_SECONDS)  # so that no firewall forgets it
        self._mine = threading.local()
        self.slots = threading.BoundedSemaphore(_CHANNELS)
        self._idle: list[paramiko.SFTPClient] = []


def connect(url: str, options: dict[str, Any], seconds: float) -> tuple[KnownHosts, str]:
    """Connect to an ``sftp://[user[:password]@]host[:port]/path`` URL; return file system and path."""
    waits = dict.fromkeys(("timeout", "banner_timeout", "auth_timeout"), seconds)
    waits["channel_timeout"] = _LATER * seconds
    arguments = {**waits, **KnownHosts._get_kwargs_from_urls(url)}
    arguments = {**_configured(arguments), **options}
    arguments |= {"key_filename": _at_home(arguments["key_filename"])} if "key_filename" in arguments else {}
    # a session of our own: it is closed with the store, which must not close that of others
    fs = KnownHosts(skip_instance_cache=True, seconds=seconds, **arguments)
    return fs, KnownHosts._strip_protocol(url).rstrip("/")


def _at_home(files: Any) -> Any:
    if isinstance(files, list):
        return [_at_home(file) for file in files]
    return os.path.expanduser(files) if isinstance(files, str) else files


def _teller(callback: Any) -> Any:
    return None if callback is None else lambda done, _: callback.absolute_update(done)


def _configured(arguments: dict[str, Any]) -> dict[str, Any]:
    """Add what the user's ``~/.ssh/config`` says of the host; the URL goes before."""
    path = os.path.expanduser("~/.ssh/config")
    if not os.path.exists(path):
        return arguments
    entry = paramiko.SSHConfig.from_path(path).lookup(arguments["host"])
    found: dict[str, Any] = {"host": entry.get("hostname", arguments["host"])}
    if "port" in entry:
        found["port"] = int(entry["port"])
    if "user" in entry:
        found["username"] = entry["user"]
    if "identityfile" in entry:
        found["key_filename"] = [name for name in entry["identityfile"] if os.path.exists(name)]
    if "proxycommand" in entry:
        found["sock"] = paramiko.ProxyCommand(entry["proxycommand"])
    return {**found, **arguments, "host": found["host"]}
