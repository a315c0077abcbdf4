"""Workers of another Python, for which compiled libraries are of no use: what they do, and what they say."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest
from distributed import LocalCluster

import seamless_dask
from seamless_dask import direct
from seamless_dask.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning")
PACKAGES = Path(distributed.__file__).parents[1]


@functools.cache
def other_python() -> str | None:
    """An interpreter of another version that this package supports."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [*map(str, root.glob("versions/3.*/bin/python")), *(f"python3.{minor}" for minor in (12, 13, 14))]
    code = "import sys; print(*sys.version_info[:2])"
    for path in found:
        if shutil.which(path) is None:
            continue
        done = subprocess.run([path, "-c", code], capture_output=True, text=True)
        version = tuple(map(int, done.stdout.split()))
        if done.returncode == 0 and (3, 11) <= version < (3, 14) and version != sys.version_info[:2]:
            return path
    return None


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster of one worker, of another Python."""
    directory = tmp_path_factory.mktemp("mixed")
    other = other_python()
    if other is None:
        pytest.skip("there is no Python of another version")
    environment = os.environ | {"PYTHONPATH": str(PACKAGES), "PYTHONDONTWRITEBYTECODE": "1"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEAMLESS_CACHE", str(directory / "cache"))
        patch.setenv("SEAMLESS_ISOLATION", "none")
        with (
            LocalCluster(n_workers=0, processes=False, protocol="tcp://", dashboard_address=":0") as cluster,
            distributed.Client(cluster, set_as_default=False) as client,
            (directory / "worker.log").open("wb") as log,
        ):
            seamless_dask.equip(client)
            words = ["--no-dashboard", "--no-nanny", "--local-directory", str(directory)]
            worker = subprocess.Popen(
                [other, "-m", "dask", "worker", cluster.scheduler_address, *words],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                client.wait_for_workers(1, timeout=60)
                yield cluster
            finally:
                worker.terminate()
                worker.wait()


@pytest.fixture(params=[distributed.Client, seamless_dask.Client], ids=["stock", "ours"])
def client(mixed: LocalCluster, request: pytest.FixtureRequest) -> Iterator[distributed.Client]:
    with request.param(mixed) as found:
        yield found


def versions(x: Any, which: str) -> Any:
    import sys

    return sys.version_info[:2], x, which


def summed(values: Any, which: str) -> float:
    import numpy as np

    return float(np.sum(values))


def test_code_arguments_and_results_are_of_no_version(client: distributed.Client) -> None:
    name = type(client).__module__
    found, x, _ = client.submit(direct(versions), [1, {"x": (2.5, b"3")}], name).result(60)
    assert found != sys.version_info[:2]
    assert x == [1, {"x": (2.5, b"3")}]


def test_a_module_that_it_lacks_is_named_with_host_interpreter_and_worker(
    client: distributed.Client, mixed: LocalCluster
) -> None:
    with pytest.raises(ImportError, match="numpy") as caught:
        client.submit(direct(summed), [1, 2], type(client).__module__).result(60)
    [worker] = mixed.scheduler.workers
    told = "\n".join(caught.value.__notes__)
    assert f"numpy is not installed for {other_python()} on {os.uname().nodename}" in told
    assert worker in told


def test_an_argument_that_it_cannot_read_fails_its_call_and_costs_no_worker(mixed: LocalCluster) -> None:
    workers = set(mixed.scheduler.workers)
    with distributed.Client(mixed, set_as_default=False) as client:
        kept = client.submit(os.getpid, pure=False)
        kept.result(60)
        for argument in (np.ones(3), [client.submit(abs, -1), {"x": np.ones(3)}]):
            with pytest.raises(UsageError, match=r"cannot read an argument .*numpy.*put\(value\)") as caught:
                client.submit(direct(versions), argument, "array").result(60)
            assert "\n" not in str(caught.value)
        assert set(mixed.scheduler.workers) == workers
        assert kept.status == "finished"
