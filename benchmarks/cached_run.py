"""A cached ``seamless-run`` against the start of the interpreter."""

from __future__ import annotations

from .measure import BIN, GIB, PYTHON, Bench, random_file, run, settle


def main(bench: Bench) -> None:
    """A cached command, embedded and against a hashserver, with a small and a 1 GiB input."""
    data = bench.fresh("data")
    (data / "input.txt").write_text("one\ntwo\n")
    random_file(data / "large.bin", GIB)
    settle()
    places = {
        "embedded": (bench.environment(), 4.5),
        "hashserver": (bench.environment(bench.server(), "client"), 5.2),
    }
    for place, (environment, limit) in places.items():
        for size, name in (("small", "input.txt"), ("1 GiB", "large.bin")):
            command = [BIN / "seamless-run", "-y", "wc", "-c", name]
            run(command, environment, data)
            bench.ratio(
                f"{place}, {size} input",
                lambda command=command, environment=environment: run(command, environment, data).wall,
                lambda: run(PYTHON).wall,
                limit,
                "python -c pass",
                runs=3 * bench.runs,
            )
