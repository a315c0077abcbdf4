"""What a function runs in: executed by a fresh interpreter in the directory of the run.

Descriptor 3 gives, as JSON, where our two packages lie, and what the inputs are called, or where calls are
asked for, each of which is run in a fork. In the directory lie ``code`` and ``inputs``; ``value`` and
``format`` are written there: unless they are small, and come and go with what is told to a fork. The function
works below it.
"""

import atexit
import importlib.util
import json
import os
import sys
from contextlib import suppress

WORK = "work"
INSIDE = "SEAMLESS_FUNCTION"
"""In the environment of a function that runs."""
ANSWERS = "SEAMLESS_DASKSERVER"
"""And where somebody answers it."""


def main() -> None:
    """Load, call, store."""
    with open(3, encoding="utf-8") as stream:
        told = json.load(stream)
    if sys.version_info < (3, 11):  # noqa: UP036 - an environment that was asked for has its own
        raise SystemExit("functions need Python 3.11 or newer in the environment they run in")
    for place in told["packages"]:
        _provide(place)
    if "serve" in told:
        from seamless_dask.execution.forkserver import serve

        serve(told, _prepare, _end)
    from seamless_dask.execution.call_files import CallFiles
    from seamless_dask.execution.calling import call

    _prepare()
    _end(call(CallFiles(".."), told))


def _prepare() -> None:
    os.makedirs(WORK, exist_ok=True)
    os.chdir(WORK)
    os.environ[INSIDE] = "1"


def _end(status: int) -> None:
    """End this process; Python itself would wait for threads that the function has left running."""
    with suppress(Exception):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # the function may have closed it
            stream.flush()
    os._exit(status)


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
