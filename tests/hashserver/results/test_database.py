"""What is known of transformations: results, contests, deferred keys, failures, further databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import Irreproducible, ReadOnly
from hashserver.results.database import Database, Put, Result


def c(text: str) -> Checksum:
    return hash_bytes(text.encode())


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "seamless.db") as database:
        yield database


def other_database(path: Path, *results: Put) -> Path:
    with Database(path) as database:
        database.put_many(results)
    return path


class TestResults:
    def test_unknown_is_none(self, database: Database) -> None:
        assert database.get(c("tf")) is None
        assert database.lookup(c("tf")) is None
        assert database.find(c("tf")) is None

    def test_comes_back_with_format_and_record(self, database: Database) -> None:
        database.put(c("tf"), "directory", c("r"), {"wall": 1.5, "host": "nœud"})
        assert database.get(c("tf")) == Result("directory", c("r"), {"wall": 1.5, "host": "nœud"}, None)
        assert database.lookup(c("tf")) == (c("tf"), database.get(c("tf")))

    def test_is_found_without_its_record_where_that_is_not_asked_for(self, database: Database) -> None:
        database.put(c("tf"), "directory", c("r"), {"wall": 1.5})
        assert database.find(c("tf")) == Result("directory", c("r"))

    def test_checksums_come_back_as_checksums(self, database: Database) -> None:
        database.put(c("tf"), "file", c("r"))
        result = database.get(c("tf"))
        assert result is not None
        assert type(result.checksum) is Checksum

    def test_putting_again_changes_nothing(self, database: Database) -> None:
        for _ in range(3):
            database.put(c("tf"), "file", c("r"), {"wall": 1})
        assert database.get(c("tf")) == Result("file", c("r"), {"wall": 1})
        assert database.counts() == {"results": 1, "irreproducible": 0, "deferred": 0, "failures": 0}

    def test_a_newer_record_of_the_same_result_replaces_the_older(self, database: Database) -> None:
        database.put(c("tf"), "file", c("r"), {"environment": "old"})
        database.put(c("tf"), "file", c("r"), {"environment": "new"})
        database.put(c("tf"), "file", c("r"))
        assert database.get(c("tf")) == Result("file", c("r"), {"environment": "new"})

    def test_many_at_once(self, database: Database) -> None:
        puts = [Put(c(f"tf{i}"), "file", c(f"r{i}"), {"i": i}) for i in range(3000)]
        assert database.put_many(puts) == []
        asked = [put.tf for put in puts] + [c("unknown")]
        assert database.get_many(asked) == {put.tf: Result("file", put.checksum) for put in puts}
        assert database.lookup_many(asked) == {put.tf: (put.tf, Result("file", put.checksum)) for put in puts}

    def test_nothing_asked_nothing_answered(self, database: Database) -> None:
        assert database.get_many([]) == {}
        assert database.lookup_many([]) == {}
        assert database.put_many([]) == []

    def test_outlive_the_process_that_put_them(self, tmp_path: Path) -> None:
        with Database(tmp_path / "seamless.db") as database:
            database.put(c("tf"), "file", c("r"))
        with Database(tmp_path / "seamless.db") as database:
            assert database.get(c("tf")) is not None

    def test_can_be_used_after_closing(self, database: Database) -> None:
        database.put(c("tf"), "file", c("r"))
        database.close()
        assert database.get(c("tf")) is not None


class TestIrreproducible:
    def test_another_result_never_overwrites_and_is_kept(self, database: Database) -> None:
        database.put(c("tf"), "file", c("r"))
        with pytest.raises(Irreproducible, match=f"gave {c('other')}, but {c('r')} is on record") as caught:
            database.put(c("tf"), "file", c("other"), {"host": "odd"})
        assert (caught.value.known, caught.value.found) == (c("r"), c("other"))
        assert database.get(c("tf")) == Result("file", c("r"))
        assert database.irreproducible(c("tf")) == [Result("file", c("other"), {"host": "odd"})]

    def test_the_same_bytes_in_another_format_are_another_result(self, database: Database) -> None:
        database.put(c("tf"), "file", c("r"))
        with pytest.raises(Irreproducible, match=f"gave text {c('r')}, but file {c('r')}"):
            database.put(c("tf"), "text", c("r"))

    def test_in_a_batch_the_others_are_recorded(self, database: Database) -> None:
        database.put(c("a"), "file", c("r"))
        errors = database.put_many([Put(c("a"), "file", c("odd")), Put(c("b"), "file", c("r"))])
        assert [error.transformation for error in errors] == [c("a")]
        assert database.get(c("b")) is not None


class TestContest:
    def test_the_next_request_runs_it(self, database: Database) -> None:
        database.put(c("tf"), "file", c("r"), {"wall": 1})
        assert database.contest(c("tf")) == Result("file", c("r"))
        assert database.get(c("tf")) is None
        assert database.irreproducible(c("tf")) == [Result("file", c("r"), {"wall": 1})]

    def test_undo_brings_back_result_and_record(self, database: Database) -> None:
        database.put(c("tf"), "file", c("r"), {"wall": 1})
        database.contest(c("tf"))
        assert database.contest(c("tf"), undo=True) == Result("file", c("r"))
        assert database.get(c("tf")) == Result("file", c("r"), {"wall": 1})
        assert database.irreproducible(c("tf")) == []

    def test_nothing_to_contest_or_undo_is_told_by_none(self, database: Database) -> None:
        assert database.contest(c("tf")) is None
        assert database.contest(c("tf"), undo=True) is None
        database.put(c("tf"), "file", c("r"))
        assert database.contest(c("tf"), undo=True) is None
        assert database.get(c("tf")) is not None

    def test_the_same_result_again_has_been_reproduced(self, database: Database) -> None:
        database.put(c("tf"), "file", c("r"), {"run": 1})
        database.contest(c("tf"))
        database.put(c("tf"), "file", c("r"), {"run": 2})
        assert database.get(c("tf")) == Result("file", c("r"), {"run": 2})
        assert database.irreproducible(c("tf")) == []

    def test_a_new_result_takes_the_place_of_the_contested(self, database: Database) -> None:
        database.put(c("tf"), "file", c("wrong"))
        database.contest(c("tf"))
        database.put(c("tf"), "file", c("right"))
        assert database.get(c("tf")) == Result("file", c("right"))
        with pytest.raises(Irreproducible):
            database.put(c("tf"), "file", c("wrong"))

    def test_undo_after_a_new_result_swaps_them(self, database: Database) -> None:
        database.put(c("tf"), "file", c("old"))
        database.contest(c("tf"))
        database.put(c("tf"), "file", c("new"), {"run": 2})
        database.contest(c("tf"), undo=True)
        assert database.get(c("tf")) == Result("file", c("old"))
        assert database.irreproducible(c("tf")) == [Result("file", c("new"), {"run": 2})]

    def test_undo_takes_back_the_last_of_several(self, database: Database) -> None:
        for name in ("first", "second"):
            database.put(c("tf"), "file", c(name))
            database.contest(c("tf"))
        assert database.contest(c("tf"), undo=True) == Result("file", c("second"))
        assert [result.checksum for result in database.irreproducible(c("tf"))] == [c("first")]


class TestDeferred:
    """A chain of three: `a` is an ordinary transformation, B refers to a, C refers to B."""

    @pytest.fixture
    def chain(self, database: Database) -> Database:
        database.put(c("a"), "file", c("ra"))
        self.step(database, "B", "b", "rb", ("a", "ra"))
        self.step(database, "C", "c", "rc", ("B", "rb"))
        return database

    @staticmethod
    def step(database: Database, key: str, tf: str, result: str, *upstream: tuple[str, str]) -> None:
        database.put(c(tf), "file", c(result))
        database.put_deferred(c(key), c(tf), [(c(up), "file", c(value)) for up, value in upstream])

    @staticmethod
    def found(database: Database, key: str) -> tuple[Checksum, Checksum] | None:
        answer = database.lookup(c(key))
        assert database.lookup_many([c(key)]).get(c(key)) == answer
        assert database.find(c(key)) == (answer and answer[1])
        return answer and (answer[0], answer[1].checksum)

    def test_a_finished_pipeline_is_found_by_its_last_key(self, chain: Database) -> None:
        assert self.found(chain, "C") == (c("c"), c("rc"))

    def test_contesting_the_first_undoes_all_that_was_built_on_it(self, chain: Database) -> None:
        chain.contest(c("a"))
        assert [self.found(chain, key) for key in "aBC"] == [None] * 3

    def test_contesting_in_the_middle_undoes_what_follows_only(self, chain: Database) -> None:
        chain.contest(c("b"))
        assert self.found(chain, "a") == (c("a"), c("ra"))
        assert [self.found(chain, key) for key in "BC"] == [None] * 2

    def test_what_is_asked_by_its_resolved_checksum_stays_known(self, chain: Database) -> None:
        chain.contest(c("a"))
        assert self.found(chain, "c") == (c("c"), c("rc"))

    def test_undo_brings_back_the_whole_pipeline(self, chain: Database) -> None:
        chain.contest(c("a"))
        chain.contest(c("a"), undo=True)
        assert self.found(chain, "C") == (c("c"), c("rc"))

    def test_the_same_upstream_result_again_makes_it_stand_again(self, chain: Database) -> None:
        chain.contest(c("b"))
        chain.put(c("b"), "file", c("rb"))
        assert self.found(chain, "C") == (c("c"), c("rc"))

    def test_another_upstream_result_needs_new_steps_and_undo_finds_the_old_ones(
        self, chain: Database
    ) -> None:
        chain.contest(c("a"))
        chain.put(c("a"), "file", c("ra2"))
        assert [self.found(chain, key) for key in "BC"] == [None] * 2
        self.step(chain, "B", "b2", "rb2", ("a", "ra2"))
        assert self.found(chain, "C") is None
        self.step(chain, "C", "c2", "rc2", ("B", "rb2"))
        assert self.found(chain, "C") == (c("c2"), c("rc2"))
        chain.contest(c("a"), undo=True)
        assert self.found(chain, "C") == (c("c"), c("rc"))

    def test_early_cutoff_upstream_rerun_gives_the_same_bytes(self, chain: Database) -> None:
        """The code of step a changed: all keys are new, but a's result is not, so that b need not run."""
        chain.put(c("a'"), "file", c("ra"))
        assert self.found(chain, "B'") is None
        assert self.found(chain, "b") == (c("b"), c("rb"))  # what B' resolves to, with ra put in
        chain.put_deferred(c("B'"), c("b"), [(c("a'"), "file", c("ra"))])
        assert self.found(chain, "B'") == (c("b"), c("rb"))

    def test_early_cutoff_after_another_result_that_is_equal_in_what_is_used(self, chain: Database) -> None:
        """Only a member of a's result goes into B: other results of a resolve to the same transformation."""
        chain.contest(c("a"))
        chain.put(c("a"), "file", c("ra2"))
        chain.put_deferred(c("B"), c("b"), [(c("a"), "file", c("ra2"))])
        assert self.found(chain, "C") == (c("c"), c("rc"))
        chain.contest(c("a"), undo=True)
        assert self.found(chain, "C") == (c("c"), c("rc"))

    def test_a_contested_result_of_the_step_itself(self, chain: Database) -> None:
        chain.contest(c("c"))
        assert self.found(chain, "C") is None
        assert self.found(chain, "B") is not None

    def test_the_format_counts(self, database: Database) -> None:
        database.put(c("a"), "file", c("ra"))
        database.put(c("b"), "file", c("rb"))
        database.put_deferred(c("B"), c("b"), [(c("a"), "directory", c("ra"))])
        assert self.found(database, "B") is None

    def test_every_upstream_result_must_hold(self, database: Database) -> None:
        database.put(c("a1"), "file", c("r1"))
        database.put(c("a2"), "file", c("r2"))
        self.step(database, "B", "b", "rb", ("a1", "r1"), ("a2", "r2"))
        assert self.found(database, "B") is not None
        database.contest(c("a2"))
        assert self.found(database, "B") is None

    def test_a_key_that_is_its_checksum_needs_no_row(self, database: Database) -> None:
        database.put_deferred(c("a"), c("a"), [])
        assert database.counts()["deferred"] == 0

    def test_putting_again_changes_nothing(self, chain: Database) -> None:
        self.step(chain, "B", "b", "rb", ("a", "ra"))
        assert chain.counts()["deferred"] == 2

    def test_a_chain_of_thousands(self, database: Database) -> None:
        database.put_many(Put(c(f"t{i}"), "file", c(f"r{i}")) for i in range(1500))
        for i in range(1, 1500):
            up = c(f"K{i - 1}") if i > 1 else c("t0")
            database.put_deferred(c(f"K{i}"), c(f"t{i}"), [(up, "file", c(f"r{i - 1}"))])
        assert self.found(database, "K1499") == (c("t1499"), c("r1499"))
        database.contest(c("t0"))
        assert self.found(database, "K1499") is None

    def test_a_forged_cycle_holds_nothing(self, database: Database) -> None:
        self.step(database, "A", "a", "r", ("B", "r"))
        self.step(database, "B", "b", "r", ("A", "r"))
        self.step(database, "C", "c", "r", ("C", "r"))
        assert [self.found(database, key) for key in "ABC"] == [None] * 3


class TestFailures:
    def test_are_never_results(self, database: Database) -> None:
        database.put_failure(c("tf"), {"exit_status": 1})
        assert database.get(c("tf")) is None
        assert database.failures(c("tf")) == [{"exit_status": 1}]
        assert database.failures(c("other")) == []

    def test_the_last_ten_are_kept(self, database: Database) -> None:
        for i in range(13):
            database.put_failure(c("tf"), {"i": i})
        assert [record["i"] for record in database.failures(c("tf"))] == list(range(3, 13))


class TestProducers:
    def test_of_a_result(self, database: Database) -> None:
        database.put(c("a"), "file", c("r"))
        database.put(c("b"), "file", c("r"))
        assert set(database.producers(c("r"))) == {c("a"), c("b")}
        assert database.producers(c("unknown")) == []

    def test_of_a_member_to_any_depth(self, database: Database) -> None:
        database.put(c("a"), "results", c("both"), None, [c("directory")])
        database.put(c("b"), "directory", c("directory"), None, [c("file")])
        assert set(database.producers(c("file"))) == {c("a"), c("b")}

    def test_contested_ones_come_last(self, database: Database) -> None:
        for tf in ("a", "b", "c"):
            database.put(c(tf), "file", c("r"))
        database.contest(c("b"))
        assert database.producers(c("r"))[-1] == c("b")
        assert len(database.producers(c("r"))) == 3


class TestFurtherDatabases:
    def test_are_asked_after_the_own_one_and_named(self, tmp_path: Path) -> None:
        first = other_database(tmp_path / "first.db", Put(c("x"), "file", c("rx1"), {"host": "theirs"}))
        both = [Put(c("x"), "file", c("rx2")), Put(c("y"), "file", c("ry"))]
        second = other_database(tmp_path / "second.db", *both)
        with Database(tmp_path / "own.db", others=[first, second]) as database:
            database.put(c("own"), "file", c("r"))
            assert database.get(c("own")) == Result("file", c("r"))
            assert database.get(c("x")) == Result("file", c("rx1"), {"host": "theirs"}, str(first))
            assert database.get_many([c("own"), c("x"), c("y")]) == {
                c("own"): Result("file", c("r")),
                c("x"): Result("file", c("rx1"), None, str(first)),
                c("y"): Result("file", c("ry"), None, str(second)),
            }
            assert database.producers(c("ry")) == [c("y")]
            assert database.warnings == []

    def test_a_pipeline_may_lie_in_several(self, tmp_path: Path) -> None:
        theirs = other_database(tmp_path / "theirs.db", Put(c("b"), "file", c("rb")))
        with Database(theirs) as database:
            database.put_deferred(c("B"), c("b"), [(c("a"), "file", c("ra"))])
        with Database(tmp_path / "own.db", others=[theirs]) as database:
            assert database.lookup(c("B")) is None
            database.put(c("a"), "file", c("ra"))
            assert database.lookup(c("B")) == (c("b"), Result("file", c("rb"), None, str(theirs)))
            assert database.find(c("B")) == Result("file", c("rb"), None, str(theirs))

    def test_what_is_contested_here_is_not_taken_from_there(self, tmp_path: Path) -> None:
        theirs = other_database(tmp_path / "theirs.db", Put(c("a"), "file", c("r")))
        with Database(tmp_path / "own.db", others=[theirs]) as database:
            assert database.contest(c("a")) == Result("file", c("r"))
            assert database.get(c("a")) is None
            assert database.get_many([c("a")]) == {}
            database.put(c("a"), "file", c("new"))
            assert database.get(c("a")) == Result("file", c("new"))
            database.contest(c("a"), undo=True)
            assert database.get(c("a")) == Result("file", c("r"))

    def test_another_result_than_theirs_is_irreproducible(self, tmp_path: Path) -> None:
        theirs = other_database(tmp_path / "theirs.db", Put(c("a"), "file", c("r")))
        with Database(tmp_path / "own.db", others=[theirs]) as database:
            with pytest.raises(Irreproducible):
                database.put(c("a"), "file", c("odd"))
            assert database.get(c("a")) == Result("file", c("r"), None, str(theirs))
            database.put(c("a"), "file", c("r"))
            assert database.get(c("a")) == Result("file", c("r"))

    def test_the_own_file_among_them_is_not_asked_twice(self, tmp_path: Path) -> None:
        own = other_database(tmp_path / "own.db", Put(c("a"), "file", c("r")))
        with Database(own, others=[own]) as database:
            database.contest(c("a"))
            assert database.get(c("a")) is None


class TestReadOnly:
    def test_answers_and_refuses_to_change(self, tmp_path: Path) -> None:
        path = other_database(tmp_path / "seamless.db", Put(c("a"), "file", c("r")))
        with Database(path, read_only=True) as database:
            assert database.get(c("a")) is not None
            changes: list[Callable[[], object]] = [
                lambda: database.put(c("b"), "file", c("r")),
                lambda: database.contest(c("a")),
                lambda: database.put_failure(c("a"), {}),
                lambda: database.put_deferred(c("K"), c("a"), []),
            ]
            for change in changes:
                with pytest.raises(ReadOnly, match="reading only"):
                    change()
        assert [entry.name for entry in tmp_path.iterdir()] == ["seamless.db"]
