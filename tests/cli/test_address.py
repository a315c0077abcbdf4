"""Commands by way of a scheduler that is known by its address alone: a plain ``dask scheduler`` with TLS."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seamless_dask.services.daskserver import credentials

from .conftest import BIN, Cli, ended, project, wait_for

Slow = tuple[str, Path, Path]


class Site:
    """A scheduler with one worker."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        made = credentials.make(str(directory), ["127.0.0.1"])
        tls = "DASK_DISTRIBUTED__COMM__TLS__"
        self.certificates = {f"{tls}CA_FILE": str(made.ca_file)}
        for role in ("SCHEDULER", "WORKER", "CLIENT"):
            self.certificates |= {f"{tls}{role}__CERT": str(made.cert_file)}
            self.certificates |= {f"{tls}{role}__KEY": str(made.key_file)}
        self.file = directory / "scheduler.json"
        self.port = 0
        self.start()
        self.worker = self._start("worker", "--nthreads", "3", "--no-nanny", "--no-dashboard")

    def start(self) -> None:
        """Start the scheduler, where it was before."""
        self.file.unlink(missing_ok=True)
        words = ["--protocol", "tls", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        self.scheduler = self._start("scheduler", *words, "--preload", "seamless_dask.scheduler")
        wait_for(lambda: self.file.exists() and self.file.read_text().endswith("}"))
        self.address: str = json.loads(self.file.read_text())["address"]
        self.port = int(self.address.rpartition(":")[2])

    def _start(self, what: str, *words: str) -> subprocess.Popen[bytes]:
        own = {name: text for name, text in os.environ.items() if not name.startswith("SEAMLESS_")}
        own |= {"SEAMLESS_CACHE": str(self.directory / "cache"), "HOME": str(self.directory)}
        own |= {"PATH": f"{BIN}:{os.environ['PATH']}"}
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--scheduler-file", str(self.file)]
        return subprocess.Popen([*command, *words], cwd=self.directory, env=own | self.certificates)

    def close(self) -> None:
        for process in (self.worker, self.scheduler):
            process.terminate()
            process.wait(60)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("site"))
    yield made
    made.close()


@pytest.fixture
def run(cli: Cli, site: Site, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Commands that use it, and have the certificates of a client."""
    for name, text in site.certificates.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("SEAMLESS_DASKSERVER", site.address)
    return cli


def jobs(run: Cli) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("seamless-status", "--json").stdout)["jobs"]
    return found


def test_a_command_runs_there_and_is_known_from_then_on_without_dask(
    run: Cli, work: Path, home: Path
) -> None:
    (work / "data.txt").write_text("b\na\n")
    assert json.loads(run("seamless-run", "--json", "sort data.txt > sorted.txt").stdout)["cached"] is False
    assert (work / "sorted.txt").read_text() == "a\nb\n"
    assert not (home / "cache" / "buffers").exists()
    assert "dask" not in run.modules("seamless-run", "sort data.txt > sorted.txt")


def test_stderr_is_streamed_and_a_failure_has_its_status(run: Cli, slow: Slow) -> None:
    command, _, go = slow
    process = run.start("seamless-run", "-q", "--direct-print", f"echo early >&2; {command} >&2; exit 7")
    assert process.stderr is not None
    assert process.stderr.readline() == b"early\n"
    go.touch()
    status, _, rest = ended(process)
    assert status == 7
    assert rest.startswith("done\n")


def test_detached_named_by_another_listed_and_downloaded(
    run: Cli, site: Site, slow: Slow, work: Path
) -> None:
    command, mark, go = slow
    run("seamless-run", "-d", f"({command}) > one.txt")
    wait_for(mark.exists)
    assert json.loads((work / "one.txt.FUTURE").read_text())["server"] == site.address
    run("seamless-run", "-d", "tr a-z A-Z < one.txt > two.txt")
    wait_for(lambda: {job["state"] for job in jobs(run)} == {"running", "waiting"})
    assert f"daskserver  {site.address}" in run("seamless-status").text
    go.touch()
    run("seamless-download", "two.txt")
    assert (work / "two.txt").read_text() == "DONE\n"


def test_ctrl_c_withdraws(run: Cli, slow: Slow, work: Path) -> None:
    command, mark, _ = slow
    process = run.start("seamless-run", f"({command}) > out.txt")
    wait_for(mark.exists)
    os.killpg(process.pid, signal.SIGINT)
    assert ended(process)[0] == 130
    wait_for(lambda: not jobs(run))
    assert not (work / "out.txt.FUTURE").exists()


def test_cancelled_by_the_path_that_is_made(run: Cli, slow: Slow, work: Path) -> None:
    command, mark, _ = slow
    run("seamless-run", "-d", f"({command}) > out.txt")
    wait_for(mark.exists)
    assert run("seamless-cancel", "out.txt").error == "out.txt is cancelled"
    wait_for(lambda: not jobs(run))
    assert not (work / "out.txt.FUTURE").exists()


def test_a_command_that_asks_for_another_one(run: Cli, work: Path) -> None:
    project(work, 'isolation = "none"\n')  # the commands are not in any sandbox
    assert run("seamless-run", "seamless-run echo inner").text == "inner\n"


def refused(cli: Cli, address: str, **environment: str) -> str:
    error = cli("seamless-run", "--daskserver", address, "echo", "x", status=1, **environment).error
    assert error.startswith(f"no connection to the scheduler at {address}: ")
    return error


def test_a_client_without_certificates(cli: Cli, site: Site) -> None:
    assert "name certificates in Dask's configuration" in refused(cli, site.address)


def test_certificates_of_another_authority(cli: Cli, site: Site, tmp_path: Path) -> None:
    directory = tmp_path / "strange"
    directory.mkdir(mode=0o700)
    strange = credentials.make(str(directory), ["127.0.0.1"])
    theirs = {name: str(strange.ca_file) for name in site.certificates if name.endswith("CA_FILE")}
    ours = site.certificates
    assert "name who has signed its certificate" in refused(cli, site.address, **ours | theirs)
    files = {"CERT": str(strange.cert_file), "KEY": str(strange.key_file)}
    theirs = {name: files[end] for name in ours for end in files if name.endswith(f"CLIENT__{end}")}
    assert "accept our certificate" in refused(cli, site.address, **ours | theirs)


def test_an_address_without_tls(cli: Cli, site: Site) -> None:
    assert "its address is tls://" in refused(cli, site.address.replace("tls:", "tcp:"))


def test_a_plain_client_of_python_finds_the_store(run: Cli, site: Site, work: Path, home: Path) -> None:
    program = (
        "import sys\nfrom distributed import Client\nfrom seamless_dask import bash\n"
        "tf = bash('tr a-z A-Z < x', {'x': b'by a client'})\n"
        "with Client(sys.argv[1]) as client:\n"
        "    print(client.compute(tf).result().read_text())\n"
    )
    (work / "program.py").write_text(program)
    own = {name: text for name, text in os.environ.items() if name != "SEAMLESS_DASKSERVER"}
    done = subprocess.run(
        [sys.executable, "program.py", site.address],
        cwd=work, env=own, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "BY A CLIENT\n"), done.stderr
    assert not (home / "cache" / "buffers").exists()


def test_a_lost_connection_is_made_again(run: Cli, site: Site, slow: Slow) -> None:
    command, mark, go = slow
    process = run.start("seamless-run", command)
    wait_for(mark.exists)
    site.scheduler.kill()
    site.scheduler.wait()
    site.start()
    go.touch()
    assert ended(process)[:2] == (0, b"done\n")
