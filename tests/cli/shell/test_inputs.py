"""What a line reads and writes, held against a real tree of files and sidecars."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hashserver.checksum import hash_bytes
from hashserver.errors import SidecarError
from hashserver.workspace.index import index_bytes
from hashserver.workspace.sidecar import Future, write_directory_sidecars, write_file_sidecar, write_future
from seamless_cli.run.options import parse
from seamless_cli.shell.collect import Inputs, collect, count
from seamless_cli.shell.commandline import parse as parse_text
from seamless_dask.errors import UsageError
from seamless_dask.model.transformation import ResultSpec

SUM = hash_bytes(b"x")


@pytest.fixture
def tree(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a few files; the current directory is ``project/run``."""
    here = home / "project" / "run"
    for name in (
        "a.txt",
        "b.txt",
        "data/x.csv",
        "data/y.csv",
        "sub/a.txt",
        "plain",
        "script.sh",
        "../up.txt",
    ):
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    for name in ("sp ace.txt", "new\nline.txt", "ü.txt", "k=v.txt", "c,d.txt"):
        (here / name).write_text(name)
    monkeypatch.chdir(here)
    monkeypatch.delenv("PWD", raising=False)
    monkeypatch.setenv("HOME", str(home / "nobody"))
    return here


def meant(*argv: str) -> Inputs:
    options = parse(argv)
    return collect(options.text, options)


def names(*argv: str) -> list[str]:
    return sorted(meant(*argv).inputs)


def captured(*argv: str) -> list[tuple[str, str]]:
    return [(item.path, item.local) for item in meant(*argv).captures]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat a.txt", ["a.txt"]),
        ("cat ./a.txt data//x.csv", ["a.txt", "data/x.csv"]),
        (
            "cat 'sp ace.txt' sp\\ ace.txt \"ü.txt\" $'new\\nline.txt'",
            ["new\nline.txt", "sp ace.txt", "ü.txt"],
        ),
        ("cat a.txt 2>&1 | sort - b.txt", ["a.txt", "b.txt"]),
        ("sort < a.txt", ["a.txt"]),
        ("cat <<E\na.txt\nE\n", []),
        ("cat <<E b.txt\n$(cat a.txt)\nE\n", ["a.txt", "b.txt"]),
        ("cat <<< a.txt", []),
        ("diff <(sort a.txt) <(sort b.txt)", ["a.txt", "b.txt"]),
        ("tool --in=a.txt if=b.txt", ["a.txt", "b.txt"]),
        ("tool --in=a.txt,b.txt a.txt,missing,sub/a.txt", ["a.txt", "b.txt", "sub/a.txt"]),
        ("tool x=y=a.txt", ["a.txt"]),
        ("tool k=v.txt c,d.txt", ["c,d.txt", "k=v.txt"]),
        ("cat data/*.csv", ["data/x.csv", "data/y.csv"]),
        ("cat data/[!x]*.csv d?ta/x.csv", ["data/x.csv", "data/y.csv"]),
        ("cat {a,b}.txt data/{x,y}.c*", ["a.txt", "b.txt", "data/x.csv", "data/y.csv"]),
        ("cat 'data/*.csv' \\*.txt", []),
        ("for f in data/*.csv; do wc $f; done", ["data/x.csv", "data/y.csv"]),
        ("F=a.txt; cat $F", ["a.txt"]),
        ("[[ -f a.txt ]] && cat b.txt", ["a.txt", "b.txt"]),
        ("./script.sh data", ["data", "script.sh"]),
        ("plain a.txt", ["a.txt"]),
        ("cat plain", ["plain"]),
        ("ls . .. ../.. ~ /tmp / -", []),
        ("cat /etc/passwd /dev/null /usr/bin/env", []),
        ("/bin/cat a.txt", ["a.txt"]),
        ("cat ../up.txt", ["../up.txt"]),
        ("cat ../run/a.txt sub/../b.txt", ["a.txt", "b.txt"]),
        ("cat data data/x.csv", ["data"]),
        ("cat missing.txt $x", []),
        ("awk '{print $1}' a.txt", ["a.txt"]),
        (f"echo {'x' * 5000} {'y' * 300}", []),
    ],
)
@pytest.mark.usefixtures("tree")
def test_inputs_of_a_line(text: str, expected: list[str]) -> None:
    assert names("-c", text) == expected


def test_the_active_environment_is_never_an_input(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tree / "venv" / "bin" / "tool.py"
    tool.parent.mkdir(parents=True)
    tool.write_text("")
    assert names("venv/bin/tool.py", "a.txt") == ["a.txt", "venv/bin/tool.py"]
    monkeypatch.setenv("VIRTUAL_ENV", str(tree / "venv"))
    assert names("venv/bin/tool.py", "a.txt") == ["a.txt"]


def test_a_sidecar_stands_for_its_file(tree: Path) -> None:
    write_file_sidecar("gone.txt", SUM)
    write_file_sidecar("data/z.csv", SUM)
    write_file_sidecar("a.txt", SUM)
    found = meant("-c", "cat gone.txt data/*.csv a.txt").inputs
    assert sorted(found) == ["a.txt", "data/x.csv", "data/y.csv", "data/z.csv", "gone.txt"]
    assert [
        (found[name].exists, bool(found[name].sidecar)) for name in ("gone.txt", "a.txt", "data/x.csv")
    ] == [
        (False, True),
        (True, True),
        (True, False),
    ]


def test_a_pending_result_is_an_input(tree: Path) -> None:
    write_future("soon.csv", Future(SUM, "soon.csv", None, "host", 1))
    found = meant("cat", "soon.csv").inputs["soon.csv"]
    assert found.future is not None
    assert names("-c", "cat *.csv") == ["soon.csv"]


def test_members_of_a_directory_that_is_gone_are_known_from_its_index(tree: Path) -> None:
    index = {"m.csv": SUM, "deep/n.csv": hash_bytes(b"n")}
    write_directory_sidecars("set", hash_bytes(index_bytes(index)), index_bytes(index))
    found = meant("-c", "cat set/m.csv set/deep/*.csv").inputs
    assert {name: item.sidecar and item.sidecar.checksum for name, item in found.items()} == {
        "set/m.csv": SUM,
        "set/deep/n.csv": hash_bytes(b"n"),
    }
    assert names("ls", "set/deep") == ["set/deep"]  # as when it is here: one identity
    assert meant("ls", "set").inputs["set"].kind == "directory"


def test_a_damaged_sidecar_is_an_error(tree: Path) -> None:
    (tree / "bad.txt.CHECKSUM").write_text("what?\n")
    with pytest.raises(SidecarError, match=r"bad\.txt\.CHECKSUM"):
        meant("cat", "bad.txt")


def test_a_sidecar_that_is_named_is_taken_literally(tree: Path) -> None:
    write_file_sidecar("gone.txt", SUM)
    found = meant("cat", "gone.txt.CHECKSUM")
    assert found.inputs["gone.txt.CHECKSUM"].literal
    assert "did you mean gone.txt?" in found.warnings[0]
    assert meant("cat", "gone.txt").warnings == ()


@pytest.mark.parametrize("make", ["broken", "cyclic"])
def test_a_link_that_leads_nowhere_is_an_error(tree: Path, make: str) -> None:
    (tree / "link.txt").symlink_to("nothing" if make == "broken" else "link.txt")
    with pytest.raises(UsageError, match=r"link\.txt"):
        meant("cat", "link.txt")


def test_a_fifo_is_no_input(tree: Path) -> None:
    os.mkfifo("pipe.txt")
    assert names("cat", "pipe.txt") == []
    (note,) = meant("cat", "pipe.txt").notes
    assert note == "pipe.txt is no input, but a pipe, socket or device (-g1 leaves this out)"


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["-c", "cat a.txt"], []),
        (["-c", "cat a.txt > out.csv"], [("out.csv", "out.csv")]),
        (["-c", "cat a.txt >> ./out.csv 2> err"], [("out.csv", "./out.csv")]),
        (["-c", "cat a.txt > x; sort b.txt > out.csv"], [("out.csv", "out.csv")]),
        (["-c", "cat a.txt > /dev/null"], []),
        (["-c", "cat a.txt > $x"], []),
        (["-c", "cd data && cat x.csv > out.csv"], []),
        (["--capture", "out.csv:here/r.csv", "-c", "cat a.txt > out.csv"], [("out.csv", "here/r.csv")]),
        (["--capture", "out", "-c", "cat a.txt > out/x.csv"], [("out", "out")]),
        (["--capture", ":all.txt", "-c", "cat a.txt"], [("", "all.txt")]),
        (["--capture", "a\\:b:c", "cmd"], [("a:b", "c")]),
        (["--capture", "out/*.csv", "cmd"], [("out/*.csv", "out")]),
        (["--capture", "*.csv:res", "cmd"], [("*.csv", "res")]),
        (["--capture", "./d/", "cmd"], [("d", "./d")]),
        (["--capture", "x", "--capture", "x", "cmd"], [("x", "x")]),
    ],
)
@pytest.mark.usefixtures("tree")
def test_results_of_a_line(argv: list[str], expected: list[tuple[str, str]]) -> None:
    assert captured(*argv) == expected


@pytest.mark.parametrize("text", ["", ":", "x:", ".", "..", "a/..", "/elsewhere/x", "*.csv", "/"])
@pytest.mark.usefixtures("tree")
def test_what_cannot_be_a_result_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        meant(f"--capture={text}", "cmd")


def test_results_that_meet_are_refused(tree: Path) -> None:
    with pytest.raises(UsageError, match="twice"):
        meant("--capture", "a:x", "--capture", "b:x", "cmd")
    with pytest.raises(UsageError, match="twice"):
        meant("--capture", "a:x", "--capture", "a:y", "cmd")


def test_the_declared_result_follows_the_captures(tree: Path) -> None:
    assert meant("cmd").result == ResultSpec(stdout=True)
    assert meant("-cp", "b", "-cp", "a", "-cp", "g/*", "-cp", ":s", "cmd").result == ResultSpec(
        True, ("a", "b"), ("g/*",)
    )


def test_an_output_is_never_an_input_and_its_sidecar_is_not_looked_at(tree: Path) -> None:
    (tree / "a.txt.CHECKSUM").write_text("damaged")
    assert names("--capture", "a.txt", "-c", "tool -o a.txt b.txt; cat ./a.txt") == ["b.txt"]
    assert names("-c", "cat b.txt > a.txt; cat a.txt 2> plain") == ["b.txt"]
    assert names("--capture", "data", "-c", "ls data/x.csv data") == []
    assert names("--capture", "data/*.csv", "-c", "ls data/x.csv b.txt") == ["b.txt"]
    (tree / "a.txt.CHECKSUM").unlink()
    assert names("-c", "cat *.txt > b.txt; ls data") == [
        "a.txt",
        "c,d.txt",
        "data",
        "k=v.txt",
        "new\nline.txt",
        "sp ace.txt",
        "ü.txt",
    ]


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (
            ["-w", "..", "-c", "cat ../up.txt  a.txt data/*.csv | wc"],
            "cat up.txt  run/a.txt run/data/*.csv | wc",
        ),
        (["-w", "..", "-c", "cat 'data'/*.csv \"a.txt\""], "cat run/data/*.csv run/a.txt"),
        (["-w", "data", "-c", "cat data/x.csv a.txt"], "cat x.csv ../a.txt"),
        (["-ms", "-c", "cat data/[xy].csv 'sp ace.txt' ../up.txt"], "cat x.csv y.csv 'sp ace.txt' up.txt"),
        (["-ms", "-c", "cat data/{x,y}.csv"], "cat x.csv y.csv"),
        (["-ms", "-c", "tool --in=data/x.csv,sub/a.txt"], "tool --in=x.csv,a.txt"),
        (["-ms", "sub/../script.sh"], "./script.sh"),
        (
            ["-mx", "-c", "cat b.txt data/x.csv b.txt < ../up.txt"],
            "cat file1.txt file2.csv file1.txt < file3.txt",
        ),
        (["-c", "cat ../run/a.txt"], "cat a.txt"),
    ],
)
@pytest.mark.usefixtures("tree")
def test_words_of_renamed_inputs_are_replaced_and_nothing_else(argv: list[str], text: str) -> None:
    assert meant(*argv).text == text


def test_a_rewritten_text_reads_what_is_named(tree: Path) -> None:
    text = f"cat {tree}/a.txt {tree}/data/*.csv '{tree}/sp ace.txt' > {tree}/out.csv 2> {tree}/err"
    found = meant("-c", text)
    assert found.text == "cat a.txt data/*.csv 'sp ace.txt' > out.csv 2> err"
    assert captured("-c", text) == [("out.csv", f"{tree}/out.csv")]


def test_the_root_is_a_directory_like_any_other(tree: Path) -> None:
    assert meant("-W", "cat", "a.txt").text == f"cat {tree}/a.txt".replace(" /", " ")
    assert names("-W", "-c", "/bin/cat /etc/passwd") == []


def test_home_is_seen_through_a_tilde(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree.parent))
    assert meant("-c", "cat ~/run/a.txt '~/run/a.txt' ~").text == "cat a.txt '~/run/a.txt' ~"
    with pytest.raises(UsageError, match="outside"):
        meant("-c", "cat ~/up.txt")


def test_the_name_by_which_the_user_came_here_is_understood(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree.parent / "link").symlink_to(tree)
    monkeypatch.setenv("PWD", str(tree.parent / "link"))
    assert meant("cat", f"{tree.parent}/link/a.txt").text == "cat a.txt"


@pytest.mark.parametrize(
    "argv",
    [
        ["-c", "cat OUTSIDE/up.txt"],
        ["--input", "OUTSIDE/up.txt", "cmd"],
        ["-c", "cat a.txt > OUTSIDE/new.txt"],
        ["-ms", "-c", "cat a.txt sub/a.txt"],
        ["-ms", "-c", "cat data/x.csv > x.csv"],
        ["--input", "missing", "cmd"],
        ["--input", "a.txt", "-c", "sort b.txt > a.txt"],
        ["--input-file", "missing", "cmd"],
        ["--stdin", "missing", "cmd"],
        ["--stdin", "data", "cmd"],
        ["--writable", "a.txt", "cmd"],
        ["-w", "missing", "cmd"],
    ],
)
def test_what_cannot_be_meant_is_refused(tree: Path, argv: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        meant(*(word.replace("OUTSIDE", str(tree.parent)) for word in argv))
    assert "\n" not in str(caught.value)


def test_inputs_are_named_by_options(tree: Path) -> None:
    Path("list").write_text("data/x.csv\nsp ace.txt\n\n")
    found = meant(
        "-i", "plain", "-I", "list", "-i", "sub/*.txt", "--stdin", "a.txt", "--writable", "plain", "cmd"
    )
    assert sorted(found.inputs) == ["data/x.csv", "plain", "sp ace.txt", "sub/a.txt"]
    assert found.stdin is not None
    assert found.stdin.path == str(tree / "a.txt")
    assert found.writable == ("plain",)
    assert len(found.all) == 5


def test_the_current_directory_is_taken_entry_by_entry_without_results(tree: Path) -> None:
    Path(".hidden").write_text("")
    Path("out.csv").write_text("an older one")
    write_file_sidecar("out.csv", SUM)
    found = names("--input", ".", "-c", "ls > out.csv")
    assert found == [
        "a.txt",
        "b.txt",
        "c,d.txt",
        "data",
        "k=v.txt",
        "new\nline.txt",
        "plain",
        "script.sh",
        "sp ace.txt",
        "sub",
        "ü.txt",
    ]
    assert set(names("--input", "..", "cmd")) == {*found, "out.csv", "../up.txt"}


@pytest.mark.parametrize(
    ("argv", "note"),
    [
        (["-c", "cat a.txt > x; sort b.txt > out.csv"], "not captured: x"),
        (["-c", "cat a.txt 2> err"], "not captured: err"),
        (["-c", "sort a.txt > a.txt"], "a.txt is written by the command"),
        (["cat", "missing.txt"], "missing.txt"),
        (["-c", "cat nothing/*.csv"], "nothing/*.csv"),
        (["tool", "--in=missing.txt"], "missing.txt"),
        (["cat", "plain"], "plain"),
        (["-c", 'cat "data/$x.csv" $(ls)'], '"data/$x.csv", $(ls)'),
        (["-c", "cd data; ls"], "changes directory"),
        (["-c", "cd data; ls > l.txt"], "change of directory"),
        (["-c", "ls > $x.txt"], "$x.txt is not captured"),
        (["-c", "cat a.txt >> log.txt"], ">>"),
        (["--var", "F=a.txt", "-c", "cat $F"], "--input a.txt"),
    ],
)
@pytest.mark.usefixtures("tree")
def test_what_may_be_a_slip_is_noted(argv: list[str], note: str) -> None:
    found = meant(*argv).notes
    assert any(note in line for line in found)
    assert not any("\n" in line for line in found)


@pytest.mark.parametrize(
    "text",
    [
        "cat a.txt > out.csv",
        "sort b.txt > a.txt",
        "cat a.txt 2> /dev/null",
        "awk '{print $1}' a.txt",
        "for f in *.txt; do wc $f; done",
        "X=a.txt; cat $X; echo $? $((1+2))",
        "sed s/a/b.c/ a.txt",
        "python3 -c 'import os.path'",
        "head -n 5 1.5 http://example.org/x.html",
        "diff <(sort a.txt) <(sort b.txt)",
        "./script.sh",
        "cat data/* < plain",
    ],
)
@pytest.mark.usefixtures("tree")
def test_what_is_usual_is_not_noted(text: str) -> None:
    found = meant("-c", text)
    assert (found.notes, found.warnings) == ((), ())


def test_guessing_is_limited_by_options(tree: Path) -> None:
    assert meant("-g1", "cat", "missing.txt").notes == ()
    assert meant("-g2", "-c", "cat plain missing.txt").notes == ()
    assert names("-g2", "-c", "cat plain data a.txt data/* ./script.sh < plain") == [
        "a.txt",
        "data/x.csv",
        "data/y.csv",
        "plain",
        "script.sh",
    ]
    assert names("-g2", "-i", "plain", "cmd") == ["plain"]


def test_a_result_inside_of_an_input_is_no_part_of_it(tree: Path) -> None:
    line = ("--capture", "data/out.csv", "tool", "data/")
    for notes in (
        (),
        ("data/out.csv is a result of the command, so the local one is no part of the input data/",),
    ):
        found = meant(*line)
        apart = found.inputs["data"].apart
        assert apart is not None
        assert [apart(name) for name in ("out.csv", "out.csv.bak", "x.csv")] == [True, False, False]
        assert (found.notes, found.warnings) == (notes, ())
        (tree / "data" / "out.csv").write_text("out")


def test_no_member_is_looked_at_where_no_result_can_lie(tree: Path) -> None:
    assert meant("--capture", "out.csv", "tool", "data").inputs["data"].apart is None


def test_shell_text_of_a_rare_form_is_warned_of(tree: Path) -> None:
    found = meant("-c", "cat a.txt; cat 3<> b.txt")
    assert "column" in found.warnings[0]
    assert "a.txt" in found.inputs


def test_a_member_behind_a_link_to_a_directory_stays_an_input(tree: Path) -> None:
    (tree / "data" / "link").symlink_to(tree / "sub")
    assert names("-c", "cat data data/link/a.txt data/x.csv") == ["data", "data/link/a.txt"]


def test_what_no_sidecar_names_is_counted(tree: Path) -> None:
    write_file_sidecar("b.txt", SUM)
    found = count(meant("-c", "cat a.txt b.txt data").all)
    assert found == (3, len("a.txt" + "data/x.csv" + "data/y.csv"))


NAME = st.text(st.sampled_from("ab .*?[]{},~$'\"\\=é-"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(NAME, min_size=1, max_size=3))
def test_files_of_any_name_are_found_and_read_back(tree: Path, found: set[str]) -> None:
    folder = tree / "odd"
    folder.mkdir(exist_ok=True)
    for name in found:
        (folder / name).write_text(name)
    paths = sorted(f"odd/{name}" for name in found)
    assert names("cat", *paths) == paths
    moved = meant("-w", "odd", "cat", *paths)
    assert sorted(moved.inputs) == sorted(found)
    done = subprocess.run(["bash", "-c", moved.text], cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "".join(path[4:] for path in paths)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("axy*?[]!-./cdtv'\\"), min_size=1, max_size=10))
def test_patterns_match_what_bash_matches(tree: Path, pattern: str) -> None:
    text = f"printf '%s\\0' {pattern}"
    try:
        line = parse_text(text)
    except UsageError:
        return
    words = line.commands[0].words[2:]
    if line.not_understood or not any(word.glob for word in words) or ".." in pattern:
        return
    done = subprocess.run(["bash", "-c", text], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"})
    seen = {os.path.normpath(path) for path in done.stdout.decode().split("\0")[:-1] if os.path.lexists(path)}
    kept = {path for path in seen if path != "." and not path.startswith("/")}
    inputs = set(names("-c", f"printf {pattern}")) if not any(path.startswith("/") for path in seen) else kept
    covered = {path for path in kept if any(path.startswith(other + "/") for other in kept)}
    assert inputs == kept - covered
