"""Quoting, brace expansion and decoding, held against what bash does."""

from __future__ import annotations

import shlex
import subprocess

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from seamless_cli.shell.commandline import parse
from seamless_cli.shell.word import Word, ansi_quoted, is_plain, join, quote

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
SHELL = st.text(st.sampled_from("ab /.*?[]{},~$\"'\\`|&;<>()#=!\n\té%-"), max_size=12)
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def seen_by_bash(text: str) -> list[str]:
    """Return the words that bash makes of `text`; globs and expansions are the caller's affair."""
    done = subprocess.run(
        ["bash", "-f", "-c", f'printf "%s\\0" {text}'],
        capture_output=True,
        check=True,
        env={"LC_ALL": "C.UTF-8", "HOME": "/h"},
    )
    return done.stdout.decode().split("\0")[:-1]


@QUICK
@given(TEXT | SHELL)
def test_quote_is_that_of_shlex(text: str) -> None:
    assert quote(text) == shlex.quote(text)


@QUICK
@given(st.lists(TEXT | SHELL, min_size=1, max_size=4))
def test_joined_words_come_back_when_parsed(words: list[str]) -> None:
    line = parse(join(["printf", *words]))
    assert [word.value for word in line.commands[0].words] == ["printf", *words]
    source = line.text.encode()
    assert all(source[word.start : word.end].decode() == word.text for word in line.commands[0].words)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT | SHELL, min_size=1, max_size=4))
def test_joined_words_reach_bash_as_they_are(words: list[str]) -> None:
    assert seen_by_bash(join(words)) == words


def piece(text: str, style: str) -> str:
    """Write `text` in one of the shell's ways of quoting."""
    if style == "single":
        return "'" + text.replace("'", "'\\''") + "'"
    if style == "double":
        return '"' + "".join("\\" + c if c in '"\\$`' else c for c in text) + '"'
    if style == "ansi":
        return (
            "$'"
            + "".join(f"\\{c}" if c in "'\\" else {"\n": "\\n", "\t": "\\t"}.get(c, c) for c in text)
            + "'"
        )
    return "".join(f"'{c}'" if c in "\n\t " else "\\" + c for c in text)


PIECES = st.tuples(SHELL.filter(bool), st.sampled_from(["single", "double", "ansi", "backslash"]))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(PIECES, min_size=1, max_size=3), min_size=1, max_size=3))
def test_every_way_of_quoting_means_what_bash_takes_it_for(words: list[list[tuple[str, str]]]) -> None:
    text = " ".join("".join(piece(*item) for item in word) for word in words)
    found = parse(f"printf {text}").commands[0].words[1:]
    assert [word.value for word in found] == ["".join(item[0] for item in word) for word in words]
    assert [word.value for word in found] == seen_by_bash(text)


@pytest.mark.parametrize(
    "text",
    [
        "{a,b}",
        "x{a,b}y",
        "{a,b}{1,2}",
        "{a,{b,c}}",
        "{1..3}",
        "{3..1}",
        "{01..10..4}",
        "{a..e..2}",
        "{a}",
        "{}",
        "a{,b}",
        "{a,b",
        "a,b}",
        "'{a,b}'",
        "{a','b}",
        "\\{a,b}",
        "{a,b\\}",
        "{-1..1}",
        "x{a,b}{c",
        '"{a,b}"',
        "{{a,b},c}",
        "{a,b}.{txt,csv}",
        "pre{a,}post",
    ],
)
def test_braces_expand_as_in_bash(text: str) -> None:
    word = parse(f"printf {text}").commands[0].words[1]
    assert [value for value, _ in word.alternatives() if value] == [
        value for value in seen_by_bash(text) if value
    ]


@settings(max_examples=80, deadline=None)
@given(st.text(st.sampled_from("ab{},.1"), min_size=1, max_size=9))
def test_braces_of_any_shape_expand_as_in_bash(text: str) -> None:
    assume("{}" not in text)  # bash leaves it alone in some places and not in others
    line = parse(f"printf {text}")
    assume(not line.not_understood)
    words = line.commands[0].words[1:]
    values = [value for word in words for value, _ in word.alternatives()]
    assert [value for value in values if value] == [value for value in seen_by_bash(text) if value]


@pytest.mark.parametrize(
    "inside",
    ["a\\nb", "\\x41\\u00e9\\U0001F600", "\\101\\0", "\\'\\\"\\\\\\?", "\\e[0m\\a", "\\cA\\q", "\\x", "é"],
)
def test_ansi_quoting_is_decoded_as_in_bash(inside: str) -> None:
    assert [ansi_quoted(inside)] == seen_by_bash(f"$'{inside}'")


def test_ansi_quoting_that_is_not_utf8_has_no_value() -> None:
    assert ansi_quoted("\\xff") is None


def test_a_group_of_too_many_members_stays_as_it_is() -> None:
    text = "{1..1000}{1..1000}"
    assert Word(text, 0, len(text), text).alternatives() == [(text, frozenset())]


def test_a_plain_word_cannot_be_a_line() -> None:
    assert is_plain("a=b/c.txt")
    assert not is_plain("a b")
    assert not is_plain("a>b")
