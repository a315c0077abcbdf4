"""Nodes that see the directory of the buffers: their bytes travel by the file system."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from hashserver.checksum import hash_bytes

from .conftest import Lab
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


@pytest.fixture
def service(slurm: Lab) -> Iterator[Service]:
    made = Service(slurm, "0:2")
    store = f"file://{slurm.common}/buffers"
    words = ["--cluster", "slurm", "--workers", "0:2", "--store", store, "--worker-store", store]
    made.login.run(["seamless-daskserver", "start", *words])
    made.connect()
    yield made
    made.close()


def travelled(service: Service) -> int:
    """Return how many bytes of buffers the hashserver has sent and received."""
    figures = service.login.run([service.lab.python, "-c", FIGURES]).stdout
    found = re.findall(
        r"^hashserver_(?:sent|received)_bytes_total(?:\{.*?\})? ([\d.e+]+)$", figures, re.MULTILINE
    )
    assert found, figures
    return int(sum(map(float, found)))


def test_bytes_of_inputs_and_results_do_not_go_through_the_hashserver(service: Service) -> None:
    data = b"0123456\n" * (SIZE // 8)
    (service.project / "input.txt").write_bytes(data)
    service.sh("seamless-upload input.txt; rm input.txt")
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
