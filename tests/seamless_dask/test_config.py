"""Where things are, and who says so."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from seamless_dask.config import embedded, load, parse_size
from seamless_dask.connection import ConnectionFile, write
from seamless_dask.errors import Untrusted, UsageError
from seamless_dask.private import private_directory
from seamless_dask.trust import trust


def config(directory: Path, text: str, **options: Any) -> Any:
    """Return what a project's file gives that is trusted."""
    (directory / "seamless.toml").write_text(text)
    trust(str(directory))
    return load(options, str(directory))


def test_the_embedded_default_needs_nothing(home: Path, tmp_path: Path) -> None:
    found = load({}, str(tmp_path))
    cache = home / "cache"
    assert found.cache == str(cache)
    assert found.stores == (str(cache / "buffers"),)
    assert found.database == str(cache / "seamless.db")
    assert found.hashserver is None
    assert found.isolation == "auto"
    assert not cache.exists()


def test_without_seamless_cache_it_lies_in_the_users_cache(home: Path, tmp_path: Path) -> None:
    environment = {"HOME": str(home)}
    assert load({}, str(tmp_path), environment).cache == str(home / ".cache" / "seamless")


def test_the_order_is_command_line_environment_project_user_default(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = home / ".config" / "seamless" / "config.toml"
    users.parent.mkdir(parents=True)
    users.write_text('store = "/user"\n')
    assert load({}, str(tmp_path)).stores == ("/user",)
    assert config(tmp_path, 'store = "/project"').stores == ("/project",)
    monkeypatch.setenv("SEAMLESS_STORE", "/variable")
    assert load({}, str(tmp_path)).stores == ("/variable",)
    assert load({"store": "/line"}, str(tmp_path)).stores == ("/line",)


@contextmanager
def in_dask(**said: Any) -> Iterator[None]:
    """Have Dask's configuration say something under ``seamless``."""
    import dask.config

    with dask.config.set({"seamless": said}):
        yield


def test_dask_s_configuration_stands_between_variables_and_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'isolation = "none"\nstore = ["/file/s"]\ndatabase = "/file/db"\nnode-cache = "/file/node"\n'
    monkeypatch.setenv("SEAMLESS_DATABASE", "/variable/db")
    with in_dask(store=["/dask/s", "beside"], database="/dask/db", **{"node-cache": "/dask/node"}):
        found = config(tmp_path, text, store="/option/s")
        assert (found.stores, found.database, found.node_cache, found.isolation) == (
            ("/option/s",),
            "/variable/db",
            "/dask/node",
            "none",
        )
        assert config(tmp_path, text).stores == ("/dask/s", str(tmp_path / "beside"))
    assert config(tmp_path, text).stores == ("/file/s",)


def test_what_dask_s_configuration_names_needs_no_trust_in_a_project(tmp_path: Path) -> None:
    (tmp_path / "seamless.toml").write_text('hashserver = "http://127.0.0.1:1"\n')
    with in_dask(hashserver="http://127.0.0.1:2"):
        assert load(directory=str(tmp_path)).hashserver == "http://127.0.0.1:2"
    with pytest.raises(Untrusted):
        load(directory=str(tmp_path))


def test_a_token_of_dask_s_configuration_goes_to_its_own_server_only(home: Path, tmp_path: Path) -> None:
    credentials = {"https://a.example": {"token-file": "/a.token"}}
    with in_dask(hashserver="http://127.0.0.1:2", token_file="/b.token", credentials=credentials):
        found = load(directory=str(tmp_path))
    assert found.credential("http://127.0.0.1:2").token_file == "/b.token"
    assert found.credential("https://a.example").token_file == "/a.token"
    assert found.credential("https://c.example").token_file is None


def test_a_profile_of_dask_s_configuration(home: Path, tmp_path: Path) -> None:
    (tmp_path / "seamless.toml").write_text("[profile.fast]\nstore-timeout = 7\n")
    with in_dask(profile="fast"):
        assert load(directory=str(tmp_path)).store_timeout == 7
    with in_dask(store_timeout=5, profile={"slow": {"store_timeout": 50}}):
        assert load(directory=str(tmp_path)).store_timeout == 5
        assert load({"profile": "slow"}, str(tmp_path)).store_timeout == 50


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"stor": "/s"}, r"dask\.config \(seamless\): unknown key 'stor'; known are store, "),
        ({"store_timeout": "long"}, r"dask\.config \(seamless\): store_timeout must be a number of seconds"),
        ({"node-cache": "a", "node_cache": "b"}, "is there twice"),
        ({"profile": "none"}, r"no profile 'none' in dask\.config"),
        ({"profile": {"a": {"stor": "/s"}}}, "unknown key 'profile.a.stor'"),
    ],
)
def test_an_error_in_dask_s_configuration_names_it(tmp_path: Path, said: Any, message: str) -> None:
    with in_dask(**said), pytest.raises(UsageError, match=message):
        load(directory=str(tmp_path))


def test_what_dask_s_configuration_says_of_clusters_is_not_asked_here(tmp_path: Path) -> None:
    said = {"worker-cache": "/c", "worker_idle_timeout": "5 s", "slurm": {"gpus": "--gres=gpu:{}"}}
    otherwise = load(directory=str(tmp_path))
    with in_dask(**said, store=None):
        assert load(directory=str(tmp_path)) == otherwise


def test_variables_of_dask_s_are_its_configuration(home: Path, tmp_path: Path) -> None:
    """Where Dask is loaded, and only there: it is loaded for nobody's configuration."""
    asked = "from seamless_dask.config import load; found = load(); print(found.stores, found.store_timeout)"
    shown = [
        subprocess.run(
            [sys.executable, "-c", f"import sys; {first}; {asked}; print('dask.config' in sys.modules)"],
            cwd=tmp_path, capture_output=True, text=True, check=True,
            env={**os.environ, "DASK_SEAMLESS__STORE": '["/a", "/b"]', "DASK_SEAMLESS__STORE_TIMEOUT": "5"},
        ).stdout.split("\n")[:2]
        for first in ("import dask", "pass")
    ]  # fmt: skip
    assert shown == [
        ["('/a', '/b') 5.0", "True"],
        [f"('{home / 'cache' / 'buffers'}',) 60.0", "False"],
    ]


def test_the_nearest_file_upwards_counts(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    config(tmp_path, 'store = "/far"')
    assert load({}, str(below)).stores == ("/far",)
    config(tmp_path / "a", 'store = "near"')
    assert load({}, str(below)).stores == (str(tmp_path / "a" / "near"),)


def test_paths_are_relative_to_who_names_them(tmp_path: Path, home: Path) -> None:
    found = config(tmp_path, 'store = ["buffers", "s3://bucket/x", "~/mine"]\nnode-cache = "node"')
    assert found.stores == (str(tmp_path / "buffers"), "s3://bucket/x", str(home / "mine"))
    assert found.node_cache == str(tmp_path / "node")


def test_a_variable_can_name_several_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEAMLESS_STORE", "/a http://host:1/")
    assert load({}, str(tmp_path)).stores == ("/a", "http://host:1")


def test_a_hashserver_is_store_and_database_unless_these_are_named(tmp_path: Path) -> None:
    found = config(tmp_path, 'hashserver = "http://host:1"')
    assert (found.stores, found.database) == (("http://host:1",), "http://host:1")
    found = config(tmp_path, 'hashserver = "http://host:1"\nstore = ["/shared", "http://host:1"]')
    assert (found.stores, found.database) == (("/shared", "http://host:1"), "http://host:1")


def test_a_hashserver_on_the_command_line_goes_before_the_store_of_a_file(tmp_path: Path) -> None:
    found = config(tmp_path, 'store = "/file"\ndatabase = "/file.db"', hashserver="http://host:1")
    assert (found.stores, found.database) == (("http://host:1",), "http://host:1")


def test_a_profile_goes_before_the_top_level_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = 'store = "/top"\ndatabase = "/top.db"\n[profile.cluster]\nstore = "/cluster"\n'
    assert config(tmp_path, text).stores == ("/top",)
    found = config(tmp_path, text, profile="cluster")
    assert (found.stores, found.database, found.profile) == (("/cluster",), "/top.db", "cluster")
    monkeypatch.setenv("SEAMLESS_PROFILE", "cluster")
    assert load({}, str(tmp_path)).stores == ("/cluster",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('sotre = "/x"', "unknown key 'sotre'"),
        ('[profile.a]\nsotre = "/x"', r"unknown key 'profile\.a\.sotre'"),
        ("store = 1", "store must be a text or a list"),
        ('store = [""]', "store must be a text or a list"),
        ("database = []", "database must be a text"),
        ('isolation = "docker"', "isolation must be one of auto, bubblewrap, none"),
        ('hashserver = "host:1"', "hashserver must be an http"),
        ('node_cache_size = "many"', "node_cache_size must be a size"),
        ("profile = 1", "'profile' must be tables"),
        ('node-cache = "a"\nnode_cache = "a"', "node_cache is there twice"),
        ("store = ", "is not TOML"),
    ],
)
def test_an_error_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        config(tmp_path, text)
    assert str(tmp_path / "seamless.toml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_error_in_a_variable_names_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="environment: SEAMLESS_ISOLATION must be"):
        load({}, str(tmp_path), {"SEAMLESS_ISOLATION": "x", "HOME": "/"})


def test_an_unknown_profile_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no profile 'x' in"):
        load({"profile": "x"}, str(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_strangers_file_in_a_public_directory_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "seamless.toml"
    file.write_text('isolation = "bubblewrap"')
    os.chown(file, 12345, 12345)
    assert load({}, str(tmp_path)).isolation == "bubblewrap"
    tmp_path.chmod(0o1777)
    with pytest.raises(UsageError, match="belongs to another user"):
        load({}, str(tmp_path))


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that looks like a hashserver."""
    started = subprocess.Popen(["hashserver", "600"], executable=shutil.which("sleep"))
    while b"hashserver" not in Path(f"/proc/{started.pid}/cmdline").read_bytes():
        time.sleep(0.001)  # for a moment after its start a process has no words yet
    yield started
    started.kill()
    started.wait()


def test_a_running_server_of_the_cache_is_used(
    home: Path, tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    ready = {"url": "http://127.0.0.1:1", "pid": process.pid, "host": os.uname().nodename, "token_file": "/t"}
    (home / "cache").mkdir()
    (home / "cache" / "hashserver.json").write_text(json.dumps(ready))
    (home / "cache" / "hashserver.json").chmod(0o600)
    found = load({}, str(tmp_path))
    assert (found.stores, found.database, found.token_file) == ((ready["url"],), ready["url"], "/t")
    assert load({"store": "/x"}, str(tmp_path)).hashserver is None


@pytest.mark.parametrize("whose", ["a zombie's", "another program's"])
def test_a_number_that_is_no_servers_any_more(
    whose: str, home: Path, tmp_path: Path, process: subprocess.Popen[bytes]
) -> None:
    number = process.pid
    process.kill()
    os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT)  # a zombie from now on
    other = subprocess.Popen(["sleep", "600"]) if whose == "another program's" else None
    number = other.pid if other else number
    (home / "cache").mkdir()
    ready = {"url": "http://127.0.0.1:1", "pid": number, "host": os.uname().nodename}
    (home / "cache" / "hashserver.json").write_text(json.dumps(ready))
    (home / "cache" / "hashserver.json").chmod(0o600)
    found = load({}, str(tmp_path))
    if other:
        other.kill()
        other.wait()
    assert found.hashserver is None


@pytest.mark.parametrize(
    "text", ["", "[]", '{"url": 1}', '{"url": "http://h:1", "pid": 4194304, "host": ""}']
)
def test_a_server_that_died_without_a_word_is_not_used(home: Path, tmp_path: Path, text: str) -> None:
    (home / "cache").mkdir()
    (home / "cache" / "hashserver.json").write_text(text)
    assert load({}, str(tmp_path)).hashserver is None


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("20 GiB", 20 << 30),
        ("1.5k", 1536),
        ("7", 7),
        (7, 7),
        ("2TB", 2 << 40),
        ("x", None),
        (-1, None),
        (True, None),
    ],
)
def test_sizes(text: object, size: int | None) -> None:
    assert parse_size(text) == size


def test_the_cache_is_made_private(tmp_path: Path) -> None:
    path = private_directory(str(tmp_path / "a" / "b"))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
    assert private_directory(path) == path


def test_a_cache_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="SEAMLESS_CACHE names another place"):
        private_directory(str(tmp_path / "file" / "cache"))


class TestDaskserver:
    """A connection file says where everything else is."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return self.write(tmp_path / "connection.json", tmp_path / "buffers")

    def write(self, path: Path, store: Path, **changes: Any) -> Path:
        facts = {
            "name": "default", "host": os.uname().nodename, "pid": 1, "started": 1.0,
            "jobserver": "https://127.0.0.1:1", "scheduler": "tls://127.0.0.1:2",
            "hashserver": "https://127.0.0.1:3", "store": str(store), "token_file": f"{path.parent}/token",
            "hashserver_token_file": f"{path.parent}/token", "hashserver_ca_file": "/d/ca.pem",
        }  # fmt: skip
        write(str(path), ConnectionFile(**facts | changes))
        return path

    def test_it_names_hashserver_token_and_certificates(self, tmp_path: Path, file: Path) -> None:
        found = load({"daskserver": str(file)}, str(tmp_path))
        assert found.daskserver == str(file)
        assert found.hashserver == found.database == "https://127.0.0.1:3"
        assert found.stores == ("https://127.0.0.1:3",)
        assert (found.token_file, found.ca_file) == (str(tmp_path / "token"), "/d/ca.pem")

    def test_a_store_on_this_host_is_reached_directly(self, tmp_path: Path, file: Path) -> None:
        (tmp_path / "buffers").mkdir()
        stores = load({"daskserver": str(file)}, str(tmp_path)).stores
        assert stores == (str(tmp_path / "buffers"), "https://127.0.0.1:3")

    def test_that_of_another_host_is_not(self, tmp_path: Path) -> None:
        (tmp_path / "buffers").mkdir()
        file = self.write(tmp_path / "connection.json", tmp_path / "buffers", host="elsewhere")
        assert load({"daskserver": str(file)}, str(tmp_path)).stores == ("https://127.0.0.1:3",)

    def test_what_is_named_beside_it_counts(self, tmp_path: Path, file: Path) -> None:
        found = config(tmp_path, f'daskserver = "{file}"\nstore = "/mine"\n')
        assert found.stores == ("/mine",)
        assert found.database == "https://127.0.0.1:3"

    def test_a_hashserver_of_ones_own_is_not_given_its_token(self, tmp_path: Path, file: Path) -> None:
        found = config(tmp_path, f'daskserver = "{file}"\n', hashserver="http://127.0.0.1:9")
        assert found.stores == ("http://127.0.0.1:9",)
        assert (found.token_file, found.ca_file) == (None, None)
        assert found.daskserver == str(file)

    def test_by_variable_and_profile_relative_to_the_file(
        self, tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        text = f'[profile.cluster]\ndaskserver = "{file.name}"\n'
        assert config(tmp_path, text, profile="cluster").daskserver == str(file)
        assert config(tmp_path, text).daskserver is None
        monkeypatch.setenv("SEAMLESS_DASKSERVER", "tls://h:1")
        assert load({}, str(tmp_path)).daskserver == "tls://h:1"

    def test_one_that_another_takes_the_place_of_is_not_read(self, tmp_path: Path) -> None:
        found = config(tmp_path, 'daskserver = "/nowhere"\n', daskserver="tcp://127.0.0.1:8786")
        assert found.daskserver == "tcp://127.0.0.1:8786"
        assert found.stores == embedded(found).stores

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="/nowhere is not there"):
            load({"daskserver": "/nowhere"}, str(tmp_path))

    def test_none_is_looked_at_if_only_this_host_counts(self, tmp_path: Path) -> None:
        assert load({"daskserver": "/nowhere"}, str(tmp_path), remote=False).daskserver is None

    def test_one_that_others_may_read(self, tmp_path: Path, file: Path) -> None:
        file.chmod(0o640)
        with pytest.raises(UsageError, match="others may read"):
            load({"daskserver": str(file)}, str(tmp_path))

    def test_an_address_of_another_kind(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="path of a connection file, or a tcp:// or tls:// address"):
            load({"daskserver": "http://127.0.0.1:8787"}, str(tmp_path))

    def test_embedded_knows_none(self, tmp_path: Path, file: Path) -> None:
        assert embedded(load({"daskserver": str(file)}, str(tmp_path))).daskserver is None


def test_defaults_hold_where_nobody_says_otherwise(tmp_path: Path) -> None:
    assert load({}, str(tmp_path), defaults={"store": "/told"}).stores == ("/told",)
    assert load({"store": "/said"}, str(tmp_path), defaults={"store": "/told"}).stores == ("/said",)
