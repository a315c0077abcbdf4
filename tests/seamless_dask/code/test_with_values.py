"""Globals that are no plain values become inputs, in the formats of values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from seamless_dask import definitions
from seamless_dask.code.identity import Code, identify
from seamless_dask.code.items import Buffer
from seamless_dask.code.loading import load
from seamless_dask.errors import NoIdentity
from seamless_dask.values import loading
from seamless_dask.values.names import definitions_within
from seamless_dask.values.writing import to_bytes

from .conftest import Make


def describe(value: object) -> Buffer:
    return Buffer(*to_bytes(value))


def again(code: Code) -> Any:
    return load(
        code.text,
        code.lines,
        lambda name, _: loading.load(code.inputs[name].format, code.inputs[name].data, trusted=True),
    )


@pytest.mark.parametrize(
    "made",
    [
        "from decimal import Decimal\nthing = Decimal('1.50')",
        "import datetime\nthing = datetime.date(2020, 1, 2)",
        "from pathlib import Path\nthing = Path('data')",
        "from collections import OrderedDict\nthing = OrderedDict(a=[1])",
        "from types import SimpleNamespace\nthing = SimpleNamespace(a=[1])\nthing.a.append(2)",
        "import numpy as np\nthing = [np.float32(2), np.int64(1)]",
    ],
    ids=["decimal", "date", "path", "ordered dictionary", "namespace", "numbers of NumPy"],
)
def test_values_of_the_library(make: Make, made: str) -> None:
    module = make(made + "\ndef f(): return thing")
    code = identify(module.f, describe=describe)
    assert list(code.inputs) == ["thing"]
    assert repr(again(code)()) == repr(module.thing)


def test_an_array_that_is_changed_in_its_place_is_seen(make: Make) -> None:
    module = make("import numpy as np\nweights = np.arange(4.0)\ndef f(x): return float(weights @ x)")
    code = identify(module.f, describe=describe)
    assert code.inputs["weights"].format == "npy"
    assert again(code)(np.ones(4)) == 6.0
    assert code.guard()
    module.weights[0] = 5
    assert not code.guard()
    changed = identify(module.f, describe=describe)
    assert changed.text == code.text
    assert changed.inputs != code.inputs


def test_a_default_and_a_class_value_that_are_arrays(make: Make) -> None:
    module = make(
        """
        import numpy as np
        class Model:
            weights = np.ones(2)
        def g(x, by=np.zeros(2)): return float((x + by) @ Model.weights)
        def f(x): return g(x)
        """
    )
    code = identify(module.f, describe=describe)
    assert set(code.inputs) == {"g_by", "Model_weights"}
    assert again(code)(np.ones(2)) == 2.0


def test_what_is_no_value_says_what_to_do(make: Make) -> None:
    module = make("import sqlite3\nthing = sqlite3.connect(':memory:')\ndef f(): return thing")
    with pytest.raises(
        NoIdentity, match=r"^thing \(sqlite3.Connection\), which f reads.*connect inside the function"
    ):
        identify(module.f, describe=describe)
    module.thing.close()


def in_a_run(code: Code) -> Any:
    """Return the function of a text, as a run does: its values are of its own classes."""

    def give(name: str, namespace: Any) -> Any:
        with definitions_within(definitions.DefinitionsByCode(namespace)):
            return loading.load(code.inputs[name].format, code.inputs[name].data, trusted=True)

    return load(code.text, code.lines, give)


POINT = """
import numpy as np
class Point:
    weights = np.ones(2)
    def __init__(self, x): self.x = x
    def far(self): return scaled(self.x) * float(self.weights.sum())
def scaled(x): return x * SCALE
SCALE = 10
"""


@pytest.mark.parametrize(
    "made",
    [
        "thing = Point(2)\ndef f(): return isinstance(thing, Point), thing.far()",
        "thing = [{'a': Point(2)}]\ndef f(): return isinstance(thing[0]['a'], Point), thing[0]['a'].far()",
        "class A:\n    thing = Point(2)\ndef f(): return isinstance(A.thing, Point), A().thing.far()",
        "def g(thing=Point(2)): return isinstance(thing, Point), thing.far()\ndef f(): return g()",
        "class Child(Point): pass\nthing = Child(2)\ndef f(): return type(thing) is Child, thing.far()",
    ],
)
def test_an_object_is_of_the_class_of_the_text(make: Make, made: str) -> None:
    module = make(POINT + made)
    code = identify(module.f, describe=definitions.describe)
    assert in_a_run(code)() == module.f() == (True, 40.0)


@pytest.mark.parametrize(
    "change",
    ["Point.weights[:] = 3", "Point.weights = np.array([3.0, 3.0])", "SCALE = 30", "thing.x = 6"],
)
def test_what_the_class_of_an_object_has_is_seen(make: Make, change: str) -> None:
    module = make(POINT + "thing = Point(2)\ndef f(): return thing.far()")
    code = identify(module.f, describe=definitions.describe)
    assert code.guard()
    assert in_a_run(code)() == module.f() == 40.0
    exec(change, vars(module))
    assert not code.guard()
    later = identify(module.f, describe=definitions.describe)
    assert (later.text, later.inputs) != (code.text, code.inputs)
    assert in_a_run(later)() == module.f() == 120.0


def test_an_object_that_its_own_class_has_is_named(make: Make) -> None:
    module = make(POINT + "Point.ORIGIN = Point(0)\ndef f(): return Point.ORIGIN.far()")
    with pytest.raises(NoIdentity, match=r"Point_ORIGIN .* Point has an object of its own as a value"):
        identify(module.f, describe=definitions.describe)


@pytest.mark.parametrize(
    "made",
    [
        "class A:\n    all = {}\n    def __init__(self): self.all[1] = self\nA()\ndef f(): return A.all",
        "class A:\n    class B: pass\n    one = B()\ndef f(): return A.one",
    ],
)
def test_and_one_in_a_table_or_of_a_class_in_it(make: Make, made: str) -> None:
    with pytest.raises(NoIdentity, match=r"A\.\w+ .* has an object of this class, or of one in it"):
        identify(make(made).f, describe=definitions.describe)
