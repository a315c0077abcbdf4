"""``seamless-daskserver connect``: a daskserver on another host, as if it were here."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from seamless_dask.errors import UsageError

from .console import OK, CommandError, Console

if TYPE_CHECKING:
    from seamless_dask.services.connection import Connection
    from seamless_dask.services.ssh import Target


def add_options(table: argparse.ArgumentParser) -> None:
    """Add the options of ``connect``."""
    table.add_argument("destination", metavar="[USER@]HOST", help="where it runs, as ssh has it")
    table.add_argument("--jump", metavar="HOST", help="go by way of this one: ssh's -J")
    table.add_argument(
        "--ssh-option", action="append", default=[], metavar="KEY=VALUE", help="option for ssh: its -o"
    )
    table.add_argument(
        "--remote-name", metavar="NAME", help="what the daskserver is called there; by default as here"
    )


def execute(arguments: argparse.Namespace, console: Console) -> int:
    """Connect, and stay connected in the background."""
    from seamless_dask.locks import locked
    from seamless_dask.services import control, tunnel

    target = _target(arguments)
    with locked(target.file(control.STARTING)):
        found = control.find(target.directory)
        if found.alive and not _is_same(target):
            raise UsageError(
                f"a daskserver {target.name!r} is here already: seamless-daskserver stop, or another --name"
            )
        fresh = not found.alive
        if not fresh and tunnel.state(target.directory) and sys.stdin.isatty():
            _log_in(target)  # the process that waits for the connection takes it over
        facts = _connect(target) if fresh else found.connection
    if facts is None:
        raise CommandError("it is connecting or disconnecting: look again")
    _report(target, facts, fresh, console)
    return OK


def _target(arguments: argparse.Namespace) -> Target:
    from seamless_dask.config import load
    from seamless_dask.services.control import private_place
    from seamless_dask.services.ssh import Target, read

    if arguments.destination.startswith("-") or (arguments.jump or "").startswith("-"):
        raise UsageError(f"{arguments.destination!r} is no host")
    directory = private_place(load({"profile": arguments.profile}, remote=False).cache, arguments.name)
    target = Target(
        directory,
        arguments.name,
        arguments.destination,
        arguments.remote_name or arguments.name,
        arguments.jump,
        tuple(arguments.ssh_option),
    )
    try:
        return target._replace(ports=read(directory).ports)  # clients that wait look there
    except UsageError:
        return target


def _is_same(target: Target) -> bool:
    from seamless_dask.services.ssh import read

    try:
        return read(target.directory) == target
    except UsageError:
        return False


def _connect(target: Target) -> Connection:
    from seamless_dask.services import ssh, tunnel

    ssh.write(target)
    try:
        return tunnel.until_connected(target, tunnel.start(target))
    except ssh.NotAllowed as error:
        if not sys.stdin.isatty():
            raise UsageError(str(error)) from None
    _log_in(target)  # a password, or a code from a telephone: ssh asks for it on this terminal
    return tunnel.until_connected(target, tunnel.start(target))


def _log_in(target: Target) -> None:
    from seamless_dask.services.ssh import login_command

    if subprocess.run(login_command(target), check=False).returncode:
        raise CommandError(f"ssh to {target.destination} failed")


def _report(target: Target, facts: Connection, fresh: bool, console: Console) -> None:
    path = target.file("connection.json")
    state = "connected" if fresh else "connected already"
    console.note(f"{state} to the daskserver {target.remote_name!r} by way of {target.destination}:")
    name = "" if target.name == "default" else f" --name {target.name}"
    lines = [
        f"export SEAMLESS_DASKSERVER={path}",
        f"page        {facts.jobserver}/seamless  (the token: {facts.token_file})",
        f"dashboard   {facts.jobserver}/status",
        f"disconnect  seamless-daskserver stop{name}",
    ]
    if console.json or console.verbosity > -1:
        console.facts({"connected": True, "started": fresh, "connection": path, **facts._asdict()}, lines)


def problems(directory: str) -> list[str]:
    """Return what keeps a connection from working just now."""
    if not os.path.exists(os.path.join(directory, "tunnel.json")):
        return []
    from seamless_dask.services.tunnel import state

    problem = state(directory)
    return [f"{problem}; trying again"] if problem else []
