"""``seamless-daskserver status``: how the parts of a daskserver are, and what to do about them."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from ..console import ERROR, OK, Console
from ..text import count_text
from . import connect
from .daskserver_options import name_option

if TYPE_CHECKING:
    from seamless_dask.connection import ConnectionFile
    from seamless_dask.services.daskserver.control import DaskserverState

RECENT = 600.0
"""Seconds for which a part that died and was started again is a problem, and not history."""
RENEWAL = 60 * 86400.0
"""Seconds before the end of a certificate that somebody should know; a start renews it earlier than that."""


def show(directory: str, name: str, console: Console) -> int:
    """Show how the daskserver of a directory is; return 1 when something is wrong."""
    from seamless_dask.services.daskserver import control

    found = control.find(directory)
    problems: list[str] = []
    facts: dict[str, Any] = {"running": found.alive, "name": name}
    if found.job is not None:
        facts["job"] = found.job
    if found.connection is not None and found.alive:
        facts |= _ask(found.connection, problems)
    else:
        problems.append(_missing(found, directory, f"seamless-daskserver start{name_option(name)}"))
    problems += connect.problems(directory)
    facts["problems"] = problems
    console.facts(facts, _lines(facts))
    return ERROR if problems else OK


def _missing(found: DaskserverState, directory: str, command: str) -> str:
    """Say why there is nothing to be asked, and what to do."""
    from seamless_dask.services.process import LOG

    if found.alive:
        return found.job or "the daskserver is starting or stopping: look again"
    if found.job:
        return f"the daskserver ended, {found.job}: {command} --in-job carries on with the same data"
    if found.died:
        log = os.path.join(directory, LOG)
        return f"the daskserver died: {command} carries on with the same data; see {log}"
    return f"no daskserver is running: {command}"


def _ask(connection: ConnectionFile, problems: list[str]) -> dict[str, Any]:
    """Return what the daskserver says of itself."""
    import json

    from hashserver.errors import HashserverError
    from seamless_dask.services.daskserver.client import ask_daskserver

    try:
        status, body = ask_daskserver(connection)
        if status != 200:
            problems.append(f"the daskserver answers with status {status}: seamless-daskserver logs")
            return {}
    except HashserverError as error:
        problems.append(f"{error}; seamless-daskserver stop ends it whatever state it is in")
        return {}
    facts: dict[str, Any] = json.loads(body)
    # as they are here, which by way of a tunnel is not where it runs
    facts |= {"page": f"{connection.jobserver}/seamless", "token_file": connection.token_file}
    _judge(facts, problems)
    if facts["hashserver"].get("running", True):
        _try_hashserver(connection, facts["hashserver"]["own"], problems)
    return facts


def _try_hashserver(connection: ConnectionFile, own: bool, problems: list[str]) -> None:
    """Say so when the hashserver does not answer although it runs."""
    from hashserver.errors import HashserverError
    from seamless_dask.services.daskserver.client import ask

    place = connection.hashserver, connection.hashserver_token_file, connection.hashserver_ca_file
    try:
        ask(*place, "/healthcheck")
    except HashserverError as error:
        hint = "seamless-daskserver logs --part hashserver" if own else "whoever runs it has to start it"
        problems.append(f"{error}; results are not found and not kept meanwhile: {hint}")


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
    problems += [
        f"worker {worker} gets no transformations: {why}"
        for worker, why in facts.get("unequipped", {}).items()
    ]
    if (end := facts.get("certificate_end")) and end - time.time() < RENEWAL:
        day = time.strftime("%Y-%m-%d", time.localtime(end))
        problems.append(
            f"the certificate expires on {day}: seamless-daskserver stop, then start, make another"
        )
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
        f"page        {facts['page']} (asks for the token in {facts['token_file']})",
        f"tasks       {states}",
        f"workers     {scheduler['workers']} connected ({cluster['kind']}, {bounds})",
    ]
    lines += [f"job         {facts['job'].removeprefix('job ')}"] if "job" in facts else []
    lines += [_worker_line(worker) for worker in cluster["workers"]]
    return lines + [f"problem     {problem}" for problem in facts["problems"]]


def _worker_line(worker: dict[str, Any]) -> str:
    words = [f"job {worker['job']}" if worker["job"] else "", worker["reason"]]
    job = f" ({', '.join(filter(None, words))})" if any(words) else ""
    return f"            {worker['name']}: {worker['state']}{job}"
