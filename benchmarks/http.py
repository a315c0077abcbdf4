"""The hashserver's ``GET`` against nginx serving the same file."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import time
from pathlib import Path

from .measure import GIB, Bench, Server, random_file, run

NGINX = """{user} daemon off; worker_processes 1; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 64; }}
http {{ access_log off; sendfile on; keepalive_requests 10000000; client_body_temp_path {root}/tmp;
  proxy_temp_path {root}/tmp; fastcgi_temp_path {root}/tmp;
  uwsgi_temp_path {root}/tmp; scgi_temp_path {root}/tmp;
  server {{ listen 127.0.0.1:{port}; root {root}; }} }}
"""


def main(bench: Bench) -> None:
    """``GET`` of 1 KiB buffers under wrk and of 1 GiB by curl, against nginx."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if not nginx or not shutil.which("wrk") or not shutil.which("curl"):
        raise SystemExit("this experiment needs nginx, wrk and curl: apt-get install nginx-light wrk curl")
    server = bench.server()
    small = _store(server, os.urandom(1024))
    large = _store(server, random_file(bench.directory / "large", GIB).read_bytes())
    root = bench.fresh("www")
    for checksum in (small, large):
        os.link(server.directory / "store" / checksum[:2] / checksum, root / checksum)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    user = "" if os.geteuid() else "user root;"  # its workers would otherwise not be let into our directory
    (root / "nginx.conf").write_text(NGINX.format(user=user, root=root, port=port))
    peer = subprocess.Popen([nginx, "-c", root / "nginx.conf", "-p", root], stderr=subprocess.DEVNULL)
    try:
        _wait(port)
        _measure(bench, server, f"http://127.0.0.1:{port}", small, large)
    finally:
        peer.terminate()
        peer.wait()


def _measure(bench: Bench, server: Server, peer: str, small: str, large: str) -> None:
    token = f"Authorization: Bearer {server.token}"
    ours, theirs = [], []
    for _ in range(min(bench.runs, 5)):
        ours.append(_wrk(f"{server.url}/{small}", token))
        theirs.append(_wrk(f"{peer}/{small}", token))
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    rates = f"{statistics.median(ours):.0f}/s against {statistics.median(theirs):.0f}/s for nginx"
    bench.row("GET 1 KiB, wrk -t1 -c16", ratio, 0.1, rates, at_least=True)

    def curl(url: str) -> float:
        return run(["curl", "-sf", "-H", token, "-o", "/dev/null", url]).wall

    a, b, ratio = bench.pairs(lambda: curl(f"{server.url}/{large}"), lambda: curl(f"{peer}/{large}"))
    rates = f"{GIB / a / 1e9:.2f} GB/s against {GIB / b / 1e9:.2f} GB/s for nginx"
    bench.row("GET 1 GiB, curl", 1 / ratio, 0.8, rates, at_least=True)


def _store(server: Server, data: bytes) -> str:
    """Put a buffer where the server finds it."""
    checksum = hashlib.sha256(data).hexdigest()
    path: Path = server.directory / "store" / checksum[:2] / checksum
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return checksum


def _wrk(url: str, header: str) -> float:
    """Return requests a second over two seconds on sixteen connections."""
    report = subprocess.run(
        ["wrk", "-t1", "-c16", "-d2", "-H", header, url], capture_output=True, text=True, check=True
    ).stdout
    if "Non-2xx" in report:
        raise SystemExit(report)
    found = re.search(r"Requests/sec: +([\d.]+)", report)
    assert found
    return float(found[1])


def _wait(port: int) -> None:
    """Wait until somebody listens on a port."""
    for _ in range(500):
        with socket.socket() as probe:
            if not probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.01)
    raise SystemExit("nginx did not start")
