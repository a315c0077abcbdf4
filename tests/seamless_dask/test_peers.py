"""What has surprised users of other caches when they called functions: reported there, and decided here.

What surprised them in how functions are identified stands in ``code/test_peers.py``.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

from seamless_dask import checksum_of, put
from seamless_dask.errors import InvalidValue, NotAValue
from seamless_dask.scheduler import SeamlessScheduler
from seamless_dask.values.loading import load
from seamless_dask.values.writing import to_bytes


def noted(value: Any, log: str) -> Any:
    with open(log, "a") as file:
        file.write("x")
    return value


def add_one(x: int) -> int:
    return x + 1


class Counter:
    """One that remembers how often it was asked, as pickled callables do."""

    seen: list[int] = []  # noqa: RUF012 - the state that would leak

    def __init__(self) -> None:
        self.calls = 0

    def add(self, x: int) -> tuple[int, int]:
        self.calls += 1
        self.seen.append(x)
        return self.calls, len(self.seen)


class Parameter:
    """As those of torch: numbers that a function makes again, equal one by one, hashed by identity."""

    def __init__(self, numbers: Any, requires_grad: bool = True) -> None:
        self.numbers, self.requires_grad = np.asarray(numbers), requires_grad

    def __eq__(self, other: object) -> Any:
        return self.numbers == (other.numbers if isinstance(other, Parameter) else other)

    __hash__ = object.__hash__

    def __reduce_ex__(self, protocol: Any) -> Any:
        return parameter_again, (self.numbers, self.requires_grad)


def parameter_again(numbers: Any, requires_grad: bool) -> Parameter:
    return Parameter(numbers, requires_grad)


WEIGHTS = Parameter([1.0, 2.0])


def weighted(x: int) -> float:
    return float(WEIGHTS.numbers.sum()) * x


def test_weights_that_a_function_reads_count_by_their_numbers(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamlit#3113: a parameter of torch in the body of a function could not be hashed."""
    made = lab.delayed(weighted)
    before = made(2).key
    assert made(2).compute() == 6.0
    monkeypatch.setitem(globals(), "WEIGHTS", Parameter([1.0, 2.0]))
    assert made(2).key == before
    WEIGHTS.numbers[0] = 5
    assert made(2).key != before
    same = lab.direct(noted)(Parameter([3.0]), os.devnull)
    assert type(same) is Parameter
    assert same.numbers.tolist() == [3.0]


def test_a_value_whose_package_is_gone_is_told_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """marimo PR#10065: what was kept could not be restored without the package, nor was that said."""
    package = tmp_path / "site-packages"
    package.mkdir()
    (package / "gone_since.py").write_text("class Kept:\n    x = 1\n")
    monkeypatch.syspath_prepend(package)
    kind, data = to_bytes(importlib.import_module("gone_since").Kept())
    monkeypatch.delitem(sys.modules, "gone_since")
    (package / "gone_since.py").unlink()
    importlib.invalidate_caches()
    with pytest.raises(InvalidValue, match="gone_since"):
        load(kind, data, trusted=True)


def test_who_wrote_a_table_does_not_count() -> None:
    """xorq#2191, arrow#40202: versions in the metadata and the layout of dictionaries changed hashes."""
    pa = pytest.importorskip("pyarrow")
    words = pa.array(["a", "b", "a"]).dictionary_encode()
    one = pa.table({"x": words})
    two = pa.concat_tables([one.slice(0, 1), one.slice(1)])
    assert checksum_of(one) == checksum_of(two)
    table = pa.Table.from_pandas(one.to_pandas())
    told = {
        b"pandas": re.sub(
            rb'"(pandas_)?version": "[^"]*"', rb'"\g<1>version": "0.1"', table.schema.metadata[b"pandas"]
        )
    }
    frames = [each.to_pandas() for each in (one, table, table.replace_schema_metadata(told))]
    assert len({checksum_of(frame) for frame in frames}) == 1


def test_equal_frames_are_one_argument_however_they_were_made(lab: Any) -> None:
    """joblib#1611: equal frames had other hashes; flyte#1581: one was never found again."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"x": [1, 2], "y": ["a", "b"]})
    twice = pandas.concat([frame, frame], ignore_index=True)
    log = str(lab.directory / "log")
    made = lab.direct(isolation="none")(noted)
    for each in (frame, frame.copy(), twice.iloc[:2], pandas.DataFrame({"x": [1, 2], "y": ["a", "b"]})):
        assert made(each, log).equals(frame)
    assert Path(log).read_text() == "x"


def test_a_uuid_is_an_argument_and_a_global(lab: Any) -> None:
    """Streamlit#6440: it could not be hashed."""
    one = uuid.uuid4()
    made = lab.delayed(noted)
    assert made(one, "").key == made(uuid.UUID(str(one)), "").key != made(uuid.uuid4(), "").key

    def told() -> str:
        return str(one)

    assert lab.direct(told)() == str(one)


def test_dask_may_insist_on_tokens_that_are_the_same_each_time(lab: Any) -> None:
    """dask#9536: then not even dask could be imported."""
    first = lab.delayed(add_one)(1)
    with dask.config.set({"tokenize.ensure-deterministic": True}):
        token = dask.base.tokenize(first)
        assert token == dask.base.tokenize(lab.delayed(add_one)(1))
        assert dask.delayed(add_one)(lab.delayed(add_one)(first)).compute(scheduler="sync") == 4


def test_what_a_call_remembers_another_one_does_not_see(lab: Any) -> None:
    """distributed#3733: tasks shared one unpickled callable, and what it remembered."""
    made = lab.direct(Counter().add)
    assert [made(number) for number in (1, 2, 3)] == [(1, 1)] * 3


def test_it_can_be_run_again_and_the_new_result_is_the_known_one(lab: Any) -> None:
    """Prefect#7056: there was no way to say so."""
    log = str(lab.directory / "log")
    made = lab.direct(isolation="none")(noted)
    again = lab.direct(isolation="none", fresh=True)(noted)
    assert [made(1, log), again(1, log), made(1, log)] == [1, 1, 1]
    assert Path(log).read_text() == "xx"


def test_an_argument_that_cannot_be_hashed_is_an_error_and_not_a_call_that_is_never_found(lab: Any) -> None:
    """Prefect PR#16135: the result was silently not kept."""
    with pytest.raises(NotAValue, match="argument 'value' is a generator"):
        lab.direct(noted)((number for number in [1]), "")


def test_a_large_argument_that_was_put_is_not_hashed_again(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """joblib#822, #831, #1370: to hash and to keep a large argument took longer than the call."""
    from seamless_dask import submitted

    kept = put(np.zeros(1 << 20), context=lab.context)
    monkeypatch.setattr(submitted, "Hasher", None)
    monkeypatch.setattr(submitted, "encode", lambda value, *_: pytest.fail(f"hashed: {value!r:.20}"))
    assert lab.delayed(add_one)(kept).description.inputs["x"] == kept.value


def test_another_process_finds_it_whatever_its_hash_seed_is(tmp_path: Path) -> None:
    """cloudpickle#538, dask#10876: another kernel had other bytes and tokens for the same function."""
    (tmp_path / "script.py").write_text(
        "from seamless_dask import delayed\n"
        "WORDS = {'some', 'words', 'in', 'a', 'set'}\n"
        "@delayed\n"
        "def f(x, by=frozenset('abc')):\n"
        "    return len(WORDS) + len(x) + len(by)\n"
        "print(f({'one', 'two', 'three'}).key)\n"
    )
    keys = set()
    for seed in ("0", "1", "2"):
        own = os.environ | {"PYTHONHASHSEED": seed}
        words = [sys.executable, "script.py"]
        done = subprocess.run(words, cwd=tmp_path, env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        keys.add(done.stdout)
    assert len(keys) == 1


def test_a_frame_is_found_by_way_of_a_cluster_too(lab: Any) -> None:
    """flyte#5823, #4731: what ran elsewhere, and each of many, was never found."""
    pandas = pytest.importorskip("pandas")
    log = str(lab.directory / "log")
    made = lab.delayed(isolation="none")(noted)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(SeamlessScheduler())
        for _ in range(2):
            frames = [pandas.DataFrame({"x": [number]}) for number in range(3)]
            found = client.gather(client.compute([made(frame, log) for frame in frames]))
            assert [int(frame.x[0]) for frame in found] == [0, 1, 2]
    assert Path(log).read_text() == "xxx"
