"""What a worker takes for the scheduler's store."""

from __future__ import annotations

from pathlib import Path

from hashserver.storage.chain import StoreChain as Stores
from hashserver.storage.directory import LocalStore
from seamless_dask.worker.data_locations import DataLocations


def test_directory_without_the_beacon_is_not_used(tmp_path: Path) -> None:
    """A file system that is not mounted looks like an empty store, and takes what is written to it."""
    with LocalStore(str(tmp_path / "empty")) as empty, LocalStore(str(tmp_path / "real")) as real:
        beacon = real.put(b"here")
        places = DataLocations((empty.url, real.url), "results.db", beacon=beacon)
        seen = places.visible(Stores([empty, real]))
        assert isinstance(seen, Stores)
        assert seen.stores == (real,)


def test_without_a_beacon_all_places_are_believed(tmp_path: Path) -> None:
    with LocalStore(str(tmp_path / "one")) as one, LocalStore(str(tmp_path / "two")) as two:
        both = Stores([one, two])
        assert DataLocations((one.url, two.url), "results.db").visible(both) is both


def test_beacon_travels_to_the_worker() -> None:
    places = DataLocations(("/store",), "results.db", beacon="0" * 64)
    assert DataLocations.from_json(places.to_json()) == places
