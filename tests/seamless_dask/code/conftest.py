"""Modules of a user's, made for a test and forgotten after it."""

from __future__ import annotations

import importlib
import linecache
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from seamless_dask.code import identity
from seamless_dask.code.identity import Code, identify
from seamless_dask.code.loading import load

Make = Callable[..., ModuleType]


@pytest.fixture(autouse=True)
def nothing_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test is a process that has warned of nothing."""
    monkeypatch.setattr(identity, "_told", set())


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of the user's from which modules are imported."""
    directory = tmp_path / "project"
    directory.mkdir()
    monkeypatch.syspath_prepend(directory)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield directory
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(directory)):
            del sys.modules[name]
    linecache.clearcache()


@pytest.fixture
def make(project: Path) -> Make:
    """Write a module and import it: `make("X = 1", "helpers")`."""

    def made(source: str, name: str = "analysis") -> ModuleType:
        path = project / (name.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        linecache.clearcache()
        importlib.invalidate_caches()
        sys.modules.pop(name, None)
        return importlib.import_module(name)

    return made


def text_of(function: Any) -> str:
    return identify(function).text


def again(code: Code) -> Any:
    """Return the function of a text, as another process would load it."""
    return load(code.text, code.lines)
