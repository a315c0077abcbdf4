"""``seamless-daskserver status``: how the parts of a daskserver are, and what to do about them."""

from __future__ import annotations

import os
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

from . import connect
from .console import ERROR, OK, Console, count_text

if TYPE_CHECKING:
    from seamless_dask.services.connection import Connection

RECENT = 600.0
"""Seconds for which a part that died and was started again is a problem, and not history."""
PATIENCE = 10.0
"""Seconds that the hashserver may take to say that it is well."""


def name_option(name: str) -> str:
    """Return what names a daskserver on the command line."""
    return "" if name == "default" else f" --name {name}"


def show(directory: str, name: str, console: Console) -> int:
    """Show how the daskserver of a directory is; return 1 when something is wrong."""
    from seamless_dask.services import control

    found = control.find(directory)
    problems: list[str] = []
    facts: dict[str, Any] = {"running": found.alive, "name": name}
    command = f"seamless-daskserver start{name_option(name)}"
    if found.died:
        log = os.path.join(directory, control.LOG)
        problems.append(f"the daskserver died: {command} carries on with the same data; see {log}")
    elif not found.alive:
        problems.append(f"no daskserver is running: {command}")
    elif found.connection is None:
        problems.append("the daskserver is starting or stopping: look again")
    else:
        facts |= _ask(found.connection, problems)
    problems += connect.problems(directory)
    facts["problems"] = problems
    console.facts(facts, _lines(facts))
    return ERROR if problems else OK


def _ask(connection: Connection, problems: list[str]) -> dict[str, Any]:
    """Return what the daskserver says of itself."""
    import json

    from hashserver.auth import read_token_file
    from hashserver.client.transport import Transport
    from hashserver.errors import HashserverError
    from seamless_dask.services.condition import PATH

    token = read_token_file(connection.token_file)[0].secret
    try:
        with Transport(connection.jobserver, token, connection.ca_file).request("GET", PATH) as response:
            body = response.read()
            if response.status != 200:
                problems.append(
                    f"the daskserver answers with status {response.status}: seamless-daskserver logs"
                )
                return {}
    except HashserverError as error:
        problems.append(f"{error}; seamless-daskserver stop ends it whatever state it is in")
        return {}
    facts: dict[str, Any] = json.loads(body)
    _judge(facts, problems)
    if facts["hashserver"].get("running", True):
        _try_hashserver(connection, problems)
    return facts


def _try_hashserver(connection: Connection, problems: list[str]) -> None:
    """Say so when the hashserver does not answer although it runs."""
    from hashserver.auth import read_token_file
    from hashserver.client.connection import Connection as HttpConnection
    from hashserver.client.transport import Transport
    from hashserver.errors import HashserverError

    class Impatient(Transport):
        def _connect(self) -> HttpConnection:
            found = super()._connect()
            found.sock.settimeout(PATIENCE)
            return found

    try:
        token = read_token_file(connection.hashserver_token_file)[0].secret
        transport = Impatient(connection.hashserver, token, connection.hashserver_ca_file)
        with closing(transport), transport.request("GET", "/healthcheck") as response:
            response.read()
    except HashserverError as error:
        logs = "seamless-daskserver logs --part hashserver"
        problems.append(f"{error}; results are not found and not kept meanwhile: {logs}")


def _judge(facts: dict[str, Any], problems: list[str]) -> None:
    """Say what is wrong, and what to do."""
    hashserver = facts["hashserver"]
    if hashserver["own"] and not hashserver["running"]:
        problems.append("the hashserver does not run and is being started again: seamless-daskserver logs")
    problems += [
        f"the hashserver {text} at {_clock(when)} and was started again: seamless-daskserver logs"
        for when, text in hashserver.get("deaths", [])
        if time.time() - when < RECENT
    ]
    problems += [
        f"{text} at {_clock(when)}; its tasks run elsewhere: seamless-daskserver logs"
        for when, text in facts["lost_workers"]
        if time.time() - when < RECENT
    ]
    if facts["stepped_aside"]:
        problems.append(f"results are looked up by the workers only: {facts['stepped_aside']}")
    problems += facts["cluster"]["notes"]


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))


def _lines(facts: dict[str, Any]) -> list[str]:
    """Return the facts as a person reads them."""
    if "pid" not in facts:
        return [f"problem     {problem}" for problem in facts["problems"]]
    scheduler, cluster = facts["scheduler"], facts["cluster"]
    tasks = scheduler["tasks"]
    states = ", ".join(f"{number} {state}" for state, number in tasks.items() if number) or "none"
    bounds = f"{cluster['minimum']} to {cluster['maximum']}"
    lines = [
        f"daskserver  {facts['name']}, process {facts['pid']} on {facts['host']}",
        f"since       {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(facts['started']))}",
        f"scheduler   {scheduler['address']} ({count_text(scheduler['clients'], 'client')})",
        f"hashserver  {facts['hashserver']['url']}",
        f"tasks       {states}",
        f"workers     {scheduler['workers']} connected ({cluster['kind']}, {bounds})",
    ]
    lines += [_worker_line(worker) for worker in cluster["workers"]]
    return lines + [f"problem     {problem}" for problem in facts["problems"]]


def _worker_line(worker: dict[str, Any]) -> str:
    job = f" (job {worker['job']})" if worker["job"] else ""
    return f"            {worker['name']}: {worker['state']}{job}"
