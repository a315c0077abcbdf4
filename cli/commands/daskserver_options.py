"""The options of ``seamless-daskserver start``."""

from __future__ import annotations

import argparse

from ..run.option_table import count, duration, size

KINDS = ("local", "slurm", "pbs", "lsf", "oar", "sge", "htcondor")


def add_start_options(table: argparse.ArgumentParser) -> None:
    """Add them to a table."""
    _add_place(table)
    _add_workers(table)
    _add_job(table)
    add = table.add_argument_group("manner").add_argument
    add(
        "--idle-timeout",
        type=duration,
        metavar="TIME",
        help="end after so long with nothing to do: 90, 30m, 2h",
    )
    add("--foreground", action="store_true", help="stay, with the log on standard error; Ctrl-C stops it")


def _add_place(table: argparse.ArgumentParser) -> None:
    add = table.add_argument_group("where it listens").add_argument
    add(
        "--host",
        metavar="ADDRESS",
        help="address to listen at; loopback by default, for jobs this host's own",
    )
    add("--interface", metavar="NAME", help="the same, by the name of a network interface")
    add(
        "--port",
        type=_port,
        metavar="N",
        help="first of three ports; by default those of the last time, or any",
    )
    add(
        "--insecure",
        action="store_true",
        help="no TLS; on loopback only, and only on a host without other users",
    )


def _add_workers(table: argparse.ArgumentParser) -> None:
    add = table.add_argument_group("workers").add_argument
    add(
        "--cluster",
        choices=KINDS,
        default="local",
        help="what they are: processes of this host, or jobs (%(default)s)",
    )
    add(
        "--workers",
        type=_range,
        default=(0, None),
        metavar="N|MIN:MAX",
        help="how many there are, as work comes and goes",
    )
    add("--threads", type=count, metavar="N", help="processors of a worker")
    add("--memory", type=size, metavar="SIZE", help="memory of a worker: 500MB, 4GiB")
    add(
        "--queue",
        action="append",
        default=[],
        metavar="NAME",
        help="queue that tasks may ask for, the default first",
    )
    add("--resource", action="append", default=[], type=_resource, metavar="N=V", help="what each worker has")
    add("--worker-store", metavar="URL", help="where workers reach the buffers by themselves")


def _add_job(table: argparse.ArgumentParser) -> None:
    add = table.add_argument_group("in a job, where the login node may run no services").add_argument
    add(
        "--in-job",
        action="store_true",
        help="run in a job of the cluster; its directory must be on a file system shared with the nodes",
    )
    add("--job-time-limit", type=duration, metavar="TIME", help="for how long: 12h, 7d")
    add("--job-queue", metavar="NAME", help="which queue that job goes to")
    add("--job-memory", type=size, metavar="SIZE", help="its memory (2GiB)")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65534:
        raise argparse.ArgumentTypeError(f"not a port: {text!r}")
    return int(text)


def _range(text: str) -> tuple[int, int | None]:
    least, colon, most = text.partition(":")
    if not least.isdigit() or (colon and not most.isdigit()):
        raise argparse.ArgumentTypeError(f"neither a number nor MIN:MAX: {text!r}")
    found = int(least), int(most or least)
    if not 0 <= found[0] <= found[1] or not found[1]:
        raise argparse.ArgumentTypeError(f"no workers could be started with {text!r}")
    return found


def _resource(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not NAME=NUMBER: {text!r}") from None
