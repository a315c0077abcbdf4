"""What a worker without this package gets instead of our plugin.

The source of this module travels as text and is executed on the worker: it may use nothing of this package
beyond what it looks for itself.
"""

from __future__ import annotations

from typing import Any


def arrive(places: dict[str, Any], version: str, protocol: int) -> Any:
    """Return the plugin, or one that says why there is none."""
    try:
        from seamless_dask.graph.task import PROTOCOL
        from seamless_dask.version import __version__
        from seamless_dask.worker.data_locations import DataLocations
        from seamless_dask.worker.plugin import Equipment

        if protocol == PROTOCOL:
            return Equipment(DataLocations.from_json(places))
    except Exception as error:  # whatever it is, the worker has other work to do
        return unequipped(
            f"it has no usable seamless-dask ({error}): install seamless-dask {version} there", version
        )
    return unequipped(
        f"it has seamless-dask {__version__}, which speaks protocol {PROTOCOL}, the scheduler {version}"
        f" with protocol {protocol}: install the same version on both",
        version,
    )


def unequipped(reason: str, version: str) -> Any:
    """Return a plugin that tells worker and scheduler why nothing of ours can run there."""
    from distributed import WorkerPlugin

    class Unequipped(WorkerPlugin):
        name = "seamless"

        def setup(self, worker: Any) -> None:
            import logging

            text = "this worker runs no transformations of seamless-dask: " + reason
            logging.getLogger("distributed.worker").error(text)
            event = {"action": "unequipped", "worker": worker.address, "message": reason, "version": version}
            worker.log_event("seamless", event)

    return Unequipped()
