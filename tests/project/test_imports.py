"""The rooms of the house: imports lead down, and never round.

The table of rooms is that of ``docs/architecture.md``. Imports inside functions and for types only count too.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"hashserver": "hashserver", "seamless_dask": "seamless_dask", "cli": "seamless_cli"}
"""Directories, and what they are imported as."""
FACADES = {"hashserver", "seamless_dask", "seamless_dask.scheduler"}
"""Names that users import: they hand out what stands further up, and nothing else may use them."""


def _name(path: Path) -> str:
    first, *rest = path.relative_to(ROOT).with_suffix("").parts
    parts = [PACKAGES[first], *rest]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))}


def _imported(name: str) -> Iterator[str]:
    """Yield the modules of ours that one imports, wherever the import stands."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in MODULES:
                    yield inner
                elif base in MODULES:
                    yield base


IMPORTS = {name: set(_imported(name)) - {name} for name in MODULES}


def _rooms() -> list[str]:
    """Return the rooms from the ground up, as the document lists them."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    table = text.partition("## Rooms")[2].partition("\n## ")[0]
    return re.findall(r"^\| `([\w/.*]+)`", table, re.MULTILINE)


ROOMS = _rooms()


def _room(name: str) -> int:
    """Return the number of the room that a module stands in: the one that the table names most exactly."""
    path = MODULES[name].relative_to(ROOT)
    fitting = [room for room in ROOMS if path.match(room) or path.as_posix().startswith(room)]
    return ROOMS.index(max(fitting, key=len)) if fitting else -1


def test_each_module_stands_in_a_room() -> None:
    assert [name for name in MODULES if _room(name) < 0] == []


def test_each_room_has_modules() -> None:
    assert set(range(len(ROOMS))) == {_room(name) for name in MODULES}


def test_no_import_leads_up() -> None:
    wrong = [
        f"{name} imports {other}"
        for name, others in IMPORTS.items()
        if name not in FACADES
        for other in sorted(others)
        if _room(other) > _room(name)
    ]
    assert wrong == []


def test_no_import_leads_round() -> None:
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_nothing_uses_what_is_for_users() -> None:
    assert [name for name, others in IMPORTS.items() if others & FACADES] == []


def test_names_of_classes_are_unique() -> None:
    places = defaultdict(list)
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_all_packages_are_installed() -> None:
    packages = {path.parent for path in MODULES.values() if path.name == "__init__.py"}
    assert {path.parent for path in MODULES.values()} - packages == set()  # only these are found
