"""A pipeline whose early stages end by SIGPIPE is a success; every real failure is one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seamless_dask.execution.pipelines import PRELUDE, excuse

SUCCESSES = [
    ("yes | head -1", "y"),
    ("yes | head -1; echo $?", "y\n0"),
    ("x=$(yes | head -1); echo $x", "y"),
    ("if yes | grep -q y; then echo a; else echo b; fi", "a"),
    ("yes | grep -q y && echo a", "a"),
    ("yes | grep -q y || echo bad", ""),
    ("! yes | grep -q y; echo on", "on"),
    ("if ! yes | grep -q y; then echo bad; fi; echo ok", "ok"),
    ("(yes | head -1)", "y"),
    ("f() { yes | head -1; }; f; echo k", "y\nk"),
    ("f() { yes | head -1; }; if f; then echo k; fi", "y\nk"),
    ("while yes | head -1; do break; done; echo z", "y\nz"),
    ("until yes | grep -q y; do echo bad; done; echo k", "k"),
    ("yes | head -1 > f; cat f", "y"),
    ("yes | head -1 2>&1 >f; echo k", "k"),
    ("cat <<EOF | head -1\nx\ny\nEOF\necho e", "x\ne"),
    ("yes | head -1 <<EOF\nx\nEOF\necho e", "x\ne"),
    ("yes | cat <<EOF | head -1\nx\nEOF\necho e", "x\ne"),
    ("cat <<EOF\n$(yes | head -1)\nEOF", "y"),
    ("{ cat <<X | head -1; }\nq\nw\nX\necho $(yes | head -1)", "q\ny"),
    ("true && yes | head -1; echo k", "y\nk"),
    ("{ yes | head -1; } | cat; echo k", "y\nk"),
    ("{ yes; false; } | head -1; echo k", "y\nk"),
    ("(yes|head -2)|head -1; echo k", "y\nk"),
    ("case x in x) yes | head -1;; esac; echo k", "y\nk"),
    ("time yes | head -1", "y"),
    ("yes |& head -1; echo k", "y\nk"),
    ("yes | head -1 || echo bad; echo k", "y\nk"),
    ("yes |\n head -1 |\n cat\necho $LINENO", "y\n4"),
    ("cat <(yes | head -1); echo k", "y\nk"),
    ("yes | head -1 | tail -1 && yes | head -1 || echo bad", "y\ny"),
    ("yes | while read x; do echo $x; break; done; echo k", "y\nk"),
    ("for i in 1 2; do yes | head -$i; done", "y\ny\ny"),
    ("IFS=01; yes | head -1; echo k", "y\nk"),
    ("set -u; yes | head -1; echo k", "y\nk"),
    ("set -euo pipefail; yes | head -1; echo k", "y\nk"),
    ("set +e; yes | head -1; echo $?; set -e; echo k", "y\n0\nk"),
    ("yes | head -1; case $- in *e*) echo on;; esac", "y\non"),
    # these were right all along, and must stay so
    ("false | cat || echo good", "good"),
    ("if false | cat; then echo bad; else echo good; fi", "good"),
    ("set +e; false | cat; echo $?", "1"),
    ("cat <<A | cat && echo k\nb\nA\n", "b\nk"),
    ("false | cat && echo bad || echo good", "good"),
    ("[[ ab =~ (a|b) ]] && echo m; case z in a|z) echo c;; esac", "m\nc"),
    ("echo 'a | b' \"c | d\"", "a | b c | d"),
    ("! false | cat; echo k", "k"),
    ("set +e; false | cat; echo ${PIPESTATUS[0]}", "1"),
    ("echo è | cat; yes ß | head -1", "è\nß"),
]

FAILURES = [
    ("false | head -1; echo no", 1, ""),
    ("x=$(false | cat); echo no", 1, ""),
    ("yes | head -1 | false; echo no", 1, ""),
    ("yes | false", 1, ""),
    ("false | yes | head -1; echo no", 141, "y"),
    ("f() { false | cat; echo in; }; f; echo no", 1, ""),
    ("f() { false; echo in; }; f | cat; echo no", 1, ""),
    ("{ false; echo h; } | cat; echo no", 1, ""),
    ("yes | sh -c 'kill -PIPE $$'; echo no", 141, ""),
    ("sh -c 'kill -PIPE $$'; echo no", 141, ""),
    ("eval 'false | cat'; echo no", 1, ""),
    ("set +e; yes | head -1; set -e; false; echo no", 1, "y"),
    ("yes | head -1; false; echo no", 1, "y"),
    ("yes | head -1; (false; echo no); echo no", 1, "y"),
    ("yes | head -1; exit 3", 3, "y"),
    ("yes | { head -1; exit 4; }; echo no", 4, "y"),
    ("set -euo pipefail; yes | head -1; false; echo no", 1, "y"),
    ("true && false | cat; echo no", 1, ""),
    ("(false | cat); echo no", 1, ""),
    ("for i in 1; do false | cat; done; echo no", 1, ""),
    ("a() { yes | head -1; false; }; a; echo no", 1, "y"),
    ("trap 'echo T' EXIT; false | cat; echo no", 1, "T"),
]

STRICT = [
    # cannot be marked: judged as Bash does it
    ("eval 'yes | head -1'; echo no", 141, "y"),
    ("trap 'echo T' ERR; yes | head -1; echo no", 141, "y\nT"),
    ("x=`yes | head -1`; echo no", 141, ""),
    ("yes | head -1 & wait $!; echo no", 141, "y"),
]


def bash(code: str, directory: Path) -> tuple[int, str]:
    prelude = directory.parent / f"{directory.name}.prelude"  # not where the command looks
    prelude.write_text("unset BASH_ENV\n" + PRELUDE)
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", excuse(code)],
        capture_output=True, text=True, cwd=directory, check=False, stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "BASH_ENV": str(prelude)},
    )  # fmt: skip
    return done.returncode, done.stdout.rstrip("\n")


@pytest.mark.parametrize(("code", "output"), SUCCESSES)
def test_success(code: str, output: str, tmp_path: Path) -> None:
    assert bash(code, tmp_path) == (0, output)


@pytest.mark.parametrize(("code", "status", "output"), FAILURES + STRICT)
def test_failure(code: str, status: int, output: str, tmp_path: Path) -> None:
    assert bash(code, tmp_path) == (status, output)


@pytest.mark.parametrize(
    "code",
    [
        "echo a || echo b",
        "echo 'x",
        "echo ${PIPESTATUS[0]} | cat",
        "a | b &",
        "! { a; } | b",
        "time { a; } | b",
        # these could see the marks
        "trap 'echo failed' ERR; a | b",
        "trap 'echo step' SIGDEBUG; a | b",
        "set -eux; a | b",
        "set -o xtrace; a | b",
        "set -a; a | b",
        "set | grep x",
        "f() { a | b; }; export -f f; xargs bash -c f",
        'f() { a | b; }; bash -c "$(declare -f f); f"',
        "shopt -s lastpipe; a | read x",
    ],
)
def test_is_left_alone(code: str) -> None:
    assert excuse(code) == code


def test_tracing_by_shell_flags_is_left_alone() -> None:
    assert excuse("a | b", ["-xeo", "pipefail"]) == "a | b" == excuse("a | b", ["-e"])
    assert excuse("a | b", ["-eu", "-o", "pipefail"]) != "a | b"


ATTACKS = [
    "set +e; (exit 6); echo $? | cat",
    "f() { return 4; }; f || echo rc=$? | cat",
    "set +e; (exit 6); ! echo $? | grep -q 6; echo $?",
    'mkdir d; ls | wc -l; echo "$_"',
    'mkdir d; ! ls | false; echo "$_"',
    "readonly s=3; echo a | cat; echo $s",
    "shift() { echo no; }; return() { echo no; }; set() { echo no; }; true | false || echo a | cat",
    "for i in 1 2; do echo $i | cat || break; done; echo $i | cat",
    "! echo a | cat; eval 'false | true'; echo no",
    "cat <<\\EOF\n$(a | b)\nEOF\necho x | cat",
    'cat <<E"O"F | cat\n$(a | b)\nEOF\necho x | cat',
    "cat <<'E F'\n$(a | b)\nE\nE F\necho x | cat",
    "cat <<EOF\n\\$(a | b) \\\\$(echo c | cat)\nEOF\necho x | cat",
    "cat <<A; cat <<B\n$(echo 1 | cat) | x\nA\necho a | cat\nB\necho x | cat",
    "x=$(cat <<'E'\na | b \"it's\nE\n); echo \"$x\" | cat",
    "case b in (a|b) echo 2 | cat;; esac; echo $(case a in a) echo x | cat;; esac | cat)",
    "echo $((5 | 2)) | cat; (( x = 4 << 1 | 1 )); echo $x | cat; echo ${x//|/ | } | cat",
    'coproc { cat | cat; }; eval "exec ${COPROC[1]}>&-"; cat <&"${COPROC[0]}" | cat',
    "echo a \\\n | cat # b |\necho c | # d\n cat",
    "exit 4 | cat || echo r$?; exit 7 | cat",
    "trap 'rc=$?; echo $rc' EXIT; true | (exit 9)",
    "set +o pipefail; false | true; echo ok; true | false; echo no",
    "echo a | cat\nexit 0\ngarbage ) ( | here",
]


@pytest.mark.parametrize("code", ATTACKS)
def test_nothing_else_is_seen(code: str, tmp_path: Path) -> None:
    marked, plain = tmp_path / "marked", tmp_path / "plain"
    marked.mkdir()
    plain.mkdir()
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", code], capture_output=True, text=True, cwd=plain, check=False,
        stdin=subprocess.DEVNULL, env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
    )  # fmt: skip
    assert bash(code, marked) == (done.returncode, done.stdout.rstrip("\n"))


@pytest.mark.parametrize("code", [" && ".join(["true"] * 3000) + " | cat", "true | true # …\n" * 5000])
def test_long_scripts(code: str) -> None:
    assert excuse(code).count("esac") == code.count(" | ")


STAGES = st.sampled_from(["cat", "{ cat; false; }", "(cat; exit 2)", "f", "{ cat; g; }"])
SIMPLE = st.sampled_from(
    ["true", "false", "echo 1", "f </dev/null", "g", "x=$(echo 2 | cat)", "x=$(g | cat; g)", "echo $? | cat"]
)


def _compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    pipeline = st.tuples(inner, STAGES).map(" | ".join) | st.tuples(inner, STAGES, STAGES).map(" | ".join)
    group = st.sampled_from(
        ["{ %s; }", "( %s )", "if %s; then echo 3; else echo 4; fi", "for i in 1 2; do %s; done"]
    )
    pair = st.tuples(inner, st.sampled_from([" && ", " || ", "; ", "\n", " | cat && "]), inner).map("".join)
    grouped = st.tuples(group, inner | pair).map(lambda found: found[0] % found[1])
    negated = pipeline.map(lambda text: f"true; ! {text}")
    return pipeline | grouped | st.tuples(group, pair | negated).map(lambda found: found[0] % found[1])


@settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(parts=st.lists(st.recursive(SIMPLE, _compound, max_leaves=6), min_size=1, max_size=3))
def test_nothing_else_changes(parts: list[str], tmp_path: Path) -> None:
    """Without SIGPIPE, output and status are those of plain Bash."""
    code = "\n".join(
        ["f() { cat | cat; echo f; }", "g() { echo g | cat; false | cat; echo no; }", *parts, "echo end"]
    )
    plain = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False,
        stdin=subprocess.DEVNULL, env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
    )  # fmt: skip
    assert bash(code, tmp_path) == (plain.returncode, plain.stdout.rstrip("\n"))
