from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import InvalidPack, TooLarge
from hashserver.protocol import PackReader, pack

Members = list[tuple[Checksum, bytes | None]]

members = st.lists(st.tuples(st.binary(max_size=200), st.booleans())).map(
    lambda found: [(hash_bytes(data), data if there else None) for data, there in found]
)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    stops = sorted({place % (len(data) + 1) for place in places})
    return [data[a:b] for a, b in zip([0, *stops], [*stops, len(data)], strict=True)]


def unpack(chunks: list[bytes], **options: int) -> Members:
    reader = PackReader(**options)
    found = [member for chunk in chunks for member in reader.feed(chunk)]
    reader.finish()
    return found


@given(members, st.lists(st.integers(0, 10**6)), st.integers(1, 400))
def test_a_pack_comes_apart_whatever_pieces_it_arrives_in(
    given_members: Members, places: list[int], block: int
) -> None:
    data = b"".join(pack(given_members, block))
    assert unpack(cut(data, places)) == given_members


@given(members, st.lists(st.integers(0, 10**6)), st.integers(0, 10**6))
def test_a_pack_that_is_cut_short_is_always_noticed(
    given_members: Members, places: list[int], end: int
) -> None:
    data = b"".join(pack(given_members))
    shorter = data[: end % len(data)]
    with pytest.raises(InvalidPack):
        unpack(cut(shorter, places))


@given(members, st.binary(min_size=1), st.lists(st.integers(0, 10**6)))
def test_nothing_may_follow_the_end(given_members: Members, more: bytes, places: list[int]) -> None:
    with pytest.raises(InvalidPack, match="follows"):
        unpack(cut(b"".join(pack(given_members)) + more, places))


def test_a_pack_that_lost_a_member_in_the_middle_is_noticed() -> None:
    first, second = b"first", b"second"
    whole = b"".join(pack([(hash_bytes(first), first), (hash_bytes(second), second)]))
    with pytest.raises(InvalidPack, match="says that it has 2 members, 1 arrived"):
        unpack([whole[40 + len(first) :]])


def test_a_member_over_the_limit_is_refused_before_its_bytes_arrive() -> None:
    head = hashlib.sha256(b"").digest() + (1 << 50).to_bytes(8, "big")
    with pytest.raises(TooLarge, match="1048576 bytes"):
        unpack([head], max_member=1 << 20)
