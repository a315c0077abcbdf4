"""Batch systems: what a worker of a certain shape is called there, and what the queue says about a job.

How jobs are submitted and cancelled is dask-jobqueue's knowledge, and what a site is like stands in Dask's
own configuration (``jobqueue.yaml``). This adds GPUs, a named node and further resources, for which Dask
has no words.
"""

from __future__ import annotations

import shlex
from typing import Any, NamedTuple

import dask.config
from dask.utils import parse_bytes

from hashserver import system_text
from hashserver.errors import ServiceUnavailable

from ...errors import UsageError
from ...settings import SYSTEMS as SYSTEMS
from .jobscript import call

INLINE = ("oar", "htcondor")
"""Those that put the script on a command line: no secret may stand in it."""


class Shape(NamedTuple):
    """What a worker must be to run certain tasks; zero and None: as any worker is."""

    cpus: int = 0
    memory: int = 0
    """Bytes that the task may use, beside what the worker itself takes."""
    gpus: int = 0
    queue: str | None = None
    node: str | None = None
    extra: tuple[tuple[str, float], ...] = ()
    """Further resources, by their names in Dask."""

    def __str__(self) -> str:
        words = [f"{name}={value}" for name, value in self._asdict().items() if value and name != "extra"]
        return " ".join([*words, *(f"{name}={amount:g}" for name, amount in self.extra)]) or "any"


# Directives as in a job script, without the prefix that dask-jobqueue adds. Dask's configuration goes
# before them: ``seamless.slurm.gpus: "--gres=gpu:a100:{}"``, ``seamless.slurm.license:
# "--licenses=matlab:{}"``.
_DIRECTIVES = {
    "slurm": {"gpus": "--gres=gpu:{}", "node": "--nodelist={}"},
    "pbs": {},
    "lsf": {"gpus": '-gpu "num={}"', "node": '-m "{}"'},
    "oar": {"node": "-p \"host='{}'\""},
    "sge": {"gpus": "-l gpu={}", "node": "-l hostname={}"},
    "htcondor": {"gpus": "request_gpus={}", "node": 'requirements=(Machine == "{}")'},
}
_SILENT = {
    "slurm": ["--output=/dev/null", "--chdir=/tmp"],
    "pbs": ["-o /dev/null", "-j oe"],
    "lsf": ["-o /dev/null"],
    "sge": ["-o /dev/null", "-j y"],
}
"""For jobs that write their log on the node themselves: the daskserver's directories need not exist there."""

HEADROOM = 512 * 2**20
"""Bytes that a worker takes itself, added to what a task asked for."""


def setting(system: str, name: str) -> Any:
    """Return what ``jobqueue.yaml`` says."""
    import dask_jobqueue  # noqa: F401 - it brings the defaults

    return dask.config.get(f"jobqueue.{system}.{name}", None)


def interpreter(system: str) -> str:
    """Return what starts Python in a job, as words of its shell: in UTF-8 mode, without its directory.

    Jobs start in the directory from which they were submitted, where a ``distributed.py`` may lie.
    """
    own, *options = system_text.interpreter()
    return shlex.join([setting(system, "python") or own, *options, "-P"])


def job_class(system: str) -> type:
    """Return dask-jobqueue's class for jobs of a batch system."""
    try:
        import dask_jobqueue
    except ImportError:
        raise UsageError(
            f"workers by {system} need dask-jobqueue: pip install 'seamless-dask[daskserver]'"
        ) from None
    names = {"slurm": "SLURM", "pbs": "PBS", "lsf": "LSF", "oar": "OAR", "sge": "SGE", "htcondor": "HTCondor"}
    cluster: type = getattr(dask_jobqueue, f"{names[system]}Cluster")
    return cluster.job_cls  # type: ignore[attr-defined, no-any-return]


def options(system: str, shape: Shape, base: dict[str, Any]) -> dict[str, Any]:
    """Return the options of the job class for a worker of a shape.

    Parameters
    ----------
    system
        One of `SYSTEMS`.
    shape
        What differs from any worker.
    base
        The options of any worker: ``cores``, ``memory``.

    Raises
    ------
    UsageError
        The batch system has no words for it.
    """
    found = dict(base)
    if shape.cpus or shape.memory:
        found |= {"cores": max(shape.cpus, 1 if shape.memory else base["cores"]), "processes": 1}
    if shape.memory:
        found["memory"] = shape.memory + HEADROOM
    found |= sized(system, found) if shape.cpus or shape.memory else {}
    if shape.queue and system == "htcondor":
        raise UsageError("HTCondor has no queues")
    if shape.queue:
        found["queue"] = shape.queue
    if system == "pbs" and (shape.gpus or shape.node):
        found["resource_spec"] = _pbs_select(shape, found)
        shape = shape._replace(gpus=0, node=None)
    found["job_extra_directives"] = _directives(system, shape)
    return found


def sized(system: str, found: dict[str, Any]) -> dict[str, Any]:
    """Return options for a job of its own size that ``jobqueue.yaml`` gives any job another size by."""
    cores, memory = found["cores"], parse_bytes(found["memory"])
    sizes: dict[str, dict[str, Any]] = {
        "slurm": {"job-cpu": cores, "job-mem": f"{-(-memory // 2**20)}M"},
        "lsf": {"ncpus": cores, "mem": memory},
        "pbs": {"resource-spec": f"select=1:ncpus={cores}:mem={memory}b"},
        "oar": {"resource-spec": f"/nodes=1/core={cores}"},
    }
    named = {name: size for name, size in sizes.get(system, {}).items() if setting(system, name) is not None}
    return {name.replace("-", "_"): size for name, size in named.items()}


def _pbs_select(shape: Shape, found: dict[str, Any]) -> str:
    # several chunks of "-l select" would add up, so that all stands in one
    words = ["select=1", f"ncpus={found['cores']}", f"mem={found['memory']}b"]
    words += [f"ngpus={shape.gpus}"] if shape.gpus else []
    words += [f"host={shape.node}"] if shape.node else []
    return ":".join(words)


def _directives(system: str, shape: Shape) -> Any:
    wanted = [("gpus", shape.gpus), ("node", shape.node), *shape.extra]
    lines = [] if setting(system, "log-directory") else list(_SILENT.get(system, []))
    more = [directive(system, name, amount) for name, amount in wanted if amount]
    own = setting(system, "job-extra-directives") or []
    if system == "htcondor":
        return dict(own) | dict(line.split("=", 1) for line in more)
    return [*lines, *own, *more]


def directive(system: str, name: str, amount: Any) -> str:
    """Return the line of a job script that asks for an amount of something.

    Raises
    ------
    UsageError
        Nobody has said how it is asked for.
    """
    template = dask.config.get(f"seamless.{system}.{name}", _DIRECTIVES[system].get(name))
    if template is None:
        raise UsageError(
            f"no worker has {name}={amount}; if jobs can ask for it,"
            f" say how in Dask's configuration: seamless.{system}.{name}"
        )
    return str(template).format(f"{amount:g}" if isinstance(amount, float) else amount)


class JobState(NamedTuple):
    """What the queue says about a job."""

    word: str
    """``PENDING``, ``RUNNING``, ``TIMEOUT``, … in SLURM's words."""
    reason: str = ""

    @property
    def waits(self) -> bool:
        """Whether it has not begun, or is to begin again."""
        return self.word in _WAITING

    @property
    def over(self) -> bool:
        """Whether it has ended for good; one that is being ended has not."""
        return self.word not in _WAITING and self.word not in _GOING_ON

    @property
    def ending(self) -> bool:
        """Whether it is being ended."""
        return self.word == "COMPLETING"

    @property
    def end(self) -> str | None:
        """How it has ended, or is being ended as far as that is known."""
        return self.word if self.over else _CAUSES.get(self.reason) if self.ending else None

    def told(self, job: str) -> str:
        """Return the end of a job in words."""
        end = self.end
        return f"job {job} {_ENDS.get(end, 'ended')} ({end})" if end else f"job {job} is over"


_WAITING = frozenset(
    ["PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD"]
)
_GOING_ON = frozenset(["RUNNING", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING", "STAGE_OUT", "COMPLETING"])
_ENDS = {
    "TIMEOUT": "ran out of time",
    "DEADLINE": "ran out of time",
    "OUT_OF_MEMORY": "took more memory than it had asked for",
    "PREEMPTED": "had to make room for another one",
    "NODE_FAIL": "lost its node",
    "BOOT_FAIL": "lost its node",
    "CANCELLED": "was cancelled",
}
_CAUSES = {"TimeLimit": "TIMEOUT", "OutOfMemory": "OUT_OF_MEMORY", "NodeDown": "NODE_FAIL"}
"""Reasons that tell how a job is going to have ended while it is still being ended."""

HOPELESS = frozenset(
    [
        "PartitionConfig",
        "PartitionNodeLimit",
        "PartitionTimeLimit",
        "BadConstraints",
        "AccountNotAllowed",
        "QOSNotAllowed",
        "InvalidAccount",
        "InvalidQOS",
        "AssocMaxCpuPerJobLimit",
        "AssocMaxMemPerJob",
        "AssocMaxNodePerJobLimit",
        "AssocMaxWallDurationPerJobLimit",
        "QOSMaxCpuPerJobLimit",
        "QOSMaxMemoryPerJob",
        "QOSMaxNodePerJobLimit",
        "QOSMaxWallDurationPerJobLimit",
    ]
)
"""Reasons of SLURM for a job that waits, and will wait for ever."""


async def states(system: str, jobs: list[str]) -> dict[str, JobState] | None:
    """Ask the queue about jobs. What it does not name is long over; None: it cannot be asked that way.

    Raises
    ------
    ServiceUnavailable
        The batch system does not answer, or not as it should.
    """
    if system != "slurm":
        return None
    words = ["squeue", "-h", "--states=all", "-o", "%i %T %r", "--jobs", ",".join(jobs)]
    try:
        lines = (await call(words)).splitlines()
    except RuntimeError as error:
        if "Invalid job id" in str(error):  # all of them are forgotten
            return {}
        raise ServiceUnavailable(str(error)) from None
    return dict(map(_parsed, filter(None, lines)))


def _parsed(line: str) -> tuple[str, JobState]:
    job, _, rest = line.strip().partition(" ")
    word, _, reason = rest.partition(" ")
    if not job[:1].isdigit() or not word.isupper():
        # taken for an answer, it would say that all jobs are over
        raise ServiceUnavailable(f"squeue says what makes no sense: {line[:100]!r}")
    return job, JobState(word, "" if reason == "None" else reason)


async def recorded_end(system: str, job: str) -> JobState | None:
    """Return how a job ended that the queue knows no more, if the batch system keeps accounts."""
    if system != "slurm":
        return None
    try:
        lines = (await call(["sacct", "-nXP", "-o", "State", "-j", job])).split()
    except (RuntimeError, ServiceUnavailable):
        return None
    return JobState(lines[0]) if lines and lines[0].isupper() else None
