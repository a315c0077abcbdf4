"""The configuration of a process is put together again only when something that it is made of has changed."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from seamless_dask import config_cache
from seamless_dask.config_cache import load_cached

if TYPE_CHECKING:
    from pathlib import Path

LONG_AGO = 10**9


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory of a user who has configured nothing; the current directory lies two below it."""
    for name in [name for name in os.environ if name.startswith(("SEAMLESS_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "work" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work" / "deep")
    monkeypatch.setattr(config_cache, "_cached", None)
    return tmp_path


def _users_file(home: Path, text: str) -> Path:
    """Write the user's configuration as one that has not been touched for long."""
    path = home / ".config" / "seamless" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def test_nothing_is_read_while_nothing_has_changed(home: Path) -> None:
    assert load_cached() is load_cached()


def test_a_hashserver_that_is_named_is_no_reason_to_read_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEAMLESS_HASHSERVER", "http://127.0.0.1:1")
    assert load_cached() is load_cached()
    monkeypatch.setenv("SEAMLESS_HASHSERVER", "http://127.0.0.1:2")
    assert load_cached().hashserver == "http://127.0.0.1:2"


def test_a_variable_that_is_set_or_gone_is_seen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_cached()
    monkeypatch.setenv("SEAMLESS_CACHE", str(home / "other"))
    assert load_cached().cache == str(home / "other")
    monkeypatch.delenv("SEAMLESS_CACHE")
    assert load_cached() == before


def test_a_change_of_dask_s_configuration_is_seen(home: Path) -> None:
    import dask.config

    before = load_cached()
    with dask.config.set({"seamless.cache": str(home / "other")}):
        assert load_cached().cache == str(home / "other")
        assert load_cached() is load_cached()
        dask.config.set({"seamless.cache": str(home / "third")})
        assert load_cached().cache == str(home / "third")
    assert load_cached() == before


def test_a_change_of_directory_is_seen(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAMLESS_CACHE", "here")
    load_cached()
    monkeypatch.chdir(home)
    assert load_cached().cache == str(home / "here")


@pytest.mark.parametrize("below", [".", "work", "work/deep"])
def test_a_projects_file_that_appears_changes_or_goes_is_seen(home: Path, below: str) -> None:
    load_cached()
    path = home / below / "seamless.toml"
    path.write_text('isolation = "bubblewrap"\n')
    assert load_cached().isolation == "bubblewrap"
    path.write_text('isolation = "auto"\n')
    assert load_cached().isolation == "auto"
    path.write_text('isolation = "bubblewrap"\n')
    assert load_cached().isolation == "bubblewrap"
    path.unlink()
    assert load_cached().isolation == "auto"


def test_the_users_file_is_seen_when_it_appears_changes_and_goes(home: Path) -> None:
    load_cached()
    path = _users_file(home, 'isolation = "none"\n')
    assert load_cached().isolation == "none"
    _users_file(home, 'isolation = "auto"\n')  # of the same length and time
    assert load_cached().isolation == "auto"
    _users_file(home, 'isolation = "none"\n')
    assert load_cached().isolation == "none"
    path.unlink()
    assert load_cached().isolation == "auto"


def test_a_users_file_that_was_written_just_now_is_not_believed_to_stay(home: Path) -> None:
    path = _users_file(home, 'isolation = "none"\n')
    assert load_cached().isolation == "none"
    assert config_cache._cached is None
    assert os.stat(path).st_ctime > LONG_AGO


def test_a_server_that_has_started_is_seen(home: Path) -> None:
    cache = load_cached().cache
    os.makedirs(cache, mode=0o700)
    ready = os.path.join(cache, "hashserver.json")
    with open(os.open(ready, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        json.dump({"url": "http://127.0.0.1:9", "host": "elsewhere", "pid": 1}, file)
    assert load_cached().hashserver == "http://127.0.0.1:9"
    os.unlink(ready)
    assert load_cached().hashserver is None
