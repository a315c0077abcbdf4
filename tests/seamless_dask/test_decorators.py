"""What it takes to import `direct`."""

from __future__ import annotations

import subprocess
import sys


def test_to_import_direct_imports_nothing_that_only_a_function_needs() -> None:
    program = "import sys; from seamless_dask import direct; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"dask", "numpy", "inspect", "ast", "dataclasses", "json", "sqlite3"} & set(
        done.stdout.split()
    )
