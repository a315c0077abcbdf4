"""The jobserver of a scheduler that is known by its address alone, by Dask's own protocol."""

from __future__ import annotations

from ..protocol.scheduler import Scheduler
from .http import JobserverExecutor


class DaskExecutor(JobserverExecutor):
    """Runs computations on the scheduler at an address, as the jobserver of a daskserver does.

    The place is ``tcp://…`` or ``tls://…``; certificates are those of Dask's configuration. The scheduler has
    the plugin of this package.
    """

    def _open(self) -> Scheduler:
        return Scheduler(self._place)
