"""What tests of values share: there and back again, here and in another process."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seamless_dask.values import names
from seamless_dask.values.loading import load
from seamless_dask.values.writing import to_bytes

PROCESS = """
import sys, pickle
from seamless_dask.values.loading import load
from seamless_dask.values.writing import to_bytes
sent = pickle.load(sys.stdin.buffer)
names = {}
if sent[0] == "write":
    exec(sent[1], names)
    answer = [to_bytes(value) for value in names["values"]]
else:
    answer = [to_bytes(load(*value, trusted=True)) for value in sent[1]]
pickle.dump(answer, sys.stdout.buffer)
"""

Stored = tuple[str, bytes]


def ask(seed: int, path: Path, message: Any) -> list[Stored]:
    """Have another process write values, or read them and write them again."""
    done = subprocess.run(
        [sys.executable, "-c", PROCESS],
        input=pickle.dumps(message),
        capture_output=True,
        env=os.environ | {"PYTHONHASHSEED": str(seed), "PYTHONPATH": str(path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    answer: list[Stored] = pickle.loads(done.stdout)
    return answer


def back(value: Any, trusted: bool = True) -> Any:
    """Store a value and load it again; what it is stored as then must be the same."""
    stored = to_bytes(value)
    loaded = load(*stored, trusted=trusted)
    assert type(loaded) is type(value)
    assert to_bytes(loaded) == stored
    return loaded


@pytest.fixture(autouse=True)
def _by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Classes count by their names here, whatever other tests of this process have imported."""
    monkeypatch.setattr(names, "_by_code", None)


@pytest.fixture(scope="session")
def there_and_back() -> Callable[..., Any]:
    """`back`: what was stored and loaded again."""
    return back


@pytest.fixture(scope="session")
def in_process() -> Callable[[int, Path, Any], list[Stored]]:
    """`ask`: what another process writes."""
    return ask


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module with classes of all kinds; other processes find it below ``tmp_path``."""
    shutil.copy(Path(__file__).with_name("shapes.py"), tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import shapes as found

    yield found
    del sys.modules["shapes"]
