"""Fixtures for all tests: every test has a home and a cache of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that nobody waits for the last of them."""
    items.sort(key=lambda item: "slurm" not in item.path.parts)


@pytest.fixture(scope="session", autouse=True)
def swept() -> Iterator[None]:
    """In the end, do what the next worker on this host would do for those that tests have killed."""
    yield
    from seamless_dask.execution.workdir import sweep, temporary_directory

    sweep(temporary_directory())


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory; nothing of the real one is seen."""
    directory = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(directory / ".config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory / ".cache"))
    monkeypatch.setenv("SEAMLESS_CACHE", str(directory / "cache"))
    for name in (
        "SEAMLESS_STORE",
        "SEAMLESS_HASHSERVER",
        "SEAMLESS_DATABASE",
        "SEAMLESS_TOKEN_FILE",
        "SEAMLESS_PROFILE",
        "SEAMLESS_DASKSERVER",
    ):
        monkeypatch.delenv(name, raising=False)
    return directory
