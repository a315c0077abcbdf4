"""Any value comes back as it was, equal ones have equal bytes, others never; what others wrote is data."""

from __future__ import annotations

import datetime as dt
import functools
import json
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seamless_dask.errors import InvalidValue, UntrustedValue
from seamless_dask.values.loading import load
from seamless_dask.values.writing import to_bytes

Ask = Callable[[int, Path, Any], list[tuple[str, bytes]]]

texts = st.text(st.characters(exclude_categories=()), max_size=8)  # halves of pairs too
plain = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**400), 10**400)
    | st.floats()
    | texts
    | st.binary(max_size=8)
    | st.complex_numbers()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones(), allow_imaginary=False)
    | st.timedeltas()
    | st.fractions()
    | st.uuids()
)
scalars = plain | st.decimals()
hashable = st.recursive(
    plain | st.decimals(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(texts, inner, max_size=4)
        | st.dictionaries(hashable, inner, max_size=3)
        | st.tuples(inner, inner)
        | st.sets(hashable, max_size=4)
        | st.sampled_from(["@", "tuple", "part", "hole"])
    ),
    max_leaves=12,
)
quick = settings(deadline=None, suppress_health_check=list(HealthCheck))


def exact(value: Any) -> Any:
    """Return a description that is equal for the same types and bits only."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, [exact(member) for member in value]
    if kind in (set, frozenset):
        return kind, sorted(repr(exact(member)) for member in value)
    if kind is dict:
        return kind, [(exact(name), exact(member)) for name, member in value.items()]
    if kind is float:
        return kind, struct.pack(">d", value)
    if kind is complex:
        return kind, struct.pack(">dd", value.real, value.imag)
    if kind is Decimal:
        return kind, value.as_tuple()
    if kind in (dt.datetime, dt.time):
        return kind, value.isoformat(), value.fold, repr(value.tzinfo)
    return kind, value


@quick
@given(values)
def test_any_value_comes_back(value: Any) -> None:
    kind, data = to_bytes(value)
    assert exact(load(kind, data)) == exact(value)


@quick
@given(values)
def test_loaded_values_have_the_same_bytes(value: Any) -> None:
    stored = to_bytes(value)
    assert to_bytes(load(*stored)) == stored


@quick
@given(values, values)
def test_unequal_values_have_unequal_bytes(one: Any, other: Any) -> None:
    assert (to_bytes(one) == to_bytes(other)) == (exact(one) == exact(other))


@quick
@given(st.sets(hashable, min_size=2, max_size=6), st.randoms())
def test_the_order_of_a_set_does_not_count(members: set[Any], order: random.Random) -> None:
    shuffled = list(members)
    order.shuffle(shuffled)
    assert to_bytes(set(shuffled)) == to_bytes(members)


def test_the_golden_digest_of_many_values() -> None:
    """What CPython 3.11, 3.12, 3.13 and 3.14 give."""
    script = Path(__file__).with_name("golden.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_values_of_another_process(tmp_path: Path, in_process: Ask) -> None:
    code = """
import datetime, decimal, fractions, pathlib, uuid, zoneinfo, collections
words = ["delta", "alpha", "charlie", "bravo", "echo"]
values = [
    {*words}, frozenset({(word, frozenset(words)) for word in words}), {word: {*words} for word in words},
    [1.5, float("nan"), -0.0, 2**2000, "\\ud800", b"x", 1j, range(3), None, ...],
    datetime.datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Paris")), decimal.Decimal("1.50"),
    [fractions.Fraction(1, 3), pathlib.PurePosixPath("a"), uuid.UUID(int=1), collections.Counter(words)],
]
"""
    one, other = in_process(1, tmp_path, ("write", code)), in_process(2, tmp_path, ("write", code))
    assert one == other
    assert in_process(3, tmp_path, ("read", one)) == one
    here: dict[str, Any] = {}
    exec(code, here)
    assert [to_bytes(value) for value in here["values"]] == one


tags = st.sampled_from(
    [
        "float",
        "int",
        "text",
        "tuple",
        "set",
        "dict",
        "bytes",
        "complex",
        "range",
        "slice",
        "part",
        "hole",
        "ellipsis",
    ]
    + [
        f"standard:{name}"
        for name in ("date", "datetime", "time", "zone", "decimal", "fraction", "uuid", "path", "x")
    ]
    + [
        "object:name",
        "object:call",
        "object:new",
        "object:enum",
        "object:code",
        "registered:",
        "none:such",
        "",
    ]
    + [
        f"numpy:{name}"
        for name in ("small", "scalar", "item", "fields", "elements", "as", "view", "masked", "dtype")
    ]
    + [
        f"pandas:{name}"
        for name in ("frame", "index", "range", "multi", "sparse", "periods", "zoned", "dtype")
    ]
    + ["scipy:sparse", "xarray:dataset", "xarray:array", "polars:frame", "pyarrow:table"]
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
    | st.sampled_from(
        ["builtins:eval", "builtins:list", "collections:deque", "|O", "<f8", "matrix", "<U99999999"]
    )
)
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.builds(lambda name, fields: {"@": [name, *fields]}, tags, st.lists(inner, max_size=4))
        | st.fixed_dictionaries({"@": inner})
    ),
    max_leaves=12,
)


@pytest.mark.filterwarnings("ignore")
@settings(quick, max_examples=500)
@given(trees)
def test_trees_of_others_are_read_or_refused(tree: Any) -> None:
    read_or_refuse("json/1", json.dumps(tree).encode())


def read_or_refuse(kind: str, data: Any) -> None:
    """Load what others wrote; an error must be one of ours, and one line."""
    message = ""
    try:
        load(kind, data)
    except (InvalidValue, UntrustedValue) as error:
        message = str(error)
    assert "\n" not in message


@settings(quick, max_examples=300)
@given(
    st.binary(max_size=200),
    st.sampled_from(["json/1", "parts/1", "text", "npy", "npy-scalar", "arrow", "x/9"]),
)
def test_bytes_of_others_are_read_or_refused(data: bytes, kind: str) -> None:
    read_or_refuse(kind, data)


@functools.cache
def _stored() -> list[tuple[str, bytes]]:
    np, pd = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", None])}, index=["p", "q"])
    return [
        to_bytes(frame),
        to_bytes(frame.T),
        to_bytes(
            pd.DataFrame({"a": pd.arrays.SparseArray([0, 1, 0]), "b": pd.period_range("2020", periods=3)})
        ),
        to_bytes(np.arange(6.0).reshape(2, 3)),
        to_bytes([np.arange(300), b"x" * 70_000]),
        to_bytes(np.zeros(2, [("a", "i1"), ("b", "f8", (2,))])),
    ]


@pytest.mark.filterwarnings("ignore")
@settings(quick, max_examples=300)
@given(st.data())
def test_a_changed_byte_is_read_or_refused(data: Any) -> None:
    kind, stored = data.draw(st.sampled_from(_stored()))
    changed = bytearray(stored)
    where = data.draw(st.integers(0, min(len(stored), 1500) - 1))
    if data.draw(st.booleans()):
        where = len(stored) - 1 - where
    changed[where] = data.draw(st.integers(0, 255))
    read_or_refuse(kind, changed)


@pytest.mark.parametrize(
    "text", ["[" * 5000, "NaN", "[Infinity]", "{", "\xff", '{"@":1}', '{"@":[]}', '{"@":["int","x"]}']
)
def test_bad_documents_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(InvalidValue, match="cannot be read") as raised:
        load("json/1", text.encode("latin-1"))
    assert "\n" not in str(raised.value)


def test_names_of_columns_that_are_no_text_are_refused() -> None:
    pa = pytest.importorskip("pyarrow")
    _, data = to_bytes(pa.table({"name": [1]}))
    for broken in (data.replace(b"name", b"\x80\x80\x80\x80"), data.replace(b"seamless", b"\x80" * 8)):
        with pytest.raises(InvalidValue, match="cannot be read"):
            load("arrow", broken.replace(b"name", b"\x80\x80\x80\x80"))


def test_other_formats_are_told() -> None:
    with pytest.raises(
        InvalidValue, match="values of format 'csv/7' are not known here: is there a newer release"
    ):
        load("csv/7", b"")


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numpy")
    _, data = to_bytes(__import__("numpy").arange(3))
    for name in [name for name in sys.modules if name.startswith("seamless_dask.values.n")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(InvalidValue, match="needs what is not installed here"):
        load("npy", data)


IMPORTED = """
import sys
before = set(sys.modules)
from seamless_dask.values.loading import load
from seamless_dask.values.registry import register
from seamless_dask.values.writing import to_bytes
value = {"a": [1, (2.5, None)], "b": {"x"}}
assert load(*to_bytes(value)) == value
new = {name.partition(".")[0] for name in set(sys.modules) - before}
costly = "numpy pandas pyarrow polars scipy xarray dask distributed cloudpickle decimal datetime uuid pathlib"
print(new & set(costly.split()))
"""


def test_plain_data_imports_no_library() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")
