"""Environments and places of execution, as they are named on the command line."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Cli


@pytest.fixture
def conda(work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two conda environments with one program, where this host looks for them."""
    envs = work / "envs"
    monkeypatch.setenv("CONDA_ENVS_PATH", str(envs))
    for name in ("one", "two"):
        tool = envs / name / "bin" / "which-env"
        tool.parent.mkdir(parents=True)
        tool.write_text("#!/bin/sh\necho $CONDA_DEFAULT_ENV $ACTIVE\n")
        tool.chmod(0o755)
    return envs


def test_conda_environment_by_name_and_by_relative_prefix(cli: Cli, conda: Path) -> None:
    done = cli("seamless-run", "--conda", "one", "which-env")
    assert done.text == "one\n"
    done = cli("seamless-run", "--conda", "envs/two", "which-env;")
    assert done.text == f"{conda}/two\n"


def test_an_environment_that_this_host_does_not_know(cli: Cli, conda: Path) -> None:
    """A sandbox shows what the settings here say, and nothing for being asked."""
    line = ["seamless-run", "--conda", "envs/two", "which-env;"]
    error = cli(*line, status=2, CONDA_ENVS_PATH="").error
    assert f"there is no conda environment {conda}/two on" in error
    assert "CONDA_ENVS_PATH" in error
    assert cli(*line, CONDA_ENVS_PATH="", SEAMLESS_ISOLATION="none").text == f"{conda}/two\n"


def test_a_result_of_another_environment_is_told(cli: Cli, conda: Path) -> None:
    cli("seamless-run", "--conda", "envs/one", "which-env")
    line = ["seamless-run", "--conda", "envs/two", "which-env"]
    assert f"conda {conda}/one, not {conda}/two" in cli(*line).error
    assert cli("seamless-run", "which-env").stderr == ""


def test_missing_environment(cli: Cli, conda: Path) -> None:
    error = cli("seamless-run", "--conda", "envs/three", "which-env", status=2).error
    assert f"there is no conda environment {conda}/three on {os.uname().nodename}" in error


def test_missing_image(cli: Cli, work: Path) -> None:
    programs = work / "programs"
    programs.mkdir()
    (programs / "apptainer").write_text("#!/bin/sh\nexit 1\n")
    (programs / "apptainer").chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    error = cli("seamless-run", "--image", "images/lab.sif", "true", status=2, PATH=path).error
    assert f"there is no image {work}/images/lab.sif" in error


def test_job_in_a_conda_environment_by_hand(cli: Cli, work: Path, conda: Path) -> None:
    cli("seamless-run", "--conda", "envs/one", "--write-job", "job", "which-env")
    programs = work / "programs"
    programs.mkdir()
    hook = 'conda() { export PATH=$2/bin:$PATH ACTIVE=by-conda CONDA_DEFAULT_ENV="$2"; }'
    (programs / "conda").write_text(f"#!/bin/sh\ncat <<'X'\n{hook}\nX\n")
    (programs / "conda").chmod(0o755)
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run([work / "job/run.sh"], env=env, capture_output=True, check=True, text=True)
    assert done.stdout == f"{conda}/one by-conda\n"


def test_job_in_an_image_by_hand(cli: Cli, work: Path) -> None:
    cli("seamless-run", "--image", "docker://debian", "--write-job", "job", "echo in $APPTAINER_CONTAINER")
    programs = work / "programs"
    programs.mkdir()
    (programs / "apptainer").write_text(
        '#!/bin/bash\n[ "$1 $2 $4" = "exec --bind --pwd" ] || exit 9\ncd "$5"\n'
        'export APPTAINER_CONTAINER="$6"\nshift 6\nexec "$@"\n'
    )
    (programs / "apptainer").chmod(0o755)
    env = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    done = subprocess.run([work / "job/run.sh"], env=env, capture_output=True, check=True, text=True)
    assert done.stdout == "in docker://debian\n"


def test_what_takes_a_daskserver_is_told(cli: Cli) -> None:
    done = cli("seamless-run", "--gpus", "1", "--queue", "long", "--resource", "a=1", "echo hi")
    assert done.text == "hi\n"
    assert "--gpus, --resource, --queue choose among the workers of a daskserver" in done.error
    assert (
        "--node elsewhere takes a daskserver"
        in cli("seamless-run", "--node", "elsewhere", "echo ho", status=2).error
    )
    assert cli("seamless-run", "--node", os.uname().nodename, "echo ho").stderr == ""


def test_the_record_names_the_environment(cli: Cli, conda: Path, home: Path) -> None:
    from hashserver.checksum import Checksum
    from seamless_dask.context import Context

    facts = json.loads(cli("seamless-run", "--json", "--conda", "envs/one", "-cp", ":a", "which-env").text)
    with Context() as context:
        found = context.database.lookup(Checksum(facts["key"]))
    assert found is not None
    assert (found[1].record or {})["environment"] == {"conda": f"{conda}/one"}
