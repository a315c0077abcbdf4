"""Named experiments: each measures something against a floor or a peer in the same run, and prints ratios."""

from __future__ import annotations

from collections.abc import Callable

from . import (
    bash_tasks,
    cached_run,
    client_hits,
    client_tasks,
    direct_calls,
    edited_step,
    function_misses,
    functions,
    http,
    identity,
    init,
    jobserver_run,
    known_tasks,
    large_file,
    lookup,
    many_runs,
    qsubmit,
    s3,
    scheduler,
    shared_input,
    small_files,
    uncached_run,
)
from .measure import Bench

EXPERIMENTS: dict[str, Callable[[Bench], None]] = {
    "cached-run": cached_run.main,
    "uncached-run": uncached_run.main,
    "many-runs": many_runs.main,
    "jobserver-run": jobserver_run.main,
    "large-file": large_file.main,
    "s3": s3.main,
    "small-files": small_files.main,
    "http": http.main,
    "lookup": lookup.main,
    "init": init.main,
    "qsubmit": qsubmit.main,
    "hits": scheduler.hits,
    "gate": scheduler.gate,
    "sinks": scheduler.sinks,
    "edited-step": edited_step.main,
    "bash-tasks": bash_tasks.main,
    "known-tasks": known_tasks.main,
    "client-hits": client_hits.main,
    "task-misses": client_tasks.misses,
    "scheduler-memory": client_tasks.memory,
    "bystanders": client_tasks.bystanders,
    "very-many": client_tasks.very_many,
    "shared-input": shared_input.main,
    "shared-result": shared_input.of_a_function,
    "identity": identity.main,
    "functions": functions.main,
    "function-misses": function_misses.main,
    "direct": direct_calls.main,
}
