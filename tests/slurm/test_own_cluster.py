"""A cluster object of the user's own, on nodes that share nothing: the page about it, as it stands there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from .lab.laboratory import Lab
from .page import OWN_CLUSTER, block, script

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
