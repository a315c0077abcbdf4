"""The page about clusters, with the commands as they stand there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from .page import PAGE, block


@pytest.fixture
def server(slurm: Any) -> Iterator[Any]:
    login = slurm.login
    configuration = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0]
    login.file("/root/.config/dask").mkdir(parents=True, exist_ok=True)
    login.file("/root/.config/dask/jobqueue.yaml").write_text(configuration)
    login.sh(block("On the login node", "login node"))
    yield slurm
    slurm.laptop.sh("seamless-daskserver stop")
    login.sh("seamless-daskserver stop")
    assert login.processes("seamless_dask") == []
    assert slurm.laptop.processes("seamless_dask") == []
    slurm.wait_until(lambda: not slurm.jobs())


def test_from_a_laptop_to_nodes_that_share_nothing(server: Any) -> None:
    laptop = server.laptop
    laptop.file("/root/data").mkdir()
    laptop.file("/root/data/input.txt").write_text("3\n1\n2\n")
    shown = laptop.sh(block("From a laptop", "laptop"))
    assert "\n1\n2\n3\n" in shown
    assert not laptop.file("/root/data/input.txt").exists()
    environment = {"SEAMLESS_DASKSERVER": "/root/.cache/seamless/daskserver/default/connection.json"}
    more = laptop.sh(block("Jobs to measure", "laptop"), env=environment)
    assert more == "1\n2\n3\n3\n2\n1\n"
    jobs = sorted(server.jobs("%P %C %N"))
    assert any(job.startswith("long 2 ") for job in jobs), jobs
    again = laptop.sh(block("Jobs to measure", "laptop"), env=environment)
    assert again == more
