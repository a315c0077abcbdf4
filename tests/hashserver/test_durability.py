"""What several threads have synced at the same time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hashserver import durability
from hashserver.durability import sync_directories


def test_who_asks_for_what_is_gone_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stores of one process share their syncs; somebody deletes one of them."""
    began, both_wait, synced = threading.Event(), threading.Event(), []

    def sync(path: str) -> None:
        if path == "first":  # holds the turn until the others have gathered behind it
            began.set()
            assert both_wait.wait(30)
            return
        synced.append(path)
        real(path)

    real = durability.sync_directory
    monkeypatch.setattr(durability, "sync_directory", sync)
    there, gone = str(tmp_path), str(tmp_path / "gone")
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(sync_directories, ["first"])
        assert began.wait(30)
        good = threads.submit(sync_directories, [there])
        bad = threads.submit(sync_directories, [there, gone])
        while len(durability._sync_together._waiting) < 2:
            time.sleep(0.001)
        both_wait.set()
        first.result(30)
        assert good.result(30) is None
        with pytest.raises(FileNotFoundError, match="gone"):
            bad.result(30)
    assert sorted(synced) == [there, gone]
