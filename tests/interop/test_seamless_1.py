"""Seamless 1.x and this project know the same data by the same checksums and serve each other's buffers."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(600)
RELEASE = "seamless-suite==1.4.3"


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of Seamless 1.x, in a virtual environment of their own."""
    directory = tmp_path_factory.mktemp("seamless-1")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
    # most of what it brings is never imported, and so need not be compiled
    options = ["--quiet", "--disable-pip-version-check", "--no-compile"]
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        directory / "bin/python",
        "install",
        *options,
        RELEASE,
    ]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{RELEASE} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return directory / "bin"


@pytest.fixture(autouse=True)
def bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is imported of theirs is compiled once, not by every command."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)


@pytest.fixture
def ours() -> Path:
    """The commands of this project."""
    return Path(sys.executable).parent


def _tree(directory: Path, many: int = 0) -> Path:
    files = {
        "a.txt": b"hello\n",
        "sub/b.bin": b"x",
        "sub/deeper/naïve – 数据.csv": b"1,2\n",
        'quote" back\\slash.txt': b"",
        "Z.txt": b"upper case sorts first",
    }
    files |= {f"many/{number % 50:02d}/{number:05d}.dat": b"%d" % number for number in range(many)}
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


def _output(*command: str | Path, cwd: Path | None = None) -> str:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _request(url: str, method: str = "GET", data: bytes | None = None, token: str = "") -> bytes:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        return bytes(response.read())


@contextmanager
def _process(url: str, *command: str | Path) -> Iterator[None]:
    """Run a server until the block ends; wait until it answers anything at all."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                _request(url)
            except urllib.error.HTTPError:
                break
            except OSError:
                assert process.poll() is None, "the server did not start"
                time.sleep(0.05)
            else:
                break
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def _our_server(ours: Path, store: Path, directory: Path) -> Iterator[tuple[str, str]]:
    port = _port()
    url = f"http://127.0.0.1:{port}"
    token_file = directory / "token"
    options = ["--store", store, "--database", directory / "seamless.db", "--token-file", token_file]
    with _process(f"{url}/healthcheck", ours / "hashserver", *options, "--port", str(port)):
        token = next(
            line.split()[1] for line in token_file.read_text().splitlines() if line.startswith("read-write ")
        )
        yield url, token


@pytest.mark.parametrize("many", [0, 3000], ids=["nested", "thousands"])
def test_directories_have_equal_checksums(suite: Path, ours: Path, tmp_path: Path, many: int) -> None:
    tree = _tree(tmp_path / "set", many)
    _output(suite / "seamless-checksum-index", "set", cwd=tmp_path)
    theirs = (tmp_path / "set.CHECKSUM").read_text().strip()
    index = (tmp_path / "set.INDEX").read_bytes()
    for sidecar in ("set.CHECKSUM", "set.INDEX"):
        (tmp_path / sidecar).unlink()
    _output(ours / "seamless-checksum-index", tree)
    assert (tree / ".CHECKSUM").read_text().strip() == theirs
    assert (tree / ".INDEX").read_bytes() == index


def test_files_have_equal_checksums(suite: Path, ours: Path, tmp_path: Path) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(100_000))
    theirs = _output(suite / "seamless-checksum", path).split()[0]
    assert _output(ours / "seamless-checksum", path).split()[0] == theirs


def test_their_sidecars_beside_a_directory_are_read(suite: Path, ours: Path, tmp_path: Path) -> None:
    _tree(tmp_path / "set")
    _output(suite / "seamless-checksum-index", "set", cwd=tmp_path)
    _output(ours / "seamless-upload", "set", cwd=tmp_path)
    assert _output(ours / "seamless-run", "cat", "set/a.txt", cwd=tmp_path) == "hello\n"


def test_our_server_serves_their_buffers(suite: Path, ours: Path, tmp_path: Path) -> None:
    _tree(tmp_path / "set")
    store = tmp_path / "buffers"
    store.mkdir()
    port = _port()
    # Their server marks the directory as one with prefixes; uploads then go to the right place.
    with _process(f"http://127.0.0.1:{port}", suite / "hashserver", store, "--writable", "--port", str(port)):
        pass
    _output(suite / "seamless-upload", "-y", "--copy", "--destination", store, "set", cwd=tmp_path)
    deep = (tmp_path / "set.CHECKSUM").read_text().strip()
    with _our_server(ours, store, tmp_path) as (url, token):
        index = json.loads(_request(f"{url}/{deep}", token=token))
        for name, checksum in index.items():
            assert _request(f"{url}/{checksum}", token=token) == (tmp_path / "set" / name).read_bytes()


def test_their_server_serves_our_buffers(suite: Path, ours: Path, tmp_path: Path) -> None:
    tree = _tree(tmp_path / "set")
    store = tmp_path / "buffers"
    environment = os.environ | {"SEAMLESS_STORE": str(store)}
    subprocess.run([ours / "seamless-upload", "-q", tree], env=environment, check=True)
    deep = (tree / ".CHECKSUM").read_text().strip()
    port = _port()
    url = f"http://127.0.0.1:{port}"
    with _process(url, suite / "hashserver", store, "--port", str(port)):
        index = json.loads(_request(f"{url}/{deep}"))
        assert _request(f"{url}/{index['a.txt']}") == b"hello\n"
        asked = json.dumps([deep, "0" * 64]).encode()
        theirs = json.loads(_request(f"{url}/has", data=asked))
    with _our_server(ours, store, tmp_path) as (url, token):
        assert json.loads(_request(f"{url}/has", data=asked, token=token)) == theirs == [True, False]


def test_their_upload_finds_our_store_layout(suite: Path, ours: Path, tmp_path: Path) -> None:
    tree = _tree(tmp_path / "set")
    store = tmp_path / "buffers"
    environment = os.environ | {"SEAMLESS_STORE": str(store)}
    (tmp_path / "other.txt").write_text("other\n")
    subprocess.run([ours / "seamless-upload", "-q", tmp_path / "other.txt"], env=environment, check=True)
    _output(suite / "seamless-upload", "-y", "--copy", "--destination", store, "set", cwd=tmp_path)
    (tmp_path / "set.CHECKSUM").rename(tree / ".CHECKSUM")
    (tmp_path / "set.INDEX").rename(tree / ".INDEX")
    (tree / "a.txt").unlink()
    command = [ours / "seamless-download", "-q", tree]
    subprocess.run(command, env=environment, check=True)
    assert (tree / "a.txt").read_bytes() == b"hello\n"


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_our_server_serves_what_they_keep_compressed(
    suite: Path, ours: Path, tmp_path: Path, kind: str
) -> None:
    raw = b"raw\n" * 10_000
    (tmp_path / "raw.txt").write_bytes(raw)
    compress = "import sys, gzip, zstandard\n"
    compress += {
        "gz": "sys.stdout.buffer.write(gzip.compress(sys.stdin.buffer.read()))",
        "zst": "sys.stdout.buffer.write(zstandard.ZstdCompressor().compress(sys.stdin.buffer.read()))",
    }[kind]
    done = subprocess.run([suite / "python", "-c", compress], input=raw, capture_output=True, check=True)
    (tmp_path / f"data.txt.{kind}").write_bytes(done.stdout)
    store = tmp_path / "buffers"
    environment = os.environ | {"SEAMLESS_STORE": str(store)}
    (tmp_path / "other.txt").write_text("other\n")
    subprocess.run([ours / "seamless-upload", "-q", tmp_path / "other.txt"], env=environment, check=True)
    upload = (suite / "seamless-upload", "-y", "--copy", "--destination", store, f"data.txt.{kind}")
    _output(*upload, cwd=tmp_path)
    checksum = _output(ours / "seamless-checksum", tmp_path / "raw.txt").split()[0]
    assert (store / checksum[:2] / f"{checksum}.{kind}").exists()
    asked = json.dumps([checksum]).encode()
    with _our_server(ours, store, tmp_path) as (url, token):
        assert json.loads(_request(f"{url}/has", "POST", asked, token=token)) == [len(raw)]
        assert _request(f"{url}/{checksum}", token=token) == raw


def test_the_docs_know_every_option(suite: Path) -> None:
    """What somebody types who comes from Seamless 1.x stands in the table."""
    table = (Path(__file__).parents[2] / "docs" / "seamless-1.md").read_text()
    known = set(re.findall(r"(?<![\w-])-{1,2}[a-zA-Z][\w-]*", table))
    names = (
        "run",
        "upload",
        "download",
        "resolve",
        "fingertip",
        "run-transformation",
        "queue",
        "cancel",
        "init",
    )
    for name in names:
        text = _output(suite / f"seamless-{name}", "--help")
        options = re.findall(r"^ {2,4}(-{1,2}[a-zA-Z].*?)(?: {2,}|$)", text, re.MULTILINE)
        theirs = {word for line in options for word in re.findall(r"(?<![\w-])-{1,2}[a-zA-Z][\w-]*", line)}
        assert theirs, text
        assert theirs <= known, name
