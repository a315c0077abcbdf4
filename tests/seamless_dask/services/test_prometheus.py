"""Hits and misses among the figures of Dask's scheduler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from distributed.http.prometheus import PrometheusNotAvailableHandler
from prometheus_client.parser import text_string_to_metric_families

from seamless_dask.config import load
from seamless_dask.scheduler import SeamlessScheduler
from seamless_dask.scheduler.dask import http
from seamless_dask.services.web import page


def figures(serving: Any) -> dict[str, float]:
    status, headers, body = serving.ask("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    samples = [one for family in text_string_to_metric_families(body.decode()) for one in family.samples]
    plain = [one for one in samples if not one.labels]
    assert len(plain) == len({one.name for one in plain})
    return {one.name: one.value for one in plain}


def test_the_figures_stand_beside_those_of_dask(serve: Callable[..., Any]) -> None:
    plugin = SeamlessScheduler(load())
    found = figures(serving := serve(plugins=[plugin]))
    assert found["dask_scheduler_clients"] == 0
    names = (
        "hits",
        "misses",
        "late_hits",
        "cut",
        "pruned",
        "done",
        "failed",
        "fetched_bytes",
        "stored_bytes",
    )
    assert {found[f"seamless_{name}_total"] for name in (*names, "lookup_requests")} == {0}
    assert (found["seamless_running"], found["seamless_database_up"]) == (0, 1)
    serving.call(plugin.statistics.passed, 3, 2)
    found = figures(serving)
    assert (found["seamless_hits_total"], found["seamless_pruned_total"]) == (3, 2)


def test_two_schedulers_in_one_process_each_tell_of_themselves(serve: Callable[..., Any]) -> None:
    plugins = [SeamlessScheduler(load()), SeamlessScheduler(load())]
    servers = [serve(plugins=[plugin]) for plugin in plugins]
    servers[0].call(plugins[0].statistics.passed, 5, 0)
    hits = [figures(serving)["seamless_hits_total"] for serving in (*servers, *servers)]
    assert hits == [5, 0, 5, 0]


def test_before_the_plugin_starts_there_are_those_of_dask(serve: Callable[..., Any]) -> None:
    found = figures(serve(lambda scheduler: page.install(scheduler, None)))
    assert "dask_scheduler_clients" in found
    assert not [name for name in found if name.startswith("seamless")]


def test_without_the_package_nothing_is_added(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed.http.scheduler import prometheus as theirs

    monkeypatch.setattr(theirs, "routes", [("/metrics", PrometheusNotAvailableHandler, {})])
    assert http.metrics_handler() is None
    serving = serve(plugins=[SeamlessScheduler(load())])
    assert b"not available" in serving.ask("/metrics")[2]
    assert serving.ask("/seamless")[0] == 200
