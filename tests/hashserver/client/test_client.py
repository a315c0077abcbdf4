"""What the client of a hashserver does beyond the conformance suite, over a real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hashserver.auth import read_token_file
from hashserver.checksum import hash_bytes
from hashserver.client.store import StoreClient, connect
from hashserver.client.upload import Sending
from hashserver.errors import AuthenticationFailed, BufferCorrupt, FileChanged, ReadOnly
from hashserver.storage.directory import PREFIX_MARKER


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("client")


@pytest.fixture(scope="module")
def url(directory: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "hashserver", "--store", str(directory / "store"), "--port", "0"]
    command += ["--database", str(directory / "db"), "--token-file", str(directory / "tokens")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    yield next(line.split()[-1] for line in iter(process.stderr.readline, "") if "listening" in line)
    process.terminate()
    process.stderr.close()
    assert process.wait() == 0


@pytest.fixture
def client(url: str, directory: Path) -> Iterator[StoreClient]:
    with connect(url, str(directory / "tokens")) as found:
        yield found


def names(directory: Path) -> set[str]:
    found = {path.name for path in (directory / "store").rglob("*") if path.is_file()}
    return found - {PREFIX_MARKER}


def test_a_file_that_changes_on_its_way_is_not_kept(
    client: StoreClient, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "growing"
    path.write_bytes(os.urandom(3 << 20))
    by_kernel = Sending._send_by_kernel

    def slowly(self: Sending, *arguments: object) -> object:
        checksum = by_kernel(self, *arguments)  # type: ignore[arg-type]
        os.utime(path, (1, 1))
        return checksum

    monkeypatch.setattr(Sending, "_send_by_kernel", slowly)
    before = names(directory)
    with pytest.raises(FileChanged, match="changed while it was read"):
        client.put_file(path)
    client.has([hash_bytes(b"")])
    assert names(directory) == before


def test_a_client_that_is_killed_leaves_nothing(client: StoreClient, url: str, directory: Path) -> None:
    code = f"""
import sys
from hashserver.client.store import connect
writer = connect({url!r}, {str(directory / "tokens")!r}).writer()
for _ in range(4):
    writer.write(bytes(1 << 20) + b"killed")
print("sent", flush=True)
sys.stdin.read()
"""
    before = names(directory)
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == b"sent\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()
    assert client.has([hash_bytes((bytes(1 << 20) + b"killed") * 4)]) == [-1]
    assert names(directory) == before


def test_a_wrong_and_a_missing_token_are_told_apart(client: StoreClient, url: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("read " + "x" * 40)
    wrong.chmod(0o600)
    with (
        connect(url, str(wrong)) as stranger,
        pytest.raises(AuthenticationFailed, match="not one of") as caught,
    ):
        stranger.has([hash_bytes(b"")])
    assert "x" * 40 not in str(caught.value)
    with connect(url) as nobody, pytest.raises(AuthenticationFailed, match="needed"):
        nobody.get(hash_bytes(b""))


def test_a_reading_token_does_not_write(url: str, directory: Path) -> None:
    token = read_token_file(str(directory / "tokens"))[1]
    with StoreClient(url, token) as reader:
        assert not reader.writable
        with pytest.raises(ReadOnly, match="only reads"):
            reader.put(b"x")


def test_a_corrupt_buffer_is_reported_and_gone(client: StoreClient, directory: Path, tmp_path: Path) -> None:
    checksum = client.put(b"sound")
    path = directory / "store" / checksum[:2] / checksum
    path.chmod(0o644)
    path.write_bytes(b"wound")
    path.chmod(0o444)
    with pytest.raises(BufferCorrupt, match=checksum):
        client.get_file(checksum, tmp_path / "target")
    assert not (tmp_path / "target").exists()
    assert client.has([checksum]) == [-1]


def test_thousands_of_small_files_travel_together(client: StoreClient, tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(2500)]
    for path in paths:
        path.write_text(path.name)
    checksums = client.put_files([(path, None) for path in paths])
    assert checksums == [hash_bytes(path.read_bytes()) for path in paths]
    assert dict(client.get_many(checksums)) == {hash_bytes(p.read_bytes()): p.read_bytes() for p in paths}


def test_a_fork_does_not_share_connections(client: StoreClient) -> None:
    checksum = client.put(b"shared")
    child = os.fork()
    if child == 0:
        os._exit(0 if all(client.get(checksum) == b"shared" for _ in range(50)) else 1)
    assert all(client.get(checksum) == b"shared" for _ in range(50))
    assert os.waitpid(child, 0)[1] == 0
