"""Bytes that are gone are made again, to any depth."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hashserver.checksum import hash_bytes
from hashserver.errors import BufferMissing, Irreproducible
from hashserver.results.database import Database
from seamless_dask.config import load
from seamless_dask.context import Context
from seamless_dask.errors import ComputationFailed
from seamless_dask.graph.fingertip import fingertip, fingertip_value
from seamless_dask.graph.perform import compute
from seamless_dask.jobs.request import JobRequest
from seamless_dask.jobs.supervisor import JobSupervisor, join
from seamless_dask.model.options import Options
from seamless_dask.model.transformation import ResultSpec, Value

from ..execution.test_image import APPTAINER

PLAIN = Options(isolation="none")
SCRATCH = Options(isolation="none", scratch=True)


def test_what_is_there_is_not_made_again(lab: Any) -> None:
    fingertip(lab.context, lab.file(b"x").checksum)
    assert lab.leftovers() == []


def test_a_scratch_result_is_made_again(lab: Any) -> None:
    value = lab.run(lab.store(f"{lab.counted()}; echo 1"), SCRATCH)
    assert lab.context.store.has([value.checksum]) == [-1]
    fingertip(lab.context, value.checksum)
    assert lab.bytes(value) == b"1\n"
    assert lab.ran() == ["ran", "ran"]


def test_it_goes_to_any_depth(lab: Any) -> None:
    value = lab.run(lab.store(f"{lab.counted('0')}; echo 0"), SCRATCH)
    values = [value]
    for number in range(1, 4):
        code = f"{lab.counted(str(number))}; cat x; echo {number}"
        values.append(value := lab.run(lab.store(code, inputs={"x": value}), PLAIN))
    for known in values:
        lab.context.store.delete(known.checksum)
    fingertip(lab.context, value.checksum)
    assert lab.bytes(value) == b"0\n1\n2\n3\n"
    assert lab.ran()[-4:] == ["0", "1", "2", "3"]


def test_a_consumer_has_its_input_made_again(lab: Any, worker: Any) -> None:
    value = lab.run(lab.store("echo 1"), SCRATCH)
    result = compute(worker, lab.store("cat x; echo 2", inputs={"x": value}), PLAIN)
    assert lab.bytes(result) == b"1\n2\n"


def test_a_file_of_a_directory_result_is_traced_back(lab: Any) -> None:
    key = lab.store("mkdir d; echo a > d/a; echo b > d/b", result=ResultSpec(paths=("d",)))
    value = lab.run(key, SCRATCH)
    fingertip(lab.context, hash_bytes(b"a\n"))
    assert lab.context.store.get(hash_bytes(b"a\n")) == b"a\n"
    lab.context.store.delete(hash_bytes(b"b\n"))
    fingertip_value(lab.context, value)
    assert lab.context.store.get(hash_bytes(b"b\n")) == b"b\n"


def test_one_of_several_results_is_traced_back(lab: Any) -> None:
    key = lab.store("mkdir d; echo a > d/a; echo b > b", result=ResultSpec(True, ("d", "b")))
    value = lab.run(key, SCRATCH)
    fingertip(lab.context, hash_bytes(b"b\n"))
    lab.context.store.delete(hash_bytes(b"a\n"))
    fingertip_value(lab.context, value)
    assert lab.context.store.get(hash_bytes(b"a\n")) == b"a\n"


def test_the_bytes_of_an_input_directory_are_made_again(lab: Any, worker: Any) -> None:
    value = lab.run(lab.store("mkdir d; echo a > d/a", result=ResultSpec(paths=("d",))), SCRATCH)
    result = compute(worker, lab.store("cat d/a", inputs={"d": value}), PLAIN)
    assert lab.bytes(result) == b"a\n"


def test_a_corrupt_buffer_is_made_again(lab: Any, worker: Any) -> None:
    value = lab.run(lab.store("echo good"), PLAIN)
    path = lab.context.store.local_path(value.checksum)
    os.chmod(path, 0o600)
    with open(path, "wb") as file:
        file.write(b"evil\n")
    result = compute(worker, lab.store("cat x; echo", inputs={"x": value}), PLAIN)
    assert lab.bytes(result) == b"good\n\n"


def test_other_bytes_are_an_error(lab: Any) -> None:
    value = lab.run(lab.store("date +%s%N"), SCRATCH)
    with pytest.raises(Irreproducible, match="not reproducible"):
        fingertip(lab.context, value.checksum)


def test_what_nobody_made_is_told(lab: Any) -> None:
    with pytest.raises(BufferMissing, match="no transformation is known that made it"):
        fingertip(lab.context, hash_bytes(b"nobody"))


def test_an_input_that_nobody_made_is_told(lab: Any) -> None:
    key = lab.store("cat x", inputs={"x": Value("file", hash_bytes(b"nobody"))})
    with pytest.raises(BufferMissing, match="upload it again"):
        lab.run(key)


def test_a_producer_that_fails_now_is_told(lab: Any) -> None:
    flag = lab.directory / "flag"
    flag.write_text("x")
    value = lab.run(lab.store(f"cat {flag}"), SCRATCH)
    flag.unlink()
    with pytest.raises(ComputationFailed, match=f"{value.checksum} is gone, and transformation"):
        fingertip(lab.context, value.checksum)


def test_a_circle_ends(lab: Any) -> None:
    x, y = Value("file", hash_bytes(b"x")), Value("file", hash_bytes(b"y"))
    for one, other in ((x, y), (y, x)):
        lab.context.database.put(lab.store("cat i", inputs={"i": one}), *other)
    with pytest.raises(BufferMissing):
        fingertip(lab.context, x.checksum)


def test_two_processes_that_need_each_others_lost_bytes(lab: Any) -> None:
    """One waits for what we run, while we wait for what it runs."""
    data = lab.file(b"S\n")
    there = lab.store("sed s/S/R/ x", inputs={"x": data})
    other = lab.run(there)
    back = lab.store("sed s/R/S/ x", inputs={"x": other})
    assert lab.run(back).checksum == data.checksum
    lab.context.store.delete(data.checksum)
    lab.context.store.delete(other.checksum)
    job = lab.job(there)
    with job.guard():
        lock = job.try_lock()
        job.describe(os.getpid(), None)
        job.register(JobRequest(job.key))
    supervisor = JobSupervisor(job, None)
    asker = lab.asker(lab.store("cat x", inputs={"x": data}))  # holds `back`, for which it needs `there`
    lab.wait_until(lambda: lab.job(back).running() and len(job.waiting()) == 2)

    def gave_way(_: object) -> Value:
        raise BufferMissing(data.checksum, "the other one noticed first that this needs itself")

    with pytest.raises(BufferMissing, match="needs itself"):
        join(lab.job(back), supervisor, False, gave_way)
    os.close(lock)
    assert asker.stdout is not None
    answer = json.loads(asker.stdout.read())
    assert (answer["error"], "needs itself" in answer["message"]) == ("hashserver.BufferMissing", True)


def scratch_result_with(lab: Any, reached: str, database: Database) -> Value:
    """A result whose bytes are gone, with a record of how to make it that somebody has thought up."""
    transformation = lab.transformation("echo 1")
    key = lab.context.store.put(transformation.canonical())
    record = {"isolation": "none", "environment": {"prologue": [f"touch {reached}"]}}
    database.put(key, "file", hash_bytes(b"1\n"), record)
    return Value("file", hash_bytes(b"1\n"))


def test_what_a_record_says_leads_out_of_no_sandbox(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may write to a result database, of a hashserver that many share, is not who runs things here."""
    monkeypatch.setenv("SEAMLESS_ISOLATION", "bubblewrap")
    context, reached = Context(), tmp_path / "reached"
    value = scratch_result_with(lab, f"{reached} || true", context.database)
    fingertip(context, value.checksum)
    assert context.store.get(value.checksum) == b"1\n"
    assert not reached.exists()


def test_a_colleagues_record_says_nothing_of_how_to_run(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, theirs = tmp_path / "reached", tmp_path / "theirs.db"
    with Database(theirs) as database:
        value = scratch_result_with(lab, str(reached), database)
    monkeypatch.setenv("SEAMLESS_DATABASES", str(theirs))
    context = Context()
    fingertip(context, value.checksum)
    assert context.store.get(value.checksum) == b"1\n"
    assert not reached.exists()


def made_in_an_image(lab: Any, database: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a record say that ``echo 1`` ran in an image; returns the file that shows that one has started."""
    started, programs = tmp_path / "started", tmp_path / "programs"
    programs.mkdir()
    (programs / "apptainer").write_text(
        APPTAINER.replace("os.chdir(", f"open({str(started)!r}, 'a')\nos.chdir(")
    )
    (programs / "apptainer").chmod(0o755)
    (tmp_path / "an.sif").mkdir()
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    key = lab.context.store.put(lab.transformation("echo 1").canonical())
    record = {"environment": {"image": str(tmp_path / "an.sif")}}
    database.put(key, "file", hash_bytes(b"1\n"), record)
    return started


def test_an_image_of_ones_own_record_is_used_again(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = made_in_an_image(lab, lab.context.database, tmp_path, monkeypatch)
    fingertip(lab.context, hash_bytes(b"1\n"))
    assert lab.context.store.get(hash_bytes(b"1\n")) == b"1\n"
    assert started.exists()


def test_an_image_is_not_taken_from_a_database_that_a_group_shares(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container is no sandbox: the network is there, and its programs are those of whoever named it."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    monkeypatch.setenv("SEAMLESS_DATABASE", str(shared / "seamless.db"))
    context = Context()
    started = made_in_an_image(lab, context.database, tmp_path, monkeypatch)
    with pytest.raises(BufferMissing, match=r"an\.sif.*--same-environment --image"):
        fingertip(context, hash_bytes(b"1\n"))
    assert not started.exists()


def test_an_image_is_not_taken_from_a_server_s_database(
    lab: Any, hashserver: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Context(load(hashserver, "/"))) as context:
        started = made_in_an_image(lab, context.database, tmp_path, monkeypatch)
        context.store.put(lab.transformation("echo 1").canonical())
        with pytest.raises(BufferMissing, match=r"an\.sif.*--same-environment --image"):
            fingertip(context, hash_bytes(b"1\n"))
    assert not started.exists()


def test_one_who_made_it_without_an_image_makes_it_again(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    monkeypatch.setenv("SEAMLESS_DATABASE", str(shared / "seamless.db"))
    context = Context()
    started = made_in_an_image(lab, context.database, tmp_path, monkeypatch)
    other = context.store.put(lab.transformation("printf '1\\n'").canonical())
    context.database.put(other, "file", hash_bytes(b"1\n"), {})
    fingertip(context, hash_bytes(b"1\n"))
    assert context.store.get(hash_bytes(b"1\n")) == b"1\n"
    assert not started.exists()
