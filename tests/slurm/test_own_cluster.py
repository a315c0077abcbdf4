"""A cluster object of the user's own, on nodes that share nothing: the page about it, as it stands there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from .lab.host import Host
from .lab.laboratory import Lab
from .page import OWN_CLUSTER, PAGE, block, script

EXAMPLES = Path(__file__).parents[2] / "examples"

ELSEWHERE = """
import json, sys
import seamless_dask
from dask.distributed import Client, LocalCluster
from distributed import Security
from own import word_count

if __name__ == "__main__":
    if sys.argv[1] == "local":
        client = Client(LocalCluster(n_workers=0, dashboard_address=":0"))
        seamless_dask.equip(client)
    else:
        facts = json.load(open(sys.argv[1]))
        files = {"tls_ca_file": facts["ca_file"], "tls_client_cert": facts["cert_file"]}
        security = Security(require_encryption=True, tls_client_key=facts["key_file"], **files)
        client = Client(facts["scheduler"], security=security)
    with client:
        futures = [client.compute(word_count("a b c " * n)) for n in range(4)]
        print(sorted(future.key for future in futures))
        print(client.gather(futures))
"""


class Typed(NamedTuple):
    """What the page's commands have shown, each time."""

    lab: Lab
    shown: list[tuple[str, str]]


@pytest.fixture(scope="module")
def typed(lab: Lab) -> Iterator[Typed]:
    login = lab.login
    login.file("/root/own.py").write_text(script("own.py", OWN_CLUSTER))
    before, *commands = block("Who may read along", "login node", OWN_CLUSTER).split("python ")
    login.sh(before)
    shown = []
    for line in commands:
        done = login.run(["bash", "-euc", f"python {line}"], timeout=120)
        shown.append((done.stdout, done.stderr))
    yield Typed(lab, shown)
    lab.clean()


def test_nodes_that_share_nothing_run_it_and_the_second_time_nothing_runs(typed: Typed) -> None:
    first, second = typed.shown
    assert first[0] == second[0] == "[0, 3, 6, 9]\n"
    assert len(re.findall(r"^on n[123]$", first[1], re.MULTILINE)) == 4
    assert "\non " not in f"\n{second[1]}"


def test_hosts_reached_by_ssh(typed: Typed) -> None:
    pytest.importorskip("asyncssh")
    login = typed.lab.login
    login.file("/root/own_ssh.py").write_text(script("own_ssh.py", OWN_CLUSTER))
    assert login.sh("python own_ssh.py") in ("n1\n", "n2\n")


def test_the_example_submits_no_job_for_what_is_known(typed: Typed) -> None:
    login = typed.lab.login
    for name in ("colony.py", "colonies_on_slurm.py"):
        login.file(f"/root/{name}").write_text((EXAMPLES / name).read_text())
    configuration = login.file("/root/.config/dask/jobqueue.yaml")
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text(re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[0])
    before = numbers(login)
    shown = login.sh("python colonies_on_slurm.py 3", timeout=120)
    assert re.match(r"scenario .*\n(?:(?:steady|restless|warming) .*\n){3}$", shown)
    first = numbers(login)
    assert first > before
    again = login.sh("python colonies_on_slurm.py 3")
    assert sorted(again.splitlines()) == sorted(shown.splitlines())
    assert numbers(login) == first


def numbers(login: Host) -> int:
    """The number of the next job."""
    shown = login.sh("scontrol show config")
    return int(re.findall(r"^NEXT_JOB_ID\s*=\s*(\d+)", shown, re.MULTILINE)[0])


def test_nothing_of_it_is_left(typed: Typed) -> None:
    lab = typed.lab
    lab.wait_until(lambda: not lab.jobs())
    hosts = [lab.login, *lab.nodes]
    assert [host.name for host in hosts if host.processes("hashserver_process")] == []
    assert list(lab.login.file("/root/.cache/seamless/clusters").iterdir()) == []
    assert [host.name for host in lab.nodes if host.processes("seamless")] == []
    # what a killed run leaves until the next worker sweeps it has a token for that run only
    find = "grep -rlIs '^read-write ' /tmp /root/.cache --exclude-dir=control || true"
    assert [host.name for host in hosts if host.sh(find)] == []


def test_same_keys_and_hits_with_a_local_cluster_and_a_daskserver(typed: Typed) -> None:
    login = typed.lab.login
    login.file("/root/elsewhere.py").write_text(ELSEWHERE)
    local = login.sh("python elsewhere.py local")  # has no worker
    assert local.endswith("\n[0, 3, 6, 9]\n")
    login.sh("seamless-daskserver start --workers 0:1")
    try:
        path = "/root/.cache/seamless/daskserver/default/connection.json"
        done = login.run(["python", "elsewhere.py", path], env={"SEAMLESS_DASKSERVER": path})
        assert (done.stdout, done.stderr) == (local, "")  # where it ran it would say so
    finally:
        login.sh("seamless-daskserver stop")
