"""Transformations in Python are Dask collections of one task."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import dask.bag
import pytest

from seamless_dask import Directory, File, Transformation, bash
from seamless_dask.errors import ComputationFailed, UsageError
from seamless_dask.graph import names as task_names
from seamless_dask.model.transformation import Deferred, Description, ResultSpec

SCHEDULERS = ["synchronous", "threads"]


def test_the_key_is_that_of_the_same_description_written_by_hand(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "local").write_text("data")
    upstream = bash("echo 1", context=lab.context)
    tf = bash(
        "cat a b c",
        {"a": File(tmp_path / "local"), "b": upstream, "c": b"bytes"},
        stdin=b"input",
        variables={"N": "1"},
        results="out",
        context=lab.context,
    )
    by_hand = Description(
        "bash",
        lab.context.store.put(b"cat a b c"),
        ResultSpec(paths=("out",)),
        {"a": lab.file(b"data"), "b": Deferred(upstream.key), "c": lab.file(b"bytes")},
        lab.file(b"input"),
        {"N": "1"},
    )
    assert tf.key == by_hand.key


def test_building_stores_and_runs_nothing(lab: Any) -> None:
    tf = bash(f"{lab.counted()}; echo 1", {"x": b"some input"}, context=lab.context)
    assert lab.context.store.has([tf.key, lab.transformation("").code])[0] == -1
    assert lab.ran() == []


def test_a_graph_has_one_task_for_each_transformation(lab: Any) -> None:
    first = bash("echo 1", context=lab.context)
    middle = [bash(f"cat x; echo {n}", {"x": first}, context=lab.context) for n in range(2)]
    last = bash("cat a b", {"a": middle[0], "b": middle[1]}, context=lab.context)
    graph = dict(last.__dask_graph__())
    names = {task_names.dask_key(tf.key, label) for tf, label in [(first, "echo"), (last, "cat")]}
    names |= {task_names.dask_key(tf.key, "cat") for tf in middle}
    assert set(graph) == names
    assert len(dask.base.collections_to_expr([last]).optimize().__dask_graph__()) == 4


def test_all_that_was_built_is_stored_with_the_first_graph(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    has = lab.context.store.has

    def counted(checksums: Any) -> Any:
        asked.append(len(checksums))
        return has(checksums)

    monkeypatch.setattr(lab.context.store, "has", counted)
    tfs = [bash(f"echo {number}", context=lab.context) for number in range(5)]
    for tf in tfs:
        tf.__dask_graph__()
    assert asked == [10]
    assert min(has([tf.key for tf in tfs])) > 0


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_dask_computes_it_and_shares_with_the_command_line(lab: Any, scheduler: str) -> None:
    first = bash(f"{lab.counted()}; echo 1", context=lab.context)
    second = bash("cat x; echo 2", {"x": first}, context=lab.context)
    found = dask.compute(first, {"second": second}, scheduler=scheduler)
    assert (found[0].read_text(), found[1]["second"].read_text()) == ("1\n", "1\n2\n")
    assert lab.run(first.key) == found[0].value
    assert lab.ran() == ["ran"]


def test_processes_compute_it(lab: Any) -> None:
    tf = bash("echo processes")
    [found] = dask.compute(tf, scheduler="processes", num_workers=1)
    assert found.read_text() == "processes\n"


def test_the_checksum_is_known_once_it_is_resolved(lab: Any) -> None:
    first = bash("echo 1", context=lab.context)
    second = bash("cat x", {"x": first}, context=lab.context)
    assert first.checksum == first.key
    assert second.checksum is None
    second.compute(scheduler="sync")
    assert second.checksum not in (None, second.key)


def test_a_named_result_is_an_input(lab: Any) -> None:
    first = bash(
        "mkdir d; echo 1 > d/x; echo 2 > y; echo 3", results=["d", "y"], stdout=True, context=lab.context
    )
    second = bash("cat a b c", {"a": first["d/x"], "b": first["y"], "c": first}, context=lab.context)
    assert second.compute(scheduler="sync").read_text() == "1\n2\n3\n"
    assert sorted(first.compute(scheduler="sync")) == ["d", "stdout", "y"]


def test_directories_and_globs(lab: Any, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("A")
    tf = bash(
        "cp in/a 1.log; cp in/a 2.log", {"in": Directory(tmp_path / "in")}, globs="*.log", context=lab.context
    )
    found = tf.compute(scheduler="sync")
    assert isinstance(found, Directory)
    assert {name: file.read_text() for name, file in found.index().items()} == {"1.log": "A", "2.log": "A"}


def test_a_failure_is_raised_as_it_is(lab: Any) -> None:
    first = bash("echo why >&2; exit 3", context=lab.context)
    with pytest.raises(ComputationFailed, match="exit status 3") as caught:
        bash("cat x", {"x": first}, context=lab.context).compute(scheduler="sync")
    assert caught.value.stderr == "why\n"


def test_options_travel_with_the_task_and_are_annotations(lab: Any) -> None:
    first = bash("echo 1", context=lab.context)
    tf = bash(
        "cat x", {"x": first}, cpus=2, gpus=1, queue="long", node="n1", resources={"A": 3}, priority=5,
        memory="1 GiB", prologue="true", context=lab.context,
    )  # fmt: skip
    graph = tf.__dask_graph__()
    [name] = tf.__dask_keys__()
    assert graph.layers[name].annotations == {
        "resources": {
            "seamless:cpus": 2,
            "seamless:memory": 1 << 30,
            "GPU": 1,
            "A": 3,
            "seamless:queue:long": 1,
            "seamless:node:n1": 1,
        },
        "priority": 5,
    }
    assert [layer.annotations for layer_name, layer in graph.layers.items() if layer_name != name] == [None]
    assert (tf.options.memory, tf.options.prologue) == (1 << 30, ("true",))


def test_a_fresh_one_has_a_name_of_its_own(lab: Any) -> None:
    tf = bash(f"{lab.counted()}; echo 1", context=lab.context)
    again = bash(f"{lab.counted()}; echo 1", fresh=True, context=lab.context)
    assert (tf.key == again.key, tf == again) == (True, False)
    tf.compute(scheduler="sync")
    again.compute(scheduler="sync")
    assert lab.ran() == ["ran", "ran"]


def test_an_optimised_or_visualised_one_is_the_same(lab: Any) -> None:
    tf = bash("echo 1", context=lab.context)
    [same] = dask.optimize(tf)
    assert isinstance(same, Transformation)
    assert same == tf
    assert same.compute(scheduler="sync").read_text() == "1\n"


def test_a_pickled_one_is_the_same_elsewhere(lab: Any) -> None:
    first = bash("echo 1", context=lab.context)
    tf = bash("cat x in", {"x": first, "in": b"2\n"}, cpus=1, context=lab.context)
    arrived = pickle.loads(pickle.dumps(tf))
    assert (arrived, arrived.key, arrived.options) == (tf, tf.key, tf.options)
    assert lab.context.store.has([tf.key, first.key]) != [-1, -1]
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).compute(scheduler='sync').read_text())"
    words = [sys.executable, "-c", code]
    found = subprocess.run(words, input=pickle.dumps(tf), capture_output=True, check=True)
    assert found.stdout == b"1\n2\n\n"


def test_a_long_chain_can_be_pickled(lab: Any) -> None:
    tf = bash("echo 0", context=lab.context)
    for number in range(1, 2000):
        tf = bash(f"echo {number}", {"x": tf}, context=lab.context)
    arrived = pickle.loads(pickle.dumps(tf))
    assert len(arrived.__dask_graph__()) == 2000


def test_a_fresh_one_keeps_its_name_in_pickles(lab: Any) -> None:
    tf = bash("echo 1", fresh=True, context=lab.context)
    assert pickle.loads(pickle.dumps(tf)) == tf


def test_a_copy_is_the_thing_itself(lab: Any) -> None:
    tf = bash("echo 1", context=lab.context)
    assert copy.deepcopy([tf])[0] is copy.copy(tf) is tf


def test_a_notebook_shows_name_and_code(lab: Any) -> None:
    tf = bash("cat <in> out", context=lab.context)
    shown = "<p>Transformation(cat-tf-{}…): not computed</p><pre>cat &lt;in&gt; out</pre>"
    assert tf._repr_html_() == shown.format(tf.key[:8])


def test_bags_take_it_as_an_argument(lab: Any) -> None:
    tf = bash("echo 1", context=lab.context)
    bag = dask.bag.from_sequence([1, 2]).map(lambda number, file: (number, file.read_text()), file=tf)
    assert bag.compute(scheduler="sync") == [(1, "1\n"), (2, "1\n")]


def test_inside_delayed_it_stands_for_its_handle(lab: Any) -> None:
    tf = bash("echo 1", context=lab.context)
    assert dask.delayed(lambda file: file.read_text())(tf).compute(scheduler="sync") == "1\n"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: bash("x", {"a": "a.txt"}),
            r"input 'a' is neither data nor a transformation; a local file is File",
        ),
        (lambda: bash("x", {"a": File("absent")}), "absent: no such file or directory"),
        (lambda: bash("x", cpu=1), "no option 'cpu'; there are prologue"),
        (lambda: bash("x", memory="much"), "memory must be a size such as"),
        (lambda: bash("x", {"/a": b""}), "the input path '/a' is absolute"),
        (lambda: bash(b"x"), "must be text"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_meant_is_told_at_once(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_the_package_imports_what_is_asked_for_only() -> None:
    code = "import sys, seamless_dask; seamless_dask.File; print('dask' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_what_a_command_complains_of_is_shown_to_whoever_waits(
    lab: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        bash("echo a result; echo a complaint >&2", context=lab.context).compute().read_text() == "a result\n"
    )
    assert capsys.readouterr() == ("", "a complaint\n")
