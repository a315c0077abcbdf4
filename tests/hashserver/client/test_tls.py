"""What a client says of a server that it does not trust, or that speaks another language; real servers."""

from __future__ import annotations

import ipaddress
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hashserver.checksum import hash_bytes
from hashserver.client.database import connect_database
from hashserver.client.store import connect
from hashserver.errors import InvalidRequest, ServiceUnavailable

NOTHING = hash_bytes(b"")
Start = Callable[..., str]


def certificate(path: Path, address: str = "127.0.0.1", begins: int = -1, ends: int = 1) -> Path:
    """Write a certificate that signs itself, with its key; valid between two days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begins))
        .not_valid_after(now + timedelta(days=ends))
        .add_extension(alternative, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(made.public_bytes(pem) + key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    return path


@contextmanager
def starting(directory: Path) -> Iterator[Start]:
    """Start a server in a directory, with a certificate or without; return its address."""
    processes = []

    def begin(pem: Path | None = None) -> str:
        command = [sys.executable, "-m", "hashserver", "--store", str(directory / "store"), "--port", "0"]
        command += ["--database", str(directory / "db"), "--token-file", str(directory / "tokens")]
        command += ["--tls-cert", str(pem), "--tls-key", str(pem)] if pem else []
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stderr is not None
        return next(line.split()[-1] for line in iter(process.stderr.readline, "") if "listening" in line)

    yield begin
    for process in processes:
        process.terminate()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        process.stderr.close()
        assert process.wait() == 0


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with starting(tmp_path) as begin:
        yield begin


def refusal(url: str, tokens: Path, ca: Path | None) -> str:
    """Return what is said by the store, and by the database too."""
    lines = set()
    with connect(url, str(tokens), str(ca) if ca else None) as client:
        with pytest.raises((ServiceUnavailable, InvalidRequest)) as caught:
            client.has([NOTHING])
        lines.add(str(caught.value))
    with connect_database(url, str(tokens), str(ca) if ca else None) as database:
        with pytest.raises((ServiceUnavailable, InvalidRequest)) as caught:
            database.get(NOTHING)
        lines.add(str(caught.value))
    (line,) = lines
    assert "\n" not in line
    return line


@pytest.mark.parametrize("trusted", [True, False])
def test_another_certificate_than_the_trusted_one(start: Start, tmp_path: Path, trusted: bool) -> None:
    url = start(certificate(tmp_path / "own"))
    ca = certificate(tmp_path / "other") if trusted else None
    line = refusal(url, tmp_path / "tokens", ca)
    assert url in line
    assert "not trusted" in line
    assert "ca-file" in line


@pytest.mark.parametrize(
    ("begins", "ends", "address", "said"),
    [
        (-9, -1, "127.0.0.1", "has expired"),
        (1, 9, "127.0.0.1", "not valid yet"),
        (-1, 1, "192.0.2.1", "another host name"),
    ],
)
def test_a_certificate_that_does_not_hold(
    start: Start, tmp_path: Path, begins: int, ends: int, address: str, said: str
) -> None:
    pem = certificate(tmp_path / "own", address, begins, ends)
    assert said in refusal(start(pem), tmp_path / "tokens", pem)


def test_the_wrong_scheme_is_told(start: Start, tmp_path: Path) -> None:
    pem = certificate(tmp_path / "own")
    plain = start(pem).replace("https", "http")
    assert "https://" in refusal(plain, tmp_path / "tokens", pem)
    secure = start().replace("http", "https")
    assert "does not speak TLS" in refusal(secure, tmp_path / "tokens", pem)


def test_a_file_that_holds_no_certificate_is_named(start: Start, tmp_path: Path) -> None:
    url = start(certificate(tmp_path / "own"))
    (tmp_path / "ca").write_text("nothing")
    for ca in (tmp_path / "ca", tmp_path / "missing"):
        assert str(ca) in refusal(url, tmp_path / "tokens", ca)
