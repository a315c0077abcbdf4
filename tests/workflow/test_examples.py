"""The examples do what they say, in a copy of their directory, and the second time nothing runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from distributed import Client, LocalCluster

from seamless_dask.scheduler import SeamlessScheduler

EXAMPLES = Path(__file__).parents[2] / "examples"
BIN = Path(sys.executable).parent


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples"))


@pytest.fixture
def run(here: Path, home: Path) -> Callable[..., str]:
    """Run a program in the copy of the examples as a user does, and return what it prints."""

    def run(*command: str) -> str:
        paths = {"PATH": f"{BIN}:{os.environ['PATH']}", "IPYTHONDIR": str(home / "ipython")}
        done = subprocess.run(
            command, cwd=here, env=os.environ | paths, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def _ran(home: Path) -> int:
    """Return when something ran last: whatever runs has a directory of its own there while it does."""
    return (home / "cache" / "jobs").stat().st_mtime_ns


def _outputs(notebook: Path) -> str:
    cells = json.loads(notebook.read_text())["cells"]
    texts = (
        output.get("text") or output["data"]["text/plain"]
        for cell in cells
        for output in cell.get("outputs", [])
    )
    return "".join("".join(text) for text in texts)


@pytest.mark.parametrize(
    ("script", "shown"),
    [
        ("flippers.py", r"female 0\.885\nmale 0\.865\n"),
        ("irises.py", r"accuracy 0\.9\d\nfirst flower: setosa\n"),
        ("colony.py", r"scenario .*\nsteady .*\nrestless .*\nwarming .*\n"),
        ("warming.py", r"0\.20 K per ten years, {'latitude': 6, 'longitude': 6}\n"),
    ],
)
def test_a_script_prints_the_same_again_and_runs_nothing(
    script: str, shown: str, run: Callable[..., str], home: Path
) -> None:
    printed, ran = run("python", script), _ran(home)
    assert re.fullmatch(shown, printed)
    assert run("python", script) == printed
    assert _ran(home) == ran


def test_submitted_calls_print_the_same_on_a_scheduler_without_workers(run: Callable[..., str]) -> None:
    printed = run("python", "sweep.py")
    assert re.fullmatch(r"  0\.0 2\.0000\n  1\.0 .*\n 10\.0 .*\n100\.0 .*\n", printed)
    with LocalCluster(n_workers=0, processes=False, protocol="tcp://", dashboard_address=":0") as cluster:
        with Client(cluster, set_as_default=False) as client:
            client.register_plugin(SeamlessScheduler())
        assert run("python", "sweep.py", cluster.scheduler_address) == printed


def test_a_scan_lists_failures_draws_and_is_browsed_by_another_process(
    run: Callable[..., str], here: Path
) -> None:
    printed = run("python", "scan.py")
    failures = r"85 failed\n(  a = .*, b = .*: it escapes in step \d+\n){3}"
    known = r"915 known\n  least .*\n  most .*\n"
    assert re.fullmatch(failures + known, printed)
    assert (here / "scan.png").read_bytes().startswith(b"\x89PNG")
    assert printed.endswith(run("python", "scan.py", "--browse"))


def test_a_notebook_is_found_again_by_another_kernel(run: Callable[..., str], here: Path, home: Path) -> None:
    execute = ("jupyter", "execute", "--inplace", "penguins.ipynb")
    run(*execute)
    first, ran = _outputs(here / "penguins.ipynb"), _ran(home)
    assert "g/mm" in first
    assert "<Figure size" in first
    run(*execute)
    assert _outputs(here / "penguins.ipynb") == first
    assert _ran(home) == ran


def test_an_edited_helper_of_a_script_runs_the_steps_that_reach_it(
    run: Callable[..., str], here: Path, home: Path
) -> None:
    script, command = here / "colony.py", ("python", "colony.py", "3")
    first, ran = run(*command), _ran(home)
    script.write_text(script.read_text().replace("def quantile(", "# Of any values.\ndef quantile("))
    assert run(*command) == first
    assert _ran(home) == ran
    edited = script.read_text().replace("share * (len(ordered) - 1)", "share * (len(ordered) - 1) * 0.9")
    script.write_text(edited)
    assert run(*command) != first
    assert _ran(home) != ran
