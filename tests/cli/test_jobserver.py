"""Commands by way of a daskserver: a real one, for all tests of this file."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cli, ended, project, wait_for

HEAVY = {"dask", "distributed", "tornado", "aiohttp", "numpy"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The connection file of a daskserver with one worker."""
    cache = tmp_path_factory.mktemp("daskserver")
    own = {key: value for key, value in os.environ.items() if not key.startswith("SEAMLESS_")}
    own |= {"SEAMLESS_CACHE": str(cache), "HOME": str(cache)}

    def command(*words: str) -> None:
        done = subprocess.run(
            [Cli.path("seamless-daskserver"), *words], env=own, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done

    command("start", "--workers", "1", "--threads", "3")
    yield cache / "daskserver" / "default" / "connection.json"
    command("stop")


@pytest.fixture
def run(cli: Cli, server: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Commands that use it, and no proxy on the way to it."""
    for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("SEAMLESS_DASKSERVER", str(server))
    return cli


def jobs(run: Cli) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run("seamless-status", "--json").stdout)["jobs"]
    return found


Slow = tuple[str, Path, Path]


class TestRun:
    def test_a_command_runs_on_a_worker_and_is_known_from_then_on(self, run: Cli, work: Path) -> None:
        (work / "data.txt").write_text("b\na\n")
        for cached in (False, True):
            facts = json.loads(run("seamless-run", "--json", "sort data.txt > sorted.txt").stdout)
            assert facts["cached"] is cached
        assert (work / "sorted.txt").read_text() == "a\nb\n"
        assert (work / "sorted.txt.CHECKSUM").exists()
        assert not (work / "sorted.txt.FUTURE").exists()

    def test_a_program_that_can_be_executed_here_can_be_there(self, run: Cli, work: Path) -> None:
        (work / "n.sh").write_text("echo ran there\n")
        (work / "n.sh").chmod(0o755)
        assert run("seamless-run", "./n.sh").text == "ran there\n"

    def test_no_dask_is_imported_here(self, run: Cli) -> None:
        loaded = run.modules("seamless-run", "echo", "light")
        assert "seamless_dask.executors.http" in loaded
        assert not {name.partition(".")[0] for name in loaded} & HEAVY

    def test_a_failure_has_status_tail_and_worker(self, run: Cli) -> None:
        done = run("seamless-run", "echo oh no >&2; exit 7", status=7)
        tail, message = done.stderr.splitlines()
        assert tail == "oh no"
        assert "exit status 7" in message
        assert "(worker " in message

    def test_the_profile_of_a_project(self, cli: Cli, work: Path, server: Path) -> None:
        project(work, f'[profile.cluster]\ndaskserver = "{server}"\n')
        assert "seamless_dask.executors.http" in cli.modules(
            "seamless-run", "--profile", "cluster", "echo by profile"
        )

    def test_local_stays_here(self, run: Cli, home: Path) -> None:
        assert run("seamless-run", "--local", "echo", "here").text == "here\n"
        assert (home / "cache" / "seamless.db").exists()

    def test_local_does_not_even_look_at_the_connection_file(self, cli: Cli) -> None:
        assert cli("seamless-run", "--local", "echo", "x", SEAMLESS_DASKSERVER="/nowhere").text == "x\n"

    def test_direct_print_streams_stderr(self, run: Cli, slow: Slow) -> None:
        command, _, go = slow
        process = run.start(
            "seamless-run", "-q", "--direct-print", f"echo early >&2; {command}; echo late >&2"
        )
        assert process.stderr is not None
        assert process.stderr.readline() == b"early\n"
        go.touch()
        assert ended(process) == (0, b"done\n", "late\n")

    def test_the_state_is_shown_on_a_terminal(self, run: Cli, slow: Slow) -> None:
        command, mark, go = slow
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [run.path("seamless-run"), command], cwd=run.directory, stderr=theirs, stdout=subprocess.PIPE
        )
        os.close(theirs)
        wait_for(mark.exists)
        shown = b""
        while b"echo: running" not in shown:
            shown += os.read(ours, 4096)
        go.touch()
        assert process.communicate(timeout=60)[0] == b"done\n"
        os.close(ours)

    def test_run_transformation_and_fingertip(self, run: Cli, work: Path) -> None:
        run("seamless-run", "--scratch", "echo again > out.txt")
        checksum = (work / "out.txt.CHECKSUM").read_text().strip()
        assert run("seamless-fingertip", checksum).text == "again\n"
        key = json.loads(run("seamless-run", "--json", "-nd", "echo tf > tf.txt").stdout)["key"]
        assert run("seamless-run-transformation", key).text == (work / "tf.txt.CHECKSUM").read_text()


class TestCancel:
    def test_ctrl_c_cancels(self, run: Cli, slow: Slow, work: Path) -> None:
        command, mark, _ = slow
        process = run.start("seamless-run", f"({command}) > out.txt")
        wait_for(mark.exists)
        os.killpg(process.pid, signal.SIGINT)
        assert ended(process)[0] == 130
        wait_for(lambda: not jobs(run))
        assert not (work / "out.txt.FUTURE").exists()

    def test_a_closed_terminal_does_not_and_a_rerun_attaches(self, run: Cli, slow: Slow, work: Path) -> None:
        command, mark, go = slow
        process = run.start("seamless-run", f"({command}) > out.txt")
        wait_for(mark.exists)
        os.killpg(process.pid, signal.SIGHUP)
        assert ended(process)[0] == -signal.SIGHUP
        again = run.start("seamless-run", f"({command}) > out.txt")
        wait_for(lambda: [job["askers"] for job in jobs(run)] == [2])
        go.touch()
        assert ended(again)[0] == 0
        assert (work / "out.txt").read_text() == "done\n"
        assert mark.read_text() == "begun\n"

    def test_by_key_for_everybody(self, run: Cli, slow: Slow) -> None:
        command, mark, _ = slow
        process = run.start("seamless-run", command)
        wait_for(mark.exists)
        (job,) = jobs(run)
        assert "is cancelled" in run("seamless-cancel", job["key"]).error
        assert ended(process)[0] == 130
        assert "not under way" in run("seamless-cancel", job["key"], status=1).error

    def test_by_the_path_that_is_made(self, run: Cli, slow: Slow, work: Path) -> None:
        command, mark, _ = slow
        run("seamless-run", "-d", f"({command}) > out.txt")
        wait_for(mark.exists)
        run("seamless-cancel", "out.txt")
        wait_for(lambda: not jobs(run))
        assert not (work / "out.txt.FUTURE").exists()


class TestFuture:
    def test_detached_and_downloaded(self, run: Cli, slow: Slow, work: Path, server: Path) -> None:
        command, mark, go = slow
        run("seamless-run", "-d", f"({command}) > out.txt")
        wait_for(mark.exists)
        assert json.loads((work / "out.txt.FUTURE").read_text())["server"] == str(server)
        go.touch()
        run("seamless-download", "out.txt")
        assert (work / "out.txt").read_text() == "done\n"
        assert not (work / "out.txt.FUTURE").exists()

    def test_a_pipeline_is_submitted_at_once(self, run: Cli, slow: Slow, work: Path) -> None:
        command, mark, go = slow
        run("seamless-run", "-d", f"({command}) > one.txt")
        wait_for(mark.exists)
        run("seamless-run", "-d", "tr a-z A-Z < one.txt > two.txt")
        run("seamless-run", "-d", "rev two.txt > three.txt")
        assert {job["state"] for job in jobs(run)} == {"running", "waiting"}
        go.touch()
        run("seamless-download", "three.txt", "one.txt")
        assert (work / "three.txt").read_text() == "ENOD\n"
        assert (work / "one.txt").read_text() == "done\n"

    def test_the_job_is_found_where_it_runs(self, run: Cli, slow: Slow) -> None:
        command, mark, go = slow
        run("seamless-run", "-d", f"({command}) > out.txt")
        wait_for(mark.exists)
        # without the variable, this host would run it: the future names who does
        process = run.start("seamless-download", "out.txt", SEAMLESS_DASKSERVER="")
        wait_for(lambda: [job["askers"] for job in jobs(run)] == [2])
        run("seamless-cancel", "out.txt", SEAMLESS_DASKSERVER="")
        assert ended(process)[0] == 130
        go.touch()

    @pytest.mark.parametrize("there", ["a daskserver", "this host"])
    def test_a_run_elsewhere_takes_the_result_from_where_it_is_made(
        self, run: Cli, slow: Slow, work: Path, server: Path, there: str
    ) -> None:
        command, mark, go = slow
        servers = [str(server), ""] if there == "a daskserver" else ["", str(server)]
        run(
            "seamless-run",
            "-d",
            f"mkdir d; ({command}) > d/x.txt",
            "-cp",
            "d",
            SEAMLESS_DASKSERVER=servers[0],
        )
        wait_for(mark.exists)
        process = run.start("seamless-run", "cat d/x.txt | rev", SEAMLESS_DASKSERVER=servers[1])
        assert process.stderr is not None
        assert b"d is made by a job of" in process.stderr.readline()
        go.touch()
        assert ended(process)[:2] == (0, b"enod\n")
        run("seamless-download", "d", SEAMLESS_DASKSERVER=servers[1])
        assert (work / "d" / "x.txt").read_text() == "done\n"
        assert mark.read_text() == "begun\n"

    def test_a_server_that_cannot_be_asked(
        self, run: Cli, slow: Slow, work: Path, server: Path, home: Path
    ) -> None:
        command, mark, go = slow
        run("seamless-run", "-d", f"({command}) > out.txt")
        wait_for(mark.exists)
        gone = json.loads(server.read_text()) | {
            "jobserver": "http://127.0.0.1:9",
            "hashserver": "http://127.0.0.1:9",
        }
        (work / "gone.json").write_text(json.dumps(gone))
        (work / "gone.json").chmod(0o600)
        (request,) = (home / "cache" / "requests").iterdir()
        request.write_text(json.dumps(json.loads(request.read_text()) | {"server": str(work / "gone.json")}))
        error = run("seamless-run", "cat out.txt", SEAMLESS_DASKSERVER="", status=1).error
        assert f"is made at {work}/gone.json, which does not answer" in error
        go.touch()
        run("seamless-download", "out.txt")
        assert (work / "out.txt").read_text() == "done\n"

    def test_a_stale_one_is_asked_for_again_as_it_was(
        self, run: Cli, slow: Slow, work: Path, home: Path
    ) -> None:
        command, mark, go = slow
        options = ["--prologue", "said=prologue", "--metavar", "told=metavar"]
        line = f'({command}; echo "$said $told") > out.txt'
        run("seamless-run", "-d", *options, line)
        wait_for(mark.exists)
        future = (work / "out.txt.FUTURE").read_bytes()
        (request,) = (home / "cache" / "requests").iterdir()
        kept = request.read_bytes()
        run("seamless-cancel", "out.txt")
        wait_for(lambda: not jobs(run))
        assert not request.exists()
        (work / "out.txt.FUTURE").write_bytes(future)  # as if the daskserver had lost the job
        assert "was not asked for from here" in run("seamless-download", "out.txt", status=1).error
        request.write_bytes(kept)
        go.touch()
        run("seamless-download", "out.txt")
        assert (work / "out.txt").read_text() == "done\nprologue metavar\n"
        assert not request.exists()


class TestStatus:
    def test_running_work(self, run: Cli, slow: Slow, server: Path) -> None:
        command, mark, go = slow
        process = run.start("seamless-run", command)
        wait_for(mark.exists)
        (job,) = jobs(run)
        assert (job["state"], job["label"]) == ("running", "echo")
        assert job["worker"]
        assert job["node"]
        shown = run("seamless-status").text
        assert f"daskserver  {server}" in shown
        assert f"running     echo {job['key']} (on " in shown
        go.touch()
        assert ended(process)[0] == 0


class TestRefusals:
    """One clear line."""

    @pytest.fixture
    def other(self, server: Path, tmp_path: Path) -> Any:
        """Writes a connection file that differs."""

        def write(**changes: Any) -> str:
            path = tmp_path / "other.json"
            path.write_text(json.dumps(json.loads(server.read_text()) | changes))
            path.chmod(0o600)
            return str(path)

        return write

    def refused(self, cli: Cli, path: str, status: int = 1) -> str:
        return cli("seamless-run", "--daskserver", path, f"echo {time.time_ns()}", status=status).error

    def test_a_wrong_token(self, cli: Cli, other: Any, tmp_path: Path) -> None:
        token = tmp_path / "token"
        token.write_text(f"read-write {'x' * 64}\n")
        token.chmod(0o600)
        error = self.refused(cli, other(token_file=str(token)))
        assert "token" in error
        assert "x" * 64 not in error

    def test_a_wrong_certificate(self, cli: Cli, other: Any, server: Path, tmp_path: Path) -> None:
        strange = tmp_path / "ca.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=nobody",
             "-keyout", tmp_path / "key.pem", "-out", strange], check=True, capture_output=True,
        )  # fmt: skip
        assert "its certificate is not trusted" in self.refused(cli, other(ca_file=str(strange)))

    def test_a_server_that_is_gone(self, cli: Cli, other: Any) -> None:
        assert "no connection to https://127.0.0.1:9" in self.refused(
            cli, other(jobserver="https://127.0.0.1:9")
        )

    def test_a_server_that_speaks_no_tls(self, cli: Cli, other: Any, server: Path) -> None:
        url = json.loads(server.read_text())["jobserver"].replace("https", "http")
        assert f"no connection to {url}" in self.refused(cli, other(jobserver=url))

    def test_no_connection_file(self, cli: Cli) -> None:
        error = self.refused(cli, "/nowhere/connection.json", 2)
        assert error.startswith("the connection file /nowhere/connection.json is not there")

    def test_a_connection_file_that_others_may_read(self, cli: Cli, other: Any) -> None:
        path = other()
        os.chmod(path, 0o644)
        assert "others may read the connection file" in self.refused(cli, path, 2)

    def test_another_version_of_the_connection_file(self, cli: Cli, other: Any) -> None:
        assert "install the same on both sides" in self.refused(cli, other(version=7), 2)
