"""Frames, series, indexes and scalars of pandas: as tables where those are exact, else as trees."""

from __future__ import annotations

import datetime as dt
import math
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seamless_dask.errors import InvalidValue
from seamless_dask.values.loading import load
from seamless_dask.values.writing import identify, to_bytes, write_value

np = pytest.importorskip("numpy")
pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")

Back = Callable[..., Any]


def _tables() -> dict[str, Any]:
    """Return frames that Arrow has exactly."""
    zoned = pd.to_datetime(["2020-01-01", None]).tz_localize
    return {
        "plain": {"a": [1, 2], "b": [1.5, np.nan], "c": ["x", None], "d": [True, False]},
        "small numbers": {
            "a": np.array([1, 2], "i1"),
            "b": np.array([1, 2], "f2"),
            "c": np.array([1, 2], "u8"),
        },
        "categories": {"a": pd.Categorical(["u", None], categories=["u", "v"])},
        "ordered numbers": {"a": pd.Categorical([3, 1], ordered=True)},
        "times": {"a": pd.to_datetime(["2020-01-01", None]), "b": pd.to_timedelta([1, None], unit="s")},
        "zones": {
            "a": zoned("UTC"),
            "b": zoned("Europe/Paris"),
            "c": zoned(dt.timezone(dt.timedelta(hours=1))),
        },
        "masked": {"a": pd.array([1, None], "Int64"), "b": pd.array([True, None], "boolean")},
        "masked floats": {"a": pd.array([1.5, None], "Float32")},
        "texts among objects": {"a": np.array(["a", None], object), "b": np.array(["a", "b"], object)},
        "strings": {
            "a": pd.array(["x", None], "string"),
            "b": pd.array(["x", None], pd.StringDtype("python")),
        },
        "types of arrow": {
            "a": pd.array([1, None], "int8[pyarrow]"),
            "b": pd.array(["x", None], "string[pyarrow]"),
        },
    }


def _labelled() -> dict[str, Any]:
    return {
        "no rows": pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})[:0],
        "other numbers of rows": pd.DataFrame({"a": [1, 2, 3]})[1:],
        "days": pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2020", periods=2, name="day")),
        "names": pd.DataFrame({"a": [1, 2], "index": [3, 4]}, index=["x", "y"]),
        "numbers as names": pd.DataFrame(np.arange(6.0).reshape(2, 3)),
        "several levels of names": pd.DataFrame(
            [[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])
        ),
        "a name of names": pd.DataFrame({"a": [1]}).rename_axis(columns="n"),
    }


def _trees() -> dict[str, Any]:
    """Return frames that Arrow has not exactly."""
    rows = pd.MultiIndex.from_tuples([(1, "b"), (2, "c")], names=["i", None])
    return {
        "mixed": pd.DataFrame({"a": [1, "x"]}),
        "same names": pd.DataFrame([[1, 2]], columns=["a", "a"]),
        "complex": pd.DataFrame({"a": [1j]}),
        "periods": pd.DataFrame({"a": pd.period_range("2020", periods=1)}),
        "intervals": pd.DataFrame({"a": [1]}, index=pd.interval_range(0, 1)),
        "sparse": pd.DataFrame({"a": pd.arrays.SparseArray([0, 1, 0])}),
        "dates": pd.DataFrame({"a": [dt.date(2020, 1, 1)]}),
        "dictionaries": pd.DataFrame({"a": [{"k": 1}, None]}),
        "several levels of rows": pd.DataFrame({"a": [1, 2]}, index=rows),
        "no columns": pd.DataFrame(index=[1, 2]),
        "nothing": pd.DataFrame(),
        "halves of a pair": pd.DataFrame({"a": ["\ud800"]}, dtype=object),
        "other missing ones": pd.DataFrame({"a": ["x", None, np.nan]}, dtype=object),
        "categories of intervals": pd.DataFrame({"a": pd.Categorical(pd.interval_range(0, 2))}),
        "names that look alike": pd.DataFrame([[1, 2]], columns=pd.Index([1, "1"], dtype=object)),
    }


TABLES = {name: pd.DataFrame(columns) for name, columns in _tables().items()} | _labelled()


def _equal(one: Any, other: Any) -> None:
    pd.testing.assert_frame_equal(one, other, check_exact=True, check_freq=True, check_column_type=True)
    assert type(one.index) is type(other.index)
    assert type(one.columns) is type(other.columns)
    for column, same in zip(one.dtypes, other.dtypes, strict=True):
        assert repr(column) == repr(same)
        assert getattr(column, "storage", None) == getattr(same, "storage", None)


@pytest.mark.parametrize("frame", TABLES.values(), ids=TABLES)
def test_tables_come_back_exactly(frame: Any, there_and_back: Back) -> None:
    assert to_bytes(frame)[0] == "arrow"
    _equal(there_and_back(frame, trusted=False), frame)


@pytest.mark.parametrize("frame", _trees().values(), ids=_trees())
def test_what_arrow_has_not_comes_back_exactly(frame: Any, there_and_back: Back) -> None:
    assert to_bytes(frame)[0] == "json/1"
    _equal(there_and_back(frame, trusted=False), frame)


def test_golden_bytes() -> None:
    _, data = to_bytes(pd.DataFrame({"a": np.array([1, 2], "<i2")}))
    names = '{"@":["pandas:index","Index",{"@":["pandas:strings",'
    assert data.startswith(b"ARROW1\0\0")
    assert data.endswith(b"ARROW1")
    assert names.encode() in data or b'["a"]' in data
    assert b'{"@":["pandas:range",0,2,1,[null]]},[{"@":["pandas:column",0,["numpy","<i2"]]}]' in data


def test_no_version_is_in_it() -> None:
    _, data = to_bytes(TABLES["plain"])
    for library in (pd, pa, np):
        assert library.__version__.encode() not in data
    assert b"creator" not in data


def test_other_programs_read_it(tmp_path: Path) -> None:
    with (tmp_path / "table").open("wb") as stream:
        write_value(TABLES["plain"], stream.write)
    table = pa.ipc.open_file(tmp_path / "table").read_all()
    assert table.column_names == ["a", "b", "c", "d"]
    assert table["c"].to_pylist() == ["x", None]


def test_attributes_and_flags(there_and_back: Back) -> None:
    frame = pd.DataFrame({"a": [1]}).set_flags(allows_duplicate_labels=False)
    frame.attrs = {"units": ("m", 1)}
    loaded = there_and_back(frame)
    assert loaded.attrs == {"units": ("m", 1)}
    assert not loaded.flags.allows_duplicate_labels
    assert to_bytes(frame) != to_bytes(pd.DataFrame({"a": [1]}))


def test_how_a_frame_was_made_does_not_count() -> None:
    frame = pd.DataFrame({"a": [1, 2, 3], "b": ["x", "y", None], "c": pd.Categorical(["u", "v", "u"])})
    parts = pd.concat([frame.iloc[:1], frame.iloc[1:]])
    longer = pd.concat([frame, frame]).iloc[:3]
    apart = frame[["a"]].copy()
    for name in ("b", "c"):
        apart[name] = frame[name]
    longer.index = parts.index = pd.RangeIndex(3)
    for other in (parts, longer, apart, frame.copy(), pd.DataFrame(dict(frame.items()))):
        assert to_bytes(other) == to_bytes(frame)


def test_what_lies_under_what_is_missing_does_not_count() -> None:
    one, other = pd.array([1, 2, 3], "Int64"), pd.array([1, 99, 3], "Int64")
    one[1] = other[1] = None
    assert to_bytes(pd.DataFrame({"a": one})) == to_bytes(pd.DataFrame({"a": other}))
    assert to_bytes(one) == to_bytes(other)


def test_what_is_no_number_is_not_what_is_missing(there_and_back: Back) -> None:
    values = pd.arrays.FloatingArray(np.array([np.nan, 1.0, 0.0]), np.array([False, False, True]))
    for value in (values, pd.DataFrame({"a": values})):
        loaded = there_and_back(value)
        column = loaded if value is values else loaded["a"].array
        assert column._mask.tolist() == [False, False, True]
        assert math.isnan(column._data[0])


def test_numbers_keep_their_bits(there_and_back: Back) -> None:
    odd = struct.unpack(">d", bytes.fromhex("fff8000000000001"))[0]
    frame = pd.DataFrame({"a": np.array([odd, -0.0, math.nan])})
    assert there_and_back(frame)["a"].to_numpy().tobytes() == frame["a"].to_numpy().tobytes()


def test_labels_count() -> None:
    frame = pd.DataFrame({"a": [1, 2]})
    others = [
        *(frame.rename(columns={"a": "b"}), frame.rename_axis("i"), frame.set_axis([5, 6]), frame[::-1]),
        *(
            frame.astype("int32"),
            frame.astype(object),
            frame.astype("Int64"),
            frame["a"],
            frame[["a"]].astype(float),
        ),
    ]
    assert len({to_bytes(one) for one in [frame, *others]}) == 10


def test_series_come_back_exactly(there_and_back: Back) -> None:
    for series, kind in (
        (pd.Series([1, 2], name="q"), "arrow"),
        (pd.Series([], dtype="f8"), "arrow"),
        (pd.Series(["a", None], name=("x", 1)), "arrow"),
        (pd.Series([1, "x"]), "json/1"),
    ):
        assert to_bytes(series)[0] == kind
        pd.testing.assert_series_equal(there_and_back(series, trusted=False), series, check_exact=True)


def _others() -> list[Any]:
    paris = pd.Timestamp("2020-10-25 00:30", tz="UTC").tz_convert("Europe/Paris")
    return [
        *(pd.Index([1, 2]), pd.RangeIndex(3, name="x"), pd.date_range("2020", periods=3, tz="UTC", name=1)),
        *(
            pd.Index(["a", None]),
            pd.Index([1, "a"]),
            pd.CategoricalIndex(["a"]),
            pd.MultiIndex.from_product([[1], ["a"]]),
        ),
        *(
            pd.period_range("2020", periods=2, freq="M"),
            pd.interval_range(0, 2),
            pd.to_timedelta([1, None], unit="s"),
        ),
        *(
            pd.Timestamp("2020-01-01"),
            paris,
            paris + pd.Timedelta(hours=1),
            pd.Timestamp(1),
            pd.Timedelta(1),
            pd.NaT,
        ),
        *(pd.NA, pd.Period("2020", "M"), pd.Interval(0, 1), pd.array([1, None]), pd.Categorical(["a"])),
        *(
            pd.CategoricalDtype(["a"], True),
            pd.StringDtype(),
            pd.Int64Dtype(),
            pd.array(pd.to_datetime(["2020"])),
        ),
        *(
            pd.array(["a", None], "string"),
            pd.DatetimeTZDtype("ns", "UTC"),
            pd.arrays.SparseArray([0, 0, 1.5]),
        ),
    ]


@pytest.mark.parametrize("value", _others(), ids=lambda one: type(one).__name__)
def test_other_objects_of_pandas(value: Any, there_and_back: Back) -> None:
    loaded = there_and_back(value, trusted=False)
    assert repr(loaded) == repr(value)
    assert getattr(loaded, "freq", None) == getattr(value, "freq", None)
    if isinstance(value, pd.Timestamp):
        assert (loaded.unit, loaded.fold, loaded.tz) == (value.unit, value.fold, value.tz)


def test_offsets_are_objects_like_others(there_and_back: Back) -> None:
    days = pd.date_range("2020", periods=3, freq=pd.offsets.CustomBusinessDay(weekmask="Mon Tue"))
    assert there_and_back(days).freq == days.freq


def test_frames_inside_of_something(there_and_back: Back) -> None:
    value = {"a": TABLES["plain"], "b": [pd.DataFrame({"x": [1, "y"]})]}
    assert to_bytes(value)[0] == "parts/1"
    _equal(there_and_back(value)["a"], value["a"])


def test_frames_are_hashed_without_a_copy() -> None:
    frame = pd.DataFrame({name: np.arange(1 << 20, dtype="f8") for name in "abcd"})
    frame["t"] = pd.array(["text"], "string[pyarrow]").repeat(1 << 20)
    identify(frame[:5])
    tracemalloc.start()
    try:
        identify(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_columns_of_a_file_are_mapped(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(1 << 18, dtype="f8"), "b": np.arange(1 << 18)})
    with (tmp_path / "value").open("wb") as stream:
        kind = write_value(frame, stream.write)
    before = (tmp_path / "value").read_bytes()
    tracemalloc.start()
    try:
        loaded = load(kind, tmp_path / "value")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20
    loaded.loc[0, "a"] = 5.0
    loaded["b"] += 1
    assert (tmp_path / "value").read_bytes() == before


def test_tables_of_others_are_data() -> None:
    _, data = to_bytes(TABLES["plain"])
    for broken in (data[:100], data[100:], data.replace(b"pandas:column", b"pandas:colurn"), b"", b"ARROW1"):
        with pytest.raises(InvalidValue, match="cannot be read"):
            load("arrow", broken)
    with pytest.raises(InvalidValue, match="cannot be read"):
        load("arrow", data.replace(b'["numpy","<f8"]', b'["numpy","<i8"]'))


def test_bytes_are_the_same_in_another_process(
    tmp_path: Path, in_process: Callable[[int, Path, Any], list[Any]]
) -> None:
    code = """
import numpy as np, pandas as pd
frame = pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["u", "v"])}, index=["p", "q"])
frame.attrs = {"set": {"delta", "alpha", "charlie"}}
values = [frame, frame.T, frame.dtypes.astype(str)]
"""
    one, other = in_process(1, tmp_path, ("write", code)), in_process(2, tmp_path, ("write", code))
    assert one == other
    assert in_process(3, tmp_path, ("read", one)) == one
