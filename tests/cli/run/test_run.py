from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ..conftest import ended, project, wait_for

if TYPE_CHECKING:
    from .conftest import Cli

HELLO = hashlib.sha256(b"hello\n").hexdigest()


@pytest.fixture
def hello(work: Path) -> Path:
    path = work / "a.txt"
    path.write_text("hello\n")
    return path


def test_prints_standard_output_as_it_is(cli: Cli, hello: Path) -> None:
    assert cli("seamless-run", "cat", "a.txt").stdout == b"hello\n"
    assert cli("seamless", "run", "cat", "a.txt").stdout == b"hello\n"
    assert cli("seamless-run", r"printf '\0\377\r'").stdout == b"\0\xff\r"


def test_the_second_time_is_a_hit(cli: Cli, hello: Path) -> None:
    text = "cat a.txt; date +%N"
    first = cli("seamless-run", text)
    second = cli("seamless-run", "-v", text)
    assert second.stdout == first.stdout
    assert "was known" in second.stderr


def test_a_hit_imports_nothing_that_is_slow(cli: Cli, work: Path, hello: Path) -> None:
    cli("seamless-run", "cat", "a.txt")
    loaded = cli.modules("seamless-run", "cat", "a.txt")
    slow = "dask distributed aiohttp fsspec click ssl asyncio http.client logging subprocess tempfile uuid"
    slow += " concurrent.futures multiprocessing dataclasses inspect"
    slow += " seamless_cli.run.compute seamless_dask.jobs.local"
    assert loaded & set(slow.split()) == set()


def test_a_hit_defines_its_named_tuples_cheaply(cli: Cli, work: Path, hello: Path) -> None:
    cli("seamless-run", "cat", "a.txt")
    loaded = cli.modules("seamless-run", "cat", "a.txt")
    ours = [name for name in loaded if name.startswith(("hashserver.", "seamless_dask.", "seamless_cli."))]
    files = [find_spec(name) for name in ours if name != "hashserver.namedtuple"]
    texts = {spec.name: Path(spec.origin).read_text() for spec in files if spec and spec.origin}
    assert len(texts) > 30
    assert [
        name for name, text in texts.items() if re.search(r"^from typing import.*NamedTuple", text, re.M)
    ] == []


def test_captures_a_file(cli: Cli, work: Path, hello: Path) -> None:
    done = cli("seamless-run", "cp", "a.txt", "out.csv", "--capture", "out.csv")
    assert done.stdout == b""
    assert (work / "out.csv").read_text() == "hello\n"
    assert (work / "out.csv.CHECKSUM").read_text() == HELLO + "\n"
    assert not (work / "out.csv.FUTURE").exists()
    assert not (work / "a.txt.CHECKSUM").exists()


def test_captures_several_results_and_standard_output(cli: Cli, work: Path, hello: Path) -> None:
    command = "mkdir -p res/sub; cp a.txt res/sub/x; cp a.txt y; echo log"
    cli("seamless-run", "-cp", "res", "-cp", "y:deep/z", "-cp", ":log.txt", command)
    assert (work / "res" / "sub" / "x").read_text() == "hello\n"
    assert (work / "res" / ".INDEX").exists()
    assert (work / "deep" / "z").read_text() == "hello\n"
    assert (work / "log.txt").read_text() == "log\n"
    assert (work / "log.txt.CHECKSUM").exists()


def test_a_redirection_is_captured(cli: Cli, work: Path, hello: Path) -> None:
    cli("seamless-run", "wc -c < a.txt > n.txt")
    assert (work / "n.txt").read_text().strip() == "6"


def test_no_download_writes_the_sidecar_alone(cli: Cli, work: Path, hello: Path) -> None:
    cli("seamless-run", "cp", "a.txt", "out", "--capture", "out", "-nd")
    assert (work / "out.CHECKSUM").exists()
    assert not (work / "out").exists()
    cli("seamless-download", "out")
    assert (work / "out").read_text() == "hello\n"


def test_no_download_of_a_directory(cli: Cli, work: Path, hello: Path) -> None:
    cli("seamless-run", "-nd", "-cp", "res", "mkdir res; cp a.txt res/x")
    assert sorted(p.name for p in (work / "res").iterdir()) == [".CHECKSUM", ".INDEX"]
    assert cli("seamless-run", "cat", "res/x").stdout == b"hello\n"


def test_a_deleted_input_is_found_by_its_sidecar(cli: Cli, hello: Path) -> None:
    cli("seamless-upload", "a.txt")
    hello.unlink()
    assert cli("seamless-run", "cat", "a.txt").stdout == b"hello\n"


def test_an_input_that_differs_from_its_sidecar(cli: Cli, hello: Path) -> None:
    cli("seamless-upload", "a.txt")
    hello.write_text("changed\n")
    expected = "a.txt has changed since its sidecar was written: seamless-upload a.txt to use it"
    assert cli("seamless-run", "cat", "a.txt", status=1).error == expected
    cli("seamless-upload", "a.txt")
    assert cli("seamless-run", "cat", "a.txt").stdout == b"changed\n"


def test_a_directory_as_input(cli: Cli, tree: Path) -> None:
    assert (
        cli("seamless-run", "sort set/a.txt set/sub/é.txt; ls set").text == "hello\nété\na.txt\nrun.sh\nsub\n"
    )
    assert not (tree / ".CHECKSUM").exists()


def test_variables_are_part_of_the_identity_and_metavars_are_not(cli: Cli) -> None:
    command = ("echo $X$Y",)
    first = cli("seamless-run", "--var", "X=1", "--metavar", "Y=a", *command).text
    assert first == "1a\n"
    assert cli("seamless-run", "--var", "X=1", "--metavar", "Y=b", *command).text == "1a\n"
    assert cli("seamless-run", "--var", "X=2", "--metavar", "Y=b", *command).text == "2b\n"


def test_stdin(cli: Cli, hello: Path) -> None:
    assert cli("seamless-run", "--stdin", "a.txt", "tr", "a-z", "A-Z").text == "HELLO\n"


def test_the_commands_own_status_and_the_tail_of_its_stderr(cli: Cli) -> None:
    done = cli("seamless-run", "for i in $(seq 100); do echo line $i >&2; done; exit 7", status=7)
    assert "line 100\n" in done.stderr
    assert "line 1\n" not in done.stderr
    assert "exit status 7" in done.stderr.splitlines()[-1]
    assert done.stdout == b""


def test_a_failure_is_not_cached(cli: Cli, work: Path, tmp_path: Path) -> None:
    project(work, 'isolation = "none"\n')
    command = ("--metavar", f"P={tmp_path}/there", 'test -e "$P"')
    cli("seamless-run", *command, status=1)
    (tmp_path / "there").touch()
    cli("seamless-run", *command)


def test_a_result_that_was_not_written(cli: Cli) -> None:
    assert "out.csv" in cli("seamless-run", "-cp", "out.csv", "echo hi", status=1).stderr


def test_usage_errors(cli: Cli) -> None:
    assert "no command" in cli("seamless-run", status=2).error
    assert "no option" in cli("seamless-run", "--nonsense", "ls", status=2).error


def test_a_file_of_the_users_stops_it_before_anything_runs(cli: Cli, work: Path, tmp_path: Path) -> None:
    project(work, 'isolation = "none"\n')
    (work / "out").write_text("mine\n")
    command = f"touch {tmp_path}/ran; echo new > out"
    assert "--overwrite" in cli("seamless-run", command, status=1).error
    assert (work / "out").read_text() == "mine\n"
    assert not (tmp_path / "ran").exists()
    cli("seamless-run", "--overwrite", command)
    assert (work / "out").read_text() == "new\n"


def test_an_older_result_is_replaced(cli: Cli, work: Path, hello: Path) -> None:
    cli("seamless-run", "cat a.txt > out")
    hello.write_text("second\n")
    cli("seamless-run", "cat a.txt > out")
    assert (work / "out").read_text() == "second\n"
    assert (work / "out.CHECKSUM").read_text().strip() == hashlib.sha256(b"second\n").hexdigest()


def test_an_older_result_directory_is_replaced(cli: Cli, work: Path, hello: Path) -> None:
    cli("seamless-run", "-cp", "res", "mkdir res; cp a.txt res/x; cp a.txt res/y")
    cli("seamless-run", "-cp", "res", "mkdir res; echo 2 > res/x")
    assert sorted(p.name for p in (work / "res").iterdir()) == [".CHECKSUM", ".INDEX", "x"]
    assert (work / "res" / "x").read_text() == "2\n"


def test_no_download_keeps_a_local_copy_up_to_date(cli: Cli, work: Path, hello: Path) -> None:
    cli("seamless-run", "cat a.txt > out")
    hello.write_text("second\n")
    cli("seamless-run", "-nd", "cat a.txt > out")
    assert (work / "out").read_text() == "second\n"


def test_undo_makes_the_next_run_compute(cli: Cli) -> None:
    command = "date +%s%N"
    first = cli("seamless-run", command).text
    assert cli("seamless-run", command).text == first
    cli("seamless-run", "--undo", command)
    assert cli("seamless-run", command).text != first


def test_nothing_to_undo(cli: Cli) -> None:
    assert "no result" in cli("seamless-run", "--undo", "echo hi", status=1).error


def test_dry_run_runs_nothing(cli: Cli, work: Path, hello: Path, store: Path) -> None:
    facts = json.loads(cli("seamless-run", "--dry-run", "--json", "cat", "a.txt").stdout)
    assert facts["transformation"]["inputs"] == {"a.txt": ["file", HELLO]}
    assert facts["known"] is None
    assert HELLO in cli("seamless-run", "--dry-run", "cat", "a.txt").text
    assert not store.exists()


def test_scratch_keeps_the_checksum_alone_and_fingertip_brings_the_bytes_back(
    cli: Cli, work: Path, hello: Path
) -> None:
    command = ("-cp", "out", "tr a-z A-Z < a.txt > out")
    cli("seamless-run", "--scratch", *command)
    checksum = (work / "out.CHECKSUM").read_text().strip()
    assert not (work / "out").exists()
    assert "seamless-fingertip" in cli("seamless-resolve", checksum, status=1).error
    assert cli("seamless-fingertip", checksum).stdout == b"HELLO\n"
    cli("seamless-run", *command)
    assert (work / "out").read_text() == "HELLO\n"


def test_a_hit_whose_bytes_are_gone_is_computed_again(cli: Cli, work: Path, hello: Path, store: Path) -> None:
    cli("seamless-run", "tr a-z A-Z < a.txt > out")
    checksum = (work / "out.CHECKSUM").read_text().strip()
    (store / checksum[:2] / checksum).unlink()
    (work / "out").unlink()
    cli("seamless-run", "tr a-z A-Z < a.txt > out")
    assert (work / "out").read_text() == "HELLO\n"


def test_json_names_the_results(cli: Cli, work: Path, hello: Path) -> None:
    facts = json.loads(cli("seamless-run", "--json", "-cp", "out", "cp a.txt out").stdout)
    assert facts["results"] == [{"name": "out", "local": "out", "format": "file", "checksum": HELLO}]
    assert facts["cached"] is False
    assert json.loads(cli("seamless-run", "--json", "-cp", "out", "cp a.txt out").stdout)["cached"] is True


def test_many_files_are_asked_for(cli: Cli, work: Path) -> None:
    (work / "many").mkdir()
    for number in range(1001):
        (work / "many" / str(number)).write_text(str(number))
    assert "-y" in cli("seamless-run", "ls many/ | wc -l", status=1).error
    assert cli("seamless-run", "-y", "ls many | wc -l").text.strip() == "1001"


@pytest.mark.parametrize(
    ("answer", "status", "out"), [(b"y\n", 0, b"1001\n"), (b"\n", 1, b"")], ids=["yes", "no"]
)
def test_many_files_are_asked_for_on_a_terminal(
    cli: Cli, work: Path, answer: bytes, status: int, out: bytes
) -> None:
    (work / "many").mkdir()
    for number in range(1001):
        (work / "many" / str(number)).write_text(str(number))
    terminal, side = os.openpty()
    os.write(terminal, answer)
    command = [cli.path("seamless-run"), "ls many | wc -l"]
    done = subprocess.run(command, cwd=work, stdin=side, stdout=subprocess.PIPE, stderr=side, timeout=60)
    os.close(side)
    shown = os.read(terminal, 4096).decode()
    os.close(terminal)
    assert (done.returncode, done.stdout) == (status, out)
    assert "1,001 input files" in shown


def test_a_large_input_is_taken_by_reference_unless_copied(cli: Cli, work: Path, store: Path) -> None:
    with open(work / "large", "wb") as file:
        file.truncate(65 << 20)
    cli("seamless-run", "wc -c < large")
    assert max(p.stat().st_size for p in store.glob("??/*")) < 1 << 20
    cli("seamless-run", "--copy-inputs", "cat large | wc -c")
    checksum = cli("seamless-checksum", "large").text[:64]
    cli("seamless-resolve", checksum)


def test_write_job_can_be_run_by_hand(cli: Cli, work: Path, hello: Path) -> None:
    (work / "sub").mkdir()
    cli("seamless-run", "--var", "X=it's", "--write-job", "../job", "cat ../a.txt; echo $X", cwd=work / "sub")
    by_hand = subprocess.run([work / "job" / "run.sh"], capture_output=True, text=True, check=True).stdout
    assert by_hand == "hello\nit's\n"
    printed = cli("seamless-run-transformation", "job/transformation.json").text.strip()
    assert cli("seamless-resolve", printed).text == by_hand
    assert "new directory" in cli("seamless-run", "--write-job", "job", "echo hi", status=1).error


def test_direct_print_shows_stderr_while_it_runs(cli: Cli) -> None:
    assert "to stderr\n" in cli("seamless-run", "--direct-print", "echo to stderr >&2; echo out").stderr


def test_an_interrupted_upload_is_one_line(cli: Cli, work: Path) -> None:
    os.mkfifo(work / "wait")
    (work / "a.txt").write_text("x")
    process = cli.start("seamless-run", "--input-file", "wait", "cat a.txt")
    fd = os.open(work / "wait", os.O_WRONLY)  # returns when the other side has opened it
    # a signal that comes between the two calls of the system is seen by Python after the second one
    wait_for(lambda: Path(f"/proc/{process.pid}/wchan").read_text() in ("0", "pipe_read", "anon_pipe_read"))
    os.killpg(process.pid, signal.SIGINT)
    status, _, err = ended(process)
    os.close(fd)
    assert (status, err) == (130, "seamless-run: interrupted\n")


def test_no_download_prints_nothing(cli: Cli) -> None:
    for _ in range(2):
        assert cli("seamless-run", "-nd", "echo hi").stdout == b""


def test_the_environment_of_a_known_result(cli: Cli) -> None:
    command = 'echo "$X"'
    cli("seamless-run", "--prologue", "export X=1", command)
    done = cli("seamless-run", "--prologue", "export X=2", command)
    assert done.text == "1\n"
    assert "--same-environment" in done.stderr
    assert (
        "not reproducible"
        in cli("seamless-run", "--same-environment", "--prologue", "export X=2", command, status=1).stderr
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_input(cli: Cli, hello: Path) -> None:
    hello.chmod(0)
    assert cli("seamless-run", "cat", "a.txt", status=1).error == "a.txt: Permission denied"


def test_a_damaged_database_is_one_line(cli: Cli, home: Path, hello: Path) -> None:
    (home / "cache").mkdir(mode=0o700)
    (home / "cache" / "seamless.db").write_bytes(b"this is not a database" * 100)
    assert "seamless.db" in cli("seamless-run", "cat", "a.txt", status=1).error


def test_words_told_in_notes(cli: Cli) -> None:
    done = cli("seamless-run", "echo missing.csv")
    assert "missing.csv" in done.stderr
    assert cli("seamless-run", "-q", "echo missing.csv").stderr == ""
    assert cli("seamless-run", "-g1", "echo missing.csv").stderr == ""
