"""Nodes that see the directory of the buffers: their bytes travel by the file system."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hashserver.checksum import hash_bytes

from .lab.host import Host
from .lab.laboratory import Lab
from .service import DIRECTORY, Service

SIZE = 8 << 20

FIGURES = f"""
import json
from hashserver.auth import read_token_file
from hashserver.client.transport import Transport
facts = json.load(open("{DIRECTORY}/connection.json"))
token = read_token_file(facts["token_file"])[0].secret
with Transport(facts["hashserver"], token, facts["ca_file"]).request("GET", "/metrics") as response:
    print(response.read().decode())
"""


@pytest.fixture(scope="module")
def cluster(lab: Lab) -> Iterator[Service]:
    store = f"file://{lab.common}/buffers"
    made = Service(lab, "0:2", "--store", store, "--worker-store", store, idle="1 s")
    made.start()
    made.connect()
    yield made
    made.close()


@pytest.fixture
def service(cluster: Service) -> Service:
    """No worker has looked at its file system yet."""
    cluster.clear()
    cluster.scale_to_zero()
    return cluster


def travelled(service: Service) -> int:
    """Return how many bytes of buffers the hashserver has sent and received."""
    figures = service.login.run([service.lab.python, "-c", FIGURES]).stdout
    found = re.findall(
        r"^hashserver_(?:sent|received)_bytes_total(?:\{.*?\})? ([\d.e+]+)$", figures, re.MULTILINE
    )
    assert found, figures
    return int(sum(map(float, found)))


def upload(service: Service, line: str) -> bytes:
    """Make an input that only the hashserver has."""
    data = line.encode() * (SIZE // len(line))
    (service.project / "input.txt").write_bytes(data)
    service.sh("seamless-upload input.txt; rm input.txt")
    return data


@contextmanager
def hidden(node: Host, path: Path) -> Iterator[None]:
    """Have a node see an empty directory."""
    node.sh(f"mount -t tmpfs none {path}")
    try:
        yield
        assert node.sh(f"ls {path}") == ""
    finally:
        node.sh(f"umount {path}")


def test_bytes_of_inputs_and_results_do_not_go_through_the_hashserver(service: Service) -> None:
    data = upload(service, "0123456\n")
    before = travelled(service)
    assert before >= SIZE
    service.sh("seamless-run -nd 'tr 0-6 1-7 < input.txt > shared.txt'")
    assert travelled(service) - before < SIZE / 8
    result = data.translate(bytes.maketrans(b"0123456", b"1234567"))
    checksum = hash_bytes(result)
    stored = service.lab.common / "buffers" / checksum[:2] / checksum
    assert stored.read_bytes() == result
    assert (service.project / "shared.txt.CHECKSUM").read_text().strip() == checksum
    service.sh("seamless-download shared.txt")
    assert (service.project / "shared.txt").read_bytes() == result
    assert travelled(service) - before >= SIZE


def test_buffer_that_a_node_does_not_see_yet_comes_from_the_hashserver(service: Service) -> None:
    data = upload(service, "654321\n")
    before = travelled(service)
    place, node = service.lab.common / "buffers" / hash_bytes(data)[:2], service.lab.nodes[0]
    with hidden(node, place):
        service.sh("seamless-run --node n1 -nd 'sort -u input.txt > late.txt'")
    assert len(data) <= travelled(service) - before < 1.5 * len(data)
    service.sh("seamless-download late.txt")
    assert (service.project / "late.txt").read_bytes() == b"654321\n"


def test_node_without_the_file_system_has_the_hashserver_only(service: Service) -> None:
    """The directory is there, and nothing is mounted on it: what is written there is lost."""
    data = upload(service, "abcdefg\n")
    before = travelled(service)
    with hidden(service.lab.nodes[0], service.lab.common / "buffers"):
        service.sh("seamless-run --node n1 -nd 'tr a-g A-G < input.txt > seen.txt'")
    assert travelled(service) - before >= 2 * len(data)
    service.sh("seamless-download seen.txt")
    assert (service.project / "seen.txt").read_bytes() == data.upper()
