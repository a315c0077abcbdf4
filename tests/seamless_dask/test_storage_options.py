"""Storage options in settings: the user's, those of a file that a variable names, and a project's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from seamless_dask.config import Config, load
from seamless_dask.context import Context
from seamless_dask.errors import Untrusted, UsageError
from seamless_dask.trust import accept, trust, wishes

BUCKET = "s3://bucket/place"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    return directory


def users(home: Path, text: str, mode: int = 0o600) -> Path:
    path = home / ".config" / "seamless" / "config.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    path.chmod(mode)
    path.write_text(text)
    return path


def told(config: Config, url: str = BUCKET) -> dict[str, Any] | None:
    found = config.options_of(url)
    return found[0].arguments if found else None


def test_a_table_of_the_users_is_for_its_url(home: Path, project: Path) -> None:
    users(home, '[storage_options."s3://bucket"]\nkey = "k"\nclient_kwargs = {region_name = "x"}\n')
    config = load({}, str(project))
    assert told(config) == {"key": "k", "client_kwargs": {"region_name": "x"}}
    assert told(config, "s3://other") is None


def test_they_reach_the_store(home: Path, project: Path) -> None:
    users(home, f'store = "{BUCKET}"\n[storage-options."s3://"]\nkey = "k"\n')
    with Context(load({}, str(project))) as context:
        assert context.store._options == {"key": "k"}  # type: ignore[attr-defined]


def test_they_survive_the_way_to_another_process(home: Path, project: Path) -> None:
    users(home, f'[storage_options."{BUCKET}"]\nkey = "k"\n')
    config = load({}, str(project))
    assert Config.from_json(json.loads(json.dumps(config._asdict()))) == config
    assert hash(config)


def test_they_are_not_shown(home: Path, project: Path) -> None:
    users(home, f'store = "{BUCKET}"\n[storage_options."{BUCKET}"]\nsecret = "sesame"\n')
    config = load({}, str(project))
    assert "sesame" not in repr(config)
    assert "sesame" not in repr(Context(config))
    assert "sesame" not in repr(Context(config._replace(stores=("/data", "sftp://me:sesame@host/x"))))


def test_those_of_a_profile_go_before_the_rest_of_the_file(home: Path, project: Path) -> None:
    users(
        home,
        f'[storage_options."{BUCKET}"]\nkey = "k"\n[profile.x.storage_options."{BUCKET}"]\nsecret = "s"\n',
    )
    assert told(load({}, str(project))) == {"key": "k"}
    assert told(load({"profile": "x"}, str(project))) == {"secret": "s"}  # nothing is put together


def test_those_of_the_variables_file_go_before_the_users(
    home: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users(home, f'[storage_options."{BUCKET}"]\nkey = "k"\n[storage_options."s3://other"]\nkey = "o"\n')
    path = project / "options.json"
    path.touch(0o600)
    path.write_text(json.dumps({BUCKET: {"secret": "s"}}))
    monkeypatch.setenv("SEAMLESS_STORAGE_OPTIONS", str(path))
    config = load({}, str(project))
    assert told(config) == {"secret": "s"}
    assert told(config, "s3://other") == {"key": "o"}
    path.chmod(0o644)
    with pytest.raises(UsageError, match=f"SEAMLESS_STORAGE_OPTIONS: .* chmod 600 {path}"):
        load({}, str(project))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("storage_options = 3", "must be tables"),
        ('[storage_options]\n"s3://bucket" = 3', "must be a table"),
        ('[storage_options."/data"]\nkey = "k"', "a directory takes none"),
        ('[storage_options."https://host"]\nkey = "k"', "credentials"),
        ('[storage_options."s3://bucket"]\nkey = 2026-01-01', "must be a text"),
    ],
)
def test_bad_ones_are_refused_by_name(home: Path, project: Path, text: str, match: str) -> None:
    path = users(home, text)
    with pytest.raises(UsageError, match=f"{path}: .*storage_options.*{match}") as caught:
        load({}, str(project))
    assert "\n" not in str(caught.value)


def test_a_file_that_others_can_read_is_told_once(
    home: Path, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = users(home, f'[storage_options."{BUCKET}"]\nkey = "k"\n', 0o644)
    for _ in range(2):
        load({}, str(project))
    error = capfd.readouterr().err
    assert error == f"seamless: others may read the storage options in {path}: chmod 600 {path}\n"


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_one_without_any_is_not(
    home: Path, project: Path, capfd: pytest.CaptureFixture[str], mode: int
) -> None:
    users(home, "isolation = 'none'\n", mode)
    load({}, str(project))
    assert capfd.readouterr().err == ""


# ---------------------------------------------------------------------- a project's


ANONYMOUS = f'[storage_options."{BUCKET}"]\nanon = true\n'


def say(project: Path, text: str) -> None:
    (project / "seamless.toml").write_text(text)


@pytest.mark.parametrize("within", ["", "profile.x."])
def test_a_project_that_is_not_trusted_sets_none(project: Path, within: str) -> None:
    say(project, f'[{within}storage_options."{BUCKET}"]\nanon = true\n')
    with pytest.raises(Untrusted, match=f"sets storage options of '{BUCKET}' \\(anon\\): seamless trust"):
        load({"profile": "x"} if within else {}, str(project))


def test_one_that_is_may_say_that_a_bucket_is_public(project: Path) -> None:
    say(project, ANONYMOUS)
    trust(str(project))
    assert told(load({}, str(project))) == {"anon": True}


@pytest.mark.parametrize(
    "line",
    [
        'endpoint_url = "https://evil.example"',
        'base_url = "https://evil.example"',
        'client_kwargs = {endpoint_url = "https://evil.example"}',
        'profile = "admin"',
        'key_filename = "/home/me/.ssh/id_other"',
        'secret = "of-the-project"',
        "use_ssl = false",
        "verify = false",
        "anon = false",
        "anon = 1",
    ],
)
def test_nothing_that_redirects_or_receives_secrets(project: Path, line: str) -> None:
    say(project, f'[storage_options."{BUCKET}"]\n{line}\n')
    for attempt in (trust, lambda directory: load({}, directory)):
        with pytest.raises(UsageError, match=line.split()[0]) as caught:
            attempt(str(project))
        assert "evil" not in str(caught.value)
        assert "of-the-project" not in str(caught.value)


def test_that_holds_for_what_was_trusted_by_other_means_too(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(project, f'[storage_options."{BUCKET}"]\nendpoint_url = "https://evil.example"\n')
    with monkeypatch.context() as patch:
        patch.setattr("seamless_dask.trust._refuse_secrets", lambda _: None)  # as an earlier release has
        trust(str(project))
    with pytest.raises(UsageError, match="belongs in your own configuration"):
        load({}, str(project))


def test_the_users_table_is_not_touched_by_a_projects(home: Path, project: Path) -> None:
    users(home, '[storage_options."s3://"]\nkey = "k"\nsecret = "s"\n')
    say(project, ANONYMOUS)
    trust(str(project))
    assert told(load({}, str(project))) == {"key": "k", "secret": "s"}


def test_a_place_that_the_user_names_takes_none_of_a_projects(project: Path) -> None:
    say(project, ANONYMOUS)
    assert told(load({"store": [BUCKET], "database": "/d"}, str(project))) is None


def test_what_is_shown_before_trust_has_no_value_of_a_secret(project: Path) -> None:
    from seamless_dask.settings import project_settings

    say(project, f'[storage_options."{BUCKET}"]\nsecret = "sesame"\nanon = true\n')
    found = project_settings(str(project))
    assert found is not None
    (line,) = wishes(found)
    assert "sesame" not in line
    assert "anon" in line
    with pytest.raises(UsageError, match="secret"):
        accept(found)
