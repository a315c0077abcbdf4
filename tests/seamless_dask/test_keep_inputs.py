"""Arguments that are hashed and stored nowhere: ``keep_inputs=False``."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from distributed import Client, LocalCluster

from hashserver.checksum import Checksum
from hashserver.errors import BufferMissing
from seamless_dask import Directory, File, checksum_of, direct, put
from seamless_dask.errors import ArgumentNotKept, UsageError
from seamless_dask.model.options import Options
from seamless_dask.scheduler import SeamlessScheduler

LARGE = np.arange(1 << 20)
"""8 MiB: placed as large files are."""


def total(numbers: Any, scale: int = 1, **more: Any) -> int:
    return int(sum(numbers)) * scale


def largest(numbers: Any, scale: int = 1) -> int:
    return int(numbers.max()) * scale


def same(value: Any) -> Any:
    return value


def read(path: Any) -> list[str]:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file.read_text() for file in files]


def is_stored(lab: Any, value: Any) -> bool:
    return bool(lab.context.store.has([checksum_of(value)])[0] >= 0)


def handed_over(lab: Any) -> list[str]:
    """What lies there still."""
    place = Path(lab.context.cache, "handed-over")
    return os.listdir(place) if place.exists() else []


@pytest.mark.parametrize("value", [[1, 2, 39], LARGE], ids=["small", "large"])
def test_arguments_arrive_and_the_store_has_none_of_them(lab: Any, value: Any) -> None:
    function, expected = (largest, LARGE[-1]) if value is LARGE else (total, 42)
    assert lab.direct(keep_inputs=False)(function)(value) == expected
    assert not is_stored(lab, value)
    assert handed_over(lab) == []


def test_what_was_computed_is_found_whether_or_not_arguments_are_kept(lab: Any) -> None:
    made = lab.direct(keep_inputs=False)(total)
    assert made([1, 2]) == 3
    assert lab.delayed(total)([1, 2]).is_known()
    assert lab.delayed(keep_inputs=False)(total)([1, 2]).key == lab.delayed(total)([1, 2]).key
    assert made([1, 2]) == 3
    assert not is_stored(lab, [1, 2])


def test_a_result_that_equals_an_argument_is_stored_all_the_same(lab: Any) -> None:
    assert lab.direct(keep_inputs=False)(same)([7, 8]) == [7, 8]
    assert is_stored(lab, [7, 8])
    assert (lab.direct(keep_inputs=False)(same)(LARGE) == LARGE).all()


def test_files_and_directories_are_not_stored_either(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in ("a", "b"):
        (tmp_path / "set" / name).write_text(f"{name} of a set")
    made = lab.direct(keep_inputs=False)(read)
    assert made(File(tmp_path / "set" / "a")) == ["a of a set"]
    assert made(Directory(tmp_path / "set")) == ["a of a set", "b of a set"]
    paths: list[Any] = [File(tmp_path / "set" / "b"), Directory(tmp_path / "set")]
    assert not any(is_stored(lab, path) for path in paths)


def test_what_was_put_and_results_of_others_are_where_they_are(lab: Any) -> None:
    first = lab.delayed(same)([1, 2, 3])
    made = lab.delayed(keep_inputs=False)(total)
    assert made(first).compute() == 6
    assert made(put([4, 5], context=lab.context)).compute() == 9
    assert made([first, first]).description.inputs.keys() == {"numbers", "numbers/0", "scale"}
    assert lab.direct(keep_inputs=False)(same)([first, "other"]) == [[1, 2, 3], "other"]


def test_the_record_says_which_arguments_were_not_kept(lab: Any) -> None:
    made = lab.delayed(keep_inputs=False, ignore="scale")(total)([1], scale=2, c=3)
    made.compute()
    assert made.record["beside"]["not_kept"] == ["**c", "numbers", "scale"]
    told = "it cannot be made again from the store, which was given no **c, numbers, scale</p>"
    assert told in made._repr_html_()
    kept = lab.delayed(total)([2])
    kept.compute()
    assert "beside" not in kept.record
    assert "cannot be made again" not in kept._repr_html_()


def test_fresh_without_the_argument_says_what_is_missing(lab: Any) -> None:
    made = lab.delayed(keep_inputs=False)(total)([1, 2])
    assert made.compute() == 3
    with pytest.raises(ArgumentNotKept) as caught:
        lab.run(made.key, Options(isolation="none", label="total", fresh=True))
    told = "argument 'numbers' of total was not kept (keep_inputs=False): call it with that again, fresh=True"
    assert str(caught.value) == told
    again = lab.delayed(keep_inputs=False, fresh=True)(total)([1, 2])
    assert again.compute() == 3
    assert not is_stored(lab, [1, 2])


def test_a_result_that_is_gone_is_said_not_to_come_back_until_it_is_called_again(lab: Any) -> None:
    made = lab.direct(keep_inputs=False)(total)
    assert made([1, 2]) == 3
    checksum = made.delayed([1, 2]).result_checksum
    assert checksum is not None
    lab.context.store.delete(checksum)
    with pytest.raises(BufferMissing) as caught:
        checksum.fingertip()
    assert str(caught.value).startswith(
        f"buffer {checksum} is gone, and cannot be made again: argument 'numbers'"
    )
    command = [Path(sys.executable).parent / "seamless-fingertip", checksum]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be made again: argument 'numbers' of the function was not kept" in done.stderr


def test_one_that_is_stored_by_now_makes_it_again(lab: Any) -> None:
    made = lab.delayed(keep_inputs=False)(total)([1, 2])
    made.compute()
    put([1, 2], context=lab.context)
    lab.context.store.delete(made.result_checksum)
    put(1, context=lab.context)  # the default of `scale`
    assert made.compute() == 3


def test_an_argument_that_was_changed_after_the_call_is_told(lab: Any) -> None:
    array = LARGE.copy()
    made = lab.delayed(keep_inputs=False)(largest)(array)
    array[0] = 7
    with pytest.raises(UsageError, match="argument 'numbers' has changed since the call"):
        made.compute()
    assert handed_over(lab) == []


def test_it_is_true_or_false() -> None:
    with pytest.raises(UsageError, match="keep_inputs must be True or False, not 'no'"):
        direct(keep_inputs="no")(total)


def test_a_failure_leaves_nothing_behind(lab: Any) -> None:
    with pytest.raises(TypeError):
        lab.direct(keep_inputs=False)(total)(["x"])
    assert handed_over(lab) == []
    assert not is_stored(lab, ["x"])


def test_what_a_killed_process_has_left_goes_with_the_next(lab: Any) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = Path(lab.context.cache, "handed-over", f"{os.uname().nodename}-{gone.pid}-1-abc")
    left.mkdir(parents=True, mode=0o700)
    left.parent.chmod(0o700)
    assert lab.direct(keep_inputs=False)(total)([3]) == 3
    assert not left.exists()


def test_in_the_process_that_asks_too(lab: Any) -> None:
    assert lab.direct(keep_inputs=False, run="here")(total)([4, 5]) == 9
    assert not is_stored(lab, [4, 5])


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_local_schedulers_hand_arguments_over(lab: Any, scheduler: str) -> None:
    first, other = (lab.delayed(keep_inputs=False)(total)([number, 1]) for number in (1, 2))
    last = lab.delayed(same)([first, other])
    assert dask.compute(last, first, scheduler=scheduler) == ([2, 3], 2)
    assert not is_stored(lab, [1, 1])


def test_a_pickle_has_the_arguments(lab: Any) -> None:
    made = lab.delayed(keep_inputs=False)(total)([5, 5])
    arrived = pickle.loads(pickle.dumps(made))
    assert arrived.compute() == 10
    assert not is_stored(lab, [5, 5])


@pytest.fixture
def client(lab: Any) -> Iterator[Client]:
    """A stock client of a scheduler with the plugin."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as found,
    ):
        found.register_plugin(SeamlessScheduler())
        yield found


def test_a_stock_client_hands_arguments_over_to_a_worker(lab: Any, client: Client) -> None:
    first = lab.delayed(keep_inputs=False)(total)([1, 2])
    last = lab.delayed(keep_inputs=False)(same)([first, "other"])
    assert client.compute(last).result(60) == [3, "other"]
    assert client.compute(lab.delayed(keep_inputs=False)(largest)(LARGE)).result(60) == LARGE[-1]
    assert client.compute(first).result(60) == 3  # found
    assert not any(is_stored(lab, value) for value in ([1, 2], LARGE))
    assert handed_over(lab) == []


def test_what_a_client_asks_for_is_not_run_again_without_them(lab: Any, client: Client) -> None:
    made = lab.delayed(keep_inputs=False)(total)([1, 2])
    future = client.compute(made)
    assert future.result(60) == 3
    lab.context.store.delete(Checksum(made.result_checksum))
    with pytest.raises(ArgumentNotKept, match=r"argument 'numbers' .* was not kept"):
        client.compute(lab.delayed(same)(made)).result(60)
