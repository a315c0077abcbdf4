"""What a function runs in: executed by a fresh interpreter in the directory of the run.

Descriptor 3 gives, as JSON, where our two packages lie and what the inputs are called. In the directory lie
``code`` and ``inputs``; ``value`` and ``format`` are written there. The function works below it.
"""

import importlib.util
import json
import os
import sys

WORK = "work"


def main() -> None:
    """Load, call, store."""
    with open(3, encoding="utf-8") as stream:
        told = json.load(stream)
    if sys.version_info < (3, 11):  # noqa: UP036 - an environment that was asked for has its own
        raise SystemExit("functions need Python 3.11 or newer in the environment they run in")
    for place in told["packages"]:
        _provide(place)
    from seamless_dask.execution.calling import call

    os.makedirs(WORK, exist_ok=True)
    os.chdir(WORK)
    sys.exit(call("..", told))


def _provide(place: str) -> None:
    """Make a package importable by its name, and nothing else that lies beside it."""
    name = os.path.basename(place)
    spec = importlib.util.spec_from_file_location(
        name, os.path.join(place, "__init__.py"), submodule_search_locations=[place]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    main()
