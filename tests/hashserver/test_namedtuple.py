"""Our named tuples are those of `typing` to whoever uses them."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest

from hashserver.namedtuple import NamedTuple


class Ours(NamedTuple):
    """A class."""

    name: str
    size: int = 0
    parts: tuple[str, ...] = ()

    @property
    def double(self) -> int:
        return 2 * self.size


class Theirs(typing.NamedTuple):
    """A class."""

    name: str
    size: int = 0
    parts: tuple[str, ...] = ()

    @property
    def double(self) -> int:
        return 2 * self.size


@pytest.mark.parametrize("kind", [Ours, Theirs])
def test_what_a_named_tuple_does(kind: type[typing.Any]) -> None:
    one = kind("a", parts=("x",))
    assert one == ("a", 0, ("x",)) == kind("a", 0, ("x",)) == kind(parts=("x",), name="a")
    assert (one.name, one.size, one.parts, one.double) == ("a", 0, ("x",), 0)
    assert repr(one) == f"{kind.__name__}(name='a', size=0, parts=('x',))"
    assert one._replace(size=4).double == 8
    assert one._asdict() == {"name": "a", "size": 0, "parts": ("x",)}
    assert kind._make(["a", 0, ("x",)]) == one
    assert kind._fields == kind.__match_args__ == ("name", "size", "parts")
    assert kind._field_defaults == {"size": 0, "parts": ()}
    for same in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert (same, type(same)) == (one, kind)
    assert isinstance(one, tuple)
    assert hash(one) == hash(("a", 0, ("x",)))
    assert not hasattr(one, "__dict__")
    match one:
        case kind(name, size):
            assert (name, size) == ("a", 0)


@pytest.mark.parametrize("kind", [Ours, Theirs])
def test_what_it_does_not_take(kind: type[typing.Any]) -> None:
    for values, named in (
        ((), {}),
        (("a", 1, (), 2), {}),
        (("a",), {"name": "b"}),
        (("a",), {"colour": 1}),
        ((), {"size": 1}),
    ):
        with pytest.raises(TypeError):
            kind(*values, **named)
    with pytest.raises(AttributeError):
        kind("a").name = "b"
    with pytest.raises((ValueError, TypeError)):  # which one depends on the release of Python
        kind("a")._replace(colour=1)
