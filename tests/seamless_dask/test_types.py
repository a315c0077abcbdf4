"""What mypy sees of decorated functions."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """\
from seamless_dask import delayed, direct

@direct
def half(x: float, digits: int = 1) -> float:
    return x / 2

@delayed(memory="2 GiB", ignore="digits")
def third(x: float, digits: int = 1) -> float:
    return x / 3

class Line:
    @direct
    def at(self, x: float) -> list[float]:
        return [x]

    @delayed()
    def later(self, x: float) -> list[float]:
        return [x]

reveal_type(half(1.0))  # float
reveal_type(half.delayed(1.0))  # seamless_dask.api.Transformation
reveal_type(half.function(1.0))  # float
reveal_type(third(1.0))  # seamless_dask.api.Transformation
reveal_type(third.direct(1.0))  # float
reveal_type(Line().at(1.0))  # list[float]
reveal_type(Line().at.delayed(1.0))  # seamless_dask.api.Transformation
reveal_type(Line().later(1.0))  # seamless_dask.api.Transformation
reveal_type(Line.at(Line(), 1.0))  # list[float]
half("text")  # error
third(1.0, number=2)  # error
Line().at("text")  # error
Line().later()  # error
"""

LIBRARIES = (
    "dask",
    "distributed",
    "tornado",
    "aiohttp",
    "fsspec",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "xarray",
)
"""What they say of their types is not asked for, and takes ten times as long to read as all of ours."""


def test_mypy_sees_arguments_and_results(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    skipped = ",".join(f"{name}.*" for name in LIBRARIES)
    settings = tmp_path / "mypy.ini"
    settings.write_text(f"[mypy]\n[mypy-{skipped}]\nfollow_imports = skip\nfollow_imports_for_stubs = True\n")
    script.write_text(TEXT)
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--cache-dir=cache",
        f"--config-file={settings}",
        script,
    ]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    found = {}
    for line, kind, text in re.findall(r"script\.py:(\d+): (note|error): (.*)", said):
        revealed = re.match(r'Revealed type is "(.*)"', text)
        if revealed or kind == "error":
            found[int(line)] = revealed[1].replace("builtins.", "") if revealed else "error"
    lines = enumerate(TEXT.splitlines(), 1)
    assert found == {number: line.partition("  # ")[2] for number, line in lines if "  # " in line}, said
