"""Computations shared by processes: started once, joined, withdrawn from, lost and started again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from hashserver.checksum import Checksum
from seamless_dask.errors import ComputationFailed, LimitExceeded, ResultMissing, WorkerLost
from seamless_dask.executors.embedded import Embedded
from seamless_dask.jobs.local import LocalRequest
from seamless_dask.jobs.request import JobRequest
from seamless_dask.model.options import Options
from seamless_dask.model.transformation import Deferred, ResultSpec

from ..conftest import PLAIN


def told(process: subprocess.Popen[str]) -> Any:
    output, _ = process.communicate(timeout=60)
    return json.loads(output) if output.strip() else None


class Held(NamedTuple):
    """A computation that has begun and waits at a gate."""

    gate: Any
    key: Checksum
    asker: subprocess.Popen[str]
    shell: int
    """The process of its command."""


def held(lab: Any, end: str = "echo done", options: Options = PLAIN) -> Held:
    """Have somebody ask for a command that waits at a gate, and then does `end`."""
    gate = lab.gate()
    key = lab.store(f"{lab.counted()}; {gate.command}; {end}")
    asker = lab.asker(key, options)
    return Held(gate, key, asker, gate.wait())


def test_a_result_is_computed_recorded_and_found_again(lab: Any) -> None:
    key = lab.store(f"{lab.counted()}; echo hello")
    value = lab.run(key)
    assert lab.bytes(value) == b"hello\n"
    assert lab.run(key) == value
    assert lab.ran() == ["ran"]
    record = lab.context.database.get(key).record
    assert record["exit_status"] == 0
    assert record["host"] == os.uname().nodename
    assert lab.leftovers() == []


def test_two_identical_runs_at_once_run_once(lab: Any) -> None:
    gate, key, first, _ = held(lab)
    second = lab.asker(key)
    lab.await_askers(key, 2)
    gate.open()
    answers = [told(first), told(second)]
    assert answers[0] == answers[1]
    assert answers[0][0] == "file"
    assert lab.ran() == ["ran"]
    lab.await_end(key)
    assert lab.leftovers() == []


def test_eight_processes_at_once_run_it_once(lab: Any) -> None:
    key = lab.store(f"{lab.counted()}; echo done")
    answers = [told(process) for process in [lab.asker(key) for _ in range(8)]]
    assert len({tuple(answer) for answer in answers}) == 1
    assert lab.ran() == ["ran"]


def test_a_killed_asker_does_not_end_it(lab: Any) -> None:
    gate, key, asker, _ = held(lab, "echo kept")
    asker.kill()
    asker.wait()
    gate.open()
    lab.await_end(key)
    assert lab.bytes(lab.run(key)) == b"kept\n"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_closed_terminal_does_not_end_it(lab: Any, number: signal.Signals) -> None:
    gate, key, asker, _ = held(lab, "echo kept")
    os.killpg(asker.pid, number)
    asker.wait()
    gate.open()
    lab.await_end(key)
    assert lab.context.database.get(key) is not None


def test_interrupting_the_only_asker_kills_the_whole_tree(lab: Any) -> None:
    gate, pids = lab.gate(), lab.directory / "pids"
    key = lab.store(f"(trap '' TERM; setsid sleep 600 & echo $! > {pids}; wait) & sleep 600 & {gate.command}")
    asker = lab.asker(key)
    shell = gate.wait()
    lab.wait_until(lambda: pids.exists() and pids.read_text().strip())
    asker.send_signal(signal.SIGINT)
    assert told(asker) == {"error": "interrupted"}
    lab.wait_until(lambda: not lab.is_alive(shell) and not lab.is_alive(int(pids.read_text())))
    lab.await_end(key)
    assert lab.context.database.get(key) is None
    assert lab.context.database.failures(key) == []
    assert lab.leftovers() == []
    assert os.listdir(os.environ["TMPDIR"]) == []


def test_interrupting_one_of_two_leaves_the_other(lab: Any) -> None:
    gate, key, first, _ = held(lab)
    second = lab.asker(key)
    lab.await_askers(key, 2)
    first.send_signal(signal.SIGINT)
    assert told(first) == {"error": "interrupted"}
    lab.await_askers(key, 1)
    gate.open()
    assert told(second)[0] == "file"
    assert lab.ran() == ["ran"]


def test_who_was_killed_does_not_keep_it_from_being_stopped(lab: Any) -> None:
    _, key, killed, shell = held(lab)
    killed.kill()
    killed.wait()
    rerun = lab.asker(key)
    lab.await_askers(key, 2)
    rerun.send_signal(signal.SIGINT)
    assert told(rerun) == {"error": "interrupted"}
    lab.await_end(key)
    assert not lab.is_alive(shell)
    assert lab.leftovers() == []


def test_interrupting_a_pipeline_stops_a_step_that_only_the_dead_asked_for(lab: Any) -> None:
    gate = lab.gate()
    step = lab.store(f"{gate.command}; echo 1")
    killed = lab.asker(step)
    shell = gate.wait()
    killed.kill()
    killed.wait()
    pipeline = lab.asker(lab.store("cat x", inputs={"x": Deferred(step)}))
    lab.await_askers(step, 2)
    pipeline.send_signal(signal.SIGINT)
    assert told(pipeline) == {"error": "interrupted"}
    lab.await_end(step)
    assert not lab.is_alive(shell)


def test_one_who_did_not_mean_to_wait_still_counts(lab: Any) -> None:
    gate = lab.gate()
    key = lab.store(f"{gate.command}; echo done")
    detached = LocalRequest(lab.context, JobRequest(key, Options(isolation="none"), detached=True)).start()
    gate.wait()
    asker = lab.asker(key)
    lab.await_askers(key, 2)
    asker.send_signal(signal.SIGINT)
    told(asker)
    gate.open()
    lab.await_end(key)
    assert detached.value is None
    assert lab.context.database.get(key) is not None


def test_cancelling_withdraws_everybody(lab: Any) -> None:
    gate = lab.gate()
    key = lab.store(f"{gate.command}; echo done")
    askers = [lab.asker(key)]
    gate.wait()
    askers.append(lab.asker(key))
    lab.await_askers(key, 2)
    assert Embedded(lab.context).cancel(key)
    assert [told(asker)["error"] for asker in askers] == [
        "seamless_dask.Cancelled",
        "seamless_dask.Cancelled",
    ]
    lab.await_end(key)
    assert not Embedded(lab.context).cancel(key)


def test_a_killed_runner_is_replaced(lab: Any) -> None:
    gate, key, asker, shell = held(lab)
    os.kill(lab.runner(key), signal.SIGKILL)
    gate.wait()
    assert not lab.is_alive(shell)
    gate.open()
    assert told(asker)[0] == "file"
    assert lab.ran() == ["ran", "ran"]
    assert lab.context.database.failures(key) == []
    lab.await_end(key)
    assert lab.leftovers() == []
    assert os.listdir(os.environ["TMPDIR"]) == []


def test_runners_lost_too_often_are_named(lab: Any) -> None:
    key = lab.store("kill -9 $PPID; sleep 600")
    with pytest.raises(
        WorkerLost, match=r"2 runners were lost: processes \d+, \d+ on \S+ was killed by SIGKILL$"
    ):
        lab.run(key, Options(isolation="none", retries=1))
    assert lab.leftovers() == []
    assert lab.context.database.failures(key) == []


def test_what_dead_processes_left_is_removed_at_the_next_start(lab: Any) -> None:
    _, key, asker, shell = held(lab)
    asker.kill()
    asker.wait()
    os.kill(lab.runner(key), signal.SIGKILL)
    lab.await_end(key)
    assert lab.leftovers() == [key]
    lab.run(lab.store("echo something else"))
    assert lab.leftovers() == []
    assert os.listdir(os.environ["TMPDIR"]) == []
    lab.wait_until(lambda: not lab.is_alive(shell))


def test_a_failure_is_recorded_and_the_next_request_runs_it_again(lab: Any) -> None:
    key = lab.store(f"{lab.counted()}; echo why >&2; exit 7")
    for _ in range(2):
        with pytest.raises(ComputationFailed) as caught:
            lab.run(key)
        assert caught.value.exit_status == 7
        assert caught.value.stderr == "why\n"
    assert lab.ran() == ["ran", "ran"]
    failures = lab.context.database.failures(key)
    assert [record["exit_status"] for record in failures] == [7, 7]
    assert failures[0]["error"]["kind"] == "ComputationFailed"
    assert lab.context.database.get(key) is None


def test_a_command_killed_by_another_has_failed(lab: Any) -> None:
    key = lab.store(f"{lab.counted()}; kill -9 $$")
    with pytest.raises(ComputationFailed) as caught:
        lab.run(key)
    assert caught.value.exit_status == 137
    assert lab.ran() == ["ran"]


def test_a_missing_result_is_a_failure(lab: Any) -> None:
    key = lab.store("true", result=ResultSpec(paths=("out.csv",)))
    with pytest.raises(ResultMissing, match=r"out\.csv"):
        lab.run(key)
    assert len(lab.context.database.failures(key)) == 1


def test_a_time_limit_of_the_only_asker_ends_it(lab: Any) -> None:
    key = lab.store("sleep 600")
    with pytest.raises(LimitExceeded, match="time limit"):
        lab.run(key, Options(isolation="none", time_limit=0.1))
    assert len(lab.context.database.failures(key)) == 1


def test_a_limit_that_one_asker_set_fails_only_that_one(lab: Any) -> None:
    gate, key, patient, _ = held(lab)
    with pytest.raises(LimitExceeded, match="only you had set"):
        lab.run(key, Options(isolation="none", time_limit=0.01))
    gate.open()
    assert told(patient)[0] == "file"
    assert lab.ran() == ["ran"]


def test_bytes_are_kept_if_any_asker_wants_them(lab: Any) -> None:
    gate, key, first, _ = held(lab, "echo wanted", Options(isolation="none", scratch=True))
    second = lab.asker(key)
    lab.await_askers(key, 2)
    gate.open()
    format_, checksum = told(first)
    assert told(second) == [format_, checksum]
    assert lab.context.store.get(Checksum(checksum)) == b"wanted\n"


def test_scratch_records_the_checksum_without_the_bytes(lab: Any) -> None:
    value = lab.run(lab.store("echo gone"), Options(isolation="none", scratch=True))
    assert lab.context.store.has([value.checksum]) == [-1]


def test_who_needs_bytes_gets_them_made_again(lab: Any) -> None:
    key = lab.store(f"{lab.counted()}; echo again")
    value = lab.run(key, Options(isolation="none", scratch=True))
    assert lab.run(key) == value
    assert lab.ran() == ["ran"]
    assert lab.run(key, need_bytes=True) == value
    assert lab.bytes(value) == b"again\n"
    assert lab.ran() == ["ran", "ran"]


def test_fresh_runs_what_is_known(lab: Any) -> None:
    key = lab.store(f"{lab.counted()}; echo same")
    assert lab.run(key) == lab.run(key, PLAIN._replace(fresh=True))
    assert lab.ran() == ["ran", "ran"]


def test_nobody_waits_for_a_detached_one(lab: Any) -> None:
    gate = lab.gate()
    key = lab.store(f"{gate.command}; echo later")
    LocalRequest(lab.context, JobRequest(key, Options(isolation="none"), detached=True)).start()
    gate.wait()
    [info] = Embedded(lab.context).jobs()
    assert (info.key, info.state, info.askers) == (key, "running", 1)
    assert info.pid == lab.runner(key)
    gate.open()
    lab.await_end(key)
    assert lab.context.database.get(key) is not None
    assert Embedded(lab.context).jobs() == []


def test_a_pipeline_and_a_direct_run_merge(lab: Any) -> None:
    gate = lab.gate()
    step = lab.store(f"{lab.counted('step')}; {gate.command}; echo 1")
    sink = lab.store(f"{lab.counted('sink')}; cat x; echo 2", inputs={"x": Deferred(step)})
    pipeline = lab.asker(sink)
    gate.wait()
    direct = lab.asker(step)
    lab.await_askers(step, 2)
    pipeline.send_signal(signal.SIGINT)
    assert told(pipeline) == {"error": "interrupted"}
    gate.open()
    assert told(direct)[0] == "file"
    assert lab.ran() == ["step"]
    assert lab.bytes(lab.run(sink)) == b"1\n2\n"
    assert lab.ran() == ["step", "sink"]


def test_a_pipeline_waits_for_a_step_that_runs_already(lab: Any) -> None:
    gate = lab.gate()
    step = lab.store(f"{lab.counted('step')}; {gate.command}; echo 1")
    sink = lab.store("cat x; echo 2", inputs={"x": Deferred(step)})
    direct = lab.asker(step)
    gate.wait()
    pipeline = lab.asker(sink)
    lab.await_askers(step, 2)
    direct.send_signal(signal.SIGINT)
    assert told(direct) == {"error": "interrupted"}
    gate.open()
    assert lab.context.store.get(Checksum(told(pipeline)[1])) == b"1\n2\n"
    assert lab.ran() == ["step"]


def test_interrupting_a_pipeline_stops_its_step(lab: Any) -> None:
    gate = lab.gate()
    step = lab.store(f"{gate.command}; echo 1")
    sink = lab.store("cat x", inputs={"x": Deferred(step)})
    pipeline = lab.asker(sink)
    shell = gate.wait()
    pipeline.send_signal(signal.SIGINT)
    assert told(pipeline) == {"error": "interrupted"}
    lab.wait_until(lambda: not lab.is_alive(shell))
    lab.await_end(sink)
    assert lab.leftovers() == []


def test_stderr_is_shown_while_it_comes(lab: Any) -> None:
    key = lab.store("echo one >&2; echo two >&2; echo out")
    shown: list[bytes] = []
    Embedded(lab.context).run(JobRequest(key, Options(isolation="none")), on_stderr=shown.append)
    assert b"".join(shown) == b"one\ntwo\n"


def test_a_withdrawn_ticket_is_told_whether_others_wait(lab: Any) -> None:
    gate = lab.gate()
    key = lab.store(f"{gate.command}; echo done")
    first = LocalRequest(lab.context, JobRequest(key, Options(isolation="none"))).start()
    gate.wait()
    second = LocalRequest(lab.context, JobRequest(key, Options(isolation="none"))).start()
    assert first.withdraw()
    assert not second.withdraw()
    assert lab.leftovers() == []


def test_a_transformation_that_is_not_stored_is_named(lab: Any) -> None:
    from hashserver.errors import BufferMissing

    with pytest.raises(BufferMissing, match="submit it again"):
        lab.run(Checksum("1" * 64))


@pytest.mark.parametrize("gone", ["jobs", ""])
def test_files_that_vanish_end_it_with_one_line(lab: Any, gone: str) -> None:
    _, _, asker, shell = held(lab)
    shutil.rmtree(os.path.join(lab.context.cache, gone))
    assert "was removed while its result was waited for" in told(asker)["message"]
    lab.wait_until(lambda: not lab.is_alive(shell))
    assert lab.ran() == ["ran"]


def test_a_process_that_runs_a_command_imports_no_dask(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dask.py").write_text("raise ImportError('it would be waited for')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    first = lab.store("echo 1")
    key = lab.store("cat x; echo 2", inputs={"x": Deferred(first)})
    assert lab.bytes(lab.run(key)) == b"1\n2\n"
