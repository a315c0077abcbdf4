"""A transformation from inputs to value."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hashserver.errors import BufferMissing, NoSpace
from seamless_dask.errors import ComputationFailed, ResultMissing, UsageError
from seamless_dask.model.transformation import ResultSpec, Value

if TYPE_CHECKING:
    from .conftest import Lab


def test_stdout(lab: Lab, isolation: str) -> None:
    outcome = lab.run("echo hello; echo note >&2", isolation=isolation)
    assert outcome.value.format == "file"
    assert lab.bytes(outcome) == b"hello\n"
    record = outcome.record
    assert record["stderr"] == "note\n"
    assert record["exit_status"] == 0
    assert record["isolation"] == isolation
    assert record["placement"] == {}
    assert record["wall"] > 0
    assert {"started", "host", "cpu", "environment", "version"} <= set(record)


def test_inputs_and_nothing_else(lab: Lab, isolation: str) -> None:
    inputs = {
        "a.txt": lab.file(b"a"),
        "sub/b.txt": lab.file(b"b"),
        "set": lab.folder({"x/y": b"1", "z": b"2"}),
    }
    found = lab.stdout(
        "find . -type f | sort; cat a.txt sub/b.txt set/x/y set/z", inputs=inputs, isolation=isolation
    )
    assert found == "./a.txt\n./set/x/y\n./set/z\n./sub/b.txt\nab12"


def test_inputs_above_the_working_directory(lab: Lab, isolation: str) -> None:
    inputs = {"../../up": lab.file(b"u"), "../side/s": lab.file(b"s"), "here": lab.file(b"h")}
    spec = ResultSpec(paths=("../out/r",))
    outcome = lab.run("cat ../../up ../side/s here > ../out/r", spec, inputs=inputs, isolation=isolation)
    assert lab.bytes(outcome) == b"ush"


def test_input_directories_are_writable_and_parents_of_results_exist(lab: Lab, isolation: str) -> None:
    spec = ResultSpec(paths=("deep/er/out",), globs=("logs/*/*.log",))
    code = "touch set/new x; echo 1 > deep/er/out; mkdir logs/a; echo 2 > logs/a/b.log"
    outcome = lab.run(code, spec, inputs={"set": lab.folder({"a": b""})}, isolation=isolation)
    assert outcome.value.format == "results"
    assert len(outcome.members) == 3


def test_stdin(lab: Lab, isolation: str) -> None:
    assert lab.stdout("cat", isolation=isolation) == ""
    assert lab.stdout("cat", stdin=lab.file(b"given"), isolation=isolation) == "given"


def test_executable_by_content(lab: Lab, isolation: str) -> None:
    inputs = {"run": lab.file(b"#!/bin/sh\necho ran\n"), "text": lab.file(b"echo no\n")}
    assert lab.stdout("./run; test ! -x text", inputs=inputs, isolation=isolation) == "ran\n"


def test_several_results(lab: Lab) -> None:
    from seamless_dask.model.values import parse_results

    spec = ResultSpec(stdout=True, paths=("f", "d"), globs=("*.x",))
    outcome = lab.run("echo out; echo f > f; mkdir d; echo d > d/e; echo x > 1.x", spec)
    results = parse_results(lab.bytes(outcome))
    assert results.stdout is not None
    assert lab.context.store.get(results.stdout.checksum) == b"out\n"
    assert lab.index(results.paths["d"]) == {"e": b"d\n"}
    assert lab.index(results.globs["*.x"]) == {"1.x": b"x\n"}
    assert set(outcome.members) >= {value.checksum for value in results.values}


def test_failure(lab: Lab, isolation: str) -> None:
    with pytest.raises(ComputationFailed, match="exit status 7") as caught:
        lab.run("echo why >&2; exit 7", isolation=isolation)
    assert (caught.value.exit_status, caught.value.stderr) == (7, "why\n")
    assert caught.value.record["stderr"] == "why\n"  # type: ignore[attr-defined]
    assert caught.value.record["isolation"] == isolation  # type: ignore[attr-defined]


def test_strict_by_default_and_other_flags(lab: Lab) -> None:
    for code in ("false; true", "false | true"):
        with pytest.raises(ComputationFailed):
            lab.run(code)
        assert lab.stdout(code, shell_flags="-u") == ""
    with pytest.raises(ComputationFailed):
        lab.run("echo $nonsense", shell_flags="-u")


def test_early_stage_may_be_ended_by_sigpipe(lab: Lab, isolation: str) -> None:
    code = "yes | head -1; if yes | grep -q y; then echo found; fi; x=$(yes | head -2); echo $x"
    assert lab.stdout(code, isolation=isolation) == "y\nfound\ny y\n"
    with pytest.raises(ComputationFailed):
        lab.run("yes | head -1; false | head -1", isolation=isolation)


@pytest.mark.parametrize(("code", "name"), [("kill -9 $$", "SIGKILL"), ("kill -SEGV $$", "SIGSEGV")])
def test_death_by_signal(lab: Lab, isolation: str, code: str, name: str) -> None:
    number = {"SIGKILL": 9, "SIGSEGV": 11}[name]
    with pytest.raises(ComputationFailed, match=rf"exit status {128 + number} \(killed by {name}") as caught:
        lab.run(code, isolation=isolation)
    assert caught.value.exit_status == 128 + number


def test_missing_result_keeps_stderr(lab: Lab, isolation: str) -> None:
    with pytest.raises(ResultMissing, match=r"wrote no out\.csv, which is declared") as caught:
        lab.run("echo why >&2", ResultSpec(paths=("out.csv",)), isolation=isolation)
    assert caught.value.stderr == "why\n"


def test_missing_input(lab: Lab) -> None:
    from hashserver.checksum import hash_bytes

    with pytest.raises(BufferMissing, match="in none of the stores"):
        lab.run("true", inputs={"x": Value("file", hash_bytes(b"never stored"))})


def test_long_and_odd_code(lab: Lab, isolation: str) -> None:
    assert lab.stdout("echo a | cat\n" + "# long\n" * 40_000, isolation=isolation) == "a\n"
    code = lab.context.store.put(b"printf '\xff\xe9' | cat")
    from seamless_dask.execution.bash import run_bash
    from seamless_dask.model.options import Options
    from seamless_dask.model.transformation import Description

    transformation = Description("bash", code, ResultSpec(stdout=True))
    outcome = run_bash(transformation, lab.context, Options(isolation=isolation))
    assert list(outcome.buffers) == [b"\xff\xe9"]


def test_code_that_looks_like_an_option(lab: Lab, isolation: str) -> None:
    with pytest.raises(ComputationFailed, match="exit status 127"):
        lab.run("-x 1", isolation=isolation)


def test_scratch_keeps_no_bytes(lab: Lab) -> None:
    from hashserver.checksum import hash_bytes

    outcome = lab.run("echo x", scratch=True)
    assert outcome.value.checksum == hash_bytes(b"x\n")
    assert lab.context.store.has([outcome.value.checksum]) == [-1]


def test_variables_that_are_too_long(lab: Lab) -> None:
    with pytest.raises(UsageError, match="too long"):
        lab.run("true", variables={"x": "y" * 300_000})


FULL_DISK = """
mount -t tmpfs -o size=1m tmpfs {tmp}
TMPDIR={tmp} {python} - <<'EOF'
from seamless_dask.context import Context
from seamless_dask.execution.bash import run_bash
from seamless_dask.model.options import Options
from seamless_dask.model.transformation import ResultSpec, Description
context = Context()
code = context.store.put({code!r})
try:
    run_bash(Description("bash", code, ResultSpec(stdout=True)), context, Options(isolation="none"))
except Exception as error:
    print(type(error).__name__)
EOF
"""


@pytest.mark.parametrize("code", [b"yes", b"yes > file || true", b"yes > $TMPDIR/x"])
def test_full_disk_is_the_systems_fault(lab: Lab, code: bytes) -> None:
    script = FULL_DISK.format(tmp=lab.temporary, python=sys.executable, code=code)
    words = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-ec", script]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3])
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("no file system can be mounted here")
    assert done.stdout == f"{NoSpace.__name__}\n", done.stderr
