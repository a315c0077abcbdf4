"""``seamless-daskserver connect``: a daskserver on another host, as if it were here."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from seamless_dask.errors import UsageError

from ..console import OK, CommandError, Console
from ..table import Argument, group, value, values
from .daskserver_options import name_option

if TYPE_CHECKING:
    from seamless_dask.connection import ConnectionFile
    from seamless_dask.services.tunnel.target import TunnelTarget

    from ..table import ParsedArguments


OPTIONS = group(
    "Connection",
    value("--jump", metavar="HOST", help="go by way of this one: ssh's -J"),
    values("--ssh-option", metavar="KEY=VALUE", help="option for ssh: its -o"),
    value("--remote-name", metavar="NAME", help="what the daskserver is called there (as here)"),
)
DESTINATION = Argument("destination", "[USER@]HOST", "where it runs, as ssh has it")


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Connect, and stay connected in the background."""
    from seamless_dask.connection import STARTING
    from seamless_dask.locks import locked
    from seamless_dask.services.daskserver import control
    from seamless_dask.services.tunnel import remote, tunnel

    asked = _target(arguments)
    with locked(asked.file(STARTING)):
        found, before = control.find(asked.directory), _before(asked.directory)
        target = asked._replace(ports=before.ports) if before else asked  # clients that wait look there
        facts, fresh = found.connection, not found.alive
        if not fresh and (target != before or (facts and not remote.is_ours(target, facts))):
            raise UsageError(
                f"a daskserver {target.name!r} is here already: seamless-daskserver stop, or another --name"
            )
        if not fresh and tunnel.state(target.directory) and sys.stdin.isatty():
            _log_in(target)  # the process that waits for the connection takes it over
        if fresh:
            facts = _connect(target)
    if facts is None:
        raise CommandError("it is connecting or disconnecting: look again")
    _report(target, facts, fresh, console)
    return OK


def _target(arguments: ParsedArguments) -> TunnelTarget:
    from seamless_dask.config import load
    from seamless_dask.services.daskserver.control import private_place
    from seamless_dask.services.tunnel.target import TunnelTarget

    from ..opening import with_trust

    for host in (arguments.destination, arguments.jump or "none"):
        if not host or host.startswith("-"):
            raise UsageError(f"{host!r} is no host")
    config = with_trust(lambda: load({"profile": arguments.profile}, remote=False))
    return TunnelTarget(
        private_place(config.cache, arguments.name),
        arguments.name,
        arguments.destination,
        arguments.remote_name or arguments.name,
        arguments.jump,
        tuple(arguments.ssh_option),
    )


def _before(directory: str) -> TunnelTarget | None:
    """Return what this name was connected to the last time."""
    from seamless_dask.services.tunnel.target import read

    try:
        return read(directory)
    except UsageError:
        return None


def _connect(target: TunnelTarget) -> ConnectionFile:
    from seamless_dask.services.tunnel import tunnel
    from seamless_dask.services.tunnel.ssh import NotAllowed
    from seamless_dask.services.tunnel.target import write

    write(target)
    try:
        return tunnel.start(target)
    except NotAllowed as error:
        if not sys.stdin.isatty():
            raise UsageError(str(error)) from None
    _log_in(target)  # a password, or a code from a telephone: ssh asks for it on this terminal
    return tunnel.start(target)


def _log_in(target: TunnelTarget) -> None:
    from seamless_dask.services.tunnel.ssh import login_command

    if subprocess.run(login_command(target), check=False).returncode:
        raise CommandError(f"ssh to {target.destination} failed")


def _report(target: TunnelTarget, facts: ConnectionFile, fresh: bool, console: Console) -> None:
    path = target.file("connection.json")
    state = "connected" if fresh else "connected already"
    console.note(f"{state} to the daskserver {target.remote_name!r} by way of {target.destination}:")
    lines = [
        f"export SEAMLESS_DASKSERVER={path}",
        f"page        {facts.jobserver}/seamless  (the token: {facts.token_file})",
        f"dashboard   {facts.jobserver}/status",
        f"disconnect  seamless-daskserver stop{name_option(target.name)}",
    ]
    if console.json or console.verbosity > -1:
        console.facts({"connected": True, "started": fresh, "connection": path, **facts._asdict()}, lines)


def problems(directory: str) -> list[str]:
    """Return what keeps a connection from working just now."""
    if not os.path.exists(os.path.join(directory, "tunnel.json")):
        return []
    from seamless_dask.services.tunnel.tunnel import state

    problem = state(directory)
    return [f"{problem}; trying again"] if problem else []
