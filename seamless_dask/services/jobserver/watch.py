"""What a scheduler tells its jobserver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed import SchedulerPlugin

if TYPE_CHECKING:
    from .jobserver import Jobserver
    from .nested import Nested


class JobserverPlugin(SchedulerPlugin):
    """Tells the jobserver what becomes of its tasks."""

    name = "seamless-jobserver"
    idempotent = True

    def __init__(self, jobserver: Jobserver, nested: Nested) -> None:
        self._jobserver, self._nested = jobserver, nested

    def transition(self, key: Any, start: str, finish: str, *_: Any, **__: Any) -> None:
        """Pass on what happens to a task of ours."""
        if start == "processing":
            self._nested.left(key)
        job = self._jobserver.registry.by_name.get(key)
        if job is not None:
            self._jobserver.changed(job, start, finish)

    def log_event(self, topic: str, msg: Any) -> None:
        """Pass on what workers say of tasks of ours."""
        if topic == "seamless" and isinstance(msg, dict):
            self._jobserver.told(msg)

    async def before_close(self) -> None:
        """Stop driving before the tasks go."""
        await self._jobserver.close()
