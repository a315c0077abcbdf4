"""What all of this shares: Dask's own module, and the error that says it is not as assumed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from distributed import scheduler as _scheduler

dask_scheduler: Any = _scheduler

log = logging.getLogger("distributed.scheduler.seamless")

Go = Callable[[], Any]
"""Calls what Dask itself would have done."""
Interceptor = Callable[[Any, str, dict[str, Any], Go], Any]
"""Called with task, stimulus, the transition's details and `Go`; returns what a transition returns."""
NOTHING: tuple[dict[str, Any], dict[str, Any], dict[str, Any]] = ({}, {}, {})


class NotAsAssumed(Exception):
    """An assumption about Dask does not hold."""


def must(holds: object, what: str) -> None:
    """Raise `NotAsAssumed` unless something holds."""
    if not holds:
        raise NotAsAssumed(what)
