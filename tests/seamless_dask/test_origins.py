"""A credential goes to the server that it is bound to, and to no other."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from seamless_dask.config import Config, load
from seamless_dask.connection import ConnectionFile, write
from seamless_dask.context import Context
from seamless_dask.errors import UsageError
from seamless_dask.origins import origin
from seamless_dask.protocol import discovery
from seamless_dask.trust import trust

A, B = "https://a.example:8443", "https://b.example:8443"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    return directory


def say(directory: Path, text: str) -> None:
    (directory / "seamless.toml").write_text(text)
    trust(str(directory))


def users(home: Path, text: str) -> None:
    (home / ".config" / "seamless").mkdir(parents=True, exist_ok=True)
    (home / ".config" / "seamless" / "config.toml").write_text(text)


def opens(config: Config, url: str) -> tuple[str | None, str | None]:
    found = config.credential(url)
    return found.token_file, found.ca_file


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Host.Example", "https://host.example:443"),
        ("HTTPS://host:443/path/", "https://host:443"),
        ("http://host", "http://host:80"),
        ("http://host:0080", "http://host:80"),
        ("https://[2001:DB8:0:0::1]:8443", "https://[2001:db8::1]:8443"),
        ("https://[::1]", "https://[::1]:443"),
        ("unix:///run/socket", "unix:///run/socket"),
        ("s3://bucket", None),
        ("/a/path", None),
        ("https://a.example@evil.example", None),
        ("https://host:port", None),
        ("https://", None),
    ],
)
def test_an_origin_is_written_in_one_way(url: str, expected: str | None) -> None:
    assert origin(url) == expected


def test_a_token_of_the_users_file_is_not_for_a_projects_server(home: Path, project: Path) -> None:
    users(home, f"hashserver = '{A}'\ntoken-file = '/a'\nca-file = '/ca'\n")
    say(project, f"hashserver = '{B}'\n")
    found = load({}, str(project))
    assert found.hashserver == B
    assert (found.token_file, found.ca_file) == (None, None)
    assert opens(found, B) == (None, None)


@pytest.mark.parametrize("how", ["variable", "option"])
def test_nor_one_that_a_higher_level_names(
    how: str, home: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users(home, f"hashserver = '{A}'\n")
    say(project, f"store = ['{B}', '{A}']\ndatabase = '{B}'\n")
    options = {"token_file": "/a"} if how == "option" else {}
    if how == "variable":
        monkeypatch.setenv("SEAMLESS_TOKEN_FILE", "/a")
    found = load(options, str(project))
    assert found.database == B
    assert opens(found, B)[0] is None
    assert opens(found, A)[0] == "/a"  # which the user has named beneath


def test_a_project_that_names_the_users_own_server_gets_its_token_sent(home: Path, project: Path) -> None:
    users(home, f"hashserver = '{A}'\ntoken-file = '/a'\n")
    say(project, "hashserver = 'https://a.example:8443/'\n")
    assert load({}, str(project)).token_file == "/a"


def test_a_token_is_not_for_a_server_of_a_higher_level(home: Path, tmp_path: Path) -> None:
    users(home, f"hashserver = '{A}'\ntoken-file = '/a'\n")
    assert load({"hashserver": B}, str(tmp_path)).token_file is None
    assert load({"hashserver": A}, str(tmp_path)).token_file == "/a"


def test_a_token_is_for_a_server_of_its_own_or_a_lower_level(home: Path, tmp_path: Path) -> None:
    users(home, f"hashserver = '{A}'\n")
    environment = {**os.environ, "SEAMLESS_TOKEN_FILE": "/a"}
    assert load({}, str(tmp_path), environment).token_file == "/a"
    assert load({"hashserver": B}, str(tmp_path), environment).token_file is None
    environment["SEAMLESS_HASHSERVER"] = B
    assert load({}, str(tmp_path), environment).token_file == "/a"


def test_credentials_are_bound_to_origins_in_the_users_file(home: Path, project: Path) -> None:
    users(
        home, f"[credentials.'{A}']\ntoken-file = 'a'\n[credentials.'HTTPS://B.example:8443/']\nca_file='b'\n"
    )
    say(project, f"store = ['{A}', '{B}', 'https://c:1']\ndatabase = '{B}'\n")
    found, folder = load({}, str(project)), home / ".config" / "seamless"
    assert opens(found, A) == (str(folder / "a"), None)
    assert opens(found, B) == (None, str(folder / "b"))
    assert opens(found, "https://c:1") == (None, None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("credentials = 1", "must be tables"),
        ("[credentials]\ntoken-file = 'x'", "must be tables"),
        ("[credentials.'tcp://a:1']\ntoken-file = 'x'", "for an http:// or https://"),
        ("[credentials.'https://a:1']\ntoken = 'x'", "unknown key .*; known are token_file, ca_file"),
    ],
)
def test_credentials_that_make_no_sense(home: Path, tmp_path: Path, text: str, message: str) -> None:
    users(home, text)
    with pytest.raises(UsageError, match=message):
        load({}, str(tmp_path))


def test_a_projects_certificates_do_not_vouch_for_a_server_that_is_sent_a_token(
    home: Path, project: Path
) -> None:
    (project / "ca.pem").write_text("of the project")
    users(home, f"[credentials.'{A}']\ntoken-file = '/a'\n")
    say(project, f"hashserver = '{A}'\nca-file = 'ca.pem'\n")
    assert opens(load({}, str(project)), A) == ("/a", None)
    say(project, f"hashserver = '{B}'\nca-file = 'ca.pem'\n")
    authority = load({}, str(project)).ca_file
    assert authority is not None
    assert Path(authority).read_text() == "of the project"


def connection(directory: Path, token: str) -> Path:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / "connection.json"
    facts: dict[str, Any] = {
        "name": "default", "host": "elsewhere", "pid": 1, "started": 1.0, "jobserver": B,
        "scheduler": "tls://b.example:1", "hashserver": B, "store": "/s", "token_file": token,
        "hashserver_token_file": token,
    }  # fmt: skip
    write(str(path), ConnectionFile(**facts))
    return path


def test_a_connection_file_of_a_project_opens_nothing_with_tokens_of_others(
    home: Path, project: Path
) -> None:
    path = connection(project, "/home/me/secret")
    say(project, "daskserver = 'connection.json'\n")
    with pytest.raises(UsageError, match=r"do not lie beside it: name it yourself"):
        load({}, str(project))
    assert load({"daskserver": str(path)}, str(project)).token_file == "/home/me/secret"
    connection(project, str(project / "token"))
    say(project, "daskserver = 'connection.json'\n")
    assert load({}, str(project)).token_file == str(project / "token")
    path = connection(home / "cache" / "daskserver" / "default", "/somewhere/token")
    say(project, f"daskserver = '{path}'\n")
    assert load({}, str(project)).token_file == "/somewhere/token"  # our own commands wrote that


def say_ready(cache: Path, ready: dict[str, Any]) -> None:
    """Write what a server of a cache says of itself, as that does."""
    (cache / "hashserver.json").write_text(json.dumps(ready))
    (cache / "hashserver.json").chmod(0o600)


def test_a_server_that_came_with_a_cloned_cache_is_none_of_ours(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = project / "cache"
    cache.mkdir()
    monkeypatch.setenv("SEAMLESS_CACHE", str(cache))
    monkeypatch.setenv("SEAMLESS_TOKEN_FILE", "/mine")
    ready = {"url": "http://evil:1", "pid": 1, "host": "elsewhere", "token_file": "/home/me/secret"}
    (cache / "hashserver.json").write_text(json.dumps(ready))
    (cache / "hashserver.json").chmod(0o644)  # git knows no others
    with pytest.raises(UsageError, match=r"others may read .*/cache/hashserver\.json"):
        load({}, str(project))


def test_a_cache_of_a_project_opens_nothing_with_tokens_of_others(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEAMLESS_CACHE")
    monkeypatch.setenv("SEAMLESS_TOKEN_FILE", "/mine")
    cache = project / "cache"
    cache.mkdir()
    ready = {"url": "http://evil:1", "pid": 1, "host": "elsewhere", "token_file": "/home/me/secret"}
    say_ready(cache, ready)
    say(project, "cache = 'cache'\n")
    found = load({}, str(project))
    assert (found.hashserver, found.token_file) == ("http://evil:1", None)
    ready["token_file"] = str(cache / "token")
    say_ready(cache, ready)
    assert load({}, str(project)).token_file == str(cache / "token")


@pytest.mark.parametrize(("scheme", "sent"), [("tls", "/a"), ("tcp", None)])
def test_a_token_named_beside_a_scheduler_goes_where_that_says_if_it_is_known_to_be_it(
    tmp_path: Path, scheme: str, sent: str | None
) -> None:
    server = f"{scheme}://host:8786"
    config = load({"daskserver": server, "token_file": "/a"}, str(tmp_path))
    told = {"stores": [B], "database": B, "host": None}
    assert opens(discovery.placed(config, server, told), B)[0] == sent
    assert opens(discovery.placed(config, server, told), A)[0] is None


def test_a_scheduler_named_at_a_higher_level_is_not_told_a_token(home: Path, tmp_path: Path) -> None:
    users(home, f"hashserver = '{A}'\ntoken-file = '/a'\n")
    server = "tls://host:8786"
    config = load({"daskserver": server, "store": "/s", "database": "/d"}, str(tmp_path))
    told = {"stores": [B], "database": B, "host": None}
    assert opens(discovery.placed(config, server, told), B)[0] is None


def test_a_hashserver_that_moves_takes_its_credential_along(tmp_path: Path) -> None:
    config = load({"hashserver": A, "token_file": "/a", "ca_file": "/ca"}, str(tmp_path))
    with Context(config) as context:
        context.move(A, B)
        assert opens(context.config, B) == ("/a", "/ca")
        assert context.config.database == B


def test_a_configuration_survives_json(tmp_path: Path) -> None:
    config = load({"hashserver": A, "token_file": "/a"}, str(tmp_path))
    assert Config.from_json(json.loads(json.dumps(config._asdict()))) == config
