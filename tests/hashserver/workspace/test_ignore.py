from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pathspec import GitIgnoreSpec

from hashserver.checksum import hash_bytes
from hashserver.errors import TreeError
from hashserver.statcache import NullStatCache
from hashserver.workspace.ignore import BY_PRODUCTS, IGNORE_FILE, LeaveOut, bounded, ignore_files
from hashserver.workspace.index import index_bytes
from hashserver.workspace.survey import slim_index
from hashserver.workspace.tree import build

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [
    "a",
    "b",
    "c.log",
    "d.pyc",
    "__pycache__",
    "foo",
    "bar.txt",
    ".DS_Store",
    "x y",
    ".ipynb_checkpoints",
]
PATTERNS = [
    "a", "b/", "*.log", "*.pyc", "foo/", "/foo", "a/b", "a/*", "a/**", "**/b", "a/**/b", "*", "*/", "/*",
    "**", "**/", "foo/**", "!*.log", "!foo/", "!a/b", "!/a", "!*.pyc", "!__pycache__/", "!*/", "!foo/*",
    "!!foo", "!#c", "\\!x", "#c", "", "/", "//", "x y", "x y ", "[ab]", "[", "?", "!?", "a/b/", "!**/b/",
    "!.DS_Store",
]  # fmt: skip


def trees() -> st.SearchStrategy[dict[str, bytes]]:
    """Relative path → content; a third of the files are rules."""
    rules = st.lists(st.sampled_from(PATTERNS), max_size=6).map(lambda lines: "\n".join(lines).encode())
    folders = st.lists(st.sampled_from(NAMES), max_size=3).map("/".join)
    name = st.one_of(
        st.tuples(folders, st.sampled_from(NAMES), st.just(b"x")),
        st.tuples(folders, st.just(IGNORE_FILE), rules),
    )
    return st.lists(name, min_size=1, max_size=14).map(_without_clashes)


def _without_clashes(found: list[tuple[str, str, bytes]]) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for folder, name, data in found:
        path = f"{folder}/{name}" if folder else name
        above = [path[:end] for end, letter in enumerate(path) if letter == "/"]
        if not any(one in files for one in above) and not any(one.startswith(path + "/") for one in files):
            files[path] = data
    return files


def write(root: Path, files: dict[str, bytes], ignore: str = IGNORE_FILE) -> None:
    for path, data in files.items():
        target = root / path.replace(IGNORE_FILE, ignore)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def kept(files: dict[str, bytes], by_products: bool = True) -> set[str]:
    judge = LeaveOut(ignore_files(files), files.__getitem__, by_products)
    return set(files) - judge.of(files)


several = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@several
@given(files=trees())
def test_the_grammar_is_gits(files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("git")
    git = ["git", "-C", str(root), "-c", "core.excludesFile=/dev/null"]
    subprocess.run([*git, "init", "-q"], check=True)
    (root / ".git" / "info").mkdir(exist_ok=True)
    (root / ".git" / "info" / "exclude").write_text("\n".join(BY_PRODUCTS))  # what all others go before
    write(root, files, ".gitignore")
    done = subprocess.run(
        [*git, "ls-files", "--others", "--exclude-standard", "-z"], check=True, capture_output=True, text=True
    )
    data = {path for path in files if not path.endswith(IGNORE_FILE)}
    assert kept(files) & data == set(done.stdout.split("\0")) & data


@several
@given(files=trees(), by_products=st.booleans())
def test_a_directory_and_its_index_keep_the_same(
    files: dict[str, bytes], by_products: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("set")
    write(root, files)
    uploaded = build(root, NullStatCache())  # leaves out what the rules name
    scanned = build(root, NullStatCache(), by_products=not by_products)
    store = {hash_bytes(data): data for data in files.values()}
    gone = str(root / "deleted")
    slim = slim_index(gone, uploaded.data, uploaded.checksum, store.__getitem__, by_products)
    assert slim.checksum == scanned.checksum
    assert slim_index(gone, slim.data, slim.checksum, store.__getitem__, by_products).left_out == 0
    whole = index_bytes({path: hash_bytes(data) for path, data in files.items()})
    assert (
        slim_index(gone, whole, hash_bytes(whole), store.__getitem__, by_products).checksum == slim.checksum
    )


@pytest.mark.parametrize("by_products", [False, True])
def test_without_rules_only_by_products_go(by_products: bool) -> None:
    names = [
        "a.py",
        "a.pyc",
        "__pycache__/a.cpython.pyc",
        "sub/.git/HEAD",
        ".gitignore",
        "sub/.DS_Store",
        "git/x",
    ]
    plain = ["a.py", ".gitignore", "git/x"]
    assert kept(dict.fromkeys(names, b""), by_products) == set(plain if by_products else names)


def test_rules_take_by_products_back_in() -> None:
    files = {"a.pyc": b"", "__pycache__/b.pyc": b"", IGNORE_FILE: b"!*.pyc\n"}
    assert kept(files) == {"a.pyc", IGNORE_FILE}


def test_the_rules_themselves_always_count() -> None:
    files = {"a": b"", "sub/b": b"", IGNORE_FILE: b"*\n!/sub/\n", f"sub/{IGNORE_FILE}": b"!b\n"}
    assert kept(files) == {IGNORE_FILE, f"sub/{IGNORE_FILE}", "sub/b"}


def test_many_wildcards_take_no_longer_than_one() -> None:
    # with the library's own regular expressions each of these takes years
    name, path = "a" * 200, "a/" * 200
    files = {name: b"", f"{path}a": b""}
    for pattern in ("*a" * 40 + "b", "*a[a-z]?" * 20 + "b", "**/a/" * 30 + "b", "**/*a*a*/" * 30 + "b"):
        assert kept(files | {IGNORE_FILE: pattern.encode()}) == {*files, IGNORE_FILE}
    assert kept(files | {IGNORE_FILE: b"*a" * 40}) == {f"{path}a", IGNORE_FILE}


_parts = st.one_of(st.just("**"), st.text("ab*?", min_size=1, max_size=5), st.just("[ab]*a"))
_names = st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=6).map("/".join)


@settings(max_examples=300)
@given(pattern=st.lists(_parts, min_size=1, max_size=4).map("/".join), paths=st.lists(_names, min_size=5))
def test_they_match_what_the_library_matches(pattern: str, paths: list[str]) -> None:
    for one in GitIgnoreSpec.from_lines([pattern]).patterns:
        if one.regex is not None:
            whole = re.compile(one.regex.pattern.replace("(?:(?P<ps_d>/)|$)", r"\Z"))
            for path in paths:
                assert bool(bounded(one.regex).match(path)) == bool(whole.match(path))


def test_rules_in_whose_place_there_is_a_pipe_are_not_waited_for(tmp_path: Path) -> None:
    rules = b"*.log\n"
    index = index_bytes({IGNORE_FILE: hash_bytes(rules), "a": hash_bytes(b"a"), "a.log": hash_bytes(b"b")})
    os.mkfifo(tmp_path / IGNORE_FILE)
    slim = slim_index(str(tmp_path), index, hash_bytes(index), lambda _: rules, True)
    assert slim.left_out == 1


def test_rules_of_any_length_are_not_read_into_memory(tmp_path: Path) -> None:
    with open(tmp_path / IGNORE_FILE, "wb") as file:
        file.truncate(1 << 30)  # next to nothing in an archive
    (tmp_path / "a").touch()
    with pytest.raises(TreeError, match="longer than rules may be"):
        build(tmp_path, NullStatCache(), by_products=False)
