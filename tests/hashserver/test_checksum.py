"""Checksums of bytes, files and streams."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import hashserver
from hashserver.checksum import (
    CHUNK,
    Checksum,
    Hasher,
    PipelinedHasher,
    hash_bytes,
    hash_descriptor,
    hash_file,
)
from hashserver.errors import InvalidChecksum

HELLO = hashlib.sha256(b"hello\n").hexdigest()


def test_a_checksum_is_text_with_prefix_and_digest() -> None:
    checksum = Checksum(HELLO)
    assert checksum == HELLO
    assert checksum.prefix == HELLO[:2]
    assert checksum.digest == bytes.fromhex(HELLO)
    assert Checksum.from_digest(checksum.digest) == checksum


@pytest.mark.parametrize(
    "text",
    [
        "",
        "abc",
        HELLO.upper(),
        HELLO + "\n",
        " " + HELLO,
        HELLO[:-1],
        HELLO + "0",
        HELLO[:-1] + "g",
        "٣" * 64,
        None,
        1,
        b"a" * 64,
    ],
)
def test_anything_else_is_refused(text: object) -> None:
    with pytest.raises(InvalidChecksum):
        Checksum(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_digest_has_32_bytes(length: int) -> None:
    with pytest.raises(InvalidChecksum):
        Checksum.from_digest(b"x" * length)


@pytest.mark.parametrize("size", [0, 1, 2047, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_a_file_has_the_checksum_of_its_bytes(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(data)
    assert hash_file(path) == (hash_bytes(data), size) == (hashlib.sha256(data).hexdigest(), size)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        hash_file(tmp_path / "none")


@pytest.mark.parametrize("hint", [0, 3, 5, 6, 100, CHUNK])
def test_a_wrong_length_hint_does_no_harm(tmp_path: Path, hint: int) -> None:
    (tmp_path / "hello").write_bytes(b"hello\n")
    fd = os.open(tmp_path / "hello", os.O_RDONLY)
    try:
        assert hash_descriptor(fd, hint) == (HELLO, 6)
    finally:
        os.close(fd)


def test_parts_make_the_whole() -> None:
    hasher = Hasher()
    for part in (b"hel", bytearray(b"l"), memoryview(b"o\n")):
        hasher.update(part)
    assert (hasher.finish(), hasher.size) == (HELLO, 6)


def test_a_pipelined_hasher_gives_the_same() -> None:
    data = os.urandom(1 << 20)
    with PipelinedHasher(depth=2) as hasher:
        for start in range(0, len(data), 10_000):
            hasher.update(data[start : start + 10_000])
        assert hasher.finish() == hash_bytes(data)
    assert hasher.size == len(data)


def test_a_lent_buffer_comes_back_after_it_was_hashed() -> None:
    buffer = bytearray(b"hello\n")
    free = threading.Event()
    with PipelinedHasher() as hasher:
        hasher.lend(buffer, free.set)
        assert free.wait(30)
        buffer[:] = b"xxxxxx"
        assert hasher.finish() == HELLO


def test_a_pipelined_hasher_ends_its_thread_when_its_user_fails() -> None:
    with pytest.raises(RuntimeError), PipelinedHasher() as hasher:
        raise RuntimeError
    assert not hasher._thread.is_alive()


def test_checksums_are_made_of_bytes_and_files(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    checksum = Checksum.of(b"content")
    assert checksum == Checksum.of_file(tmp_path / "file") == hash_bytes(b"content")
    assert checksum.hex == str(checksum)


def test_a_checksum_alone_knows_no_store() -> None:
    script = "from hashserver import Checksum; Checksum.of(b'').resolve()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("with seamless_dask imported; else ask a store for it")


def test_the_names_for_users_are_there() -> None:
    assert set(hashserver.__all__) == {"Checksum", "connect", "open_database", "open_store"}
    assert all(getattr(hashserver, name) for name in hashserver.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        hashserver.nonsense  # noqa: B018
