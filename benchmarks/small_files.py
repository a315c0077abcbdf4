"""Five thousand files of 4 KiB to a hashserver and back, against ``cp -r``."""

from __future__ import annotations

import shutil
from pathlib import Path

from .measure import BIN, PYTHON, Bench, run, settle
from .measure import small_files as make


def main(bench: Bench) -> None:
    """Upload, download and unchanged re-upload of 5,000 files of 4 KiB against ``cp -r`` of the tree."""
    tree, target = make(bench.fresh("tree")), bench.fresh("target")
    server = bench.server()
    environment = bench.environment(server, "client")
    cache, copy = Path(environment["SEAMLESS_CACHE"]), bench.directory / "copy"
    settle()

    def cp() -> float:
        shutil.rmtree(copy, ignore_errors=True)
        return run(["cp", "-r", tree, copy]).wall

    def upload() -> float:
        for stored in server.directory.glob("store/??"):
            shutil.rmtree(stored)
        for known in cache.iterdir():
            known.unlink() if known.is_file() else shutil.rmtree(known)
        for sidecar in (".CHECKSUM", ".INDEX"):
            (tree / sidecar).unlink(missing_ok=True)
        return run([BIN / "seamless-upload", "-q", tree], environment).wall

    bench.ratio("upload", upload, cp, 5.0, "cp -r")
    bench.ratio(
        "upload again, unchanged",
        lambda: run([BIN / "seamless-upload", "-q", tree], environment).wall,
        lambda: run(PYTHON).wall,
        15.0,
        "python -c pass",
    )

    def download() -> float:
        shutil.rmtree(target)
        target.mkdir()
        for sidecar in (".CHECKSUM", ".INDEX"):
            shutil.copy(tree / sidecar, target / sidecar)
        return run([BIN / "seamless-download", "-q", target], environment).wall

    bench.ratio("download", download, cp, 3.0, "cp -r")
