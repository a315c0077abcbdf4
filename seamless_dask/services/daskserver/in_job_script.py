"""What the job of a daskserver runs, and how the batch system gets it: see `in_job`."""

from __future__ import annotations

import asyncio
import os
import shlex
from typing import TYPE_CHECKING, Any

from hashserver.atomic import write_atomic

from ... import daemon
from ...errors import UsageError
from ..cluster import batch, jobscript
from ..process import LOG
from .in_job import EnclosingJob, forget, write

if TYPE_CHECKING:
    from .settings import DaskserverSettings

CORES, MEMORY = 2, 2 << 30
"""Size of the job: the scheduler's process and the hashserver's."""
_MARK = "worker-python"
"""Stands for a worker's interpreter, until it is known what dask-jobqueue has put before it."""

# The number stands in another variable for each batch system.
_SCRIPT = """\
umask 077
unset "${{!SEAMLESS_@}}" "${{!DASK_SEAMLESS__@}}"
cd {directory} || exit
exec >> logs/daskserver.log 2>&1 < /dev/null
number=${{SLURM_JOB_ID:-${{PBS_JOBID:-${{LSB_JOBID:-${{OAR_JOB_ID:-${{JOB_ID:-}}}}}}}}}}
echo "began $(uname -n) $number" > {marks}  # nothing of the time before it was requeued
# what sbatch would take for the size of workers' jobs
for name in "${{!SLURM_@}}"; do [ "$name" = SLURM_CONF ] || unset "$name"; done
{run}
seamless_worker {python} -m seamless_dask.services.daskserver {directory}
status=$?
echo "ended $status" >> {marks}
exit "$status"
"""


def submit(told: DaskserverSettings) -> EnclosingJob:
    """Hand the daskserver's job to the batch system.

    Raises
    ------
    UsageError
        It does not take such a job.
    ServiceUnavailable
        It does not answer.
    """
    job = EnclosingJob(told.directory, told.cluster, os.urandom(8).hex())
    forget(told.directory)
    _write_script(told, job)
    write(job)
    os.close(daemon.begin(told.file(LOG)))
    try:
        number = asyncio.run(_submit(told, job))
    except BaseException as error:
        forget(told.directory)
        if isinstance(error, (RuntimeError, ValueError)):
            raise UsageError(f"the job was not taken: {str(error).splitlines()[0]}") from None
        raise
    job = job._replace(number=number)
    write(job)
    return job


def _write_script(told: DaskserverSettings, job: EnclosingJob) -> None:
    names = {"directory": told.directory, "marks": os.path.basename(job.marks)}
    words = {name: shlex.quote(value) for name, value in names.items()}
    text = _SCRIPT.format(run=jobscript.RUN, python=batch.interpreter(job.kind), **words)
    write_atomic(job.script, text.encode(), 0o600)


async def _submit(told: DaskserverSettings, job: EnclosingJob) -> str:
    made = batch_job(told, job)
    with made.job_file() as path:
        said = await made._submit_job(path)
    return str(made._job_id_from_submit_output(said))


def batch_job(told: DaskserverSettings, job: EnclosingJob) -> Any:
    """Return the job as dask-jobqueue has it: as workers' jobs are, but for its size and its command."""
    base = batch.job_class(job.kind)
    kind = type(base.__name__, (jobscript.PrivateJob, base), {"directory": told.directory})
    size = {"cores": CORES, "memory": told.job_memory or MEMORY, "processes": 1}
    options = batch.options(job.kind, batch.Shape(), size) | batch.sized(job.kind, size)
    if job.kind == "htcondor" and (told.job_queue or told.job_time_limit):
        raise UsageError("HTCondor has neither queues nor time limits")
    if told.job_queue:
        options["queue"] = told.job_queue
    if told.job_time_limit:
        options["walltime"] = _clock(job.kind, told.job_time_limit)
    name = f"seamless-daskserver-{told.name}"
    made = kind(None, name=name, job_name=name, python=_MARK, **options)
    # The one thing that it does not let one say is what the job runs. HTCondor has a prologue before that.
    before = made._command_template.partition(_MARK)[0]
    made._command_template = f"{before}exec /bin/bash {shlex.quote(job.script)}"
    return made


def _clock(kind: str, seconds: float) -> str:
    minutes = -(-int(seconds) // 60)
    text = f"{minutes // 60:02}:{minutes % 60:02}"
    return text if kind == "lsf" else f"{text}:00"
