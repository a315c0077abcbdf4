"""Storage options: which store gets which, and who sees nothing of them."""

from __future__ import annotations

import json
import os
import shutil
import stat
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hashserver.checksum import hash_bytes
from hashserver.errors import AuthenticationFailed, HashserverError, InvalidRequest, ServiceUnavailable
from hashserver.storage.fsspec import FsspecStore
from hashserver.storage.options import StorageOptions, check, find, read, secrets_in, without, write

ABSENT = hash_bytes(b"nobody has this")
SECRET = "a sesame"


def chosen(url: str, *prefixes: str, theirs: str | None = None) -> str | None:
    options = [StorageOptions.of(prefix, {}) for prefix in prefixes]
    if theirs is not None:
        options.append(StorageOptions.of(theirs, {}, own=False))
    found = find(options, url)
    return None if found is None else found.prefix


class TestWhichStore:
    @pytest.mark.parametrize(
        ("url", "prefix"),
        [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/some/place/", "s3://bucket/some"),
            ("S3://bucket/some", "s3://bucket/some/"),
            ("s3://bucket/some", "s3://"),
            ("webdav://", "webdav://"),
            ("sftp://me@host:22/data/x", "sftp://me@host:22/data"),
            ("sftp://me:password@host/data", "sftp://me@host"),
        ],
    )
    def test_is_the_one_at_the_url_or_below_it(self, url: str, prefix: str) -> None:
        assert chosen(url, prefix) == prefix

    @pytest.mark.parametrize(
        ("url", "prefix"),
        [
            ("s3://bucket2", "s3://bucket"),
            ("s3://bucket/something", "s3://bucket/some"),
            ("s3://bucket", "s3://bucket/some"),
            ("s3a://bucket", "s3://bucket"),
            ("sftp://host.evil.example/data", "sftp://host"),
            ("sftp://host@evil.example/data", "sftp://host"),
            ("sftp://host:pw@evil.example/data", "sftp://host"),
            ("sftp://host:2222/data", "sftp://host"),
            ("sftp://host/data/../secret", "sftp://host/data"),
            ("sftp://other@host/data", "sftp://me@host/data"),
        ],
    )
    def test_and_no_other(self, url: str, prefix: str) -> None:
        assert chosen(url, prefix) is None

    def test_the_longest_wins(self) -> None:
        prefixes = "s3://", "s3://bucket/a/b", "s3://bucket", "s3://bucket/a"
        assert chosen("s3://bucket/a/x", *prefixes) == "s3://bucket/a"

    def test_the_users_win_over_a_projects_longer_one(self) -> None:
        assert chosen("s3://bucket/a", "s3://", theirs="s3://bucket/a") == "s3://"
        assert chosen("s3://bucket/a", theirs="s3://bucket/a") == "s3://bucket/a"


class TestTables:
    @pytest.mark.parametrize(
        ("prefix", "match"),
        [
            ("/data/buffers", "a directory takes none"),
            ("buffers", "a directory takes none"),
            ("file:///data", "a directory takes none"),
            ("https://host", "under \\[credentials\\]"),
            ("unix:///run/socket", "under \\[credentials\\]"),
            ("dir::s3://bucket", "no URL of a store"),
            ("s3://bucket/../x", "no URL of a store"),
            ("s3://bu\x1bcket", "no URL of a store"),
            ("://bucket", "no URL of a store"),
            ("sftp://", "name the host"),
            ("abfs://", "name the host"),
            (f"sftp://me:{SECRET}@host", "belongs into the table"),
        ],
    )
    def test_what_is_no_place_for_them(self, prefix: str, match: str) -> None:
        with pytest.raises(InvalidRequest, match=match) as caught:
            check(prefix, {"key": "value"}, "config.toml")
        assert str(caught.value).startswith("config.toml: [storage_options.")
        assert SECRET not in str(caught.value)
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize(
        ("table", "match"),
        [
            (3, "must be a table"),
            ({"key": b"bytes"}, "'?key'? must be a text, a number"),
            ({"key": ["x", {"deep": {1}}]}, "'?key'? must be a text, a number"),
            ({"no-name": 1}, "no-name is no option"),
            ({"asynchronous": True}, "asynchronous is no option"),
            ({"use_listings_cache": True}, "use_listings_cache is no option"),
            ({"seconds": 3}, "seconds is no option"),
        ],
    )
    def test_what_is_no_option(self, table: Any, match: str) -> None:
        with pytest.raises(InvalidRequest, match=match):
            check("s3://bucket", table, "config.toml")

    def test_of_all_kinds_that_fsspec_takes(self) -> None:
        table = {"a": "text", "b": 1, "c": 0.5, "d": True, "e": ["x", 1], "f": {"g": {"h-i": ["y"]}}}
        options = StorageOptions.of("s3://bucket", check("s3://bucket", table, "config.toml"))
        assert options.arguments == table
        assert hash(options)

    def test_are_not_shown(self) -> None:
        assert SECRET not in repr(StorageOptions.of("s3://bucket", {"secret": SECRET}))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.just(SECRET),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
URLS = st.text(max_size=20) | st.builds(
    "{}://{}".format, st.sampled_from(["s3", "sftp", "webdav", "file", "http", "é"]), st.text(max_size=20)
)


@given(URLS, VALUES | st.dictionaries(st.text(max_size=9), VALUES, max_size=3), URLS)
@example("s3://bucket", {"key": SECRET}, "s3://bucket/x")
def test_whatever_a_file_says_is_a_table_or_refused_in_one_line(prefix: str, table: Any, url: str) -> None:
    try:
        options = StorageOptions.of(prefix, check(prefix, table, "config.toml"))
    except InvalidRequest as error:
        told = str(error)
    else:
        told = ""
    assert told.isprintable()
    assert SECRET not in told
    if told:
        return
    find([options], url)
    assert find([options], prefix) == options
    assert find([options], prefix.rstrip("/") + "/below") == options or prefix.endswith("://")


class TestFile:
    def test_is_read_back_and_only_its_owner_can(self, tmp_path: Path) -> None:
        options = (StorageOptions.of("s3://bucket", {"key": "é", "secret": SECRET}),)
        path = write(str(tmp_path / "options"), options)
        assert path is not None
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
        assert read(path) == options

    def test_goes_when_there_is_nothing_to_tell(self, tmp_path: Path) -> None:
        path = str(tmp_path / "options")
        write(path, [StorageOptions.of("s3://bucket", {})])
        assert write(path, []) is None
        assert write(path, []) is None
        assert not os.path.exists(path)

    @pytest.mark.parametrize("mode", [0o604, 0o640, 0o660])
    def test_that_others_can_read_is_refused(self, tmp_path: Path, mode: int) -> None:
        path = tmp_path / "options"
        path.write_text("{}")
        path.chmod(mode)
        with pytest.raises(InvalidRequest, match=f"chmod 600 {path}"):
            read(str(path))

    @pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100000, '{"s3://b": 1}', '{"/data": {}}', "\xff"])
    def test_that_says_something_else_is_refused(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "options"
        path.touch(0o600)
        path.write_text(text, encoding="latin-1")
        with pytest.raises(InvalidRequest, match=str(path)) as caught:
            read(str(path))
        assert "\n" not in str(caught.value)

    def test_that_is_none_is_not_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe", 0o600)
        for name in ("pipe", "nothing", ""):
            with pytest.raises(InvalidRequest, match="cannot read"):
                read(str(tmp_path / name))


class TestSecrets:
    def test_are_all_texts_but_those_that_say_where(self) -> None:
        options = {
            "key": "one",
            "client_kwargs": {"headers": {"Authorization": "two"}, "endpoint_url": "http://host"},
            "auth": ["three", "four"],
            "base_url": "https://me:five@host/x",
            "anon": True,
        }
        assert set(secrets_in(options)) == {"one", "two", "three", "four", "me:five"}

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("bad a sesame!", "bad ***!"),
            ("at a%20sesame", "at ***"),
            ("short: xy, xyz", "short: ***, xyz"),
            (r"quoted 'q\nr\\s'", "quoted '***'"),
        ],
    )
    def test_are_taken_out_of_messages(self, text: str, expected: str) -> None:
        assert without(text, [SECRET, "xy", "q\nr\\s"]) == expected


# ---------------------------------------------------------------------- what places say of them


def failing(url: str, **options: Any) -> HashserverError:
    """Return the error of a store; neither its message nor its traceback has a secret."""
    with pytest.raises(HashserverError) as caught, FsspecStore(url, seconds=20, **options) as store:
        store.has([ABSENT])
    text = "".join(traceback.format_exception(caught.value))
    assert SECRET not in text
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(url)
    return caught.value


BAD: list[tuple[str, dict[str, Any], type[HashserverError], str]] = [
    ("webdav://x", {}, InvalidRequest, "'base_url'.*storage_options.*conf.json"),
    ("webdav://x", {"base_url": "http://host", "pasword": SECRET}, InvalidRequest, "'pasword'"),
    ("webdav://x", {"base_url": "http://host", "auth": SECRET}, InvalidRequest, "auth"),
    ("webdav://x", {"base_url": "http://host", "auth": {"me": SECRET}}, InvalidRequest, "auth"),
    ("webdav://x", {"base_url": 5}, InvalidRequest, "base_url"),
    ("webdav://x", {"base_url": "http://127.0.0.1:1", "timeout": SECRET}, InvalidRequest, "timeout"),
    ("webdav://x", {"base_url": f"http://me:{SECRET}@127.0.0.1:1"}, ServiceUnavailable, "refused"),
    ("webdav://x", {"base_url": "https://127.0.0.1:1", "verify": "/no.pem"}, InvalidRequest, "is not there"),
    ("s3://b/x", {"key": "k", "secret": SECRET, "seecret": SECRET}, InvalidRequest, "'seecret'"),
    ("s3://b/x", {"client_kwargs": SECRET}, InvalidRequest, "client_kwargs"),
    ("s3://b/x", {"endpoint_url": "nonsense", "key": "k", "secret": SECRET}, ServiceUnavailable, "nonsense"),
    ("sftp://127.0.0.1:1/x", {"pasword": SECRET}, InvalidRequest, "'pasword'"),
    ("sftp://127.0.0.1:1/x", {"port": SECRET}, ServiceUnavailable, "cannot be reached"),
    ("sftp://127.0.0.1:1/x", {"password": SECRET}, ServiceUnavailable, "cannot be reached"),
]


@pytest.mark.parametrize(("url", "options", "kind", "match"), BAD)
def test_a_bad_option_is_told_in_one_line_without_its_value(
    url: str, options: dict[str, Any], kind: type[HashserverError], match: str, home: Path
) -> None:
    error = failing(url, **options)
    assert type(error) is kind
    with pytest.raises(kind, match=match):
        raise error


def test_a_wrong_password(webdav: Any) -> None:
    error = failing("webdav://x", base_url=webdav.url, auth=[webdav.user, SECRET])
    assert type(error) is AuthenticationFailed


def test_no_password(webdav: Any) -> None:
    assert type(failing("webdav://x", base_url=webdav.url)) is AuthenticationFailed


def test_options_of_fsspecs_own_configuration_hold_too(webdav_backend: Any, monkeypatch: Any) -> None:
    import fsspec.config

    monkeypatch.setitem(fsspec.config.conf, "webdav", json.loads(json.dumps(webdav_backend.options)))
    with FsspecStore(webdav_backend.url) as store:
        assert store.get(store.put(b"data")) == b"data"


def test_a_key_of_ssh(sshd: Any, home: Path, tmp_path: Path) -> None:
    sshd.accept(home, key=False)
    url = sshd.url(tmp_path / "store")
    shutil.copy(sshd.keys / "client", home / "other-key")
    assert "~/no-key" not in (text := str(failing(url, key_filename="~/no-key")))
    assert f"{home}/no-key" in text
    with FsspecStore(url, key_filename=["~/other-key"]) as store:
        assert store.get(store.put(b"data")) == b"data"


def test_keys_and_an_endpoint_of_s3(s3_backend: Any, monkeypatch: Any) -> None:
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    options = {"endpoint_url": endpoint, "key": "test-key", "secret": "test-secret"}
    with FsspecStore(s3_backend.url, **options) as store:
        checksum = store.put(b"data")
        assert f"{checksum.prefix}/{checksum}" in s3_backend.names()


@pytest.mark.parametrize(
    "told",
    [{"auth": SECRET}, {"base_url": "http://127.0.0.1:1", "headers": {SECRET: 1}}, {"base_url": SECRET}],
)
def test_nor_is_one_of_theirs_shown(told: dict[str, Any], monkeypatch: Any) -> None:
    import fsspec.config

    monkeypatch.setitem(fsspec.config.conf, "webdav", {"base_url": "http://127.0.0.1:1", **told})
    failing("webdav://x")


def test_a_webdav_store_in_the_root_of_its_server(webdav: Any) -> None:
    with FsspecStore("webdav://", **webdav.options) as store:
        assert store.get(store.put(b"in the root")) == b"in the root"


def test_user_and_password_may_stand_in_the_base_url(webdav_backend: Any, caplog: Any) -> None:
    caplog.set_level("DEBUG")
    options = webdav_backend.options
    user, password = options["auth"]
    url = options["base_url"].replace("://", f"://{user}:{password.replace(' ', '%20')}@")
    with FsspecStore(webdav_backend.url, base_url=url) as store:
        assert store.get(store.put(b"data")) == b"data"
        assert "%20" not in str(store._files.fs.client.base_url)
    assert "sesame" not in caplog.text


def test_a_connection_that_was_given_up_is_made_again(webdav_backend: Any) -> None:
    with webdav_backend.open() as store:
        checksum = store.put(b"data")
        store._files.fs.give_up()
        with pytest.raises(ServiceUnavailable):
            store.get(checksum)
        assert store.get(checksum) == b"data"
