"""Shell text is taken apart as bash would take it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seamless_cli.shell import commandline
from seamless_cli.shell.commandline import parse, replace
from seamless_dask.errors import UsageError


def uses(text: str) -> list[tuple[str | None, str]]:
    """Return values and roles of all words but names of commands."""
    return [(use.word.value, use.role) for use in parse(text).uses if use.role != "command"]


def values(text: str) -> list[str | None]:
    return [value for value, _ in uses(text)]


def commands(text: str) -> list[list[str | None]]:
    return [[word.value for word in command.words] for command in parse(text).commands]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat a.txt 'b c' \"d\" e\\ f", [["cat", "a.txt", "b c", "d", "e f"]]),
        (
            "cat a | sort b && wc c || ls d; ls e & ls f",
            [["cat", "a"], ["sort", "b"], ["wc", "c"], ["ls", "d"], ["ls", "e"], ["ls", "f"]],
        ),
        ("for i in a b; do cat c; done", [["cat", "c"]]),
        ("while read l; do cat c; done < f", [["read", "l"], ["cat", "c"]]),
        ("until test -f a; do cat c; done", [["test", "-f", "a"], ["cat", "c"]]),
        (
            "if a b; then c d; elif e f; then g h; else i j; fi",
            [["a", "b"], ["c", "d"], ["e", "f"], ["g", "h"], ["i", "j"]],
        ),
        ("case x in a|b) cat c;; *) cat d;; esac", [["cat", "c"], ["cat", "d"]]),
        ("f() { cat a; }; function g { cat b; }; f c", [["cat", "a"], ["cat", "b"], ["f", "c"]]),
        ("(cd d; cat a); { cat b; }", [["cd", "d"], ["cat", "a"], ["cat", "b"]]),
        ("! cat a; time cat b", [["cat", "a"], ["time", "cat", "b"]]),
        ("A=b cat c", [["cat", "c"]]),
        ("cat a # cat b", [["cat", "a"]]),
        ("cat a\\\nb \\\n c", [["cat", "ab", "c"]]),
        ("cat \\ a \\ \\ b\\ ", [["cat", " a", "  b "]]),
        ("cat ] [ x] y[", [["cat", "]", "[", "x]", "y["]]),
        ('cat $"a b" a$ \'$x\' "\\$x"', [["cat", "a b", "a$", "$x", "$x"]]),
        ("cat ü 'é à'", [["cat", "ü", "é à"]]),
        ("for ((i=0; i<3; i++)); do cat a; done", [["cat", "a"]]),
    ],
)
def test_simple_commands_are_found_wherever_they_stand(text: str, expected: list[list[str]]) -> None:
    assert commands(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("echo $(cat a)", ["a"]),
        ('echo "x $(cat a) y"', ["a"]),
        ("echo `cat a`", ["a"]),
        ('echo "$(cat "$(head b)" a)"', ["b", "a"]),
        ("diff <(sort a) <(sort b)", ["a", "b"]),
        ("tee >(wc -l > n) < a", ["-l", "n", "a"]),
        ("echo $(<a)", ["a"]),
        ("cat <<E\n$(cat a)\nE\n", ["a"]),
        ("echo ${x:-$(cat a)}", ["a"]),
        ("x=$(cat a)", ["a"]),
        ("[[ -n $(cat a) ]]", ["a"]),
    ],
)
def test_substitutions_are_looked_into(text: str, expected: list[str]) -> None:
    assert [value for value in values(text) if value not in (None, "x", "echo")] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cat < a > b", [("a", "read"), ("b", "write")]),
        (
            "cat a 2>&1 2> e >> f &> g >| h",
            [("a", "argument"), ("e", "write"), ("f", "write"), ("g", "write"), ("h", "write")],
        ),
        ("cat > out a.txt", [("out", "write"), ("a.txt", "argument")]),
        ("> out cat a", [("out", "write"), ("a", "argument")]),
        ("cat 2>&1 >&2 <&3 >&- a", [("a", "argument")]),
        ("cat >& all", [("all", "write")]),
        ("cat <<< 'a b'", []),
        ("cat <<E\na.txt b.txt\nE\n", []),
        ("cat <<'E' | sort b\na $x\nE\n", [("b", "argument")]),
        ("for i in a 'b c' *.txt; do :; done", [("a", "list"), ("b c", "list"), ("*.txt", "list")]),
        (
            "A=a.txt; export B=b.txt; C=(c d)",
            [("a.txt", "assignment"), ("b.txt", "assignment"), ("c", "list"), ("d", "list")],
        ),
        ("[[ -f a && b -nt c ]]", [("a", "test"), ("b", "test"), ("c", "test")]),
        ("case a in b*) ;; esac", [("a", "list")]),
        ("while :; do :; done < a > b", [("a", "read"), ("b", "write")]),
    ],
)
def test_words_have_roles(text: str, expected: list[tuple[str, str]]) -> None:
    assert uses(text) == expected


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("cat a > out", "out"),
        ("cat a >> out", "out"),
        ("cat a &> out", "out"),
        ("cat a 1> out", "out"),
        ("cat a >| out", "out"),
        ("cat a | sort > out", "out"),
        ("cat a && sort b > out", "out"),
        ("cat a > x; sort b > out", "out"),
        ("cat a > x > out", "out"),
        ("{ cat a; cat b; } > out", "out"),
        ("(cat a; cat b > out)", "out"),
        ("for i in a; do cat $i; done > out", "out"),
        ("cat <<E > out\nx\nE\n", "out"),
        ("cat <<E | sort > out\nx\nE\n", "out"),
        ("cat a > out &", "out"),
        ("cat a > out # why", "out"),
        ("cat a > out; ", "out"),
        ("f() { cat a; } > x; f > out", "out"),
        ("cat a 2> err", None),
        ("cat a > x | sort", None),
        ("cat a > x; sort b", None),
        ("cat a", None),
        ("if a; then cat b > x; fi", None),
        ("cat a >&2", None),
        ("echo $(cat a > x)", None),
        ("f() { cat a > x; }", None),
    ],
)
def test_the_last_redirection_of_standard_output_is_found(text: str, target: str | None) -> None:
    captured = parse(text).captured
    assert (captured and captured.target and captured.target.value) == target


@pytest.mark.parametrize(
    "word", ["$x", '"a$x"', "${x}.txt", "$(ls)", "`ls`", "a$((1+2))", "<(ls)", "$1", '"${x:-a}"']
)
def test_a_word_with_an_expansion_has_no_value(word: str) -> None:
    found = parse(f"cat {word}").commands[0].words[1]
    assert found.value is None
    assert found.text == word


def test_variables_of_an_unresolved_word_are_named() -> None:
    words = parse('cat a$x "${y}$(ls)" $((1+2)) $?').commands[0].words[1:]
    assert [set(word.variables) for word in words] == [{"x"}, {"y", "("}, set(), {"?"}]


def test_patterns_and_braces_are_flagged_unless_quoted() -> None:
    words = parse(r"cat *.a '*.a' \*.a a?b [ab] a[ {a,b} '{a,b}' {a}").commands[0].words[1:]
    assert [word.glob for word in words] == [True, False, False, True, True, False, False, False, False]
    assert [len(word.alternatives()) > 1 for word in words] == [False] * 6 + [True, False, False]


@pytest.mark.parametrize(
    "text",
    ["cat 'a", 'cat "a', "cat )", "cat (", "if", "for x in; do", "&& a", "a | ", "cat $(ls"],
)
def test_what_bash_refuses_is_an_error_with_its_place(text: str) -> None:
    with pytest.raises(UsageError, match=r"no shell text: at line \d+, column \d+: ") as caught:
        parse(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "  ", "# nothing", "a\0b", "\udcff"])
def test_what_is_no_command_is_an_error(text: str) -> None:
    with pytest.raises(UsageError):
        parse(text)


def test_what_bash_accepts_and_the_grammar_does_not_is_said() -> None:
    line = parse("cat a.txt; cat 3<> g")
    assert line.not_understood == (1, 18)
    assert "a.txt" in [use.word.value for use in line.uses]


def test_changes_of_directory_hold_in_their_shell() -> None:
    text = "(cd a && cat b); cat c; cd d; cat e"
    line = parse(text)
    assert [text[start:end] for start, end in line.moves] == [" && cat b)", "; cat e"]


PLAIN = st.text(st.sampled_from("ab0_@%+=:,./-"), min_size=1, max_size=6)
QUOTED = st.text(st.sampled_from('ab $*;"é\n'), max_size=5).map(lambda text: f"'{text}'")


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(PLAIN | QUOTED, min_size=1, max_size=3).map("".join), min_size=1, max_size=4))
@example(["==''", "==a"])
def test_the_short_way_agrees_with_the_grammar(words: list[str]) -> None:
    text = " ".join(["cat", *words])
    short, long = commandline._parse_simple(text), commandline._parse_any(text)
    assert short is not None
    if not long.not_understood:
        assert short.uses == long.uses
        assert short.commands == long.commands


def test_a_command_of_plain_words_does_not_load_the_grammar() -> None:
    code = """
import sys
from seamless_cli.shell.commandline import parse
parse("cat a.txt 'b c'")
print('tree_sitter' in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("text", ["if cat", "A=b cat c", "time=x", "for a"])
def test_reserved_words_and_assignments_take_the_long_way(text: str) -> None:
    assert commandline._parse_simple(text) is None


@given(st.text(max_size=20), st.data())
def test_replacing_leaves_the_rest_as_it_is(text: str, data: st.DataObject) -> None:
    text = text.encode("utf-8", "ignore").decode()
    ends = data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2).map(sorted))
    start, end = (len(text[:position].encode()) for position in ends)
    assert replace(text, [(start, end, "ü")]) == text[: ends[0]] + "ü" + text[ends[1] :]
