"""``seamless-log --tree``, ``--uses`` and ``--dot``: what a thing comes from, what comes of it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from hashserver.checksum import hash_bytes
from hashserver.opening import open_store
from hashserver.results.database import Database, Put
from hashserver.results.runs import provenance_of
from seamless_dask.model.transformation import Description, ResultSpec, Value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hashserver.checksum import Checksum

    from ..conftest import Cli

    Steps = list[tuple[str, str, Mapping[str, bytes]]]


def record(home: Path, steps: Steps) -> None:
    """Record runs: a command, what it gave, and its inputs with their bytes."""
    cache = home / "cache"
    cache.mkdir(mode=0o700, exist_ok=True)
    buffers, puts = [], []
    for text, given, inputs in steps:
        values = {name: Value("file", hash_bytes(data)) for name, data in inputs.items()}
        form = Description(
            "bash", hash_bytes(text.encode()), ResultSpec(stdout=True), dict(values)
        ).canonical()
        buffers += [form, text.encode()]
        made = {"started": "2026-01-01T00:00:00Z"}
        puts.append(
            Put(hash_bytes(form), "file", hash_bytes(given.encode()), made, (), provenance_of(form, "make"))
        )
    open_store(str(cache / "buffers")).put_many(buffers)
    with Database(cache / "seamless.db") as database:
        database.put_many(puts)


def shown(cli: Cli, *words: str) -> list[str]:
    """Return the lines without what is another one each time."""
    return [
        re.sub(r"  (\(\w{8}, [^)]*\)|\w{8}$)", "", line)
        for line in cli("seamless-log", *words).text.splitlines()
    ]


def checksum(data: str) -> Checksum:
    return hash_bytes(data.encode())


def test_upwards_to_the_sources_and_downwards(cli: Cli, work: Path) -> None:
    (work / "a.txt").write_text("b\na\n")
    cli("seamless-run", "sort a.txt > b.txt")
    cli("seamless-run", "mkdir out; cat a.txt b.txt > out/c.txt", "--capture", "out")
    cli("seamless-run", "sort -r out/*.txt > d.txt")
    cli("seamless-run", "wc -l < b.txt > e.txt")
    assert shown(cli, "--tree", "d.txt") == [
        "d.txt",
        "  sort -r out/*.txt > d.txt",
        "    out/c.txt",
        "      mkdir out; cat a.txt b.txt > out/c.txt",
        "        a.txt",
        "        b.txt",
        "          sort a.txt > b.txt",
        "            a.txt",
    ]
    assert shown(cli, "--uses", "a.txt") == [
        "a.txt",
        "  mkdir out; cat a.txt b.txt > out/c.txt",
        "    sort -r out/*.txt > d.txt",
        "  sort a.txt > b.txt",
        "    wc -l < b.txt > e.txt",
        "    mkdir out; cat a.txt b.txt > out/c.txt, told above",
    ]


def test_a_file_in_an_input_directory_that_no_run_made(cli: Cli, work: Path) -> None:
    (work / "set").mkdir()
    (work / "set" / "mine.txt").write_text("mine")
    cli("seamless-run", "echo theirs", "--capture", ":set/theirs.txt")
    cli("seamless-run", "cat set/*.txt > all.txt", "--input", "set")
    assert shown(cli, "--tree", "all.txt") == [
        "all.txt",
        "  cat set/*.txt > all.txt",
        "    set",
        "      theirs.txt",
        "        echo theirs",
    ]


def test_what_goes_round_ends(cli: Cli, home: Path) -> None:
    record(
        home,
        [
            ("gzip", "packed", {"a": b"plain"}),
            ("gunzip", "plain", {"a.gz": b"packed"}),
            ("cp", "same", {"b": b"same"}),
        ],
    )
    lines = shown(cli, "--tree", checksum("packed"))
    assert [line.strip() for line in lines[1:]] == ["gzip", "a", "gunzip", "a.gz", "gzip, told above"]
    assert len(shown(cli, "--uses", checksum("packed"))) == 4
    assert len(shown(cli, "--tree", checksum("same"))) == 4
    assert "digraph" in cli("seamless-log", "--dot", checksum("same")).text


@pytest.mark.parametrize("shape", ["chain", "fan"])
def test_a_huge_tree_is_cut_and_that_is_told(cli: Cli, home: Path, shape: str) -> None:
    number = 3000
    if shape == "chain":
        steps: Steps = [(f"step {n}", f"r {n + 1}", {"in": f"r {n}".encode()}) for n in range(number)]
    else:
        steps = [(f"step {n}", f"r {n}", {"in": b"x"}) for n in range(number)]
        steps.append(("all", f"r {number}", {f"in{n}": f"r {n}".encode() for n in range(number)}))
    record(home, steps)
    done = cli("seamless-log", "--tree", checksum(f"r {number}"))
    assert "not all of it: this is 1,000 runs" in done.error
    found = json.loads(cli("seamless-log", "--tree", "--json", "-n", "4000", checksum(f"r {number}")).stdout)
    assert found["complete"]
    assert len(found["runs"]) == len(steps)


def test_users_that_are_left_out_are_counted(cli: Cli, home: Path) -> None:
    record(home, [(f"step {n}", f"r {n}", {"in": b"x"}) for n in range(5)])
    lines = shown(cli, "--uses", "-n", "2", checksum("x"))
    assert lines[1:] == ["  step 4", "  step 3", "  … and 3 more runs"]


def test_a_graph_quotes_what_it_names(cli: Cli, home: Path) -> None:
    record(home, [('say "x\\N"\x1b[2J', "r", {'a"];b': b"x"})])
    shown_graph = cli("seamless-log", "--dot", checksum("r")).text
    assert r'label="say \"x\\N\"\\x1b[2J"' in shown_graph
    assert r'label="a\"];b"' in shown_graph


def test_a_tree_takes_a_name(cli: Cli) -> None:
    assert "take a name" in cli("seamless-log", "--tree", status=2).error
