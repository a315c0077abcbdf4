"""What a project's file may say without trust, and with it."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import hashserver.checksum
from seamless_dask import trust
from seamless_dask.config import KEYS, load, load_embedded
from seamless_dask.errors import Untrusted, UsageError
from seamless_dask.settings import MAX_BYTES

PLACES = {
    "cache": "/c", "store": "/s", "database": "/d", "databases": ["/d"], "hashserver": "http://host:1",
    "daskserver": "tcp://host:1", "token-file": "/t", "ca-file": "/ca", "node-cache": "/n",
    "isolation": "none", "node-cache-size": 1 << 60, "store-timeout": 1e5,
    "storage-options.'s3://b'.key": "k", "own-modules": ["m"], "library-modules": ["m.n"],
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "project"
    directory.mkdir()
    return directory


def say(directory: Path, text: str) -> Path:
    file = directory / "seamless.toml"
    file.write_text(text)
    return file


def users(home: Path, text: str) -> None:
    (home / ".config" / "seamless").mkdir(parents=True, exist_ok=True)
    (home / ".config" / "seamless" / "config.toml").write_text(text)


def test_every_key_has_its_case() -> None:
    assert {key.partition(".")[0].replace("-", "_") for key in PLACES} == set(KEYS)


@pytest.mark.parametrize("key", PLACES)
@pytest.mark.parametrize("within", ["", "[profile.x]\n"])
def test_a_place_needs_trust(project: Path, key: str, within: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEAMLESS_CACHE")  # which would come before it
    say(project, f"{within}{key} = {PLACES[key]!r}\n")
    options = {"profile": "x"} if within else {}
    with pytest.raises(
        Untrusted, match=f"is not trusted, and sets .*: seamless trust {project} if"
    ) as caught:
        load(options, str(project))
    assert "\n" not in str(caught.value)


def test_a_profile_that_is_not_asked_for_needs_none(project: Path) -> None:
    say(project, "[profile.x]\nstore = '/s'\n")
    assert load({}, str(project)).stores[0] != "/s"


@pytest.mark.parametrize(
    ("own", "theirs", "counts"),
    [
        (None, "bubblewrap", True),
        (None, "auto", True),
        ("none", "auto", True),
        ("none", "none", True),
        ("bubblewrap", "bubblewrap", True),
        (None, "none", False),
        ("auto", "none", False),
        ("bubblewrap", "auto", False),
    ],
)
def test_isolation_may_only_become_stricter(
    home: Path, project: Path, own: str | None, theirs: str, counts: bool
) -> None:
    if own:
        users(home, f"isolation = '{own}'")
    say(project, f"isolation = '{theirs}'")
    if counts:
        assert load({}, str(project)).isolation == theirs
    else:
        with pytest.raises(Untrusted):
            load({}, str(project))


def test_a_bound_may_only_become_tighter(home: Path, project: Path) -> None:
    users(home, "node-cache-size = '2 GiB'")
    say(project, "node-cache-size = '1 GiB'")
    assert load({}, str(project)).node_cache_size == 1 << 30
    say(project, "node-cache-size = '3 GiB'")
    with pytest.raises(Untrusted):
        load({}, str(project))


def test_a_profile_of_the_users_may_be_chosen(home: Path, project: Path) -> None:
    users(home, "[profile.cluster]\nstore = '/of/mine'\n")
    say(project, "profile = 'cluster'\n")
    assert load({}, str(project)).stores == ("/of/mine",)
    assert load({}, str(project)).profile == "cluster"
    say(project, "profile = 'other'\n")
    with pytest.raises(UsageError, match="no profile 'other'"):
        load({}, str(project))


def test_what_is_trusted_counts_until_it_changes(project: Path) -> None:
    say(project, "store = '/s'")
    trust.trust(str(project))
    assert load({}, str(project)).stores == ("/s",)
    say(project, "store = '/t'")
    with pytest.raises(Untrusted, match="has changed since it was trusted"):
        load({}, str(project))


def test_trust_is_taken_back(project: Path) -> None:
    file = say(project, "store = '/s'\nca-file = 'ca.pem'\n")
    (project / "ca.pem").write_text("a certificate")
    trust.trust(str(project))
    assert trust.forget(str(project / "below")) == str(file)
    with pytest.raises(Untrusted, match="is not trusted"):
        load({}, str(project))
    assert trust.forget(str(project)) is None
    assert not os.listdir(trust._directory(None))


def test_states(tmp_path: Path) -> None:
    for name in ("changed", "gone", "trusted"):
        (tmp_path / name).mkdir()
        say(tmp_path / name, "store = '/s'")
        trust.trust(str(tmp_path / name))
    say(tmp_path / "changed", "store = '/t'")
    os.unlink(tmp_path / "gone" / "seamless.toml")
    assert [(os.path.basename(os.path.dirname(one.path)), state) for one, state in trust.records()] == [
        ("changed", "changed"), ("gone", "gone"), ("trusted", "trusted"),
    ]  # fmt: skip


def test_a_record_is_for_its_owner_alone(project: Path) -> None:
    say(project, "store = '/s'")
    trust.trust(str(project))
    directory = trust._directory(None)
    (name,) = os.listdir(directory)
    assert stat.S_IMODE(os.stat(directory).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(os.path.join(directory, name)).st_mode) == 0o600
    os.chmod(os.path.join(directory, name), 0o666)
    with pytest.raises(Untrusted):
        load({}, str(project))


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"path": 1}', "[" * 100000])
def test_a_damaged_record_is_none(project: Path, damage: str) -> None:
    say(project, "store = '/s'")
    trust.trust(str(project))
    (name,) = os.listdir(trust._directory(None))
    Path(trust._directory(None), name).write_text(damage)
    with pytest.raises(Untrusted):
        load({}, str(project))
    assert trust.records() == []


def test_certificates_count_as_they_were(project: Path) -> None:
    authority = project / "ca.pem"
    authority.write_text("a certificate")
    say(project, "hashserver = 'https://host:1'\nca-file = 'ca.pem'\n")
    trust.trust(str(project))
    used = load({}, str(project)).ca_file
    assert used is not None
    authority.write_text("another one")
    assert Path(used).read_text() == "a certificate"  # for those who have been let in already
    with pytest.raises(Untrusted, match="has changed"):
        load({}, str(project))


def test_the_same_file_elsewhere_is_another_one(tmp_path: Path, project: Path) -> None:
    file = say(project, "store = 's'")
    trust.trust(str(project))
    for name, make in (("hard", os.link), ("soft", os.symlink)):
        (tmp_path / name).mkdir()
        make(file, tmp_path / name / "seamless.toml")
        with pytest.raises(Untrusted):
            load({}, str(tmp_path / name))


def test_a_link_to_the_directory_leads_to_the_same_file(tmp_path: Path, project: Path) -> None:
    say(project, "store = 's'")
    (tmp_path / "link").symlink_to(project)
    trust.trust(str(tmp_path / "link"))
    assert load({}, str(project)).stores == (str(project / "s"),)
    assert load({}, str(tmp_path / "link")).stores == (str(project / "s"),)
    other = tmp_path / "other"
    other.mkdir()
    say(other, "store = '/evil'")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(other)
    with pytest.raises(Untrusted):
        load({}, str(tmp_path / "link"))


def test_what_was_checked_is_what_is_used(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = say(project, "store = '/s'")
    trust.trust(str(project))
    real = hashserver.checksum.hash_bytes

    def replaced(data: bytes) -> Any:
        file.write_text("store = '/evil'")  # between the check and the use
        return real(data)

    monkeypatch.setattr(hashserver.checksum, "hash_bytes", replaced)
    assert load({}, str(project)).stores == ("/s",)


@pytest.mark.parametrize("place", ["above", "of the home"])
def test_a_file_further_up_needs_trust_as_well(home: Path, project: Path, place: str) -> None:
    up = project if place == "above" else home
    say(up, "store = '/s'")
    (up / "a" / "b").mkdir(parents=True)
    with pytest.raises(Untrusted):
        load({}, str(up / "a" / "b"))


def test_a_place_that_the_user_names_needs_no_trust(home: Path, project: Path) -> None:
    say(project, "hashserver = 'http://evil:1'\ntoken-file = '/t'\n")
    assert load({"hashserver": "http://mine:1"}, str(project)).hashserver == "http://mine:1"
    environment = {**os.environ, "SEAMLESS_HASHSERVER": "http://mine:1"}
    assert load({}, str(project), environment).hashserver == "http://mine:1"
    with pytest.raises(Untrusted):
        load({"token_file": "/mine"}, str(project))
    users(home, "hashserver = 'http://mine:1'")
    with pytest.raises(Untrusted):  # the user's own file comes after the project's
        load({}, str(project))


def test_a_scheduler_is_not_settled_by_another_place(project: Path) -> None:
    say(project, "daskserver = 'tcp://evil:1'\n")
    with pytest.raises(Untrusted):
        load({"hashserver": "http://mine:1"}, str(project))
    assert load({"daskserver": "tcp://mine:1"}, str(project)).daskserver == "tcp://mine:1"


def test_this_host_alone_is_a_place_that_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEAMLESS_CACHE")
    say(project, "daskserver = 'tcp://evil:1'\nstore = '/s'\n")
    config = load_embedded({}, str(project))
    assert (config.daskserver, config.hashserver) == (None, None)
    say(project, "cache = '/evil'\n")
    with pytest.raises(Untrusted):
        load_embedded({}, str(project))


@pytest.mark.parametrize("text", ["token-file = '/t'", "[profile.x]\ntoken_file = '/t'"])
def test_a_project_names_no_token(project: Path, text: str) -> None:
    say(project, text)
    with pytest.raises(UsageError, match=r"belongs in your own configuration"):
        trust.trust(str(project))


def test_a_project_binds_no_credential(project: Path) -> None:
    say(project, "[credentials.'https://a:1']\ntoken-file = '/t'\n")
    with pytest.raises(UsageError, match=r"\[credentials\] belongs in your own configuration"):
        load({}, str(project))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"#" * (MAX_BYTES + 1), "longer than settings may be"),
        (b"a" + b".a" * 100000 + b" = 1", "more than 200 dots"),
        (b"store = " + b"[" * 100000, "nested too deeply|not TOML"),
        (b"store = '\xff'", "is not TOML"),
        (b'store = "\\u0000"', "has a NUL"),
        (b"node-cache-size = " + b"9" * 10000, "is not TOML|must be a size"),
    ],
)
def test_files_that_are_no_settings(project: Path, data: bytes, message: str) -> None:
    (project / "seamless.toml").write_bytes(data)
    with pytest.raises(UsageError, match=message) as caught:
        load({}, str(project))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("kind", ["a pipe", "a directory", "a device"])
def test_what_is_no_file_is_not_waited_for(project: Path, kind: str) -> None:
    path = project / "seamless.toml"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(UsageError, match="cannot read"):
        load({}, str(project))


def test_what_it_wants_is_shown_without_control_characters(project: Path) -> None:
    say(project, 'store = "/s\\u001b[2J\\u009b1m\\u202e"\n["profile"."\\u001b[2J"]\nstore = "/x"\n')
    with pytest.raises(Untrusted) as caught:
        load({}, str(project))
    assert str(caught.value).isprintable()
    assert all(line.isprintable() for line in trust.wishes(caught.value.project))


TEXTS = st.text(max_size=8)
NAMES = st.sampled_from([*PLACES, *KEYS, "profile", "credentials", "x"]) | TEXTS
VALUES = st.recursive(
    st.sampled_from([*map(str, PLACES.values()), "bubblewrap", "auto"])
    | TEXTS
    | st.integers()
    | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    return '"' + "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in value) + '"'


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(table=st.dictionaries(NAMES, VALUES, max_size=4), profile=st.none() | st.just("x"))
def test_whatever_a_project_says_it_changes_no_place(
    project: Path, table: dict[str, Any], profile: str | None
) -> None:
    text = "".join(f"{toml(key)} = {toml(value)}\n" for key, value in table.items())
    (project / "seamless.toml").write_text(text)
    without = load({}, "/")
    with suppress(UsageError):
        found = load({"profile": profile}, str(project))
        strict = ("bubblewrap", "auto")
        assert found.isolation in strict
        assert found.node_cache_size <= without.node_cache_size
        changed = {
            "isolation": without.isolation,
            "node_cache_size": without.node_cache_size,
            "profile": None,
        }
        assert found._replace(**changed) == without


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_settings_or_an_error(project: Path, data: bytes) -> None:
    (project / "seamless.toml").write_bytes(data)
    with suppress(UsageError):
        load({}, str(project))
