"""Arrays and scalars of NumPy: type, bits, memory order and byte order."""

from __future__ import annotations

import base64
import hashlib
import json
import mmap
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seamless_dask.errors import InvalidValue, WeakIdentity
from seamless_dask.values.loading import load
from seamless_dask.values.writing import identify, to_bytes, write_value

Back = Callable[..., Any]


def test_golden_bytes() -> None:
    header = "{'descr': '<i2', 'fortran_order': False, 'shape': (2,), }"
    expected = b"\x93NUMPY\x01\x00\x76\x00" + header.ljust(117).encode() + b"\n" + b"\x01\x00\x02\x00"
    assert to_bytes(np.array([1, 2], "<i2")) == ("npy", expected)
    assert len(expected) == 128 + 4


def test_golden_scalar() -> None:
    kind, data = to_bytes(np.float32(1.5))
    assert (kind, data[-4:].hex()) == ("npy-scalar", "0000c03f")
    assert to_bytes([np.int8(-1)]) == ("json/1", b'[{"@":["numpy:scalar","|i1","/w=="]}]')


def test_golden_small_array_inside_something() -> None:
    array = np.zeros(2, "u1")
    text = base64.b64encode(to_bytes(array)[1]).decode()
    assert to_bytes((array,)) == ("json/1", f'{{"@":["tuple",[{{"@":["numpy:small","{text}"]}}]]}}'.encode())


def test_numpy_reads_it(tmp_path: Path) -> None:
    for array in (
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.ones((2, 3))),
        np.array([(1, "é")], "i4,U3"),
    ):
        path = tmp_path / "a.npy"
        with path.open("wb") as stream:
            write_value(array, stream.write)
        found = np.load(path, allow_pickle=False)
        assert found.dtype == array.dtype
        assert (found == array).all()


ALIGNED = np.dtype([("a", "i1"), ("b", "f8")], align=True)
OVERLAPPING = np.dtype({"names": ["a", "b"], "formats": ["<i4", "<i2"], "offsets": [0, 2]})
TITLED = np.dtype([(("title", "a"), "i4"), ("ü", "f4", (2, 2))])
NESTED = np.dtype([("a", [("x", "g"), ("y", ">i2")]), ("o", "i1")])

PLAIN: list[Any] = [
    *(
        np.zeros((0, 3)),
        np.array(5),
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    ),
    *(np.array([np.nan, -0.0, np.inf]), np.array([1, 2], ">i4"), np.array(["a", "bc"]), np.array([b"x\0y"])),
    *(np.array(["2020-01-01", "NaT"], "M8[ns]"), np.array([5], "m8[25s]"), np.array([1j]), np.array([True])),
    *(
        np.zeros(2, "i1,f8"),
        np.zeros(2, TITLED),
        np.zeros(2, NESTED),
        np.zeros(3, "V5"),
        np.array([1, 2], "g"),
    ),
]
TREES: list[Any] = [
    *(
        np.zeros(3, ALIGNED),
        np.zeros(2, OVERLAPPING),
        np.array([1, "a", [2], None], object),
        np.array(None, object),
    ),
    *(
        np.array([[1, 2], [3, "x"]], object, order="F"),
        np.zeros(2, [("a", "i1"), ("o", "O")]),
        np.zeros(2, "V0"),
    ),
    *(np.array([1], "q"), np.zeros((3, 2), np.dtype("i4", metadata={"a": 1})), np.zeros(2, np.dtype([]))),
]
OTHERS: list[Any] = [
    *(np.ma.masked_array([1.5, 2.5], [0, 1], fill_value=7.0, hard_mask=True), np.ma.masked_array([1, 2])),
    *(np.ma.array([(1, 2.0)], "i4,f8", mask=[(1, 0)]), np.array([[1, 2]]).view(np.matrix), np.ma.masked),
    *(
        np.rec.array([(1, 2.0)], [("a", "i4"), ("b", "f8")]),
        np.char.array(["a", "b"]).view(np.char.chararray),
    ),
]


@pytest.mark.parametrize("array", PLAIN, ids=lambda one: one.dtype.str)
def test_npy_comes_back_exactly(array: Any, there_and_back: Back) -> None:
    assert to_bytes(array)[0] == "npy"
    loaded = there_and_back(array, trusted=False)
    _same(loaded, array)
    assert loaded.flags.writeable


@pytest.mark.parametrize("array", [*TREES, *OTHERS], ids=lambda one: type(one).__name__)
def test_what_npy_cannot_say_comes_back_exactly(array: Any, there_and_back: Back) -> None:
    assert to_bytes(array)[0] == "json/1"
    _same(there_and_back(array), array)


def _same(one: Any, other: Any) -> None:
    assert repr(one.dtype) == repr(other.dtype)
    assert one.dtype.isalignedstruct == other.dtype.isalignedstruct
    assert one.dtype.char == other.dtype.char
    assert one.dtype.metadata == other.dtype.metadata
    assert one.shape == other.shape
    assert one.flags.fnc == other.flags.fnc
    assert repr(one) == repr(other)


def test_arrays_of_text_of_any_length(there_and_back: Back) -> None:
    if not hasattr(np.dtypes, "StringDType"):
        pytest.skip("before NumPy 2")
    for missing in ({}, {"na_object": None}, {"na_object": float("nan")}):
        array = np.array(["a", "long" * 100, ""], np.dtypes.StringDType(coerce=False, **missing))
        loaded = there_and_back(array)
        assert loaded.dtype.coerce is False
        assert hasattr(loaded.dtype, "na_object") == bool(missing)
        assert loaded.tolist() == array.tolist()


def test_a_mask_is_never_lost(there_and_back: Back) -> None:
    masked = np.ma.masked_array([1, 2, 3], [False, True, False])
    loaded = there_and_back({"a": masked})["a"]
    assert type(loaded) is np.ma.MaskedArray
    assert loaded.mask.tolist() == [False, True, False]
    assert loaded.data.tolist() == [1, 2, 3]
    assert to_bytes(masked) != to_bytes(masked.data)
    assert there_and_back(np.ma.masked) is np.ma.masked


def test_looking_at_a_masked_array_changes_nothing() -> None:
    for array in (np.ma.masked_array([1, 2], [0, 1]), np.ma.masked_array([1.5]), np.ma.zeros(2, "i4,U3")):
        before = to_bytes(array)
        assert repr(array)
        assert array.fill_value is not None
        assert to_bytes(array) == before


def test_a_map_comes_back_as_one(tmp_path: Path, there_and_back: Back) -> None:
    np.save(tmp_path / "a.npy", np.arange(5))
    array = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert there_and_back(array).tolist() == [0, 1, 2, 3, 4]
    assert to_bytes(array) != to_bytes(np.arange(5))


def test_scalars_keep_their_type(there_and_back: Back) -> None:
    scalars: list[Any] = [
        *(np.float64(1), np.float16(-0.0), np.int64(1), np.uint8(1), np.bool_(True), np.complex64(1j)),
        *(
            np.longdouble(1) / 3,
            np.datetime64("2020-01-01"),
            np.timedelta64(5, "s"),
            np.str_("a"),
            np.bytes_(b"a\0b"),
        ),
        *(
            np.zeros(1, "i1,f8")[0],
            np.zeros(1, ALIGNED)[0],
            np.rec.array([(1, 2.0)], "i4,f8")[0],
            np.longlong(3),
        ),
    ]
    for scalar in scalars:
        for value in (scalar, [scalar]):
            loaded = there_and_back(value)
            loaded = loaded[0] if isinstance(value, list) else loaded
            assert type(loaded) is type(scalar)
            assert loaded.dtype == scalar.dtype
            assert loaded == scalar


def test_five_values_that_compare_equal() -> None:
    import signal

    class Level(int):
        pass

    equal = [
        1,
        1.0,
        True,
        signal.Signals(1),
        np.int64(1),
        np.int32(1),
        np.float64(1),
        np.array(1),
        np.array([1]),
    ]
    assert len({to_bytes(value) for value in equal}) == len(equal)


def test_what_is_contiguous_in_no_order_equals_its_copy() -> None:
    array = np.arange(24.0).reshape(4, 6)
    for view in (array[::2], array[:, ::2], array[::-1], array.T[::2], np.broadcast_to(np.arange(3), (4, 3))):
        assert to_bytes(view) == to_bytes(view.copy())


def test_memory_order_and_byte_order_count() -> None:
    array = np.arange(6.0).reshape(2, 3)
    assert (
        len({to_bytes(one) for one in (array, np.asfortranarray(array), array.astype(">f8"), array.T)}) == 4
    )


def test_what_can_be_written_to_does_not_count() -> None:
    array = np.arange(3)
    array.flags.writeable = False
    assert to_bytes(array) == to_bytes(np.arange(3))


def test_strided_arrays_are_written_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from seamless_dask.values import npy

    array = np.arange(5 * 7 * 11).reshape(5, 7, 11)[:, ::2, ::-1]
    expected = to_bytes(array)
    for chunk in (1, 8, 50, 400, 10_000):
        monkeypatch.setattr(npy, "_CHUNK", chunk)
        assert to_bytes(array) == expected


def test_padding_is_zeros() -> None:
    for dtype in (
        np.dtype({"names": ["a", "b"], "formats": ["i1", "f8"], "offsets": [0, 8]}),
        np.dtype(
            [("x", {"names": ["a", "b"], "formats": ["i1", "i4"], "offsets": [0, 4]}, (2,)), ("y", "i1")]
        ),
        np.dtype("g"),
        np.dtype("G"),
    ):
        clean, dirty = np.zeros(3, dtype), np.zeros(3, dtype)
        for name in dtype.names or ():
            clean[name] = dirty[name] = np.ones((), dtype[name])
        before = to_bytes(dirty)
        raw = dirty.view("u1").reshape(3, -1)
        mask = _padding(dtype)
        assert mask.any()
        raw[:, mask] = 7
        assert (dirty == clean).all()
        assert to_bytes(dirty) == to_bytes(clean) == before
        assert to_bytes(dirty[::2]) == to_bytes(clean[::2])


def _padding(dtype: Any) -> Any:
    if dtype.char in "gG":
        size = dtype.itemsize // (2 if dtype.char == "G" else 1)
        return np.arange(dtype.itemsize) % size >= 10
    used = np.zeros(1, dtype).view("u1")
    for name in dtype.names:
        field, offset = dtype.fields[name][:2]
        if field.subdtype is not None:
            inner, (count,) = field.subdtype
            for number in range(count):
                start = offset + number * inner.itemsize
                used[start : start + inner.itemsize] = ~_padding(inner)
        else:
            used[offset : offset + field.itemsize] = 1
    return used == 0


def test_arrays_are_hashed_without_a_copy() -> None:
    array = np.arange(1 << 21, dtype="f8")
    sent: list[memoryview] = []
    write_value(array, lambda data: sent.append(memoryview(data)))
    assert np.shares_memory(np.frombuffer(sent[-1], "u1"), array)
    tracemalloc.start()
    try:
        _, checksum = identify({"a": array, "b": [array[::2]]})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 << 20 < array.nbytes + 4
    assert checksum == hashlib.sha256(to_bytes({"a": array, "b": [array[::2]]})[1]).hexdigest()


def test_a_file_is_mapped_and_not_changed(tmp_path: Path) -> None:
    array = np.arange(1 << 18, dtype="f8")
    for value, pick in ((array, lambda one: one), ({"a": array}, lambda one: one["a"])):
        path = tmp_path / "value"
        with path.open("wb") as stream:
            kind = write_value(value, stream.write)
        before = path.read_bytes()
        loaded = pick(load(kind, path))
        assert type(loaded) is np.ndarray
        assert isinstance(_owner(loaded), mmap.mmap)
        loaded[:] = 0
        assert path.read_bytes() == before
        assert pick(load(kind, os.fspath(path))).sum() == array.sum()


def test_a_file_larger_than_memory_is_mapped(tmp_path: Path) -> None:
    count = 4 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 8
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({count},), }}\n".encode()
    with (tmp_path / "value").open("wb") as stream:
        stream.write(b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text)
        try:
            stream.truncate(stream.tell() + 8 * count)
        except OSError:
            pytest.skip("files of this file system cannot be as large")
    loaded = load("npy", tmp_path / "value")
    loaded[-1] = 5
    assert loaded[-2:].tolist() == [0, 5]


def _owner(array: Any) -> Any:
    owner = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return owner


def test_fields_that_are_named_otherwise_are_those_of_one_array() -> None:
    kind, data = to_bytes(np.zeros(2, [("a", "<i4"), ("b", "<f8")]))
    load(kind, data).dtype.names = ("x", "y")
    assert load(kind, data).dtype.names == ("a", "b")


def test_what_is_loaded_from_bytes_can_be_changed() -> None:
    kind, data = to_bytes(np.arange(3))
    loaded = load(kind, data)
    loaded[0] = 5
    assert load(kind, data)[0] == 0


@pytest.mark.parametrize(
    ("descr", "shape", "rest"),
    [
        ("'|O'", "(1,)", b"\0" * 8),
        ("'<f8'", "(1000000000000,)", b""),
        ("'<f8'", "(-1,)", b""),
        ("'<f8'", "(True,)", b"\0" * 8),
        ("'<f8'", "[1]", b"\0" * 8),
        ("'<f8'", "(2,)", b"\0" * 8),
        ("'<f8'", "(1,)", b"\0" * 16),
        ("'|S0'", "(1000000000000,)", b""),
        ("[('a', '|O')]", "(1,)", b"\0" * 8),
        ("'nonsense'", "(1,)", b"\0" * 8),
        ("__import__('os')", "(1,)", b""),
        ("(" * 5000 + ")" * 5000, "(1,)", b""),
    ],
)
def test_headers_of_others_are_data(descr: str, shape: str, rest: bytes) -> None:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    data = b"\x93NUMPY\x02\x00" + len(text).to_bytes(4, "little") + text + rest
    for kind in ("npy", "npy-scalar"):
        with pytest.raises(InvalidValue, match="cannot be read") as raised:
            load(kind, data)
        assert "\n" not in str(raised.value)


def test_a_structure_of_others_is_not_larger_than_what_is_in_it() -> None:
    fields = {"names": ["a"], "formats": ["<i1"], "offsets": [0], "titles": [None], "itemsize": 1 << 30}
    small = base64.b64encode(to_bytes(np.zeros(500, "i1"))[1]).decode()
    tag = [
        "numpy:fields",
        {**fields, "align": False, "record": False},
        [500],
        False,
        [{"@": ["numpy:small", small]}],
    ]
    with pytest.raises(InvalidValue, match="a structure with little in it"):
        load("json/1", json.dumps({"@": tag}).encode())


def test_a_subclass_of_others_is_walked(there_and_back: Back) -> None:
    class Local(np.ndarray):
        pass

    with pytest.warns(WeakIdentity):
        loaded = load(*to_bytes(np.arange(3).view(Local)), trusted=True)
    assert type(loaded) is Local


def test_random_generators_go_on_where_they_were(there_and_back: Back) -> None:
    generator = np.random.default_rng(5)
    generator.random(3)
    assert there_and_back(generator).random() == generator.random()


FIELDS = {"names": ["a"], "formats": ["|O"], "offsets": [0], "titles": [None], "itemsize": 8}


@pytest.mark.parametrize(
    "described", ["|O", "O,i8", {"coerce": True}, {**FIELDS, "align": False, "record": False}]
)
def test_bytes_of_others_become_no_references(described: Any) -> None:
    """An address that somebody wrote would be followed."""
    forged = base64.b64encode(to_bytes(np.full(32, 0x41, "u1"))[1]).decode()
    small = {"@": ["numpy:small", forged]}
    for tag in (["numpy:as", described, small], ["numpy:scalar", described, "QUFBQUFBQUE="]):
        with pytest.raises(InvalidValue, match="cannot be read"):
            load("json/1", json.dumps({"@": tag}).encode())
