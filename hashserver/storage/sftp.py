"""fsspec's SFTP file system with the manners of ``ssh``: known hosts, the user's configuration and keys."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import paramiko
from fsspec.implementations.sftp import SFTPFileSystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_CHANNELS = 8  # sshd permits ten on one connection


class UnknownHost(paramiko.SSHException):  # type: ignore[misc]
    """A host that is in no file of known hosts."""


class _Refuse(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    def missing_host_key(self, client: Any, hostname: str, key: Any) -> None:
        raise UnknownHost(f"{hostname} is not among the known hosts")


class KnownHosts(SFTPFileSystem):  # type: ignore[misc]
    """Connects to hosts that ``ssh`` knows, and to no others: a password must not go to a stranger.

    Its methods are called within `own_channel`: when two threads wait for answers on one SFTP channel,
    paramiko drops those that the other one reads, so each has a channel while it needs one.
    """

    @property
    def ftp(self) -> paramiko.SFTPClient:
        """The channel of this thread."""
        return self._mine.channel

    @contextmanager
    def own_channel(self) -> Iterator[None]:
        """Hold one of a few channels over the one connection."""
        with self._slots:
            channel = self._idle.pop() if self._idle else self.client.open_sftp()
            self._mine.channel = channel
            try:
                yield
            except OSError:
                self._idle.append(channel)  # an answer like any other
                raise
            except BaseException:
                channel.close()  # interrupted: an answer may still be on its way
                raise
            else:
                self._idle.append(channel)
            finally:
                self._mine.channel = None

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
        self._mine = threading.local()
        self._slots = threading.BoundedSemaphore(_CHANNELS)
        self._idle: list[paramiko.SFTPClient] = []


def connect(url: str, options: dict[str, Any]) -> tuple[KnownHosts, str]:
    """Connect to an ``sftp://[user[:password]@]host[:port]/path`` URL; return file system and path."""
    arguments = {"timeout": 30, **KnownHosts._get_kwargs_from_urls(url)}
    arguments = {**_configured(arguments), **options}
    # a session of our own: it is closed with the store, which must not close that of others
    return KnownHosts(skip_instance_cache=True, **arguments), KnownHosts._strip_protocol(url).rstrip("/")


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
