"""``seamless-daskserver``: start, stop and look at the services that compute; connect to them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from seamless_dask.errors import UsageError

from ..console import OK, CommandError, Console, write_stdout
from ..run.option_table import count
from ..start import entry_point
from ..table import USUAL, CommandTable, flag, group, value
from . import connect
from .daskserver_options import START, name_option

if TYPE_CHECKING:
    from seamless_dask.config import Config
    from seamless_dask.connection import ConnectionFile
    from seamless_dask.services.daskserver.settings import DaskserverSettings

    from ..table import ParsedArguments

_NOWHERE = "tcp://"
"""Takes the place of a daskserver in the configuration; with it no other server is looked for either."""


_NAME = value("--name", metavar="NAME", default="default", help="one of several daskservers (default)")
_COMMON = (group("Which one", _NAME), *USUAL)
_LOGS = group(
    "What to show",
    flag("-f", "--follow", help="go on showing what is written"),
    value("-n", "--lines", metavar="N", convert=count, default=100, help="the last N lines (100)"),
    value(
        "--part",
        metavar="PART",
        choices=("daskserver", "hashserver"),
        default="daskserver",
        help="whose log: daskserver or hashserver",
    ),
)
TABLE = CommandTable(
    "Start and stop the services that compute: a Dask scheduler that knows all results, a hashserver, and as"
    " many workers as there is work for.",
    _COMMON,
    examples=("seamless-daskserver start --workers 8", "seamless-daskserver status"),
    notes="User code runs as the account that starts a daskserver: its token is that account.",
    actions={
        "start": CommandTable(
            "Start it; safe to repeat.",
            (*START, *_COMMON),
            examples=("seamless-daskserver start --cluster slurm --workers 0:20 --queue short",),
        ),
        "stop": CommandTable(
            "Stop it and all that belongs to it.", _COMMON, examples=("seamless-daskserver stop",)
        ),
        "status": CommandTable(
            "Show how its parts are; 1 when something is wrong.",
            _COMMON,
            examples=("seamless-daskserver status",),
        ),
        "logs": CommandTable(
            "Show what it has written.", (_LOGS, *_COMMON), examples=("seamless-daskserver logs --follow",)
        ),
        "connect": CommandTable(
            "Reach one on another host, over ssh.",
            (connect.OPTIONS, *_COMMON),
            (connect.DESTINATION,),
            examples=("seamless-daskserver connect me@login.example.org",),
        ),
    },
)


def execute(arguments: ParsedArguments, console: Console) -> int:
    """Do what is asked."""
    if arguments.daskserver:
        raise UsageError("--daskserver is for clients; --name says which of this account's is meant")
    doing = {"start": _start, "stop": _stop, "status": _status, "logs": _logs, "connect": connect.execute}
    return doing[arguments.action](arguments, console)


def _config(arguments: ParsedArguments) -> Config:
    """Return the configuration without a daskserver: the file that it names may be yet to come."""
    from seamless_dask.config import load

    from ..opening import SETTINGS, with_trust

    given = {name: getattr(arguments, name) for name in SETTINGS} | {"daskserver": _NOWHERE}
    return with_trust(lambda: load(given))


def _directory(arguments: ParsedArguments) -> str:
    from seamless_dask.services.daskserver.control import private_place

    return private_place(_config(arguments).cache, arguments.name)


def _start(arguments: ParsedArguments, console: Console) -> int:
    from seamless_dask.services.daskserver import control

    _refuse_in_job(arguments)
    told = _settings(arguments, _config(arguments))
    told = _in_job(told) if told.in_job else told
    if told.insecure:
        console.warn("--insecure: whoever can reach these ports may run code as this account")
    if arguments.foreground:
        control.foreground(told)
    facts, fresh = control.start(told, console.note)
    _report(facts, told, fresh, console)
    return OK


def _settings(arguments: ParsedArguments, config: Config) -> DaskserverSettings:
    from hashserver.storage.options import without_password
    from seamless_dask.services.daskserver.control import private_place
    from seamless_dask.services.daskserver.settings import DaskserverSettings

    directory = private_place(config.cache, arguments.name)
    store, database, hashserver = _places(config)
    store, options = without_password(store, config.options_of(None if hashserver else store))
    workers_own = _absolute(arguments.worker_store)
    if workers_own is not None:
        workers_own, theirs = without_password(workers_own, config.options_of(workers_own))
        options = tuple(dict.fromkeys((*options, *theirs)))
    least, most = arguments.workers
    return DaskserverSettings(
        directory=directory,
        name=arguments.name,
        cache=config.cache,
        store=store,
        database=database,
        cluster=arguments.cluster,
        host=arguments.host,
        interface=arguments.interface,
        port=arguments.port,
        minimum=least,
        maximum=most,
        threads=arguments.threads,
        memory=arguments.memory,
        queues=tuple(arguments.queue),
        resources=tuple(arguments.resource),
        hashserver=hashserver,
        token_file=config.token_file if hashserver else None,
        ca_file=config.ca_file if hashserver else None,
        worker_store=workers_own,
        idle_timeout=arguments.idle_timeout,
        insecure=arguments.insecure,
        in_job=arguments.in_job,
        job_queue=arguments.job_queue,
        job_memory=arguments.job_memory,
        job_time_limit=arguments.job_time_limit,
        store_timeout=config.store_timeout,
        storage_options=options,
    )


def _in_job(told: DaskserverSettings) -> DaskserverSettings:
    """Return what it is started with when it runs elsewhere: nodes may lack links that lead there here."""
    from seamless_dask.services.daskserver.settings import own_dask, to_share

    places = {name: getattr(told, name) for name in ("directory", "cache", "store", "database")}
    real = {name: os.path.realpath(path) for name, path in places.items() if os.path.isabs(path)}
    told = told._replace(**real, dask=own_dask())
    if told.hashserver:
        return told
    return told._replace(
        shared=to_share(*filter(os.path.isabs, (told.store, os.path.dirname(told.database))))
    )


def _refuse_in_job(arguments: ParsedArguments) -> None:
    """Refuse what makes no sense for a daskserver in a job, or without."""
    if not arguments.in_job:
        if arguments.job_time_limit or arguments.job_queue or arguments.job_memory:
            raise UsageError("--job-time-limit, --job-queue and --job-memory are for --in-job")
        return
    if arguments.cluster == "local":
        raise UsageError("--in-job needs to know the batch system: --cluster slurm, for instance")
    for name, reason in (
        ("foreground", "it runs elsewhere"),
        ("insecure", "other hosts reach it"),
        ("host", "which node it gets is not known; --interface names what all nodes have"),
    ):
        if getattr(arguments, name):
            raise UsageError(f"--in-job is not for --{name}: {reason}")


def _places(config: Config) -> tuple[str, str, str | None]:
    """Return store, database, and the hashserver that serves both unless the daskserver is to start one."""
    store, database = config.stores[0].removeprefix("file://"), config.database
    named = config.hashserver or next((url for url in (database, store) if _is_http(url)), None)
    if named and not config.token_file:
        raise UsageError(f"--token-file must name the token for {named}")
    return store, database, named


def _is_http(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _absolute(place: str | None) -> str | None:
    return place if place is None or "://" in place else os.path.abspath(place)


def _report(facts: ConnectionFile, told: DaskserverSettings, fresh: bool, console: Console) -> None:
    from seamless_dask.connection import FILE

    path = told.file(FILE)
    state = "started" if fresh else "is running already, as it was started"
    console.note(f"the daskserver {state}; commands use it that find its connection file:")
    lines = [
        f"export SEAMLESS_DASKSERVER={path}",
        f"page        {facts.jobserver}/seamless  (the token: {facts.token_file})",
        f"dashboard   {facts.jobserver}/status",
        f"scheduler   {facts.scheduler}",
        f"hashserver  {facts.hashserver}",
        f"stop        seamless-daskserver stop{name_option(told.name)}",
    ]
    if console.json or console.verbosity > -1:
        console.facts({"running": True, "started": fresh, "connection": path, **facts._asdict()}, lines)


def _stop(arguments: ParsedArguments, console: Console) -> int:
    from seamless_dask.services.daskserver import control

    stopped = control.stop(_directory(arguments))
    console.note("stopped the daskserver" if stopped else "no daskserver is running")
    if console.json:
        console.facts({"running": False, "stopped": stopped})
    return OK


def _logs(arguments: ParsedArguments, console: Console) -> int:
    path = os.path.join(_directory(arguments), "logs", f"{arguments.part}.log")
    if not os.path.exists(path):
        raise CommandError(f"there is no {path}: seamless-daskserver start")
    words = ["tail", "-n", str(arguments.lines), *(["-F"] if arguments.follow else []), path]
    sys.stdout.flush()
    if not os.isatty(1):
        os.execvp("tail", words)  # noqa: S606 - fixed program
    return _shown_safely(words)


def _shown_safely(words: list[str]) -> int:
    """Show on the terminal what a program writes: a log holds names and messages of anybody."""
    import subprocess

    from hashserver.printable import Filter

    made_visible = Filter()
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        try:
            while data := os.read(process.stdout.fileno(), 1 << 16):  # type: ignore[union-attr]
                write_stdout([made_visible(data)])
        finally:
            process.terminate()
    return OK


def _status(arguments: ParsedArguments, console: Console) -> int:
    from .daskserver_status import show

    return show(_directory(arguments), arguments.name, console)


main = entry_point(TABLE, execute, "seamless-daskserver")
