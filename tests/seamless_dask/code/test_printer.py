"""The frozen printer: its text parses back to the tree, and is the same bytes on every version of Python."""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from pathlib import Path

import pytest

from seamless_dask.code.literals import Unprintable
from seamless_dask.code.printer import checked, same

from .golden import CORPUS, DIGEST, GOLDEN, SINCE

LIBRARY = Path(sysconfig.get_paths()["stdlib"])
SAMPLE = (
    "argparse.py",
    "ast.py",
    "asyncio/tasks.py",
    "collections/__init__.py",
    "dataclasses.py",
    "datetime.py",
    "decimal.py",
    "difflib.py",
    "enum.py",
    "functools.py",
    "inspect.py",
    "json/decoder.py",
    "logging/__init__.py",
    "random.py",
    "re/_parser.py",
    "statistics.py",
    "textwrap.py",
    "traceback.py",
    "typing.py",
    "unicodedata.py",
    "unittest/mock.py",
)


@pytest.mark.parametrize(("source", "text"), GOLDEN, ids=[text[:40] for _, text in GOLDEN])
def test_golden(source: str, text: str) -> None:
    assert checked(ast.parse(source).body) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        pytest.param(
            source, text, marks=pytest.mark.skipif(sys.version_info < version, reason=f"Python {version}")
        )
        for version, source, text in SINCE
    ],
)
def test_golden_of_later_versions(source: str, text: str) -> None:
    assert checked(ast.parse(source).body) == text


def test_all_of_the_grammar_together_has_a_golden_digest() -> None:
    text = checked(ast.parse(CORPUS).body)
    assert hashlib.sha256(text.encode()).hexdigest() == DIGEST


@pytest.mark.parametrize("name", [name for name in SAMPLE if (LIBRARY / name).exists()])
def test_the_standard_library_is_a_fixed_point(name: str) -> None:
    tree = ast.parse((LIBRARY / name).read_bytes())
    text = checked(tree.body)
    back = ast.parse(text)
    assert same(back, tree)
    assert checked(back.body) == text


def test_the_text_does_not_follow_the_unicode_version_of_the_interpreter() -> None:
    # U+1C89 is a letter since Unicode 16 (Python 3.14), and unassigned before: `repr` escapes it there.
    assert checked(ast.parse("x = '\u1c89'").body) == "x = '\u1c89'\n"


def test_what_cannot_be_read_as_something_else() -> None:
    text = checked(ast.parse(r"x = '\u202e\ud800\u2028\ufeff\x00'").body)
    assert text == "x = '\\u202e\\ud800\\u2028\\ufeff\\x00'\n"


def test_an_integer_of_many_digits() -> None:
    source = hex(10**5000)
    assert checked(ast.parse(f"x = {source}").body) == f"x = {source}\n"


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="there is a text for it since Python 3.12")
def test_what_does_not_parse_back_is_refused() -> None:
    tree = ast.parse("f'{x}'")
    string = tree.body[0].value  # type: ignore[attr-defined]
    string.values[0].value = ast.Constant("a\nb")
    with pytest.raises(Unprintable):
        checked(ast.fix_missing_locations(tree).body)


def test_a_constant_that_no_source_can_have_is_refused() -> None:
    tree = ast.Module([ast.Expr(ast.Constant(frozenset((1,))))], [])  # type: ignore[arg-type]
    with pytest.raises(Unprintable, match="frozenset"):
        checked(tree.body)
