"""Starting the server: what is refused, and in what words."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hashserver.auth import create_token_file
from hashserver.checksum import hash_bytes
from hashserver.client.store import connect
from hashserver.errors import ServiceUnavailable


def command(directory: Path, *options: str) -> list[str]:
    fixed = ["--store", str(directory / "store"), "--database", str(directory / "seamless.db")]
    return [sys.executable, "-m", "hashserver", *fixed, "--port", "0", *options]


def refusal(directory: Path, *options: str) -> str:
    done = subprocess.run(
        command(directory, *options), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if "new tokens" not in line]
    assert line.startswith("hashserver: ")
    return line


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


def test_a_taken_port_is_named(tmp_path: Path, taken: int) -> None:
    assert f"port {taken} is in use" in refusal(tmp_path, "--port", str(taken))


def test_a_range_takes_the_next_free_port(tmp_path: Path, taken: int) -> None:
    ready = tmp_path / "ready"
    options = ["--port", f"{taken}-{min(taken + 50, 65535)}", "--ready-file", str(ready)]
    process = subprocess.Popen(command(tmp_path, *options), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process.stderr as lines:
        assert any("listening" in line for line in iter(lines.readline, ""))
        document = json.loads(ready.read_text())
        assert stat.S_IMODE(ready.stat().st_mode) == 0o600
        assert document["pid"] == process.pid
        assert int(document["url"].rpartition(":")[2]) > taken
        with connect(document["url"], document["token_file"]) as client:
            assert client.put(b"x") == hash_bytes(b"x")
        process.terminate()
        assert process.wait() == 0
    assert not ready.exists()


@pytest.mark.parametrize("port", ["x", "5-3", "70000", "1-2-3", ""])
def test_what_is_no_port_is_refused(tmp_path: Path, port: str) -> None:
    assert "--port" in refusal(tmp_path, "--port", port)


def test_the_network_needs_tls(tmp_path: Path) -> None:
    assert "--tls-cert" in refusal(tmp_path, "--host", "0.0.0.0")


@pytest.mark.parametrize("host", ["", "a..b", "no.such.host.invalid"])
def test_what_is_no_host_is_refused(tmp_path: Path, host: str) -> None:
    assert f"--host {host!r}" in refusal(tmp_path, "--host", host)


def test_a_ready_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "missing" / "ready")
    done = subprocess.run(
        command(tmp_path, "--ready-file", path), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"hashserver: cannot write the ready file {path}: ")


def test_half_of_tls_is_refused(tmp_path: Path) -> None:
    assert "belong together" in refusal(tmp_path, "--tls-cert", "x")


def test_an_option_may_be_abbreviated(tmp_path: Path) -> None:
    assert "belong together" in refusal(tmp_path, "--tls-c", "x")
    assert "--tls-" in refusal(tmp_path, "--tls-", "x")  # which of two is not said


def test_a_line_that_makes_no_sense_is_told_in_one_line(tmp_path: Path) -> None:
    assert "--frob" in refusal(tmp_path, "--frob")
    assert "5X" in refusal(tmp_path, "--max-size", "5X")
    assert "\\x1b" in refusal(tmp_path, "--\x1b[2J")


def test_a_bad_certificate_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no certificate")
    path = str(tmp_path / "x")
    assert path in refusal(tmp_path, "--tls-cert", path, "--tls-key", path)


def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    create_token_file(str(path))
    path.chmod(0o644)
    assert "chmod 600" in refusal(tmp_path, "--token-file", str(path))


def test_a_corrupt_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "seamless.db").write_bytes(b"this is not a database" * 100)
    assert "seamless.db" in refusal(tmp_path)


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    from hashserver.results.database import Database

    with Database(tmp_path / "seamless.db") as database:
        database.counts()
    connection = sqlite3.connect(tmp_path / "seamless.db")
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    assert "999" in refusal(tmp_path)


@pytest.mark.parametrize("store", ["http://127.0.0.1:1", "nosuchscheme://x", "", "file://relative"])
def test_a_store_that_cannot_be_used_is_refused(tmp_path: Path, store: str) -> None:
    refusal(tmp_path, "--store", store)


def test_what_a_dead_writer_left_is_removed_at_the_start(tmp_path: Path) -> None:
    remains = tmp_path / "store" / ".tmp" / "gone-1-a-1"
    remains.parent.mkdir(parents=True)
    remains.write_bytes(b"half")
    os.utime(remains, (1, 1))
    process = subprocess.Popen(command(tmp_path), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    with process.stderr as lines:
        assert any("listening" in line for line in iter(lines.readline, ""))
        assert not remains.exists()
        process.terminate()
        assert process.wait() == 0


def certificate(directory: Path) -> tuple[str, str]:
    cert, key = str(directory / "cert.pem"), str(directory / "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "1", "-subj", "/CN=localhost", "-keyout", key, "-out", cert,
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key


def test_tls_is_spoken_and_verified(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    process = subprocess.Popen(
        command(tmp_path, "--tls-cert", cert, "--tls-key", key), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    try:
        url = next(line.split()[-1] for line in iter(process.stderr.readline, "") if "listening" in line)
        tokens = str(tmp_path / "seamless.db.tokens")
        source, data = tmp_path / "source", os.urandom(3 << 20)
        source.write_bytes(data)
        with connect(url, tokens, ca_file=cert) as client:
            checksum, _ = client.put_file(source)
            assert client.get(checksum) == data
            client.get_file(checksum, tmp_path / "target")
            assert dict(client.get_many([checksum])) == {checksum: data}
        with connect(url, tokens) as stranger, pytest.raises(ServiceUnavailable, match="not trusted"):
            stranger.has([checksum])
    finally:
        process.terminate()
        process.stderr.close()
        assert process.wait() == 0
