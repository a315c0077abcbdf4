"""Fixtures for tests that run commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from hashserver.retry import pauses
from seamless_dask.context import Context
from seamless_dask.execution import workdir
from seamless_dask.execution.bash import run_bash
from seamless_dask.execution.supervisor import Supervisor
from seamless_dask.jobs import processes
from seamless_dask.model.options import Options
from seamless_dask.model.records import Outcome
from seamless_dask.model.transformation import Description, ResultSpec, Value

STDOUT = ResultSpec(stdout=True)


@cache
def bubblewrap_works() -> bool:
    if shutil.which("bwrap") is None:
        return False
    words = ["bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "true"]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


needs_bubblewrap = pytest.mark.skipif(
    not bubblewrap_works(), reason="bubblewrap is not installed, or user namespaces are not permitted"
)


needs_kept_sandbox = pytest.mark.skipif(
    not bubblewrap_works() or sys.prefix.startswith("/tmp/"),
    reason="there is no bubblewrap, or the interpreter lies in what a sandbox has of its own",
)


class Lab:
    """Runs commands on a store of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.temporary = directory / "tmp"
        self.temporary.mkdir()
        self.context = Context()

    def file(self, data: bytes) -> Value:
        return Value("file", self.context.store.put(data))

    def folder(self, files: dict[str, bytes]) -> Value:
        from hashserver.checksum import hash_bytes
        from hashserver.workspace.index import index_bytes

        index = {name: hash_bytes(data) for name, data in files.items()}
        self.context.store.put_verified(zip(index.values(), files.values(), strict=True))
        return Value("directory", self.context.store.put(index_bytes(index)))

    def run(
        self,
        code: str,
        result: ResultSpec = STDOUT,
        supervisor: Supervisor | None = None,
        *,
        inputs: dict[str, Value] | None = None,
        stdin: Value | None = None,
        variables: dict[str, str] | None = None,
        shell_flags: str | None = None,
        **options: object,
    ) -> Outcome:
        transformation = Description(
            "bash", self.context.store.put(code.encode()), result, inputs or {}, stdin, variables, shell_flags
        )
        chosen = Options(**({"isolation": "none"} | options))  # type: ignore[arg-type]
        outcome = run_bash(transformation, self.context, chosen, supervisor)
        self.context.store.put_many(outcome.buffers)
        return outcome

    def bytes(self, outcome: Outcome) -> bytes:
        return self.context.store.get(outcome.value.checksum)

    def stdout(self, code: str, **options: object) -> str:
        return self.bytes(self.run(code, **options)).decode()  # type: ignore[arg-type]

    def index(self, value: Value) -> dict[str, bytes]:
        from hashserver.workspace.index import parse_index

        index = parse_index(self.context.store.get(value.checksum))
        return {name: self.context.store.get(checksum) for name, checksum in index.items()}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    found = Lab(tmp_path)
    monkeypatch.setenv("TMPDIR", str(found.temporary))
    # a worker in this process has directories made ahead
    monkeypatch.setattr(workdir, "_pool", None)
    yield found
    processes.dismiss(60)
    # that of a nested call is kept by the process of the outer one, which does not wait for its end
    for pause in pauses(0.01, 0.5, seconds=60):
        if not (left := os.listdir(found.temporary)):
            break
        time.sleep(pause)
    assert left == [], "a run has left something behind"
    found.context.close()


@pytest.fixture(params=["none", pytest.param("bubblewrap", marks=needs_bubblewrap)])
def isolation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def bubblewrap() -> str:
    if not bubblewrap_works():
        pytest.skip("bubblewrap is not installed, or user namespaces are not permitted")
    return "bubblewrap"
