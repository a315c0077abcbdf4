"""One GiB to a hashserver on loopback and back, against ``openssl dgst``."""

from __future__ import annotations

from .measure import BIN, GIB, MIB, Bench, random_file, run


def main(bench: Bench) -> None:
    """Upload and verified download of 1 GiB over loopback against hashing it, with peak memory."""
    data, target = bench.fresh("data"), bench.fresh("target")
    path = random_file(data / "large.bin", GIB)
    server = bench.server()
    environment = bench.environment(server, "client")
    runs = min(bench.runs, 5)
    peaks = []

    def openssl() -> float:
        return run(["openssl", "dgst", "-sha256", path]).wall

    def upload() -> float:
        # A byte more makes it new content each time; the sidecar of the last one goes with it.
        with path.open("r+b") as stream:
            first = stream.read(8)
            stream.seek(0)
            stream.write((int.from_bytes(first) + 1 & 2**64 - 1).to_bytes(8))
        for stored in server.directory.glob("store/??/*"):
            stored.unlink()
        used = run([BIN / "seamless-upload", "-q", path], environment, data)
        peaks.append(used.peak)
        return used.wall

    bench.ratio("upload of a new 1 GiB file", upload, openssl, 3.0, "openssl dgst -sha256", runs)
    bench.row("peak memory, upload, client", max(peaks) / MIB, 150, "", unit="MiB")
    bench.row("peak memory, upload, server", server.peak / MIB, 150, "", unit="MiB")

    checksum = target / "large.bin.CHECKSUM"
    checksum.write_bytes((data / "large.bin.CHECKSUM").read_bytes())

    def download() -> float:
        (target / "large.bin").unlink(missing_ok=True)
        used = run([BIN / "seamless-download", "-q", target / "large.bin"], environment, target)
        peaks.append(used.peak)
        return used.wall

    peaks.clear()
    bench.ratio("download of 1 GiB, verified", download, openssl, 1.8, "openssl dgst -sha256", runs)
    bench.row("peak memory, download, client", max(peaks) / MIB, 150, "", unit="MiB")
    bench.row("peak memory, both ways, server", server.peak / MIB, 150, "", unit="MiB")
