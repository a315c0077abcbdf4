"""What a command sees of the world."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from seamless_dask.errors import ComputationFailed, UsageError

if TYPE_CHECKING:
    from .conftest import Lab

PRINT = "python3 -c 'import json, os; print(json.dumps(dict(os.environ)))'"


def test_variables(lab: Lab, monkeypatch: pytest.MonkeyPatch, isolation: str) -> None:
    for name in ("PYTHONPATH", "SECRET_TOKEN", "SLURM_JWT", "LC_ALL", "BASH_ENV"):
        monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    found = json.loads(
        lab.stdout(
            PRINT, isolation=isolation, cpus=3, variables={"v": "1 2\n"}, metavars={"m": "x", "v": "no"}
        )
    )
    assert not {"PYTHONPATH", "SECRET_TOKEN", "SLURM_JWT", "LC_ALL", "BASH_ENV"} & set(found)
    assert found["SLURM_JOB_ID"] == "17"
    assert found["CUDA_VISIBLE_DEVICES"] == "1"
    assert found["LANG"] == "C.UTF-8"
    assert found["OMP_NUM_THREADS"] == found["MKL_NUM_THREADS"] == "3"
    assert found["PYTHONNOUSERSITE"] == "1"
    assert (found["v"], found["m"]) == ("1 2\n", "x")
    assert found["HOME"] != os.environ["HOME"]


def test_threads_follow_cpus_which_are_one_by_default(lab: Lab) -> None:
    assert lab.stdout("echo $OMP_NUM_THREADS") == "1\n"


def test_home_is_empty_and_temporary_directory_private(lab: Lab, isolation: str) -> None:
    assert (
        lab.stdout('ls -A "$HOME" "$TMPDIR" | wc -l; touch "$HOME/x" "$TMPDIR/x"', isolation=isolation)
        == "3\n"
    )
    assert lab.stdout('ls -A "$HOME"; ls -A "$TMPDIR"', isolation=isolation) == ""


def test_prologue_runs_in_the_same_shell(lab: Lab, isolation: str) -> None:
    outcome = lab.run("echo $x; f", prologue=("x=1; f() { echo f; }",), isolation=isolation)
    assert lab.bytes(outcome) == b"1\nf\n"
    assert outcome.record["environment"] == {"prologue": ["x=1; f() { echo f; }"]}


@pytest.mark.parametrize("prologue", ["false", "exit 0", "true; nonsense", "return 3"])
def test_failing_prologue(lab: Lab, prologue: str, isolation: str) -> None:
    with pytest.raises(ComputationFailed, match="the prologue failed on"):
        lab.run("true", prologue=(prologue,), isolation=isolation)


def test_failing_prologue_without_e(lab: Lab) -> None:
    with pytest.raises(ComputationFailed, match="the prologue failed on"):
        lab.run("true", prologue=("false",), shell_flags="-u")


def test_failing_command_is_not_blamed_on_the_prologue(lab: Lab) -> None:
    with pytest.raises(ComputationFailed, match="exit status 3") as caught:
        lab.run("exit 3", prologue=("true",))
    assert caught.value.exit_status == 3


def test_prologue_that_flags_would_skip(lab: Lab) -> None:
    with pytest.raises(ComputationFailed, match="without -p"):
        lab.run("true", prologue=("true",), shell_flags="-p")


has_modules = pytest.mark.skipif(
    not os.path.exists("/usr/share/modules/init/bash"), reason="environment-modules is not installed"
)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "modulefiles"
    (directory / "tool").mkdir(parents=True)
    (directory / "tool" / "1.0").write_text("#%Module\nsetenv TOOL one\n")
    monkeypatch.setenv("MODULEPATH", str(directory))
    monkeypatch.delenv("MODULESHOME", raising=False)
    return directory


@has_modules
@pytest.mark.parametrize("name", ["tool", "tool/1.0"])
@pytest.mark.parametrize("flags", [None, "-u", "-euo pipefail"])
def test_module(lab: Lab, modules: Path, isolation: str, name: str, flags: str | None) -> None:
    outcome = lab.run("echo $TOOL $-", modules=(name,), isolation=isolation, shell_flags=flags)
    words = lab.bytes(outcome).decode().split()
    assert words[0] == "one"
    assert ("e" in words[1], "u" in words[1]) == (flags != "-u", flags is not None)
    assert outcome.record["environment"] == {"modules": [name]}


@has_modules
def test_missing_module(lab: Lab, modules: Path, isolation: str) -> None:
    with pytest.raises(
        ComputationFailed, match=r"module nonsense/2 could not be loaded on \S+: .*nonsense/2"
    ):
        lab.run("true", modules=("tool", "nonsense/2"), isolation=isolation)


def test_no_modules_at_all(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seamless_dask.execution.environment._MODULE_INITS", ())
    monkeypatch.delenv("MODULESHOME", raising=False)
    with pytest.raises(UsageError, match="needs environment modules"):
        lab.run("true", modules=("x",))


@pytest.fixture
def listed(conda: Path, home: Path) -> None:
    """Have this host know of the environment, as conda does that makes one."""
    (home / ".conda").mkdir()
    (home / ".conda/environments.txt").write_text(f"{conda}\n")


@pytest.fixture
def conda(tmp_path: Path) -> Path:
    """An environment as conda and micromamba lay it out."""
    prefix = tmp_path / "envs" / "lab"
    for name in ("bin", "share", "conda-meta", "etc/conda/activate.d", "etc/conda/env_vars.d"):
        (prefix / name).mkdir(parents=True)
    (prefix / "share/data").write_text("from the environment\n")
    tool = prefix / "bin/lab-tool"
    tool.write_text('#!/bin/sh\ncat "$CONDA_PREFIX/share/data"; echo "$ACTIVE $PACKAGE $USERS"\n')
    tool.chmod(0o755)
    (prefix / "etc/conda/activate.d/a.sh").write_text("export ACTIVE=first$UNSET; false\n")
    (prefix / "etc/conda/activate.d/b.sh").write_text("export ACTIVE=$ACTIVE-second\n")
    (prefix / "etc/conda/activate.d/b.fish").write_text("this is not for bash\n")
    (prefix / "etc/conda/env_vars.d/package.json").write_text('{"PACKAGE": "of a package"}')
    (prefix / "conda-meta/state").write_text('{"env_vars": {"USERS": "of the user"}}')
    return prefix


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("flags", [None, "-euo pipefail"])
def test_conda_environment(lab: Lab, conda: Path, isolation: str, flags: str | None) -> None:
    outcome = lab.run("lab-tool", conda=str(conda), isolation=isolation, shell_flags=flags)
    assert lab.bytes(outcome) == b"from the environment\nfirst-second of a package of the user\n"
    assert outcome.record["environment"] == {"conda": str(conda)}


@pytest.mark.usefixtures("listed")
def test_conda_environment_that_lies_bare(lab: Lab, conda: Path, isolation: str) -> None:
    for name in ("conda-meta/state", "etc/conda/env_vars.d/package.json"):
        (conda / name).unlink()
    (conda / "conda-meta").rmdir()
    assert "first-second" in lab.stdout("lab-tool", conda=str(conda), isolation=isolation)


def test_conda_environment_by_name(lab: Lab, conda: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_ENVS_PATH", f"/nowhere:{conda.parent}")
    assert lab.stdout('echo "$CONDA_DEFAULT_ENV"', conda="lab") == "lab\n"
    monkeypatch.delenv("CONDA_ENVS_PATH")
    monkeypatch.setenv("MAMBA_ROOT_PREFIX", str(conda.parent.parent))
    assert lab.stdout('echo "$CONDA_PREFIX"', conda="lab") == f"{conda}\n"


def test_conda_environment_that_is_listed(lab: Lab, conda: Path, home: Path) -> None:
    (home / ".conda").mkdir()
    (home / ".conda/environments.txt").write_text(f"/nowhere/lab\n{conda}\n")
    assert lab.stdout('echo "$CONDA_PREFIX"', conda="lab") == f"{conda}\n"


def test_conda_base(lab: Lab, conda: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_EXE", f"{conda}/bin/conda")
    assert lab.stdout('echo "$CONDA_PREFIX"', conda="base") == f"{conda}\n"


def test_missing_conda_environment(lab: Lab, conda: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDA_ENVS_PATH", str(conda.parent))
    host = os.uname().nodename
    with pytest.raises(UsageError, match=f"no conda environment other on {host} .*{conda.parent}"):
        lab.run("true", conda="other")
    with pytest.raises(UsageError, match=f"no conda environment {conda}x on {host}$"):
        lab.run("true", conda=f"{conda}x")


def test_conda_environment_that_ends_the_shell(lab: Lab, conda: Path) -> None:
    (conda / "etc/conda/activate.d/c.sh").write_text("echo no licence >&2; exit 4\n")
    with pytest.raises(ComputationFailed, match=r"could not be activated on \S+: no licence"):
        lab.run("true", conda=str(conda))


def test_prologue_runs_in_the_conda_environment(lab: Lab, conda: Path) -> None:
    assert lab.stdout("echo $x", conda=str(conda), prologue=("x=$ACTIVE",)) == "first-second\n"


@has_modules
def test_conda_environment_goes_before_modules(lab: Lab, conda: Path, modules: Path) -> None:
    other = modules / "bin"
    other.mkdir()
    (other / "lab-tool").write_text("#!/bin/sh\necho of the module\n")
    (other / "lab-tool").chmod(0o755)
    (modules / "tool/1.0").write_text(f"#%Module\nprepend-path PATH {other}\n")
    assert lab.stdout("lab-tool", modules=("tool",)) == "of the module\n"
    assert "environment" in lab.stdout("lab-tool", modules=("tool",), conda=str(conda))
