from __future__ import annotations

import contextlib
import os
import stat
import threading
from pathlib import Path

import pytest

from hashserver.auth import NOTHING, READ, WRITE, Authorization, Token, create_token_file, read_token_file
from hashserver.errors import AuthenticationFailed


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "tokens")


def write(path: str, text: str, mode: int = 0o600) -> str:
    Path(path).write_text(text)
    os.chmod(path, mode)
    return path


def test_a_new_file_has_a_token_of_each_kind_and_is_private(path: str) -> None:
    create_token_file(path)
    assert [token.access for token in read_token_file(path)] == [WRITE, READ]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_file_that_is_in_use_is_not_replaced(path: str) -> None:
    create_token_file(path)
    before = Path(path).read_text()
    with pytest.raises(FileExistsError):
        create_token_file(path)
    assert Path(path).read_text() == before


def test_of_many_that_start_at_once_one_makes_the_file_and_none_reads_half_of_it(tmp_path: Path) -> None:
    made, read = [], []
    barrier = threading.Barrier(8)

    def start() -> None:
        for number in range(20):
            path = str(tmp_path / str(number))
            barrier.wait()
            with contextlib.suppress(FileExistsError):
                create_token_file(path)
                made.append(path)
            read.append(len(read_token_file(path)))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == len(os.listdir(tmp_path)) == 20
    assert read == [2] * 160


def test_new_tokens_differ(tmp_path: Path) -> None:
    for name in "ab":
        create_token_file(str(tmp_path / name))
    secrets = {t.secret for name in "ab" for t in read_token_file(str(tmp_path / name))}
    assert len(secrets) == 4


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(path: str, mode: int) -> None:
    with pytest.raises(AuthenticationFailed, match="chmod 600"):
        read_token_file(write(path, "read 0123456789abcdef\n", mode))


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "write 0123456789abcdef\n", "read short\n", "0123456789abcdef"]
)
def test_a_file_without_a_usable_token_is_refused_and_not_quoted(path: str, text: str) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        read_token_file(write(path, text))
    assert "0123456789abcdef" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_refused(path: str) -> None:
    Path(path).write_bytes(b"read \xff\xfe")
    os.chmod(path, 0o600)
    with pytest.raises(AuthenticationFailed, match="not a token file"):
        read_token_file(path)


def test_a_missing_file_is_named(path: str) -> None:
    with pytest.raises(AuthenticationFailed, match=path):
        read_token_file(path)


def test_a_token_does_not_show_its_secret() -> None:
    assert "topsecret" not in repr(Token(READ, "topsecret")) + str(Token(READ, "topsecret"))


def test_a_gate_tells_readers_from_writers_and_strangers() -> None:
    gate = Authorization([Token(READ, "r" * 16), Token(WRITE, "w" * 16)])
    assert gate.access("Bearer " + "r" * 16) == READ
    assert gate.access("Bearer " + "w" * 16) == WRITE
    for wrong in (None, "", "r" * 16, "Bearer", "Bearer ", "bearer " + "r" * 16, "Bearer r", "Bearer \udcff"):
        assert gate.access(wrong) == NOTHING
