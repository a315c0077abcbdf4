"""Five thousand files of 4 KiB to a hashserver and back, against ``cp -r`` and one ``sync -f``.

What a server has acknowledged is on the disk, so the peer of an upload syncs, too; a download promises that
as little as ``cp`` does.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

from .measure import BIN, PYTHON, Bench, run, settle
from .measure import small_files as make


def main(bench: Bench) -> None:
    """Upload, download and unchanged re-upload of 5,000 files of 4 KiB against ``cp -r`` of the tree."""
    tree = make(bench.fresh("tree"))
    server = bench.server()
    environment = bench.environment(server, "client")
    cache, number = Path(environment["SEAMLESS_CACHE"]), itertools.count()
    settle()

    # What a run has made is moved aside, not deleted: for five seconds ext4 looks at each inode that was
    # freed before it takes one, which would be measured, too.
    def fresh(name: str) -> Path:
        return bench.fresh(f"{name}-{next(number)}")

    def cp() -> float:
        return run(["cp", "-r", tree, fresh("copy")]).wall

    def synced() -> float:
        return run(["sh", "-c", 'cp -r "$1" "$2" && sync -f "$2"', "sh", tree, fresh("copy")]).wall

    def upload() -> float:
        aside = fresh("aside")
        for known in (*server.directory.glob("store/??"), *cache.iterdir()):
            known.rename(aside / known.name)
        for sidecar in (".CHECKSUM", ".INDEX"):
            (tree / sidecar).unlink(missing_ok=True)
        return run([BIN / "seamless-upload", "-q", tree], environment).wall

    bench.ratio("upload", upload, synced, 5.0, "cp -r, sync -f")
    if shutil.which("restic"):
        secret = {**environment, "RESTIC_PASSWORD": "x", "RESTIC_CACHE_DIR": str(fresh("restic-cache"))}

        def restic() -> float:
            repository = str(fresh("restic"))
            run(["restic", "init", "-q", "-r", repository], secret)
            return run(["restic", "backup", "-q", "-r", repository, tree], secret).wall

        bench.ratio("upload, against restic", upload, restic, 5.0, "restic backup")
    bench.ratio(
        "upload again, unchanged",
        lambda: run([BIN / "seamless-upload", "-q", tree], environment).wall,
        lambda: run(PYTHON).wall,
        15.0,
        "python -c pass",
    )

    def download() -> float:
        target = fresh("target")
        for sidecar in (".CHECKSUM", ".INDEX"):
            shutil.copy(tree / sidecar, target / sidecar)
        return run([BIN / "seamless-download", "-q", target], environment).wall

    bench.ratio("download", download, cp, 3.0, "cp -r")
