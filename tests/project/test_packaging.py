"""What the project says of itself in several places is the same everywhere."""

from __future__ import annotations

import tomllib
from itertools import chain
from pathlib import Path

import yaml

from seamless_dask.version import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RECIPE = yaml.safe_load((ROOT / "conda-recipe/recipe.yaml").read_text())
#: Distributions that have another name on conda-forge.
CONDA_NAMES = {
    "dask": "dask-core",
    "msgpack": "msgpack-python",
    "prometheus-client": "prometheus_client",
    "tree-sitter": "tree_sitter",
}


def _conda(requirement: str) -> str:
    name, bound = requirement.split(">=")
    return f"{CONDA_NAMES.get(name, name)} >={bound}"


def test_recipe_has_the_dependencies_of_pyproject() -> None:
    declared = [_conda(requirement) for requirement in PROJECT["project"]["dependencies"]]
    python = f"python {PROJECT['project']['requires-python']}"
    assert sorted(RECIPE["requirements"]["run"]) == sorted([python, *declared])


def test_recipe_constrains_the_optional_dependencies() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    declared = {
        _conda(requirement)
        for name in ("s3", "sftp", "webdav", "zstd", "daskserver")
        for requirement in extras[name]
    }
    assert set(RECIPE["requirements"]["run_constraints"]) == declared


def test_recipe_has_the_version_and_commands_of_pyproject() -> None:
    assert RECIPE["context"]["version"] == PROJECT["project"]["version"] == __version__
    scripts = [f"{name} = {target}" for name, target in PROJECT["project"]["scripts"].items()]
    assert sorted(RECIPE["build"]["python"]["entry_points"]) == sorted(scripts)


def test_no_dependency_has_an_upper_bound() -> None:
    project = PROJECT["project"]
    requirements = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    assert [requirement for requirement in requirements if "<" in requirement or "==" in requirement] == []
