from __future__ import annotations

import asyncio
import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hashserver.auth import read_token_file
from seamless_dask.client.security import security_of
from seamless_dask.services.daskserver import credentials


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "tls").iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def test_everything_is_for_its_owner_alone(folder: Path) -> None:
    os.umask(0)
    made = credentials.make(str(folder), ["10.0.0.1"])
    os.umask(0o022)
    assert stat.S_IMODE((folder / "tls").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (folder / "tls").iterdir()} == {0o600}
    assert stat.S_IMODE(os.stat(made.token_file).st_mode) == 0o600
    assert len(read_token_file(made.token_file)) == 2


def test_a_restart_uses_what_is_there(folder: Path) -> None:
    credentials.make(str(folder), ["10.0.0.1"])
    before, token = contents(folder), (folder / "token").read_bytes()
    credentials.make(str(folder), ["10.0.0.1"])
    assert contents(folder) == before
    assert (folder / "token").read_bytes() == token


def test_a_new_address_is_certified_by_the_same_authority(folder: Path) -> None:
    credentials.make(str(folder), ["10.0.0.1"])
    before = contents(folder)
    credentials.make(str(folder), ["10.0.0.2"])
    after = contents(folder)
    assert after["ca.pem"] == before["ca.pem"]
    assert after["cert.pem"] != before["cert.pem"]


def test_what_is_about_to_expire_is_renewed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "CERTIFICATE_DAYS", credentials.RENEWAL_DAYS - 1)
    credentials.make(str(folder), [])
    before = contents(folder)
    monkeypatch.undo()
    credentials.make(str(folder), [])
    after = contents(folder)
    assert after["ca.pem"] == before["ca.pem"]
    from cryptography import x509

    end = x509.load_pem_x509_certificate(after["cert.pem"]).not_valid_after_utc
    assert end > datetime.now(UTC) + timedelta(days=credentials.RENEWAL_DAYS)


@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem", "cert.pem", "key.pem"])
@pytest.mark.parametrize("damage", ["gone", "empty", "another"])
def test_a_damaged_file_is_made_again(folder: Path, tmp_path: Path, name: str, damage: str) -> None:
    credentials.make(str(folder), [])
    path = folder / "tls" / name
    if damage == "gone":
        path.unlink()
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        other = tmp_path / "other"
        other.mkdir(mode=0o700)
        credentials.make(str(other), [])
        path.write_bytes((other / "tls" / name).read_bytes())
    made = credentials.make(str(folder), [])
    assert talk(made, made) == "localhost"


def test_without_tls_there_is_only_a_token(folder: Path) -> None:
    made = credentials.make(str(folder), [], insecure=True)
    assert made == credentials.Credentials(str(folder / "token"))
    assert security_of(made) is None


def talk(server: credentials.Credentials, client: credentials.Credentials, name: str = "localhost") -> str:
    """Connect as strictly as Python can, with a certificate on both sides; return whom one got."""
    listening = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=server.ca_file)
    listening.verify_mode = ssl.CERT_REQUIRED
    connecting = ssl.create_default_context(cafile=client.ca_file)
    connecting.verify_flags |= ssl.VERIFY_X509_STRICT
    for context, files in ((listening, server), (connecting, client)):
        assert files.cert_file
        context.load_cert_chain(files.cert_file, files.key_file)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    there = listening.wrap_bio(to_server, to_client, server_side=True)
    here = connecting.wrap_bio(to_client, to_server, server_hostname=name)
    pending = [here, there, here, there]
    for side in pending:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    there.do_handshake()
    here.do_handshake()
    assert here.server_hostname is not None
    return here.server_hostname


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "10.0.0.1", os.uname().nodename])
def test_the_certificate_is_good_for_all_names(folder: Path, name: str) -> None:
    made = credentials.make(str(folder), ["10.0.0.1"])
    assert talk(made, made, name) == name


def test_the_certificate_of_another_daskserver_opens_nothing(folder: Path, tmp_path: Path) -> None:
    ours = credentials.make(str(folder), [])
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    theirs = credentials.make(str(other), [])
    with pytest.raises(ssl.SSLCertVerificationError):
        talk(ours, theirs._replace(ca_file=ours.ca_file))


def test_dask_asks_both_sides_for_a_certificate(folder: Path) -> None:
    """A stranger on loopback, with TLS but without a certificate of ours, gets nowhere."""
    made = credentials.make(str(folder), [])
    security = security_of(made)
    assert security is not None

    async def check() -> None:
        from distributed.comm import connect, listen

        async def answer(comm: object) -> None:
            await comm.write(await comm.read())  # type: ignore[attr-defined]

        async with listen("tls://127.0.0.1:0", answer, **security.get_listen_args("scheduler")) as listener:
            comm = await connect(listener.contact_address, **security.get_connection_args("client"))
            await comm.write("ours")
            assert await comm.read() == "ours"
            await comm.close()
            context = ssl.create_default_context(cafile=made.ca_file)
            context.check_hostname = False
            host, port = listener.contact_address.removeprefix("tls://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await reader.readexactly(1)
            writer.close()

    asyncio.run(check())


@pytest.mark.parametrize("name", ["a..b", "x" * 64 + ".example", "node_1", "nœud"])
def test_a_strange_name_of_a_host_is_no_obstacle(folder: Path, name: str) -> None:
    found = credentials.make(str(folder), [name])
    end = credentials.end_of(found)
    assert end is not None
    assert datetime.fromtimestamp(end, UTC) > datetime.now(UTC) + timedelta(days=credentials.RENEWAL_DAYS)
    before = Path(found.cert_file or "").read_bytes()
    credentials.make(str(folder), [name])
    assert Path(found.cert_file or "").read_bytes() == before
