"""Stores behind fsspec: whose fault it is, what is said, and what is left behind."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from hashserver.checksum import hash_bytes
from hashserver.errors import (
    AuthenticationFailed,
    BufferMissing,
    HashserverError,
    NoSpace,
    ReadOnly,
    ServiceUnavailable,
)
from hashserver.storage.fsspec import FsspecStore
from hashserver.storage.remotefs import scrub, shown, translate

from ..conftest import drained, start_moto

ABSENT = hash_bytes(b"absent")
SECRET = "hunter2"


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class TestSecrets:
    @pytest.mark.parametrize(
        ("url", "visible"),
        [
            (f"sftp://me:{SECRET}@host:22/data/", "sftp://me@host:22/data"),
            (f"sftp://me:p@{SECRET}@host/data", "sftp://me@host/data"),
            (f"s3://bucket/prefix?token={SECRET}", "s3://bucket/prefix"),
            ("memory://place", "memory://place"),
        ],
    )
    def test_are_not_in_the_url(self, url: str, visible: str) -> None:
        assert shown(url) == visible
        assert FsspecStore(url).url == visible
        assert SECRET not in repr(FsspecStore(url))

    def test_are_not_in_messages(self, closed_port: int) -> None:
        store = FsspecStore(f"sftp://me:{SECRET}@127.0.0.1:{closed_port}/data")
        with pytest.raises(ServiceUnavailable, match=f"sftp://me@127.0.0.1:{closed_port}/data") as info:
            store.get(ABSENT)
        assert SECRET not in str(info.value)

    def test_are_scrubbed_from_what_libraries_say(self) -> None:
        url = f"s3://me:{SECRET}@bucket"
        said = f"cannot open {url}: password {SECRET}, X-Amz-Signature=abcdef&x"
        text = scrub(OSError(said), url)
        assert SECRET not in text
        assert "abcdef" not in text


class TestErrors:
    def test_an_unreachable_s3(self, monkeypatch: pytest.MonkeyPatch, closed_port: int) -> None:
        use_s3(monkeypatch, f"http://127.0.0.1:{closed_port}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        with pytest.raises(ServiceUnavailable, match="s3://bucket"):
            FsspecStore("s3://bucket/x", config_kwargs={"retries": {"total_max_attempts": 1}}).put(b"x")

    def test_a_bucket_that_does_not_exist(self, monkeypatch: pytest.MonkeyPatch, s3_endpoint: str) -> None:
        use_s3(monkeypatch, s3_endpoint)
        with pytest.raises(ServiceUnavailable, match="create it first"):
            FsspecStore("s3://no-such-bucket/x").put(b"x")
        with pytest.raises(ServiceUnavailable, match="create it first"):  # so that a server does not start
            FsspecStore("s3://no-such-bucket/x").clean()

    def test_keys_that_s3_does_not_know(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        process, url = start_moto(tmp_path_factory.mktemp("strict"), INITIAL_NO_AUTH_ACTION_COUNT="0")
        with drained(process):
            use_s3(monkeypatch, url)
            store = FsspecStore("s3://bucket/x")
            for use in (lambda: store.has([ABSENT]), lambda: store.get(ABSENT), lambda: store.put(b"x")):
                with pytest.raises(AuthenticationFailed, match=r"s3://bucket/x .*credentials") as info:
                    use()
                assert "test-secret" not in str(info.value)

    def test_no_s3_credentials(self, monkeypatch: pytest.MonkeyPatch, s3_endpoint: str) -> None:
        use_s3(monkeypatch, s3_endpoint)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        # an option of its own, so that no other test's connection is used again
        with pytest.raises(AuthenticationFailed):
            FsspecStore("s3://bucket/x", default_block_size=6 << 20).has([ABSENT])

    @pytest.mark.parametrize("key", ["none", "another"])
    def test_a_wrong_ssh_key(self, sshd: Any, home: Path, tmp_path: Path, key: str) -> None:
        sshd.accept(home, key=False)
        if key == "another":
            shutil.copy(sshd.keys / "host", home / ".ssh/id_ed25519")
        with pytest.raises(AuthenticationFailed):
            FsspecStore(sshd.url(tmp_path)).has([ABSENT])

    def test_an_unknown_ssh_host(self, sshd: Any, home: Path, tmp_path: Path) -> None:
        sshd.accept(home, known=False)
        with pytest.raises(AuthenticationFailed, match="not among the known ones") as info:
            FsspecStore(sshd.url(tmp_path)).has([ABSENT])
        assert "ssh 127.0.0.1" in str(info.value)

    def test_another_host_key_than_the_known_one(self, sshd: Any, home: Path, tmp_path: Path) -> None:
        sshd.accept(home)
        known = home / ".ssh/known_hosts"
        host, kind, _ = known.read_text().split()
        other = (sshd.keys / "client.pub").read_text().split()[1]
        known.write_text(f"{host} {kind} {other}\n")
        with pytest.raises(AuthenticationFailed, match="not the known one"):
            FsspecStore(sshd.url(tmp_path)).has([ABSENT])

    @pytest.mark.parametrize(
        ("error", "writing", "kind"),
        [
            (PermissionError(13, "denied"), True, ReadOnly),
            (PermissionError(13, "denied"), False, AuthenticationFailed),
            (OSError(28, "full"), True, NoSpace),
            (OSError(30, "read-only"), True, ReadOnly),
            (EOFError(), False, ServiceUnavailable),
            (BufferMissing(ABSENT), False, BufferMissing),
        ],
    )
    def test_of_the_system_in_our_terms(
        self, error: Exception, writing: bool, kind: type[HashserverError]
    ) -> None:
        assert type(translate(error, "s3://bucket", writing)) is kind

    def test_a_folder_that_may_not_be_written(self, sshd: Any, home: Path, tmp_path: Path) -> None:
        if os.getuid() == 0:
            pytest.skip("root may write everywhere")
        sshd.accept(home)
        tmp_path.chmod(0o500)
        try:
            with FsspecStore(sshd.url(tmp_path / "store")) as store, pytest.raises(ReadOnly):
                store.put(b"data")
        finally:
            tmp_path.chmod(0o700)


class TestSftp:
    def test_the_users_configuration_is_read(self, sshd: Any, home: Path, tmp_path: Path) -> None:
        sshd.accept(home)
        (home / ".ssh/id_ed25519").rename(home / "my-key")
        user = pwd.getpwuid(os.getuid()).pw_name
        (home / ".ssh/config").write_text(
            f"Host cluster\n HostName 127.0.0.1\n Port {sshd.port}\n"
            f" User {user}\n IdentityFile {home}/my-key\n"
        )
        with FsspecStore(f"sftp://cluster{tmp_path}/store") as store:
            assert store.get(store.put(b"data")) == b"data"

    def test_a_lost_connection_is_made_again(self, sftp_backend: Any) -> None:
        with sftp_backend.open() as store:
            checksum = store.put(b"data")
            store._files.fs.client.close()
            with pytest.raises(ServiceUnavailable):
                store.get(checksum)
            assert store.get(checksum) == b"data"

    @pytest.mark.parametrize("kind", ["sftp", "webdav"])
    def test_clean_removes_what_a_dead_writer_left(self, request: pytest.FixtureRequest, kind: str) -> None:
        backend = request.getfixturevalue(f"{kind}_backend")
        process = subprocess.Popen(["true"])
        process.wait()
        incoming = backend.folder / ".tmp"
        incoming.mkdir(parents=True)
        dead = incoming / f"{os.uname().nodename}-{process.pid}-abc-1"
        alive = incoming / f"{os.uname().nodename}-{os.getpid()}-abc-1"
        elsewhere = incoming / "other-host-1-abc-1"
        old = incoming / "other-host-1-abc-2"
        for path in (dead, alive, elsewhere, old):
            path.write_bytes(b"part")
        os.utime(old, (0, 0))
        with backend.open() as store:
            assert store.clean() == 2
        assert sorted(incoming.iterdir()) == sorted([alive, elsewhere])


class TestUploadsInParts:
    """What nobody has finished is given up after a day; what is not ours, or goes on, is left alone."""

    @pytest.fixture
    def begin(self, s3_backend: Any) -> Callable[[str], dict[str, str]]:
        fs = fsspec.filesystem("s3", use_listings_cache=False)
        bucket = s3_backend.url.removeprefix("s3://").split("/", 1)[0]

        def begin(key: str) -> dict[str, str]:
            answer = fs.call_s3("create_multipart_upload", Bucket=bucket, Key=key)
            return {"Bucket": bucket, "Key": key, "UploadId": answer["UploadId"]}

        return begin

    @pytest.fixture
    def keys(self, s3_backend: Any) -> Callable[[], list[str]]:
        fs = fsspec.filesystem("s3", use_listings_cache=False)
        bucket = s3_backend.url.removeprefix("s3://").split("/", 1)[0]

        def keys() -> list[str]:
            answer = fs.call_s3("list_multipart_uploads", Bucket=bucket)
            return sorted(upload["Key"] for upload in answer.get("Uploads", ()))

        return keys

    OURS = f"{ABSENT.prefix}/{ABSENT}"

    @pytest.fixture
    def a_day_later(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Count what has just begun as old; moto's uploads all began in 2010, those of others now."""
        monkeypatch.setattr("hashserver.storage.s3._DAY", -1)

    @pytest.mark.usefixtures("a_day_later")
    def test_are_given_up(
        self, s3_backend: Any, begin: Any, keys: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        begin(f"some/prefix/{self.OURS}")
        with s3_backend.open() as store:
            with monkeypatch.context() as patch:
                patch.setattr("hashserver.storage.s3._DAY", 1 << 40)
                assert store.clean() == 0
            assert store.clean() == 1
            assert store.clean() == 0
        assert keys() == []

    @pytest.mark.usefixtures("a_day_later")
    @pytest.mark.parametrize(
        "key",
        [
            f"some/prefix2/{OURS}",
            f"some/prefix{OURS}",
            f"some/prefix/deeper/{OURS}",
            f"some/prefix/cd/{ABSENT}",
            "some/prefix/ab/results.csv",
            OURS,
        ],
    )
    def test_of_others_are_left_alone(self, s3_backend: Any, begin: Any, keys: Any, key: str) -> None:
        begin(key)
        with s3_backend.open() as store:
            assert store.clean() == 0
        assert keys() == [key]

    @pytest.mark.usefixtures("a_day_later")
    def test_of_others_in_a_bucket_that_is_a_store_are_left_alone(
        self, s3_backend: Any, begin: Any, keys: Any
    ) -> None:
        begin("results.csv")
        begin(f"data/{self.OURS}")
        begin(self.OURS)
        with FsspecStore(s3_backend.url.removesuffix("/some/prefix")) as store:
            assert store.clean() == 1
        assert keys() == [f"data/{self.OURS}", "results.csv"]

    def test_that_still_grow_are_left_alone(
        self, s3_backend: Any, begin: Any, keys: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upload = begin(f"some/prefix/{self.OURS}")
        fs = fsspec.filesystem("s3", use_listings_cache=False)
        fs.call_s3("upload_part", PartNumber=1, Body=b"x", **upload)
        with s3_backend.open() as store:
            assert store.clean() == 0
            monkeypatch.setattr("hashserver.storage.s3._DAY", -1)
            assert store.clean() == 1

    @pytest.mark.usefixtures("a_day_later")
    def test_are_looked_for_on_all_pages(
        self, s3_backend: Any, begin: Any, keys: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        checksums = [hash_bytes(str(number).encode()) for number in range(5)]
        for checksum in checksums:
            begin(f"some/prefix/{checksum.prefix}/{checksum}")
        with s3_backend.open() as store:
            call = store._files.fs._call_s3

            async def two_at_a_time(method: str, **arguments: Any) -> Any:
                # moto makes pages only of more than a thousand: this is what S3 does with them
                answer = await call(method, **arguments)
                if method == "list_multipart_uploads":
                    after = arguments.get("KeyMarker", "")
                    left = [upload for upload in answer.get("Uploads", ()) if upload["Key"] > after]
                    left.sort(key=lambda upload: upload["Key"])
                    answer["Uploads"] = page = left[:2]
                    answer["IsTruncated"] = len(left) > 2
                    if answer["IsTruncated"]:
                        answer |= {
                            "NextKeyMarker": page[-1]["Key"],
                            "NextUploadIdMarker": page[-1]["UploadId"],
                        }
                return answer

            monkeypatch.setattr(store._files.fs, "_call_s3", two_at_a_time)
            assert store.clean() == 5
        assert keys() == []


def use_s3(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    # a connection of another test knows another endpoint
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def refuse(*args: Any) -> None:
    raise PermissionError("Access Denied")


def test_a_place_where_only_tidying_is_refused_stays_writable(monkeypatch: pytest.MonkeyPatch) -> None:
    store = FsspecStore("memory://tidying-refused")
    monkeypatch.setattr(type(store._files), "tidy", refuse)
    assert store.clean() == 0
    assert store.writable


def test_a_refused_upload_passes_a_place_over_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("hashserver.storage.fsspec.monotonic", lambda: now)
    store = FsspecStore("memory://upload-refused")
    with monkeypatch.context() as context:
        context.setattr(type(store._files), "write", refuse)
        with pytest.raises(ReadOnly):
            store.put(b"refused")
    assert not store.writable
    now += 3600
    assert store.writable
    store.put(b"refused")
