"""Commands in a container image, as far as the program that runs images is what can be had."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from seamless_dask.errors import ComputationFailed, UsageError
from seamless_dask.model.transformation import ResultSpec

if TYPE_CHECKING:
    from .conftest import Lab

# Takes the words that Apptainer documents, and gives the command what Apptainer does: the image's own search
# path, the variables with the prefix and no others, the home and working directory that were named.
APPTAINER = """\
#!/usr/bin/env python3
import os, sys
words = sys.argv[1:]
assert words[:3] == ["--silent", "exec", "--containall"], words
options, position = {}, 3
while words[position].startswith("--"):
    if words[position] in ("--nv", "--rocm"):
        position += 1
        continue
    options[words[position]] = words[position + 1]
    position += 2
image, command = words[position], words[position + 1:]
if "broken" in image:
    sys.exit("FATAL: could not open image: not an image")
env = {"PATH": f"{image}/bin:/usr/bin:/bin", "HOME": options["--home"].partition(":")[2], "IMAGE": image}
env |= {n.removeprefix("APPTAINERENV_"): v for n, v in os.environ.items() if n.startswith("APPTAINERENV_")}
assert options["--pwd"].startswith(options["--bind"] + "/"), options
os.chdir(options["--pwd"])
os.execvpe(command[0], command, env)
"""


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image with a program, on a host with Apptainer."""
    programs, image = tmp_path / "programs", tmp_path / "image"
    (image / "bin").mkdir(parents=True)
    programs.mkdir()
    (programs / "apptainer").write_text(APPTAINER)
    (image / "bin/inner-tool").write_text('#!/bin/sh\necho "in $IMAGE"\n')
    for program in (programs / "apptainer", image / "bin/inner-tool"):
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return image


def test_command_runs_in_the_image(lab: Lab, image: Path) -> None:
    outcome = lab.run("inner-tool", image=str(image), isolation="auto")
    assert lab.bytes(outcome) == f"in {image}\n".encode()
    assert outcome.record["environment"] == {"image": str(image)}
    assert outcome.record["isolation"] == "image"


def test_inputs_and_results_are_where_they_are_otherwise(lab: Lab, image: Path) -> None:
    outcome = lab.run(
        "cat ../a/in.txt - > out/x.txt; pwd",
        ResultSpec(paths=("out/x.txt",)),
        image=str(image),
        inputs={"../a/in.txt": lab.file(b"input\n")},
        stdin=lab.file(b"standard input\n"),
    )
    assert lab.bytes(outcome) == b"input\nstandard input\n"


def test_variables_go_in_and_those_of_the_host_do_not(
    lab: Lab, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONDA_PREFIX", "SECRET", "VIRTUAL_ENV", "APPTAINER_DOCKER_PASSWORD"):
        monkeypatch.setenv(name, "/of/the/host")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    printed = lab.stdout(
        "env", image=str(image), cpus=2, variables={"A": "one"}, metavars={"LD_LIBRARY_PATH": "/two"}
    )
    lines = printed.splitlines()
    assert {"A=one", "LD_LIBRARY_PATH=/two", "SLURM_JOB_ID=17", "OMP_NUM_THREADS=2"} <= set(lines)
    assert "/of/the/host" not in printed
    assert f"PATH={image}/bin:/usr/bin:/bin" in lines


def test_search_path_of_the_user_goes_in(lab: Lab, image: Path) -> None:
    assert lab.stdout("echo $PATH", image=str(image), variables={"PATH": "/bin"}) == "/bin\n"


def test_prologue_runs_in_the_image(lab: Lab, image: Path) -> None:
    assert lab.stdout("echo $x", image=str(image), prologue=("x=$(inner-tool)",)) == f"in {image}\n"
    with pytest.raises(ComputationFailed, match="the prologue failed on"):
        lab.run("true", image=str(image), prologue=("false",))


def test_failure_of_the_command_is_the_commands(lab: Lab, image: Path) -> None:
    with pytest.raises(ComputationFailed, match="exit status 3") as caught:
        lab.run("echo oops >&2; exit 3", image=str(image))
    assert (caught.value.exit_status, caught.value.stderr) == (3, "oops\n")


def test_image_that_does_not_start(lab: Lab, image: Path) -> None:
    broken = image.parent / "broken.sif"
    broken.touch()
    with pytest.raises(ComputationFailed, match=rf"image {broken} could not be started on \S+: FATAL"):
        lab.run("true", image=str(broken))


def test_image_that_is_not_there(lab: Lab, image: Path) -> None:
    with pytest.raises(UsageError, match=f"there is no image {image}x on {os.uname().nodename}"):
        lab.run("true", image=f"{image}x")


def test_address_of_an_image_is_left_to_apptainer(lab: Lab, image: Path) -> None:
    assert lab.stdout("echo $IMAGE", image="docker://debian:13") == "docker://debian:13\n"


def test_host_without_apptainer(lab: Lab, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = image.parent / "bare"
    bare.mkdir()
    monkeypatch.setenv("PATH", str(bare))
    with pytest.raises(UsageError, match=r"needs apptainer or singularity, and .* has neither"):
        lab.run("true", image=str(image))


def test_image_and_bubblewrap_exclude_each_other(lab: Lab, image: Path) -> None:
    with pytest.raises(UsageError, match="an image cannot be run with isolation by bubblewrap"):
        lab.run("true", image=str(image), isolation="bubblewrap")


@pytest.mark.parametrize("name", ["--bind=/", "--bind=/home:/x,docker://debian"])
def test_an_image_is_no_option(lab: Lab, image: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no image"):
        lab.run("true", image=name, isolation="auto")
