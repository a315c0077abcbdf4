"""A laptop without the cluster's files and a cluster without the laptop's files compute together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .lab.laboratory import Lab
from .service import PROJECT, Service

PROGRAMS = {
    "mycommand": '#!/bin/sh\n{ cat "$@"; echo end; } > result.csv\n',
    "analyse": ('#!/bin/sh\n{ wc -c < "$1"; echo "$threshold"; sha256sum < "$1"; } > "out-$threshold.csv"\n'),
}
THRESHOLDS = ("0.1", "0.2", "0.5")
FILES = 2000


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Iterator[Service]:
    """All of it, from no worker to three."""
    service = Service(lab, "0:3", idle="1 s", programs=PROGRAMS)
    service.start()
    service.connect()
    yield service
    service.close()


@pytest.fixture
def service(cluster: Service) -> Iterator[Service]:
    """An empty project."""
    cluster.clear()
    yield cluster
    assert not [node.name for node in cluster.lab.nodes if node.file(PROJECT).exists()]


def whole_again(service: Service, script: str, check: Callable[[], None]) -> None:
    """Do it, and twice again: no job is submitted, whether workers are there or not."""
    service.scale_to_zero()
    before = service.submitted()
    service.sh(script)
    check()
    first = service.submitted()
    assert first > before
    service.sh(script)
    check()
    service.scale_to_zero()
    service.sh(script)
    check()
    assert service.lab.jobs() == []
    assert service.submitted() == first


def test_three_steps(service: Service) -> None:
    project = service.project
    (project / "data").mkdir()
    (project / "data/input.txt").write_text("input\n")
    (project / "data/params.json").write_text("{}\n")
    service.sh("seamless-upload data/input.txt data/params.json; rm data/input.txt data/params.json")

    def check() -> None:
        assert (project / "result.csv").read_text() == "input\n{}\nend\n"
        assert not (project / "data/input.txt").exists()

    whole_again(
        service,
        """
        rm -f result.csv result.csv.CHECKSUM
        seamless-run mycommand data/input.txt data/params.json --capture result.csv
        test -e result.csv.CHECKSUM
        rm -f result.csv
        seamless-download result.csv
        """,
        check,
    )


def test_staged_runs_over_one_input(service: Service) -> None:
    project = service.project
    (project / "data").mkdir()
    dataset = bytes(range(256)) * 40_000
    (project / "data/large-dataset.h5").write_bytes(dataset)
    digest = service.sh("sha256sum < data/large-dataset.h5")
    service.sh("seamless-upload data/large-dataset.h5; rm data/large-dataset.h5")

    def check() -> None:
        for threshold in THRESHOLDS:
            text = (project / f"out-{threshold}.csv").read_text()
            assert text == f"{len(dataset)}\n{threshold}\n{digest}"

    lines = [
        f"seamless-run -nd analyse data/large-dataset.h5 --var threshold={threshold}"
        f" --capture out-{threshold}.csv"
        for threshold in THRESHOLDS
    ]
    names = " ".join(f"out-{threshold}.csv" for threshold in THRESHOLDS)
    script = ["rm -f out-*", *lines, "test ! -e out-0.1.csv", f"seamless-download {names}"]
    whole_again(service, "\n".join(script), check)


def make_directory(directory: Path) -> dict[str, bytes]:
    """Write the files of a directory; path → bytes."""
    contents = {f"{i % 20}/row {i}.txt": f"{i}\n".encode() * (i % 7) for i in range(FILES)}
    for name, data in contents.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
    return contents


def contents_of(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in (".CHECKSUM", ".INDEX")
    }


def test_directories_in_and_out(service: Service) -> None:
    """An input of many files comes back, file by file, as a captured directory."""
    contents = make_directory(service.project / "many")
    service.sh("seamless-upload many; rm -r many/*")

    def check() -> None:
        assert contents_of(service.project / "copy") == contents
        assert contents_of(service.project / "many") == {}

    script = "rm -rf copy copy.*; seamless-run --yes 'cp -r many copy' --capture copy"
    whole_again(service, script, check)


STEPS = (
    "tr a-z A-Z < data.txt > upper.txt",
    "sort upper.txt > sorted.txt",
    "{ cat sorted.txt; wc -l < upper.txt; } > report.txt",
)


@pytest.mark.parametrize("how", ["detached", "queue"])
def test_pipeline_submitted_at_once(how: str, service: Service) -> None:
    (service.project / "data.txt").write_text(f"{how}\nb\na\n")
    service.sh("seamless-upload data.txt; rm data.txt")
    if how == "queue":
        begin, option, end = "seamless-queue -q --workers 2 -d", "--qsubmit", "seamless-queue-finish"
    else:
        begin, option, end = "", "--detach", "seamless-download upper.txt sorted.txt report.txt"
    lines = [f"seamless-run {option} '{step}'" for step in STEPS]

    def check() -> None:
        lines = sorted(["A", "B", how.upper()])
        assert (service.project / "report.txt").read_text() == "\n".join([*lines, "3", ""])
        assert list(service.project.glob("*.FUTURE")) == []

    names = "upper.txt sorted.txt report.txt"
    clear = f"for name in {names}; do rm -f $name $name.CHECKSUM; done"
    whole_again(service, "\n".join([clear, begin, *lines, end]), check)
