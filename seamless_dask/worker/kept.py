"""A process that runs the computations of this host which it is given, one after the other."""

from __future__ import annotations

import json
import os
import select
import socket
import traceback
from typing import TYPE_CHECKING, Any

from hashserver.checksum import Checksum

from .. import daemon
from ..context import Context
from ..execution import runners
from ..jobs.directory import JobDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import Config

IDLE = 300.0
"""Seconds after which it ends when it is given nothing."""


def serve(
    control: int,
    first: tuple[str, str, int],
    described: Callable[[str, str], tuple[JobDirectory, dict[str, Any]]],
    run: Callable[[JobDirectory, int, dict[str, Any], Context], None],
    config_of: Callable[[dict[str, object]], Config],
) -> None:
    """Run a job, and then those that come, until nobody is there any more who may give one.

    Parameters
    ----------
    control
        The socket by which they come.
    first
        Cache, key and lock of a job.
    described, run, config_of
        Those of `.local`, which is the main program of this process.
    """
    runners.employ()
    try:
        with socket.socket(fileno=control) as given, _Contexts(config_of) as contexts:
            os.set_inheritable(control, False)
            job = first
            while _is_told(job, described, run, contexts):
                if not select.select([given], [], [], IDLE)[0]:
                    given.shutdown(socket.SHUT_RD)  # none is taken any more; one that was is still read
                data, locks, _, _ = socket.recv_fds(given, 1 << 16, 1)
                if not data:
                    break
                cache, key = json.loads(data)
                job = cache, key, locks[0]
                _write_to(daemon.begin(JobDirectory(cache, Checksum(key)).file("log")))
    finally:
        runners.dismiss()


def _is_told(
    job: tuple[str, str, int],
    described: Callable[[str, str], tuple[JobDirectory, dict[str, Any]]],
    run: Callable[[JobDirectory, int, dict[str, Any], Context], None],
    contexts: _Contexts,
) -> bool:
    """Run a job; false: those who asked have not been told how it ended, and see that by its lock.

    It goes with this process, as that of a process for one job does.
    """
    cache, key, lock = job
    held = os.fstat(lock)
    try:
        found, asked = described(cache, key)
        run(found, lock, asked, contexts.of(asked["config"]))
    except Exception:  # most often that of the function
        traceback.print_exc()
    try:
        return not os.path.samestat(os.fstat(lock), held)  # another file may have its number by now
    except OSError:
        return True


def _write_to(log: int) -> None:
    for stream in (1, 2):
        os.dup2(log, stream)
    os.close(log)


class _Contexts:
    """The context of the job that runs, which is most often that of the one before."""

    def __init__(self, config_of: Callable[[dict[str, object]], Config]) -> None:
        self._config_of = config_of
        self._config: dict[str, object] | None = None
        self._context: Context | None = None

    def __enter__(self) -> _Contexts:
        return self

    def __exit__(self, *_: object) -> None:
        if self._context is not None:
            self._context.close()

    def of(self, config: dict[str, object]) -> Context:
        if self._context is None or config != self._config:
            self.__exit__()
            self._config, self._context = config, Context(self._config_of(config))
        return self._context
