"""The laboratory, one for each test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .lab.host import Host
from .lab.laboratory import Lab
from .lab.needs import missing


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    if reason := missing():
        pytest.skip(reason)
    laboratory = Lab()
    try:
        laboratory.up()
        yield laboratory
    finally:
        laboratory.down()


@pytest.fixture(scope="module", autouse=True)
def tidied(lab: Lab) -> Iterator[None]:
    """No file of tests finds what another one has left."""
    yield
    lab.tidy()


@pytest.fixture
def slurm(lab: Lab) -> Iterator[Lab]:
    """The cluster; what a test leaves running on it is ended."""
    yield lab
    lab.clean()


@pytest.fixture
def login(slurm: Lab) -> Host:
    return slurm.login


@pytest.fixture
def laptop(slurm: Lab) -> Iterator[Host]:
    yield slurm.laptop
    slurm.laptop.join("10.79.0.2")
