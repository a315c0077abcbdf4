"""What has surprised users of other caches and picklers: reported there, and decided here."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from seamless_dask.code.identity import identify

from .conftest import Make, again, text_of


class Surprise(NamedTuple):
    """Two states of a user's module, and whether they are one function `f`."""

    report: str
    before: str
    after: str
    is_same: bool


F = "def f(x):\n    return x + 1\n"
CHAIN = "def h(x): return {}\ndef g(x): return h(x)\ndef f(x): return g(x)"
METHOD = "class A:\n    K = {}\n    @staticmethod\n    def g(x): return x + A.K\nf = A.g"
SURPRISES = [
    Surprise("joblib#680: a line above clears the cache", F, "X = 1\n\n\n" + F, True),
    Surprise("joblib#1533: a comment clears it", F, "def f(x):  # adds\n    return x + 1\n", True),
    Surprise("joblib#1710: layout clears it", F, "def f(x): return (x +\n    1)\n", True),
    Surprise("joblib#1287, redun#23: a helper is not seen", CHAIN.format("x"), CHAIN.format("-x"), False),
    Surprise("Prefect#16925: nor what it calls", CHAIN.format("x + 1"), CHAIN.format("x + 2"), False),
    Surprise(
        "redun#99: a constant is not seen",
        "K = 1\ndef f(x): return x + K",
        "K = 2\ndef f(x): return x + K",
        False,
    ),
    Surprise(
        "joblib#1530: a default forgets other calls",
        "def f(x, n=1): return x + n",
        "def f(x, n=2): return x + n",
        True,
    ),
    Surprise("dask#9135: a new line changes the token", F, "def f(x):\n\n    return x + 1\n", True),
    Surprise("cloudpickle#385: a blank line changes the bytes", F, "\n" + F, True),
    Surprise("pydra#457, #87, dill#19: an import changes the hash", F, "import json\n" + F, True),
    Surprise("marimo#7455: what stands beside it counts", F, F + "def other(): return 2\n", True),
    Surprise(
        "datachain#1385: globals are left out",
        "T = {'a': [1]}\ndef f(x): return T['a'][0] + x",
        "T = {'a': [2]}\ndef f(x): return T['a'][0] + x",
        False,
    ),
    Surprise(
        "mandala: edits are not seen",
        "class A:\n    def go(self): return 1\ndef f(x): return A().go()",
        "class A:\n    def go(self): return 2\ndef f(x): return A().go()",
        False,
    ),
    Surprise(
        "Hamilton#175: a parent's code is not seen",
        "class P:\n    def g(self): return 1\nclass C(P): pass\ndef f(): return C().g()",
        "class P:\n    def g(self): return 2\nclass C(P): pass\ndef f(): return C().g()",
        False,
    ),
    Surprise("Streamlit#6295: methods have no identity", METHOD.format(1), METHOD.format(2), False),
]


@pytest.mark.parametrize("case", SURPRISES, ids=lambda case: case.report.partition(":")[0])
def test_surprises_of_others(make: Make, case: Surprise) -> None:
    before = text_of(make(case.before).f)
    after = text_of(make(case.after).f)
    assert (before == after) is case.is_same


def test_another_file_is_no_other_function(make: Make) -> None:
    """joblib#129, #1302: the path of the file was part of the key."""
    assert text_of(make(F, "here").f) == text_of(make("\n" + F, "elsewhere.there").f)


def test_lambdas_of_one_name_are_two_functions(make: Make) -> None:
    """modin#956: the token of a lambda was its name."""
    module = make("one = lambda x: x + 1\ntwo = lambda x: x + 2")
    assert text_of(module.one) != text_of(module.two)


def test_closures_of_one_factory_are_two_functions(make: Make) -> None:
    """Prefect#23062: they shared an entry, and results were wrong."""
    module = make("def make(n):\n    def f(x): return x + n\n    return f\none, two = make(1), make(2)")
    assert text_of(module.one) != text_of(module.two)
    assert again(identify(module.two))(1) == 3


def test_a_function_of_another_module_counts_as_if_it_stood_here(make: Make) -> None:
    """marimo#5156, datachain PR#1386: functions that are imported."""
    make("K = 1\ndef g(x): return x + K", "helpers")
    one = text_of(make("from helpers import g\ndef f(x): return g(x)").f)
    make("K = 2\ndef g(x): return x + K", "helpers")
    assert text_of(make("from helpers import g\ndef f(x): return g(x)").f) != one


def test_a_logger_counts_by_its_name(make: Make) -> None:
    """Streamlit#4876: the lock inside it cannot be hashed."""
    module = make(
        "import logging\nlog = logging.getLogger('fit')\ndef f(x):\n    log.info('x')\n    return x"
    )
    before = text_of(module.f)
    module.log.setLevel("DEBUG")
    assert text_of(module.f) == before
    assert "log = logging.getLogger('fit')" in before


def test_the_environment_is_told(make: Make) -> None:
    """Streamlit#242: `os._Environ` cannot be hashed."""
    with pytest.warns(UserWarning, match="environment"):
        text = text_of(make("from os import environ\ndef f(x): return environ['HOME']").f)
    assert "from os import environ" in text


def test_interned_texts_do_not_count(make: Make) -> None:
    """cloudpickle PR#524: whether a text is interned changes the bytes."""
    module = make("K = ['some', 'thing']\ndef f(): return K")
    before = identify(module.f)
    module.K[:] = ["".join("some"), "".join("thing")]
    assert before.guard()
    assert text_of(module.f) == before.text
