"""What ``seamless-daskserver status`` makes of what a daskserver says of itself."""

from __future__ import annotations

import time
from typing import Any

import pytest

from seamless_cli.commands.daskserver_status import _judge, _lines
from seamless_dask.services.daskserver.health import Losses

WELL: dict[str, Any] = {
    "hashserver": {"own": True, "running": True, "deaths": []},
    "lost_workers": [],
    "unequipped": {},
    "certificate_end": time.time() + 700 * 86400,
    "stepped_aside": None,
    "cluster": {"notes": []},
}


def problems(**facts: Any) -> list[str]:
    found: list[str] = []
    _judge(WELL | facts, found)
    return found


def test_all_is_well() -> None:
    assert problems() == []
    assert problems(certificate_end=None) == []


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"certificate_end": time.time() + 86400}, "seamless-daskserver stop, then start"),
        ({"unequipped": {"tls://n1:1": "no module"}}, "worker tls://n1:1 gets no transformations: no module"),
        ({"hashserver": {"own": True, "running": False}}, "is being started again"),
        ({"stepped_aside": "reason"}, "by the workers only: reason"),
        ({"cluster": {"notes": ["no node fits"]}}, "no node fits"),
    ],
)
def test_a_problem_is_told(facts: dict[str, Any], told: str) -> None:
    (problem,) = problems(**facts)
    assert told in problem


def test_a_worker_that_was_lost_lately_is_a_problem() -> None:
    (problem,) = problems(lost_workers=[(time.time(), "worker x was lost")])
    assert "worker x was lost at " in problem


def test_history_is_no_problem() -> None:
    assert problems(lost_workers=[(time.time() - 3600, "worker x was lost")]) == []


def test_a_job_that_waits_shows_why() -> None:
    facts = WELL | {
        "name": "default", "host": "login", "pid": 1, "started": 0.0, "problems": [],
        "job": "job 3 runs on n1",
        "scheduler": {"address": "tls://x", "clients": 0, "workers": 0, "tasks": {}},
        "hashserver": {"url": "https://x"},
        "page": "https://x/seamless", "token_file": "/home/me/token",
        "cluster": {
            "kind": "slurm", "minimum": 0, "maximum": 2,
            "workers": [{"name": "w", "state": "waiting", "job": "7", "reason": "Priority"}],
        },
    }  # fmt: skip
    lines = _lines(facts)
    assert "w: waiting (job 7, Priority)" in lines[-1]
    assert "job         3 runs on n1" in lines
    assert "page        https://x/seamless (asks for the token in /home/me/token)" in lines


class Worker:
    name = "default-1"


class Scheduler:
    workers = {"tls://n1:1": Worker()}  # noqa: RUF012


def test_how_a_lost_worker_ended_is_known_later() -> None:
    losses = Losses()
    losses.add_worker(Scheduler(), "tls://n1:1")  # type: ignore[arg-type]
    losses.log_event("all", {"action": "remove-worker", "worker": "tls://n1:1", "processing-tasks": ["a"]})
    losses.tell("another", "job 2 ended")
    losses.tell("default-1", "job 3 ran out of time (TIMEOUT)")
    ((_, text),) = losses.found
    assert text == "worker tls://n1:1 was lost (job 3 ran out of time (TIMEOUT)) with 1 tasks assigned"
