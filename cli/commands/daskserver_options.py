"""The options of ``seamless-daskserver start``."""

from __future__ import annotations

from ..run.option_table import count, duration, size
from ..table import DIRECTORY, OptionGroup, flag, value, values

KINDS = ("local", "slurm", "pbs", "lsf", "oar", "sge", "htcondor")


def name_option(name: str) -> str:
    """Return what names a daskserver on the command line."""
    return "" if name == "default" else f" --name {name}"


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65534:
        raise ValueError(f"not a port: {text!r}")
    return int(text)


def _range(text: str) -> tuple[int, int | None]:
    least, colon, most = text.partition(":")
    if not least.isdigit() or (colon and not most.isdigit()):
        raise ValueError(f"neither a number nor MIN:MAX: {text!r}")
    found = int(least), int(most or least)
    if not 0 <= found[0] <= found[1] or not found[1]:
        raise ValueError(f"no workers could be started with {text!r}")
    return found


def _resource(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise ValueError(f"not NAME=NUMBER: {text!r}") from None


_PLACE = (
    value("--host", metavar="ADDRESS",
        help="address to listen at; loopback by default, for jobs this host's own"),
    value("--interface", metavar="NAME", help="the same, by the name of a network interface"),
    value("--port", metavar="N", convert=_port,
        help="first of three ports; by default those of the last time, or any"),
    flag("--insecure", help="no TLS; on loopback only, and only on a host without other users"),
)  # fmt: skip
_WORKERS = (
    value("--cluster", metavar="KIND", choices=KINDS, default="local",
        help="what they are: processes of this host (local), or jobs of slurm, pbs, lsf, oar, sge, htcondor"),
    value("--workers", metavar="N|MIN:MAX", convert=_range, default=(0, None),
        help="how many there are, as work comes and goes"),
    value("--threads", metavar="N", convert=count, help="processors of a worker"),
    value("--memory", metavar="SIZE", convert=size, help="memory of a worker: 500MB, 4GiB"),
    values("--queue", metavar="NAME", help="queue that tasks may ask for, the default first"),
    values("--resource", metavar="N=V", convert=_resource, help="what each worker has"),
    value("--worker-store", metavar="URL", completes=DIRECTORY,
        help="where workers reach the buffers by themselves"),
)  # fmt: skip
_JOB = (
    flag("--in-job", help="run in a job of the cluster; its directory must be on a file system shared with"
        " the nodes"),
    value("--job-time-limit", metavar="TIME", convert=duration, help="for how long: 12h, 7d"),
    value("--job-queue", metavar="NAME", help="which queue that job goes to"),
    value("--job-memory", metavar="SIZE", convert=size, help="its memory (2GiB)"),
)  # fmt: skip
_MANNER = (
    value("--idle-timeout", metavar="TIME", convert=duration,
        help="end after so long with nothing to do: 90, 30m, 2h"),
    flag("--foreground", help="stay, with the log on standard error; Ctrl-C stops it"),
)  # fmt: skip

START = (
    OptionGroup("Where it listens", _PLACE),
    OptionGroup("Workers", _WORKERS),
    OptionGroup("In a job, where the login node may run no services", _JOB),
    OptionGroup("Manner", _MANNER),
)
"""The options by their groups."""
