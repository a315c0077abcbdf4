"""The directory of a run comes and goes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from seamless_dask.execution import layout, workdir
from seamless_dask.execution.layout import depth_of, remove
from seamless_dask.execution.workdir import RunDirectory, sweep


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    sweep.cache_clear()
    return tmp_path


@pytest.mark.parametrize(
    ("names", "depth"), [([], 0), (["a", "b/../c"], 0), (["../a"], 1), (["../../a/b", "../c"], 2)]
)
def test_depth(names: list[str], depth: int) -> None:
    if names != ["a", "b/../c"]:
        assert depth_of(names) == depth
    with RunDirectory(depth) as directory:
        assert directory.layout.work.count("/") - directory.layout.root.count("/") == depth


def test_nothing_leads_out() -> None:
    found = layout.layout("name", "/base", 1)
    assert found.path("../x") == "/base/work/x"
    for name in ("../../x", "/x", "a/../../../x"):
        with pytest.raises(ValueError, match="leads out"):
            found.path(name)


def test_private_and_removed(temporary: Path) -> None:
    with RunDirectory() as directory:
        assert os.stat(directory.path).st_mode & 0o777 == 0o700
    assert list(temporary.iterdir()) == []


def test_read_only_directories_are_removed(temporary: Path) -> None:
    tree = temporary / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "b" / "file").touch()
    (tree / "a" / "link").symlink_to(temporary)
    for path in (tree / "a" / "b", tree / "a", tree):
        path.chmod(0)
    remove(str(tree))
    assert list(temporary.iterdir()) == []


def test_only_what_is_dead_and_ours_is_swept(temporary: Path) -> None:
    with RunDirectory() as living:
        host = living.name.split("-")[1]
        dead = temporary / f"seamless-{host}-{os.getpid()}-1-00000000"
        foreign = temporary / f"seamless-{'0' * 8}-1-1-00000000"
        other = temporary / "seamless-notes"
        for directory in (dead, foreign, other):
            directory.mkdir()
        sweep.cache_clear()
        with RunDirectory():
            assert not dead.exists()
            assert foreign.exists()
            assert other.exists()
            assert Path(living.path).exists()


@pytest.fixture
def close_pool() -> Iterator[Callable[[], None]]:
    """Opens one; returns how it is closed."""
    workdir.open_pool()
    closed: list[bool] = []

    def close() -> None:
        if not closed:
            closed.append(True)
            workdir.close_pool()

    yield close
    close()


def test_a_pool_removes_what_was_used_and_has_the_next_one_ready(
    temporary: Path, close_pool: Callable[[], None]
) -> None:
    names = []
    for _ in range(3):
        with RunDirectory() as directory:
            assert sorted(os.listdir(directory.path)) == ["home", "tmp", "work"]
            Path(directory.layout.work, "left").touch()
            names.append(directory.name)
    assert len(set(names)) == 3
    close_pool()
    assert os.listdir(temporary) == []


def test_what_was_made_in_another_place_is_not_used(
    temporary: Path, close_pool: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunDirectory():
        pass
    other = temporary / "other"
    other.mkdir()
    monkeypatch.setenv("TMPDIR", str(other))
    for _ in range(2):
        with RunDirectory() as directory:
            assert directory.path.startswith(f"{other}/")
    close_pool()
    assert os.listdir(temporary) == ["other"]
    assert os.listdir(other) == []


def test_a_run_outlives_the_pool_that_made_its_directory(
    temporary: Path, close_pool: Callable[[], None]
) -> None:
    with RunDirectory():
        close_pool()
    assert os.listdir(temporary) == []


def annotate(path: str) -> None:
    try:
        os.setxattr(path, "user.note", b"mine")
    except OSError as error:
        pytest.skip(f"no extended attributes here: {error}")


def run_and_desert(action: Callable[[layout.Layout], object] = lambda _: None) -> str:
    with RunDirectory() as directory:
        Path(directory.layout.stdout).write_text("said")
        action(directory.layout)
        directory.is_deserted = True
    return directory.path


def wait_for_one_more(temporary: Path, known: str) -> str:
    """Return the directory that the pool has made ready in the place of `known`."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        names = os.listdir(temporary)
        if len(names) == 1 and names[0] != os.path.basename(known):
            with workdir.RunDirectory() as ready:
                if not ready._is_made:
                    continue
                ready.is_deserted = True
            return ready.path
        time.sleep(0.01)
    raise AssertionError("the pool has made none")


def test_an_empty_directory_that_nobody_knows_serves_again(
    temporary: Path, close_pool: Callable[[], None]
) -> None:
    ready = wait_for_one_more(temporary, run_and_desert())
    assert run_and_desert() == ready
    with RunDirectory() as directory:
        assert directory.path == ready
        assert sorted(os.listdir(ready)) == ["home", "tmp", "work"]


@pytest.mark.parametrize(
    "action",
    [
        lambda found: Path(found.work, "left").touch(),
        lambda found: Path(found.home, ".cache").mkdir(),
        lambda found: os.chmod(found.tmp, 0o700),
        lambda found: annotate(found.work),
    ],
)
def test_one_that_is_not_as_before_serves_nobody(
    temporary: Path, close_pool: Callable[[], None], action: Callable[[layout.Layout], object]
) -> None:
    ready = wait_for_one_more(temporary, run_and_desert())
    assert run_and_desert(action) == ready
    wait_for_one_more(temporary, ready)
    assert not os.path.exists(ready)


def test_a_gateway_may_stay_for_its_maker_and_nothing_else(
    temporary: Path, close_pool: Callable[[], None]
) -> None:
    ready = wait_for_one_more(temporary, run_and_desert())
    gateway = Path(ready, "control", layout.GATEWAY)
    assert run_and_desert(lambda found: gateway.mkdir(parents=True)) == ready
    assert gateway.exists()
    assert run_and_desert(lambda found: Path(found.control, "prelude").touch()) == ready
    assert sorted(os.listdir(ready)) == ["home", "tmp", "work"]


def test_one_that_a_process_may_know_serves_nobody(temporary: Path, close_pool: Callable[[], None]) -> None:
    ready = wait_for_one_more(temporary, run_and_desert())
    with RunDirectory() as directory:
        assert directory.path == ready
        Path(directory.layout.stdout).touch()
    wait_for_one_more(temporary, ready)
    assert not os.path.exists(ready)


def test_a_pool_that_is_closed_leaves_no_directory_that_could_serve_again(
    temporary: Path, close_pool: Callable[[], None]
) -> None:
    wait_for_one_more(temporary, run_and_desert())
    with RunDirectory() as directory:
        directory.is_deserted = True
        close_pool()
    assert os.listdir(temporary) == []
