"""``json/1``: plain data and what the standard library has beside it."""

from __future__ import annotations

import collections
import datetime as dt
import json
import math
import pathlib
import struct
import sys
import types
import uuid
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from seamless_dask.errors import InvalidValue, NotAValue
from seamless_dask.values.loading import load
from seamless_dask.values.tree import collected
from seamless_dask.values.writing import checksum_of, encode, identify, to_bytes

Back = Callable[..., Any]

GOLDEN: list[tuple[Any, str, str]] = [
    ("é", "text", "é"),
    (b"\0", "bytes", "\0"),
    ([1, 1.0, True, None, "é"], "json/1", '[1,1.0,true,null,"é"]'),
    ({"b": 1, "a": [-0.0]}, "json/1", '{"b":1,"a":[-0.0]}'),
    ((1, ()), "json/1", '{"@":["tuple",[1,{"@":["tuple",[]]}]]}'),
    ({3, 1, 2}, "json/1", '{"@":["set",[1,2,3]]}'),
    (frozenset({"b", (1,)}), "json/1", '{"@":["frozenset",["b",{"@":["tuple",[1]]}]]}'),
    (math.inf, "json/1", '{"@":["float","7ff0000000000000"]}'),
    (math.nan, "json/1", '{"@":["float","7ff8000000000000"]}'),
    (1j, "json/1", '{"@":["complex",0.0,1.0]}'),
    ({1: "a"}, "json/1", '{"@":["dict",[[1,"a"]]]}'),
    ({"@": 1}, "json/1", '{"@":["dict",[["@",1]]]}'),
    ([b"x"], "json/1", '[{"@":["bytes","eA=="]}]'),
    ("\ud800", "json/1", '{"@":["text","eda080"]}'),
    (range(3), "json/1", '{"@":["range",0,3,1]}'),
    (slice(1, None), "json/1", '{"@":["slice",1,null,null]}'),
    (2**1024, "json/1", '{"@":["int","1' + "0" * 256 + '"]}'),
    (dt.date(2020, 1, 2), "json/1", '{"@":["standard:date","2020-01-02"]}'),
    (
        dt.datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Paris")),
        "json/1",
        '{"@":["standard:datetime","2020-10-25T02:30:00.000000",1,{"@":["standard:zone","Europe/Paris"]}]}',
    ),
    (Decimal("-0E+3"), "json/1", '{"@":["standard:decimal",1,"0",3]}'),
    (Fraction(1, 3), "json/1", '{"@":["standard:fraction",1,3]}'),
    (pathlib.PurePosixPath("/a"), "json/1", '{"@":["standard:path","PurePosixPath","/a"]}'),
]


@pytest.mark.parametrize(("value", "kind", "text"), GOLDEN)
def test_golden_bytes(value: Any, kind: str, text: str) -> None:
    assert to_bytes(value) == (kind, text.encode())


def test_golden_checksum() -> None:
    assert identify([1, 2]) == (
        "json/1",
        "49a64717d5d4cb19952e6eac2946415cf6879adacf9908e7d872332d32c6e684",
    )
    assert checksum_of([1, 2]) == identify([1, 2])[1]


def test_text_of_a_list_is_not_the_list() -> None:
    assert to_bytes("[1]") == ("text", b"[1]")
    assert to_bytes([1]) == ("json/1", b"[1]")


VALUES: list[Any] = [
    *(None, True, 0, -1, 2**62, 10**400, -(10**400), 0.1, -0.0, math.inf, -math.inf, 1e-320, 1e16),
    *(
        "",
        "a",
        "\0",
        "😀",
        "\ud83d\ude00",
        "\x7f\u2028",
        "@",
        [],
        {},
        (),
        set(),
        frozenset(),
        b"",
        bytearray(b"x"),
    ),
    *(
        [[]],
        [[1.5, math.nan]],
        {"a": {"b": (1, {2})}},
        {None: 1, 1.5: 2, (1, "a"): 3, b"x": 4},
        {"@": {"@": 1}},
    ),
    *({"\ud800": 1}, {1: "\udfff"}, complex(-0.0, math.nan), range(5, 0, -2), slice("a", (1,), None), ...),
    *(NotImplemented, {(1, 2), "b", None}, {frozenset({1}), frozenset()}),
    *(
        dt.date.min,
        dt.time(1, 2, 3, 4),
        dt.time(fold=1, tzinfo=dt.UTC),
        dt.timedelta(-1, 2, 3),
        dt.datetime.max,
    ),
    *(
        dt.timezone(dt.timedelta(hours=1)),
        dt.timezone(dt.timedelta(0), "UTC"),
        dt.UTC,
        ZoneInfo("Asia/Kolkata"),
    ),
    *(Decimal("NaN123"), Decimal("-sNaN"), Decimal("-Infinity"), Decimal("1.50"), Decimal(10) ** 5000),
    *(
        Fraction(-1, 10**400),
        uuid.UUID(int=5),
        uuid.uuid1(),
        pathlib.Path("a/\udcff"),
        pathlib.PureWindowsPath("c:\\"),
    ),
    *(collections.OrderedDict(b=1, a=2), collections.Counter("aab"), collections.deque([1, (2,)], 5)),
    collections.defaultdict(list, a=[1]),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda one: type(one).__name__)
def test_comes_back_from_anywhere(value: Any, there_and_back: Back) -> None:
    loaded = there_and_back(value, trusted=False)
    assert loaded == value if isinstance(value, set) else repr(loaded) == repr(value)


def test_large_integers_are_exact_whatever_python_reads(there_and_back: Back) -> None:
    value = [10**10_000, -(7**9_000), 1]
    assert there_and_back(value) == value
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert there_and_back([2**1024 - 1]) == [2**1024 - 1]
    finally:
        sys.set_int_max_str_digits(limit)


def test_each_not_a_number_keeps_its_bits(there_and_back: Back) -> None:
    other = struct.unpack(">d", bytes.fromhex("fff8000000000001"))[0]
    assert struct.pack(">d", there_and_back(other)).hex() == "fff8000000000001"
    assert to_bytes(other) != to_bytes(math.nan)


def test_keys_that_are_not_a_number_stay_apart(there_and_back: Back) -> None:
    assert [*there_and_back({float("nan"): 1, float("nan"): 2}).values()] == [1, 2]


def test_halves_of_a_pair_are_not_the_pair(there_and_back: Back) -> None:
    assert there_and_back(["\ud83d\ude00"]) == ["\ud83d\ude00"]
    assert to_bytes(["\ud83d\ude00"]) != to_bytes(["\U0001f600"])


def test_the_order_of_keys_is_kept(there_and_back: Back) -> None:
    assert list(there_and_back({"b": 1, "a": 2})) == ["b", "a"]
    assert to_bytes({"b": 1, "a": 2}) != to_bytes({"a": 2, "b": 1})


def test_decimals_do_not_depend_on_the_context() -> None:
    expected = to_bytes(Decimal("1E+50"))
    with localcontext() as context:
        context.capitals, context.prec = 0, 1
        assert to_bytes(Decimal("1E+50")) == expected


def test_values_that_compare_equal_are_different_ones() -> None:
    equal = [
        1,
        1.0,
        True,
        Decimal(1),
        Fraction(1),
        1 + 0j,
        "1",
        b"1",
        [1],
        (1,),
        {1},
        frozenset({1}),
        -0.0,
        0.0,
    ]
    assert len({to_bytes(value) for value in equal}) == len(equal)


def test_aliases_are_no_part_of_a_value() -> None:
    one = [1]
    assert to_bytes([one, one]) == to_bytes([[1], [1]])


def test_large_bytes_stand_beside_the_tree(there_and_back: Back) -> None:
    value = {"small": b"x" * 65_535, "large": b"y" * 65_536, "other": bytearray(70_000)}
    assert to_bytes(value)[0] == "parts/1"
    assert there_and_back(value, trusted=False) == value


def test_parts_are_aligned_for_mapping() -> None:
    _, data = to_bytes([b"y" * 65_537, b"z" * 65_536])
    assert data.index(b"y") % 64 == 0
    assert data.index(b"z") % 64 == 0
    assert data[:17] == b"seamless parts/1\n"
    assert int.from_bytes(data[-8:], "little") == len(data) - 8 - data.index(b'{"parts"')


def test_what_contains_itself_is_refused_in_one_line() -> None:
    value: dict[str, Any] = {"a": [1]}
    value["a"].append(value)
    with pytest.raises(NotAValue, match=r"^argument 'x'\['a'\]\[1\] contains itself$"):
        to_bytes(value, "argument 'x'")


def test_messages_are_one_line_that_moves_no_cursor() -> None:
    value: list[Any] = []
    value.append({"\x1b[2J": value, "a\nb": 1})
    with pytest.raises(NotAValue) as raised:
        to_bytes(value, "argument '\x1b\n'")
    assert str(raised.value).isprintable()
    with pytest.raises(InvalidValue) as invalid:
        load("json/1", b'{"@":["standard:zone","\\u001b[2J\\n"]}')
    assert str(invalid.value).isprintable()


def test_what_is_nested_too_deep_is_refused_in_one_line() -> None:
    value: Any = []
    for _ in range(2000):
        value = [value]
    with pytest.raises(NotAValue, match=r"nested more than 100 deep$"):
        to_bytes(value)


def test_the_deepest_can_be_loaded(there_and_back: Back) -> None:
    value: Any = [0.5, None]
    for number in range(97):
        value = {number: value} if number % 2 else (value, {number})
    there_and_back(value)


class Later:
    """What a transformation is to a tree: an input of its own."""

    def __init__(self, key: str) -> None:
        self.key = key


def _hole(value: Any) -> str | None:
    return value.key if isinstance(value, Later) else None


def test_what_is_left_out_is_a_number_and_an_input() -> None:
    one, two = Later("one"), Later("two")
    encoded = encode({"a": [one, two, 1], "b": Later("one")}, hole=_hole)
    data = collected(encoded.write)
    assert data == b'{"a":[{"@":["hole",0]},{"@":["hole",1]},1],"b":{"@":["hole",0]}}'
    assert [one.key for one in encoded.holes.values()] == ["one", "two"]
    assert load(encoded.format, data, holes=[5, 6]) == {"a": [5, 6, 1], "b": 5}


def test_what_is_left_out_of_a_set_is_numbered_by_its_key() -> None:
    def text(*keys: str) -> tuple[bytes, list[str]]:
        encoded = encode({Later(key) for key in keys} | {1}, hole=_hole)
        return collected(encoded.write), [one.key for one in encoded.holes.values()]

    results = [text("c", "a", "b") for _ in range(20)]
    assert all(result == results[0] for result in results)
    assert results[0][1] == ["a", "b", "c"]


def test_what_is_left_out_is_in_no_table() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": [1]})
    frame.attrs = {"from": Later("one")}
    encoded = encode([Later("one"), frame], hole=_hole)  # it is known before the frame is met
    first, loaded = load(encoded.format, collected(encoded.write), holes=[5])
    assert (first, loaded.attrs) == (5, {"from": 5})


def test_what_is_left_out_is_in_no_pickle() -> None:
    node = types.SimpleNamespace(later=Later("one"))
    node.first = node
    with pytest.raises(
        NotAValue, match=r"contains itself, with a transformation inside: pass that by itself$"
    ):
        encode(node, hole=_hole)


def test_a_long_list_of_plain_data_is_json() -> None:
    value = [{"name": "a", "values": [0.5] * 3}] * 1000
    assert json.loads(to_bytes(value)[1]) == value
