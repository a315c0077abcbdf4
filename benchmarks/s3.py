"""Large files to a store on S3 and back: throughput against ``s3fs``, and peak memory."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .measure import BIN, GIB, MIB, PYTHON, Bench, random_file, run

_MOST = 150
_FOUR = 300 * 10**6
_PLAIN = """
import sys, fsspec
how, one, other = sys.argv[1:]
getattr(fsspec.filesystem("s3"), how)(one, other)
"""


@contextmanager
def moto(directory: Path) -> Iterator[str]:
    """Run a server that speaks S3 on a port of its choice, and say which to what is started meanwhile."""
    process = subprocess.Popen(
        [BIN / "moto_server", "-H", "127.0.0.1", "-p", "0"],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        lines = (re.search(r"Running on (http://127\.0\.0\.1:\d+)", line) for line in process.stderr)
        found = next(filter(None, lines), None)
        if found is None:
            raise SystemExit("moto_server did not start: it comes with the extra `test`")
        threading.Thread(target=deque, args=(process.stderr, 0), daemon=True).start()  # lest the pipe is full
        yield found[1]
    finally:
        process.kill()
        process.wait()


def main(bench: Bench) -> None:
    """Files of 1 GiB and four of 300 MB to S3 and back, directly and through a hashserver, against s3fs."""
    with moto(bench.fresh("moto")) as endpoint:
        os.environ |= {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        run([*PYTHON[:2], "import fsspec; fsspec.filesystem('s3').mkdir('bench')"])
        _direct(bench)
        _through_a_server(bench)


def _direct(bench: Bench) -> None:
    path = random_file(bench.fresh("data") / "large.bin", GIB)
    environment = bench.environment(name="direct") | {"SEAMLESS_STORE": "s3://bench/direct"}
    up, down = _client(bench, environment, path)
    runs = min(bench.runs, 3)
    put = _plain("put_file", path, "bench/plain")
    get = _plain("get_file", "bench/plain", path.with_name("back"))
    bench.ratio("upload of a new 1 GiB file, directly", up, put, 1.25, "s3fs put", runs)
    bench.ratio("download of 1 GiB, directly, verified", down, get, 1.25, "s3fs get", runs)


def _through_a_server(bench: Bench) -> None:
    server = bench.server(store="s3://bench/server")
    path = random_file(bench.fresh("data") / "large.bin", GIB)
    up, down = _client(bench, bench.environment(server, "client"), path)
    put = _plain("put_file", path, "bench/plain")
    get = _plain("get_file", "bench/plain", path.with_name("back"))
    for what, ours, plain in (("upload", up, put), ("download", down, get)):
        bench.row(f"{what} of 1 GiB through a server", ours() / plain(), None, "against s3fs")
        bench.row(f"peak memory after that {what}, server", server.peak / MIB, _MOST, "", unit="MiB")

    paths = [random_file(bench.fresh(f"data{n}") / "large.bin", _FOUR) for n in range(4)]
    clients = [_client(bench, bench.environment(server, f"client{n}"), path) for n, path in enumerate(paths)]
    for way, what in enumerate(("four uploads of 300 MB at once", "four downloads of 300 MB at once")):
        start = time.perf_counter()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda client: client[way](), clients))  # noqa: B023 - it is over before the next
        rate = 4 * _FOUR / MIB / (time.perf_counter() - start)
        bench.row(f"{what}, server", server.peak / MIB, _MOST, f"{rate:.0f} MiB/s", unit="MiB")


def _client(
    bench: Bench, environment: dict[str, str], path: Path
) -> tuple[Callable[[], float], Callable[[], float]]:
    """Return what uploads a file, new each time, and what downloads it; the client's peak is printed."""
    back = bench.fresh(f"back-{path.parent.name}") / path.name

    def command(name: str, what: Path) -> float:
        used = run([BIN / name, "-q", what], environment, what.parent)
        bench.row(f"peak memory, {name}", used.peak / MIB, _MOST, f"{used.wall:.1f} s", unit="MiB")
        return used.wall

    def upload() -> float:
        with path.open("r+b") as stream:
            stream.write(os.urandom(8))
        return command("seamless-upload", path)

    def download() -> float:
        back.unlink(missing_ok=True)
        back.with_name("large.bin.CHECKSUM").write_bytes(path.with_name("large.bin.CHECKSUM").read_bytes())
        return command("seamless-download", back)

    return upload, download


def _plain(how: str, one: object, other: object) -> Callable[[], float]:
    def call() -> float:
        return run([*PYTHON[:2], _PLAIN, how, str(one), str(other)]).wall

    return call
