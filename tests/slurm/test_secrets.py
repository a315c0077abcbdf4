"""Another user of the cluster finds no secret, whatever is looked at while a worker's job runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from .lab.host import Host
from .lab.laboratory import Lab
from .sharing import Cluster

PAGES = ("/", "/info/main/workers.html", "/metrics", "/health", "/status", "/json/counts.json")
NOBODY = "nobody"


class Watched(NamedTuple):
    """A command that runs, and what must not be seen."""

    cluster: Cluster
    node: Host
    job: str
    secrets: list[str]

    def pattern(self) -> str:
        return "\\|".join(secret.replace("+", "[+]").replace("/", "[/]") for secret in self.secrets)


@pytest.fixture(scope="module")
def watched(lab: Lab) -> Iterator[Watched]:
    """The batch system writes the jobs' output, where everybody could read it."""
    cluster = Cluster(lab)
    output = lab.common / "output"
    output.mkdir()
    configuration = cluster.login.file("/root/.config/dask/jobqueue.yaml")
    text = configuration.read_text()
    configuration.write_text(text.replace("cores: 1,", f"cores: 1, log-directory: {output},"))
    try:
        words = ["seamless-daskserver", "start", "--cluster", "slurm", "--workers", "1:1"]
        cluster.login.run(words, env={"SEAMLESS_ISOLATION": "none"})
        line = 'echo "$(hostname) $SLURM_JOB_ID"; env; tr "\\0" "\\n" < /proc/$PPID/environ'
        name, job = cluster.run(line).splitlines()[0].split()
        node = next(node for node in lab.nodes if node.name == name)
        files = [cluster.directory / "token", cluster.directory / "tls" / "key.pem"]
        words = [word for path in files for word in path.read_text().split()]
        yield Watched(cluster, node, job, [word for word in words if len(word) > 20])
    finally:
        cluster.close()
        lab.clean()


def test_the_batch_system_tells_no_secret(watched: Watched) -> None:
    login = watched.cluster.login
    assert len(watched.secrets) >= 3
    for words in (["scontrol", "show", "job", watched.job], ["squeue", "--states=all", "-o", "%all"]):
        for user in (NOBODY, None):
            shown = login.run(words, user=user).stdout
            assert watched.job in shown
            assert not [secret for secret in watched.secrets if secret in shown]
    script = login.run(["scontrol", "write", "batch_script", watched.job, "-"], user=NOBODY, check=False)
    assert (script.stdout, "Invalid user id" in script.stderr) == ("", True)


def test_output_of_jobs_logs_arguments_and_environments_hold_no_secret(watched: Watched) -> None:
    lab = watched.cluster.lab
    written = [*(lab.common / "output").iterdir(), *(watched.cluster.directory / "logs").iterdir()]
    seen = "".join(path.read_text() for path in written)
    for host in (watched.cluster.login, watched.node):
        seen += host.sh("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2> /dev/null | tr '\\0' '\\n' || true")
    assert [path for path in written if watched.job in path.name]
    assert "seamless-worker-" in seen
    assert not [secret for secret in watched.secrets if secret in seen]


def test_no_file_that_another_user_can_read_holds_a_secret(watched: Watched) -> None:
    find = (
        f"grep -rlIs '{watched.pattern()}' /run /tmp /var/tmp /root /etc {watched.cluster.lab.state} || true"
    )
    as_owner = watched.node.sh(find)
    assert "/seamless-worker-" in as_owner
    assert watched.node.sh(find, user=NOBODY) == ""
    assert watched.cluster.login.sh(find, user=NOBODY) == ""


def test_nothing_on_the_node_answers_over_http(watched: Watched) -> None:
    found = watched.node.sh("ss -Htlnp | grep -e python | awk '{print $4}'").split()
    assert len(found) >= 3  # worker and nanny, and the worker's HTTP server
    pages = [f"http://{address}{page}" for address in found for page in PAGES]
    pages += [f"https://{address}/" for address in found]
    words = [word for page in pages for word in (page, "-o", "/dev/null")]
    limits = ["--max-time", "1", "-w", "%{http_code} %{url}\\n"]
    done = watched.node.run(["curl", "-sk", *limits, *words], user=NOBODY, check=False)
    answers = [line.split() for line in done.stdout.splitlines()]
    assert len(answers) == len(pages)
    assert {status for status, _ in answers} == {"000", "404"}, answers
