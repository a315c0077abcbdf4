"""Directories: what belongs to their identity, and what makes them have none."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from hashserver.atomic import temporary_path
from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import FileChanged, InvalidIndex, SidecarError, TreeError
from hashserver.hashing import Hashed, hash_files
from hashserver.statcache import NullStatCache, StatCache
from hashserver.workspace.index import index_bytes
from hashserver.workspace.sidecar import Future, write_directory_sidecars, write_file_sidecar, write_future
from hashserver.workspace.tree import build, directory_state, identify, make_folders, plan, scan

GOLDEN = "1e6a002da99e98f4fa594efdd821fcc8948e89ef92ecee4ab5654f39416d1d87"
NONE = NullStatCache()
ONE, TWO = hash_bytes(b"one"), hash_bytes(b"two")
FUTURE = Future(ONE, None, None, "host", 1)

Make = Callable[[dict[str, bytes]], Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Make the directory `set` with the files given."""

    def make(files: dict[str, bytes]) -> Path:
        root = tmp_path / "set"
        root.mkdir(exist_ok=True)
        for name, data in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
        return root

    return make


def index_of(root: Path) -> dict[str, Checksum]:
    return build(root, NONE).index


def write_pair(root: Path) -> Checksum:
    tree = build(root, NONE)
    write_directory_sidecars(root, tree.checksum, tree.data)
    return tree.checksum


def refuses(root: Path, *parts: str) -> None:
    with pytest.raises(TreeError) as caught:
        build(root, NONE)
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text


class TestIdentity:
    def test_golden(self, make: Make) -> None:
        root = make({"a.txt": b"hello\n", "sub/b.bin": b"x"})
        tree = build(root, NONE)
        assert tree.checksum == GOLDEN
        assert tree.data == index_bytes(tree.index)
        assert tree.sizes == {"a.txt": 6, "sub/b.bin": 1}
        assert (tree.scan.warnings, tree.stale) == ([], [])

    def test_it_does_not_depend_on_place_mode_or_time(self, make: Make, tmp_path: Path) -> None:
        root = make({"a.txt": b"hello\n", "sub/b.bin": b"x"})
        (root / "a.txt").chmod(0o755)
        os.utime(root / "a.txt", (1, 1))
        (tmp_path / "link").symlink_to("set")
        assert build(tmp_path / "link", NONE).checksum == GOLDEN
        assert build(f"{root}/", NONE).checksum == GOLDEN
        root.rename(tmp_path / "renamed")
        assert build(tmp_path / "renamed", NONE).checksum == GOLDEN

    def test_names_of_every_legal_kind(self, make: Make) -> None:
        names = [
            "a\nb",
            "é",
            "e\u0301",
            '"',
            "\\",
            " ",
            "-rf",
            "~",
            "日本/語",
            "a.gz",
            ".hidden",
            "...",
            "*?",
        ]
        root = make({name: name.encode() for name in names})
        assert index_of(root) == {name: hash_bytes(name.encode()) for name in names}

    def test_very_deep_directories(self, tmp_path: Path) -> None:
        deep = tmp_path / "/".join(["d"] * 1200)
        for start in range(0, 1200, 100):
            (tmp_path / "/".join(["d"] * (start + 100))).mkdir(parents=True)
        (deep / "x").write_bytes(b"one")
        assert index_of(tmp_path) == {"d/" * 1200 + "x": ONE}
        (deep / "x").unlink()
        for depth in range(1200, 0, -1):  # too deep for shutil.rmtree
            (tmp_path / "/".join(["d"] * depth)).rmdir()

    def test_an_empty_directory(self, make: Make) -> None:
        assert build(make({}), NONE).data == b"{}\n"

    def test_empty_directories_below_are_named_once(self, make: Make) -> None:
        root = make({"a": b"one"})
        (root / "empty" / "inner").mkdir(parents=True)
        tree = build(root, NONE)
        assert tree.index == {"a": ONE}
        assert len(tree.scan.warnings) == 1
        assert f"{root}/empty is empty" in tree.scan.warnings[0]

    def test_unfinished_files_of_ours_do_not_count(self, make: Make) -> None:
        root = make({"a": b"one"})
        temporary = Path(temporary_path(str(root / "b")))
        temporary.write_bytes(b"half")
        assert index_of(root) == {"a": ONE}


class TestLinks:
    def test_to_a_file_are_followed(self, make: Make, tmp_path: Path) -> None:
        root = make({"a": b"one"})
        (tmp_path / "outside").write_bytes(b"two")
        (root / "in").symlink_to("a")
        (root / "out").symlink_to(tmp_path / "outside")
        (root / "twice").symlink_to("out")
        assert index_of(root) == {"a": ONE, "in": ONE, "out": TWO, "twice": TWO}

    def test_to_a_directory_are_not_and_are_named(self, make: Make) -> None:
        root = make({"sub/a": b"one"})
        (root / "link").symlink_to("sub")
        (root / "loop").symlink_to(".")
        tree = build(root, NONE)
        assert tree.index == {"sub/a": ONE}
        assert sorted(line.split(" is ")[0] for line in tree.scan.warnings) == [
            f"{root}/link",
            f"{root}/loop",
        ]

    def test_broken(self, make: Make) -> None:
        root = make({})
        (root / "link").symlink_to("nowhere")
        refuses(root, f"{root}/link", "broken link", "nowhere")

    def test_through_a_file(self, make: Make) -> None:
        root = make({"a": b"one"})
        (root / "link").symlink_to("a/b")
        refuses(root, "broken link")

    def test_cyclic(self, make: Make) -> None:
        root = make({})
        (root / "one").symlink_to("two")
        (root / "two").symlink_to("one")
        refuses(root, "leads back to itself")

    def test_to_a_special_file(self, make: Make) -> None:
        root = make({})
        (root / "null").symlink_to("/dev/null")
        refuses(root, "null", "a device")


class TestNoIdentity:
    def test_a_pipe(self, make: Make) -> None:
        root = make({})
        os.mkfifo(root / "pipe")
        refuses(root, f"{root}/pipe", "a named pipe")

    def test_a_socket(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        root = make({})
        monkeypatch.chdir(root)  # the address of a socket must be short
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
            refuses(root, "a socket")

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_a_name_that_is_not_utf8(self, make: Make, kind: str) -> None:
        root = make({})
        path = os.fsencode(root) + b"/\xff\xfe"
        os.mkdir(path) if kind == "folder" else os.close(os.open(path, os.O_CREAT))
        refuses(root, "\\xff\\xfe", "not UTF-8")

    def test_no_directory(self, tmp_path: Path) -> None:
        refuses(tmp_path / "none", "none", "No such file")

    @pytest.mark.parametrize("name", ["file", "folder/x"])
    def test_what_cannot_be_read(self, make: Make, name: str) -> None:
        root = make({name: b"one"})
        (root / name.split("/")[0]).chmod(0)
        root.chmod(0o755)
        code = """
import os, hashserver.errors, hashserver.workspace.tree
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
from hashserver.errors import TreeError
from hashserver.statcache import NullStatCache
from hashserver.workspace.tree import build
try:
    build(".", NullStatCache())
except TreeError as error:
    print(error)
"""
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
        )
        (root / name.split("/")[0]).chmod(0o755)
        assert done.stdout.startswith("cannot read "), done.stderr
        assert done.stdout.endswith("Permission denied\n")
        assert name.split("/")[0] in done.stdout


class TestSidecarsInside:
    def test_the_own_pair_does_not_count(self, make: Make) -> None:
        root = make({"a.txt": b"hello\n", "sub/b.bin": b"x"})
        write_pair(root)
        write_pair(root / "sub")
        assert build(root, NONE).checksum == GOLDEN

    def test_an_index_left_by_an_interrupted_write_does_not_count(self, make: Make) -> None:
        root = make({"a.txt": b"hello\n", "sub/b.bin": b"x"})
        write_pair(root)
        (root / ".CHECKSUM").unlink()
        assert build(root, NONE).checksum == GOLDEN

    def test_sidecars_of_members_do_not_count(self, make: Make) -> None:
        root = make({"a.txt": b"hello\n", "sub/b.bin": b"x"})
        write_file_sidecar(root / "a.txt", hash_bytes(b"hello\n"))
        write_file_sidecar(root / "sub" / "b.bin", hash_bytes(b"x"))
        assert build(root, NONE).checksum == GOLDEN
        for name in ("a.txt", "sub/b.bin"):
            (root / name).unlink()
            assert build(root, NONE).checksum == GOLDEN

    @pytest.mark.parametrize("content", [b"", b"md5: 1234", ONE[:-1].encode(), b"\xff"])
    def test_other_content_is_data(self, make: Make, content: bytes) -> None:
        names = ["x.CHECKSUM", "x.FUTURE", "x.INDEX", ".INDEX", ".FUTURE", "y", "y.CHECKSUM"]
        root = make(dict.fromkeys(names, content))
        assert index_of(root) == dict.fromkeys(names, hash_bytes(content))

    def test_all_is_data_when_taken_literally(self, make: Make) -> None:
        root = make({"x.CHECKSUM": ONE.encode(), "a": b"one"})
        write_future(root / "y", FUTURE)
        files = scan(root, literal=True).files
        assert {path for path, _ in files} == {"x.CHECKSUM", "y.FUTURE", "a"}

    def test_an_index_beside_nothing_is_data(self, make: Make) -> None:
        root = make({"x.INDEX": index_bytes({"a": ONE})})
        assert set(index_of(root)) == {"x.INDEX"}

    def test_a_directory_below_that_was_deleted_after_upload(self, make: Make) -> None:
        root = make({"a.txt": b"hello\n", "sub/b.bin": b"x", "sub/deep/c": b"one"})
        expected = index_of(root)
        write_pair(root / "sub")
        for name in ("sub/b.bin", "sub/deep/c"):
            (root / name).unlink()
        assert index_of(root) == expected
        assert scan(root).warnings == [f"{root}/sub/deep is empty: it has no identity and is left out"]
        (root / "sub" / "deep").rmdir()
        assert scan(root).warnings == []
        assert scan(root).stand_ins == {"sub/b.bin": hash_bytes(b"x"), "sub/deep/c": ONE}

    def test_but_without_its_index_it_must_be_fetched(self, make: Make) -> None:
        root = make({"sub/b.bin": b"x"})
        write_pair(root / "sub")
        for name in ("sub/b.bin", "sub/.INDEX"):
            (root / name).unlink()
        refuses(root, f"{root}/sub", "seamless-download")

    @pytest.mark.parametrize("exists", [True, False])
    def test_a_deleted_directory_with_the_pair_of_seamless_1(self, make: Make, exists: bool) -> None:
        root = make({"a.txt": b"hello\n", "sub/b.bin": b"x"})
        index = index_bytes({"b.bin": hash_bytes(b"x")})
        (root / "sub.INDEX").write_bytes(index)
        (root / "sub.CHECKSUM").write_text(hash_bytes(index))
        assert build(root, NONE).checksum == GOLDEN
        (root / "sub" / "b.bin").unlink()
        if not exists:
            (root / "sub").rmdir()
        assert build(root, NONE).checksum == GOLDEN

    def test_pairs_that_disagree(self, make: Make) -> None:
        root = make({"sub/b.bin": b"x"})
        write_pair(root / "sub")
        (root / "sub.CHECKSUM").write_text(ONE)
        with pytest.raises(SidecarError, match="disagree"):
            build(root, NONE)

    def test_members_that_are_not_what_their_sidecars_say(self, make: Make) -> None:
        root = make({"a": b"one", "sub/b": b"x", "sub/c": b"y", "good": b"two"})
        write_file_sidecar(root / "a", TWO)
        write_file_sidecar(root / "good", TWO)
        write_pair(root / "sub")
        assert build(root, NONE).stale == ["a"]
        (root / "sub" / "c").unlink()
        assert build(root, NONE).stale == ["a", "sub"]

    def test_a_member_that_a_job_is_making(self, make: Make) -> None:
        root = make({"a": b"one"})
        write_future(root / "sub", FUTURE)
        write_file_sidecar(root / "sub", TWO)  # older; the future goes before it
        found = scan(root)
        assert (found.futures, found.stand_ins) == ({"sub": FUTURE}, {})
        refuses(root, f"{root}/sub", "still being made")

    def test_a_member_that_a_job_is_making_anew(self, make: Make) -> None:
        root = make({"a": b"one"})
        write_future(root / "a", FUTURE)
        tree = build(root, NONE)
        assert tree.index == {"a": ONE}
        assert "made anew" in tree.scan.warnings[0]

    @pytest.mark.parametrize("pair", [True, False])
    def test_an_empty_directory_that_a_job_is_making(self, make: Make, pair: bool) -> None:
        root = make({"a": b"one", "sub/b": b"x"})
        if pair:
            write_pair(root / "sub")
        (root / "sub" / "b").unlink()
        write_future(root / "sub", FUTURE)
        found = scan(root)
        assert (found.futures, found.stand_ins, found.warnings) == ({"sub": FUTURE}, {}, [])


class TestState:
    def test_absent_empty_present(self, make: Make, tmp_path: Path) -> None:
        assert directory_state(tmp_path / "set") == "absent"
        root = make({})
        assert directory_state(root) == "empty"
        (root / "sub").mkdir()
        assert directory_state(root) == "empty"
        make({"sub/a": b"one"})
        assert directory_state(root) == "present"

    def test_nothing_but_its_own_pair(self, make: Make) -> None:
        root = make({"sub/a": b"one"})
        write_pair(root)
        assert directory_state(root) == "present"
        (root / "sub" / "a").unlink()
        assert directory_state(root) == "absent"
        (root / "sub").rmdir()
        assert directory_state(root) == "absent"

    def test_emptied_beside_a_pair_of_seamless_1(self, make: Make) -> None:
        root = make({})
        Path(f"{root}.CHECKSUM").write_text(GOLDEN)
        assert directory_state(root) == "absent"

    def test_data_that_bear_the_names_of_sidecars(self, make: Make) -> None:
        assert directory_state(make({".CHECKSUM": b"not ours"})) == "present"


class TestIdentify:
    def test_a_file_its_sidecar_or_both(self, make: Make) -> None:
        root = make({"a": b"one"})
        path = root / "a"
        assert identify(root / "none", NONE) is None
        found = identify(path, NONE)
        assert found is not None
        assert (found.kind, found.checksum, found.present, found.sidecar) == ("file", ONE, True, None)
        write_file_sidecar(path, ONE)
        assert identify(path, NONE) is not None
        path.unlink()
        found = identify(path, NONE)
        assert found is not None
        assert (found.kind, found.checksum, found.present) == ("file", ONE, False)

    def test_a_file_that_has_changed(self, make: Make) -> None:
        path = make({"a": b"one"}) / "a"
        write_file_sidecar(path, TWO)
        with pytest.raises(SidecarError) as caught:
            identify(path, NONE)
        expected = f"{path} has changed since its sidecar was written: seamless-upload {path} to use it"
        assert str(caught.value) == expected

    def test_a_directory_its_pair_or_both(self, make: Make) -> None:
        root = make({"a.txt": b"hello\n", "sub/b.bin": b"x"})
        for _ in range(2):
            found = identify(root, NONE)
            assert found is not None
            assert (found.kind, found.checksum, found.present) == ("directory", GOLDEN, True)
            assert found.tree is not None
            write_pair(root)
        (root / "a.txt").unlink()
        (root / "sub" / "b.bin").unlink()
        found = identify(root, NONE)
        assert found is not None
        assert (found.kind, found.checksum, found.present, found.tree) == ("directory", GOLDEN, False, None)

    def test_a_directory_that_is_partly_there(self, make: Make) -> None:
        root = make({"a.txt": b"hello\n", "sub/b.bin": b"x"})
        write_pair(root)
        (root / "a.txt").unlink()
        with pytest.raises(
            SidecarError, match=f"seamless-download {root} to complete.*seamless-upload --replace {root}"
        ):
            identify(root, NONE)

    @pytest.mark.parametrize("change", [{"a.txt": b"other"}, {"new": b""}])
    def test_a_directory_that_has_changed(self, make: Make, change: dict[str, bytes]) -> None:
        root = make({"a.txt": b"hello\n", "sub/b.bin": b"x"})
        write_pair(root)
        make(change)
        with pytest.raises(SidecarError) as caught:
            identify(root, NONE)
        assert "has changed since its sidecar was written" in str(caught.value)
        assert "complete" not in str(caught.value)

    def test_a_directory_with_a_member_that_has_changed(self, make: Make) -> None:
        root = make({"a": b"one"})
        write_file_sidecar(root / "a", TWO)
        with pytest.raises(SidecarError, match=f"{root}/a has changed"):
            identify(root, NONE)

    def test_an_empty_directory_is_the_empty_index(self, make: Make) -> None:
        found = identify(make({}), NONE)
        assert found is not None
        assert found.checksum == hash_bytes(b"{}\n")


class TestCaching:
    def test_only_what_has_changed_is_read_again(self, make: Make, tmp_path: Path) -> None:
        root = make({"a": b"one", "sub/b": b"x", "sub/é\n": b"y"})
        cache = StatCache(tmp_path / "stat.db")
        asked: list[list[str]] = []

        def settled(paths: Sequence[str], sizes: Sequence[int]) -> list[Hashed]:
            asked.append(sorted(os.path.relpath(path, root) for path in paths))
            assert len(sizes) == len(paths)
            # As if it had all been written long before.
            return [one._replace(began=one.began + 10**11) for one in hash_files(paths, sizes)]

        first = build(root, cache, settled)
        again = build(root, cache, settled)
        assert again.index == first.index
        make({"sub/b": b"longer"})
        assert build(root, cache, settled).index["sub/b"] == hash_bytes(b"longer")
        assert asked == [["a", "sub/b", "sub/é\n"], ["sub/b"]]
        cache.close()

    def test_what_is_to_be_linked_is_not_remembered(self, make: Make, tmp_path: Path) -> None:
        root = make({"a": b"one"})
        os.utime(root / "a", (1, 1))
        cache = StatCache(tmp_path / "stat.db")
        build(root, cache, remember=False)
        assert not (tmp_path / "stat.db").exists()


class TestPlan:
    def test_what_is_there_missing_different_and_extra(self, make: Make) -> None:
        root = make(
            {"same": b"one", "sub/same": b"two", "other": b"x", "extra": b"", "sub/.CHECKSUM": b"data"}
        )
        write_pair(root)
        index = {"same": ONE, "sub/same": TWO, "other": ONE, "gone": ONE, "sub/gone": ONE, "new/x/gone": ONE}
        found = plan(root, index, NONE)
        assert found.present == ["same", "sub/same"]
        assert found.missing == ["gone", "new/x/gone", "sub/gone"]
        assert found.different == ["other"]
        assert found.extra == ["extra", "sub/.CHECKSUM"]

    def test_no_directory_yet(self, tmp_path: Path) -> None:
        assert plan(tmp_path / "none", {"a": ONE}, NONE) == ([], ["a"], [], [])

    def test_what_stands_in_the_way(self, make: Make, tmp_path: Path) -> None:
        root = make({"file": b"one", "folder/x": b"one"})
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "x").write_bytes(b"one")
        (root / "link").symlink_to("../elsewhere")
        (root / "broken").symlink_to("nowhere")
        (root / "good").symlink_to("file")
        os.mkfifo(root / "pipe")
        wanted = ["file/x", "folder", "link/x", "link/new", "broken", "good", "pipe", "folder/x/y/z"]
        found = plan(root, dict.fromkeys(wanted, ONE), NONE)
        assert found.present == ["good"]
        assert found.missing == []
        assert found.different == sorted(set(wanted) - {"good"})

    @pytest.mark.parametrize("path", ["../x", "/x", "a/../../x", ""])
    def test_a_path_that_leads_out(self, make: Make, path: str) -> None:
        with pytest.raises(InvalidIndex):
            plan(make({}), {path: ONE}, NONE)


class TestFolders:
    def test_are_made(self, tmp_path: Path) -> None:
        for _ in range(2):
            make_folders(tmp_path / "new", ["a/b/c", "d/e", "f"])
        assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
            "new",
            "new/a",
            "new/a/b",
            "new/d",
        ]

    @pytest.mark.parametrize("way", ["link", "file"])
    def test_never_through_a_link_or_a_file(self, make: Make, tmp_path: Path, way: str) -> None:
        root = make({"file": b""})
        (root / "link").symlink_to(tmp_path)
        with pytest.raises(TreeError, match=f"{root}/{way} is in the way"):
            make_folders(root, [f"{way}/deep/x"])
        assert os.listdir(tmp_path) == ["set"]

    def test_never_out_of_it(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidIndex):
            make_folders(tmp_path / "set", ["../x/y"])
        assert not (tmp_path / "x").exists()


class TestChangesMeanwhile:
    """What is in a directory while it is read must be in it at the end: an index tells of one state."""

    @pytest.mark.parametrize("change", ["added", "removed", "in a folder", "renamed"])
    def test_is_an_error(self, make: Make, change: str) -> None:
        root = make({"a.txt": b"a", "b.txt": b"b", "sub/c.txt": b"c"})

        def hash_many(paths: Sequence[str], sizes: Sequence[int]) -> list[Hashed]:
            found = hash_files(paths, sizes)
            if change == "removed":
                (root / "a.txt").unlink()
            elif change == "renamed":
                (root / "a.txt").rename(root / "sub" / "a.txt")
            else:
                (root / ("sub/new" if change == "in a folder" else "new")).write_bytes(b"new")
            _age(root)  # as if a while had passed since it was listed
            return found

        with pytest.raises(FileChanged, match="changed while it was read"):
            build(root, NullStatCache(), hash_many)

    def test_by_products_and_sidecars_do_not_matter(self, make: Make) -> None:
        root = make({"a.py": b"a"})

        def hash_many(paths: Sequence[str], sizes: Sequence[int]) -> list[Hashed]:
            (root / "__pycache__").mkdir()
            (root / "__pycache__" / "a.pyc").write_bytes(b"compiled")
            write_directory_sidecars(root, hash_bytes(b""), b"{}\n")
            _age(root)
            return hash_files(paths, sizes)

        assert list(build(root, NullStatCache(), hash_many, by_products=False).index) == ["a.py"]

    def test_rules_that_change(self, make: Make) -> None:
        root = make({"a.log": b"a", "b": b"b", ".seamlessignore": b"*.log\n"})

        def hash_many(paths: Sequence[str], sizes: Sequence[int]) -> list[Hashed]:
            (root / ".seamlessignore").write_bytes(b"!*.log\n")
            return hash_files(paths, sizes)

        with pytest.raises(FileChanged, match=r"\.seamlessignore changed"):
            build(root, NullStatCache(), hash_many)


def _age(root: Path) -> None:
    """Give folders times that differ from those of a moment ago, however coarse the clock is."""
    for folder in (root, root / "sub"):
        if folder.exists():
            os.utime(folder, ns=(1, 1))
