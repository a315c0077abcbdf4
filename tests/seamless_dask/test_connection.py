from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from seamless_dask import connection
from seamless_dask.connection import ConnectionFile
from seamless_dask.errors import UsageError

FACTS = ConnectionFile(
    name="default",
    host=os.uname().nodename,
    pid=1,
    started=1.5,
    jobserver="https://127.0.0.1:1",
    scheduler="tls://127.0.0.1:2",
    hashserver="https://127.0.0.1:3",
    store="/data",
    token_file="/token",
    hashserver_token_file="/token",
    hashserver_ca_file="/ca.pem",
    ca_file="/ca.pem",
    cert_file="/cert.pem",
    key_file="/key.pem",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / connection.FILE


@pytest.mark.parametrize("facts", [FACTS, FACTS._replace(ca_file=None, insecure=True)])
def test_what_is_written_is_read(path: Path, facts: ConnectionFile) -> None:
    connection.write(str(path), facts)
    assert connection.read(str(path)) == facts


def test_it_is_for_its_owner_alone(path: Path) -> None:
    connection.write(str(path), FACTS)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(UsageError, match=f"chmod 600 {path}"):
        connection.read(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(path: Path) -> None:
    connection.write(str(path), FACTS)
    os.chown(path, 65534, -1)
    with pytest.raises(UsageError, match="belongs to another user"):
        connection.read(str(path))


def test_a_missing_file_says_what_writes_one(path: Path) -> None:
    with pytest.raises(UsageError, match="seamless-daskserver start"):
        connection.read(str(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (None, "not a connection file"),
        ({"version": 2}, "version 2"),
        ({"scheduler": None}, "'scheduler'"),
        ({"pid": "1"}, "'pid'"),
        ({"insecure": 1}, "'insecure'"),
        ({"token_file": ""}, "'token_file'"),
    ],
)
def test_what_makes_no_sense_is_told(path: Path, change: dict[str, object] | None, said: str) -> None:
    connection.write(str(path), FACTS)
    document = json.loads(path.read_text()) | (change or {})
    path.write_text(json.dumps(document) if change else "[]")
    with pytest.raises(UsageError, match=said) as caught:
        connection.read(str(path))
    assert "\n" not in str(caught.value)


def test_unknown_facts_of_a_newer_daskserver_do_no_harm(path: Path) -> None:
    connection.write(str(path), FACTS)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"more": 1}))
    assert connection.read(str(path)) == FACTS


def modules(script: str) -> set[str]:
    script += "\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_reading_it_imports_next_to_nothing(path: Path) -> None:
    connection.write(str(path), FACTS)
    read = f"from seamless_dask.connection import read\nread({str(path)!r})"
    assert modules(read) - modules("from __future__ import annotations\nimport errno, json, os, typing") == {
        "hashserver",
        "hashserver.errors",
        "hashserver.printable",
        "hashserver.regular_file",
        "hashserver.system_text",
        "seamless_dask",
        "seamless_dask.errors",
        "seamless_dask.connection",
        "seamless_dask.version",
    }
