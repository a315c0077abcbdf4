"""The short one of what ``scripts/soak`` does for half an hour."""

from __future__ import annotations

from pathlib import Path

import pytest

from .soak import soak


@pytest.mark.timeout(300)
def test_nothing_is_lost_wrong_hung_or_left_while_parts_die(tmp_path: Path) -> None:
    report = soak(tmp_path, 22.0, seed=7)
    assert not report.faults, str(report)
    assert report.deaths
    assert report.runs
