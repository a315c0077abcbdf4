"""The journal of those who ask, and files that are not as they should be."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hashserver.checksum import Checksum
from seamless_dask.jobs import journal
from seamless_dask.jobs.journal import Journal
from seamless_dask.jobs.request import JobRequest
from seamless_dask.model.options import Options

ONE = JobRequest(Checksum("1" * 64), Options(cpus=2), need_bytes=True, asker="one")
TWO = JobRequest(Checksum("2" * 64), asker="two")
END = {"value": ["file", "3" * 64]}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / journal.FILE)


def written(path: str) -> None:
    with closing(Journal(path)) as file:
        file.add([ONE, TWO])
        file.end(["two"], END)


def test_it_is_as_it_was_after_a_restart(path: str) -> None:
    written(path)
    with closing(Journal(path)) as file:
        assert file.load() == [(ONE, None), (TWO, END)]
        assert file.find("one") is None
        assert file.find("two") == (TWO, END)
        assert file.find("three") is None


def test_nobody_else_may_read_it(path: str) -> None:
    written(path)
    assert Path(path).stat().st_mode & 0o777 == 0o600


def test_a_damaged_one_is_put_aside(path: str, caplog: pytest.LogCaptureFixture) -> None:
    Path(path).write_bytes(b"this is no database at all\n" * 1000)
    with closing(Journal(path)) as file:
        file.add([ONE])
        assert file.load() == [(ONE, None)]
    assert "it is kept as" in caplog.text
    assert Path(f"{path}.damaged").exists()


def test_what_another_version_has_written_is_skipped(path: str, caplog: pytest.LogCaptureFixture) -> None:
    written(path)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("""UPDATE askers SET options = '{"unheard-of":1}' WHERE asker = 'one'""")
    with closing(Journal(path)) as again:
        assert again.load() == [(TWO, END)]
    assert "what one has asked for is forgotten" in caplog.text


def test_a_full_disk_stops_nobody_and_is_said_once(path: str, caplog: pytest.LogCaptureFixture) -> None:
    with closing(Journal(path)) as file:
        file._file.execute("PRAGMA max_page_count=1")
        many: list[Any] = [ONE._replace(asker=f"asker-{number}") for number in range(1000)]
        file.add(many)
        file.add(many)
        assert caplog.text.count("a restart would forget who has asked since") == 1
        assert file.load() == []
        file._file.execute("PRAGMA max_page_count=100000")
        file.add(many)
        assert len(file.load()) == 1000


def test_one_that_somebody_holds_stops_nobody(
    path: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "LOCK_SECONDS", 0.05)
    written(path)
    with closing(Journal(path)) as file, closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        file.remove(["one"])
        other.execute("ROLLBACK")
        assert "is locked" in caplog.text
        file.remove(["one"])
        assert file.load() == [(TWO, END)]
