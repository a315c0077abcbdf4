"""Memory that a store on S3 takes: as little for large files as for small ones, whoever sends them."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import fsspec
import pytest

from hashserver.storage.fsspec import FsspecStore

from ..conftest import drained, start_moto, use_s3
from ..server.conftest import Running

BIN = Path(sys.executable).parent
MIB = 1 << 20
MOST = 150 * MIB
MEASURED = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
"""Prints a command's peak: what a process took counts from the fork on, and this one is small."""


@pytest.fixture
def bucket(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, home: Path
) -> Iterator[str]:
    """A store on a server of its own: what is sent there does not stay for the other tests."""
    process, endpoint = start_moto(tmp_path_factory.mktemp("moto"))
    with drained(process):
        use_s3(monkeypatch, endpoint)
        name = f"bucket-{uuid.uuid4().hex}"
        fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True).mkdir(name)
        yield f"s3://{name}/x"


def make(directory: Path, size: int) -> Path:
    directory.mkdir()
    with (directory / "large").open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
    return directory / "large"


def command(name: str, path: Path, **environment: str) -> int:
    """Run a command about a file; return the bytes that it took at most."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, BIN / name, "-q", path.name],
        cwd=path.parent,
        env=os.environ | {"SEAMLESS_CACHE": f"{path.parent}.cache"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(done.stdout) * 1024


def peak(process: subprocess.Popen[str]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def emptied(path: Path) -> Path:
    """Take a file away whose sidecar stays."""
    path.unlink()
    return path


def test_a_command_keeps_little_of_a_large_file(bucket: str, tmp_path: Path) -> None:
    path = make(tmp_path / "d", 128 * MIB)
    assert command("seamless-upload", path, SEAMLESS_STORE=bucket) <= MOST
    assert command("seamless-download", emptied(path), SEAMLESS_STORE=bucket) <= MOST
    assert path.stat().st_size == 128 * MIB


def test_a_hashserver_keeps_little_of_four_large_files(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    server = Running(tmp_path / "server", "--store", bucket)
    access = {"SEAMLESS_HASHSERVER": server.url, "SEAMLESS_TOKEN_FILE": server.token_file}
    paths = [make(tmp_path / str(number), 48 * MIB) for number in range(4)]
    try:
        with ThreadPoolExecutor(4) as pool:
            used = list(pool.map(lambda path: command("seamless-upload", path, **access), paths))
            assert max(used) <= MOST
            assert peak(server.process) <= MOST
            used = list(pool.map(lambda path: command("seamless-download", emptied(path), **access), paths))
            assert max(used) <= MOST
            assert peak(server.process) <= MOST
    finally:
        server.stop()


def test_many_readers_who_take_their_time_keep_nobody_from_the_store(bucket: str) -> None:
    data = os.urandom(3 * MIB)
    with closing(FsspecStore(bucket, seconds=20.0, skip_instance_cache=True)) as store:
        checksum = store.put(data)
        readers = [store.read(checksum) for _ in range(70)]  # more than there are connections
        begins = [next(reader) for reader in readers]
        assert store.get(checksum) == data
        for begin, reader in zip(begins, readers, strict=True):
            assert begin + b"".join(reader) == data
