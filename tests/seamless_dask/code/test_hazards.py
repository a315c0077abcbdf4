"""What the identity does not see is told once, with file and line."""

from __future__ import annotations

import warnings

import pytest

from seamless_dask.code.identity import CodeWarning, identify

from .conftest import Make

TOLD = [
    ("def f():\n    return open('data.csv')", "File('data.csv')", 2),
    ("from pathlib import Path\ndef f():\n    return Path('data.csv').read_text()", "File('data.csv')", 3),
    ("NAME = 'x.csv'\ndef f():\n    return open(NAME)", "reads a file", 3),
    ("import numpy as np\ndef f():\n    return np.load('x.npy')", "File('x.npy')", 3),
    ("import os\ndef f():\n    return os.environ['HOME']", "environment", 3),
    ("from os import environ\ndef f():\n    return environ.get('HOME')", "environment", 3),
    ("import os\ndef f():\n    return os.getenv('HOME')", "environment", 3),
    ("import time\ndef f():\n    return time.time()", "clock", 3),
    ("from datetime import datetime\ndef f():\n    return datetime.now()", "clock", 3),
    ("import datetime as dt\ndef f():\n    return dt.date.today()", "clock", 3),
    ("import random\ndef f():\n    return random.random()", "random numbers", 3),
    ("from random import shuffle\ndef f(x):\n    shuffle(x)", "random numbers", 3),
    ("import numpy as np\ndef f():\n    return np.random.rand(3)", "random numbers", 3),
    ("import numpy as np\ndef f():\n    return np.random.default_rng().random()", "random numbers", 3),
    ("import uuid\ndef f():\n    return uuid.uuid4()", "random numbers", 3),
    ("N = 0\ndef f():\n    global N\n    N += 1\n    return N", "assigns to N", 4),
    ("import helpers\ndef f():\n    helpers.K = 3", "assigns to helpers.K", 3),
    ("def g(): return 1\ndef f(name):\n    return globals()[name]()", "by text", 3),
    ("def f(x):\n    return eval(x)", "by text", 2),
    ("import importlib\ndef f(x):\n    return importlib.import_module(x)", "by text", 3),
    ("def f():\n    return __file__", "__file__", 2),
    ("import sys\ndef f(name):\n    return sys.modules[name]", "by text", 3),
    ("class A: pass\ndef f():\n    return A.__subclasses__()", "subclasses", 3),
    (
        "from sklearn.model_selection import train_test_split as split\ndef f(x):\n    return split(x)",
        "random numbers",
        3,
    ),
    ("from seamless_dask import File\ndef f():\n    return File('/data.csv')", "File('/data.csv')", 3),
    ("def f():\n    import seamless_dask as s\n    return s.Directory('/data')", "reads a file", 3),
    ("def f():\n    import time\n    return time.time()", "clock", 3),
    ("def f():\n    from datetime import datetime as now\n    return now.now()", "clock", 3),
    ("def f():\n    import numpy.random as r\n    return r.rand()", "random numbers", 3),
    ("def f():\n    import os.path\n    return os.getenv('HOME')", "environment", 3),
]
QUIET = [
    "def f(path):\n    return open(path)",
    "def f(path):\n    return open(path + '.csv')",
    "def f():\n    return open('out.csv', 'w')",
    "import numpy as np\ndef f(path): return np.load(path)",
    "import numpy as np\ndef f(seed):\n    return np.random.default_rng(seed).random()",
    "import random\ndef f(seed):\n    return random.Random(seed).random()",
    "import random\ndef f(seed):\n    random.seed(seed)\n    return random.random()",
    "import json\ndef f(x):\n    return json.loads(x)",
    "import time\ndef f(x):\n    return time.strftime('%Y', x)",
    "def f(x):\n    return vars(x)",
    "from sklearn.utils import shuffle\ndef f(x): return shuffle(x, random_state=1)",
    "from seamless_dask import File\ndef f(): return File('out.csv')",
    "def f(time):\n    return time.time()",
]


@pytest.mark.parametrize(("source", "message", "line"), TOLD)
def test_what_is_told(make: Make, source: str, message: str, line: int) -> None:
    make("K = 2", "helpers")
    module = make(source)
    with pytest.warns(CodeWarning) as told:
        code = identify(module.f)
    (hazard,) = code.warnings
    assert message in hazard.message
    assert (hazard.file, hazard.line) == (module.__file__, line)
    (warning,) = told
    assert (warning.filename, warning.lineno) == (module.__file__, line)


@pytest.mark.parametrize("source", QUIET)
def test_what_is_not(make: Make, source: str) -> None:
    assert identify(make(source).f).warnings == ()


def test_it_is_told_of_helpers_and_once(make: Make) -> None:
    module = make("import time\ndef g(): return time.time()\ndef f(): return g()\ndef h(): return g()")
    with pytest.warns(CodeWarning, match="clock"):
        identify(module.f)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(identify(module.h).warnings) == 1
