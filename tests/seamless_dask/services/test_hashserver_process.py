"""The daskserver's own hashserver is kept running."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from seamless_dask.services.daskserver import client, credentials, hashserver_process
from seamless_dask.services.daskserver.hashserver_process import HashserverChild
from seamless_dask.services.daskserver.settings import DaskserverSettings

from .conftest import lives


def test_one_that_hangs_is_killed_and_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashserver_process, "HEALTH_INTERVAL", 0.05)
    monkeypatch.setattr(hashserver_process, "HEALTH_LIMIT", 0.5)
    monkeypatch.setattr(client, "PATIENCE", 0.5)
    (tmp_path / "logs").mkdir()
    told = DaskserverSettings(
        str(tmp_path), "default", str(tmp_path), str(tmp_path / "store"), str(tmp_path / "db")
    )
    child = HashserverChild(told, "127.0.0.1", 0, credentials.make(str(tmp_path), [], insecure=True))

    async def test() -> None:
        await child.start()
        try:
            assert child.pid
            hung, url = psutil.Process(child.pid), child.url
            os.kill(hung.pid, signal.SIGSTOP)
            async with asyncio.timeout(60):
                while child.pid in (None, hung.pid) or not child.deaths:
                    await asyncio.sleep(0.02)
            assert not lives(hung)
            assert child.url == url
            assert "did not answer" in child.deaths[0][1]
            while not await asyncio.to_thread(child._answers):
                await asyncio.sleep(0.02)
        finally:
            await child.stop()

    asyncio.run(test())
