"""The script of a job sets up what a worker needs, for nobody else to see, and cleans up after it."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import dask
import dask_jobqueue  # noqa: F401 - its defaults must be there before a test changes some
import pytest

from hashserver.errors import ServiceUnavailable
from seamless_dask.errors import UsageError
from seamless_dask.services.cluster import batch, jobscript
from seamless_dask.services.cluster.batch import Shape
from seamless_dask.services.cluster.jobscript import Files
from seamless_dask.services.cluster.launchers import JobLauncher
from seamless_dask.services.cluster.load import Base

SECRET = "3f9c-not-for-others"
SHAPE = Shape(cpus=8, gpus=2, node="n7")
BASE = {"cores": 4, "memory": 2**30, "processes": 1}


class Scheduler:
    """All that a launcher wants to know of one."""

    address = "tls://10.0.0.1:1234"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    paths = {name: tmp_path / name for name in Files._fields}
    for name, path in paths.items():
        path.write_text(f"{SECRET} {name}\nsecond line $(not run) 'quoted'\n")
    return Files(**{name: str(path) for name, path in paths.items()})


def job(system: str, files: Files, tmp_path: Path, shape: Shape = SHAPE) -> Any:
    base = Base(4, 2**30)
    with dask.config.set(
        {"jobqueue.htcondor.disk": "1 GB", "jobqueue.oar.memory-per-core-property-name": "memcore"}
    ):
        launcher = JobLauncher(Scheduler(), system, dict(BASE), base, (), files, str(tmp_path), "default")
        return launcher.make(shape, "default-1")


def run(
    lines: list[str], tmp_path: Path, command: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.sh"
    script.write_text("\n".join([*lines, f"seamless_worker {command}"]))
    own = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path / "node")} | environment
    (tmp_path / "node").mkdir(exist_ok=True)
    return subprocess.run(["bash", script], env=own, capture_output=True, text=True, check=False, cwd="/")


def carrying(files: Files, tmp_path: Path, log: str | None = None) -> list[str]:
    return jobscript.carrying(files, {"SEAMLESS_WORKER_QUEUE": "a b"}, f"{tmp_path}/cache", log)


def test_storage_options_arrive_in_a_private_file(files: Files, tmp_path: Path) -> None:
    show = shlex.join(["sh", "-c", 'cat "$SEAMLESS_STORAGE_OPTIONS"; stat -c %a "$SEAMLESS_STORAGE_OPTIONS"'])
    done = run(carrying(files, tmp_path), tmp_path, show)
    assert done.stdout.startswith(f"{SECRET} storage_options\n")
    assert done.stdout.endswith("\n600\n")


def test_files_arrive_unchanged_and_go(files: Files, tmp_path: Path) -> None:
    show = shlex.join(
        [
            "sh",
            "-c",
            'cat "$SEAMLESS_TOKEN_FILE"; dirname "$SEAMLESS_CA_FILE"; stat -c %a ${SEAMLESS_CA_FILE%/*}',
        ]
    )
    done = run(carrying(files, tmp_path), tmp_path, show)
    text, directory, mode = done.stdout.rsplit("\n", 3)[:3]
    assert text + "\n" == Path(files.token_file or "").read_text() + "\n"
    assert mode == "700"
    assert directory.startswith(str(tmp_path / "node"))
    assert not Path(directory).exists()


def test_environment_of_the_submitter_does_not_count(files: Files, tmp_path: Path) -> None:
    done = run(
        carrying(files, tmp_path), tmp_path, "env", SEAMLESS_STORE="/there", SEAMLESS_WORKER_QUEUE="other"
    )
    assert "SEAMLESS_STORE" not in done.stdout
    assert "SEAMLESS_WORKER_QUEUE=a b\n" in done.stdout
    assert f"SEAMLESS_CACHE={tmp_path}/cache\n" in done.stdout
    assert SECRET not in done.stdout


def test_exit_status_is_the_worker_s(files: Files, tmp_path: Path) -> None:
    assert run(carrying(files, tmp_path), tmp_path, "sh -c 'exit 7'").returncode == 7


def test_log_stays_on_the_node(files: Files, tmp_path: Path) -> None:
    done = run(carrying(files, tmp_path, "job"), tmp_path, "echo worker")
    assert done.stdout == ""
    log = tmp_path / "cache" / "logs" / "job.log"
    assert log.read_text() == "worker\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_cache_of_somebody_else_is_refused(files: Files, tmp_path: Path) -> None:
    (tmp_path / "cache").symlink_to("/")
    done = run(carrying(files, tmp_path), tmp_path, "echo worker")
    assert done.returncode == 1
    assert "belongs to somebody else" in done.stderr


def test_termination_reaches_the_worker_and_cleans_up(files: Files, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    script = tmp_path / "script.sh"
    worker = f"sh -c 'trap \"echo ended; exit 3\" TERM; echo ready > {fifo}; while :; do sleep 0.1; done'"
    script.write_text("\n".join([*carrying(files, tmp_path), f"seamless_worker {worker}"]))
    (tmp_path / "node").mkdir()
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path / "node")}
    with subprocess.Popen(["bash", script], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert fifo.read_text() == "ready\n"
        assert len(list((tmp_path / "node").iterdir())) == 1
        process.terminate()
        assert process.communicate()[0] == "ended\n"
    assert process.returncode == 3
    assert list((tmp_path / "node").iterdir()) == []


def test_what_a_killed_job_left_is_removed_by_the_next(files: Files, tmp_path: Path) -> None:
    node = tmp_path / "node"
    node.mkdir()
    long_ago = time.time() - 3600
    for name in ("dead", "alive"):
        (node / f"seamless-worker-{name}").mkdir()
        (node / f"seamless-worker-{name}" / "lock").touch()
        os.utime(node / f"seamless-worker-{name}", (long_ago, long_ago))
    (node / "seamless-worker-young").mkdir()
    with subprocess.Popen(
        ["flock", node / "seamless-worker-alive" / "lock", "cat"], stdin=subprocess.PIPE
    ) as holder:
        while (
            subprocess.run(
                ["flock", "-n", node / "seamless-worker-alive" / "lock", "true"], check=False
            ).returncode
            == 0
        ):
            time.sleep(0.01)
        run(carrying(files, tmp_path), tmp_path, "true")
        assert {path.name for path in node.iterdir()} == {"seamless-worker-alive", "seamless-worker-young"}
        holder.communicate(b"")


@pytest.mark.parametrize("system", batch.SYSTEMS)
def test_script(system: str, files: Files, tmp_path: Path) -> None:
    shape = SHAPE if system != "oar" else SHAPE._replace(gpus=0)
    made = job(system, files, tmp_path, shape)
    script = made.job_script()
    assert (SECRET in script) == (system not in batch.INLINE)
    words = {
        "slurm": ["--cpus-per-task=8", "--gres=gpu:2", "--nodelist=n7", "--output=/dev/null"],
        "pbs": [f"select=1:ncpus=8:mem={2**30}b:ngpus=2:host=n7"],
        "lsf": ["-n 8", '-gpu "num=2"', '-m "n7"'],
        "oar": ["core=8", "-p \"host='n7'\""],
        "sge": ["-l gpu=2", "-l hostname=n7"],
        "htcondor": ["request_gpus = 2", 'requirements = (Machine == "n7")'],
    }[system]
    assert [word for word in words if word not in script] == []
    assert "--no-dashboard" in script
    assert "--nthreads 8" in script
    assert "--tls-key" in script


def test_script_is_written_for_its_owner_only(files: Files, tmp_path: Path) -> None:
    with job("slurm", files, tmp_path).job_file() as path:
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert SECRET in Path(path).read_text()
        assert Path(path).parent == tmp_path
    assert not Path(path).exists()


def test_own_directive(files: Files, tmp_path: Path) -> None:
    shape = Shape(gpus=1, extra=(("licence", 2.0),))
    own = {"seamless.slurm.gpus": "--gres=gpu:a100:{}", "seamless.slurm.licence": "--licenses=matlab:{}"}
    with dask.config.set(own):
        script = job("slurm", files, tmp_path, shape).job_script()
    assert "#SBATCH --gres=gpu:a100:1\n#SBATCH --licenses=matlab:2\n" in script


def test_a_job_takes_no_code_from_the_directory_that_it_starts_in(tmp_path: Path) -> None:
    (tmp_path / "distributed.py").write_text("open('ran', 'w')\n")
    words = [*shlex.split(batch.interpreter("slurm")), "-m", "distributed.cli.dask_worker", "--version"]
    subprocess.run(words, cwd=tmp_path, capture_output=True, check=False, timeout=60)
    assert not (tmp_path / "ran").exists()


def test_python_of_the_workers(files: Files, tmp_path: Path) -> None:
    with dask.config.set({"jobqueue.slurm.python": "/opt/my env/bin/python"}):
        assert (
            "seamless_worker '/opt/my env/bin/python' -X utf8 -P -m"
            in job("slurm", files, tmp_path).job_script()
        )
    assert f"seamless_worker {sys.executable} -X utf8 -P -m" in job("slurm", files, tmp_path).job_script()


def test_what_a_system_has_no_words_for(files: Files, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"seamless\.oar\.gpus"):
        job("oar", files, tmp_path, Shape(gpus=1))
    with pytest.raises(UsageError, match="no queues"):
        job("htcondor", files, tmp_path, Shape(queue="long"))


def test_silent_batch_system_is_not_waited_for() -> None:
    with pytest.raises(ServiceUnavailable, match=r"sleep did not answer within 0 s"):
        asyncio.run(jobscript.call(["sleep", "1000"], limit=0.05))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("squeue: error: Unable to contact slurm controller (connect failure)", ServiceUnavailable),
        ("qstat: cannot connect to server pbs (errno=111)", ServiceUnavailable),
        ("sbatch: error: Invalid partition name specified", RuntimeError),
    ],
)
def test_who_is_to_blame(text: str, error: type[Exception]) -> None:
    with pytest.raises(error, match=text.partition(": ")[0]):
        asyncio.run(jobscript.call(["sh", "-c", 'echo "$1" >&2; exit 1', "sh", text]))
