"""``seamless-status``: the configuration in force, what answers, what is running, what is wrong."""

from __future__ import annotations

import os
import time
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from hashserver.errors import HashserverError
from hashserver.printable import one_line
from hashserver.regular_file import read_regular
from seamless_dask.errors import SeamlessError

from ..console import ERROR, OK, CommandError, Console, error_text
from ..opening import open_context, open_executor
from ..start import entry_point
from ..table import USUAL, CommandTable, group, value
from ..text import count_text

if TYPE_CHECKING:
    from hashserver.storage.store import Store
    from seamless_dask.context import Context

    from ..table import ParsedArguments

Facts = dict[str, Any]
_DATABASE = b"SQLite format 3\0"


TABLE = CommandTable(
    "Show where buffers and results are kept, whether they can be reached, and running jobs.",
    (
        group(
            "Sharing",
            value("--export-db", metavar="FILE", help="write a copy of the result database to mail around"),
        ),
        *USUAL,
    ),
    examples=("seamless-status", "seamless-status --json"),
)


def _spare(path: str) -> None:
    """Refuse to put a copy in the place of anything but an earlier one."""
    with suppress(FileNotFoundError):
        if read_regular(path, len(_DATABASE)) not in (b"", _DATABASE):
            raise CommandError(f"{path} is there already, and is no result database: name another file")


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Show the status; 1 when something is wrong."""
    with closing(open_context(arguments, console.note)) as context:
        if arguments.export_db:
            _spare(arguments.export_db)
            context.database.export(os.path.abspath(arguments.export_db))
            console.note(f"{arguments.export_db}: the result database, as it is now")
            return OK
        problems: list[str] = []
        facts: Facts = {
            "configuration": configuration(context),
            "stores": [store_facts(store, problems) for store in stores_of(context, problems)],
            "database": database_facts(context, problems),
        }
        if context.config.daskserver:
            facts["daskserver"] = {"place": context.config.daskserver, "reachable": True}
        if queue := queue_facts(context):
            facts["queue"] = queue
        facts["jobs"] = job_facts(context, console, problems)
        if facts["jobs"] is None:
            facts["jobs"] = []
            if "daskserver" in facts:
                facts["daskserver"]["reachable"] = False
        # a server that is both store and database has its fault told once
        facts["problems"] = list(dict.fromkeys(problems))
    console.facts(facts, lines(facts))
    return ERROR if problems else OK


def configuration(context: Context) -> Facts:
    """Return the settings in force; none of them is a secret."""
    from seamless_dask.protocol.discovery import without_secrets

    config = context.config._asdict() | {"stores": tuple(map(without_secrets, context.config.stores))}
    config["storage_options"] = [one.prefix for one in context.config.storage_options] or None
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in config.items()
        if value not in (None, ())
    }


def stores_of(context: Context, problems: list[str]) -> list[Store]:
    """Return the configured stores, in the order in which they are asked."""
    try:
        store = context.store
    except (HashserverError, OSError) as error:
        problems.append(error_text(error))
        return []
    return list(getattr(store, "stores", (store,)))


def store_facts(store: Store, problems: list[str]) -> Facts:
    """Return what there is to say of a store."""
    from hashserver.checksum import hash_bytes
    from hashserver.storage.directory import LocalStore

    facts: Facts = {"url": store.url, "reachable": True}
    try:
        store.has([hash_bytes(b"")])
        facts["writable"] = store.writable
        if isinstance(store, LocalStore):
            facts["buffers"] = count_buffers(store.root)
    except (HashserverError, OSError) as error:
        facts["reachable"] = False
        problems.append(error_text(error))
    return facts


def count_buffers(root: str) -> int:
    """Return the number of buffers in a directory."""
    total = 0
    try:
        folders = [entry.path for entry in os.scandir(root) if len(entry.name) == 2 and entry.is_dir()]
    except FileNotFoundError:
        return 0
    for folder in folders:
        total += len(os.listdir(folder))
    return total


def database_facts(context: Context, problems: list[str]) -> Facts:
    """Return what there is to say of the result database."""
    facts: Facts = {"place": context.config.database, "reachable": True}
    try:
        facts.update(context.database.counts())
        problems += context.database.warnings
    except (HashserverError, OSError) as error:
        facts["reachable"] = False
        problems.append(error_text(error))
    return facts


def job_facts(context: Context, console: Console, problems: list[str]) -> list[Facts] | None:
    """Return the jobs that wait or run where computations are run; None if that does not answer."""
    try:
        with open_executor(context, console) as executor:
            return [info._asdict() for info in executor.jobs()]
    except (HashserverError, SeamlessError, OSError) as error:
        problems.append(error_text(error))
        return None


def queue_facts(context: Context) -> Facts | None:
    """Return what there is to say of the queue of this cache, if there is one."""
    from seamless_dask.jobs.queue import QueueStore

    try:
        return QueueStore(context.config.cache).facts()
    except PermissionError:  # another user's cache: what can be told of the rest is told
        return None


def lines(facts: Facts) -> list[str]:
    """Return the facts as a person reads them."""
    config = facts["configuration"]
    text = [f"cache       {config['cache']}"]
    text += [f"profile     {config['profile']}"] if "profile" in config else []
    text += [f"daskserver  {_daskserver_line(facts['daskserver'])}"] if "daskserver" in facts else []
    text += [f"hashserver  {config['hashserver']}"] if "hashserver" in config else []
    text += [f"store       {_store_line(store)}" for store in facts["stores"]]
    text.append(f"database    {_database_line(facts['database'])}")
    text += [f"reads from  {path}" for path in config.get("databases", ())]
    text.append(f"isolation   {config['isolation']}")
    text += [_queue_line(facts["queue"])] if "queue" in facts else []
    text += [_job_line(job) for job in facts["jobs"]] or ["running     nothing"]
    text += [f"problem     {problem}" for problem in facts["problems"]]
    return text


def _daskserver_line(daskserver: Facts) -> str:
    return f"{daskserver['place']}{'' if daskserver['reachable'] else ' (cannot be reached)'}"


def _queue_line(queue: Facts) -> str:
    running = queue["running"]
    who = f"{running['workers']} at a time" if running else "does not run"
    failed = f", {queue['failed']} failed" if queue["failed"] else ""
    return f"queue       {who}; {queue['entries']} left{failed}"


def _job_line(job: Facts) -> str:
    name = one_line(" ".join(str(job[name]) for name in ("label", "key") if job[name]))
    parts = [f"on {job['worker']}, {job['node']}"] if job["worker"] and job["node"] else []
    parts += [_since(job["started"])] if job["started"] else []
    parts += [f"place {job['position']} in the queue"] if job["position"] else []
    parts.append(count_text(job["askers"], "asker"))
    return f"{job['state']:11} {name} ({', '.join(parts)})"


def _since(moment: str) -> str:
    """How long ago a moment in UTC was."""
    import calendar

    begun = calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ"))
    return f"for {max(0, int(time.time() - begun))} s"


def _store_line(store: Facts) -> str:
    if not store["reachable"]:
        return f"{store['url']} (cannot be reached)"
    parts = [count_text(store["buffers"], "buffer")] if "buffers" in store else ["reachable"]
    parts += [] if store["writable"] else ["read-only"]
    return f"{store['url']} ({', '.join(parts)})"


def _database_line(database: Facts) -> str:
    if not database["reachable"]:
        return f"{database['place']} (cannot be used)"
    parts = [count_text(database["results"], "result")]
    parts += [f"{database[name]:,} {name}" for name in ("failures", "irreproducible") if database.get(name)]
    return f"{database['place']} ({', '.join(parts)})"


main = entry_point(TABLE, execute, "seamless-status")
