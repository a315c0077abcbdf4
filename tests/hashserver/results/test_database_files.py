"""The file of a result database: what is wrong with it, who else uses it, how it is handed on."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import DatabaseError, HashserverError, NoSpace, ServiceUnavailable
from hashserver.results import files, schema, sources
from hashserver.results.database import Database, Put

PRELUDE = """
import os, sys, threading
from hashserver.checksum import hash_bytes
from hashserver.results.database import Database, Put
from hashserver.errors import *
c = lambda text: hash_bytes(text.encode())
"""


def c(text: str) -> Checksum:
    return hash_bytes(text.encode())


def start(code: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [*prefix, sys.executable, "-c", PRELUDE + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(code: str, *arguments: object, prefix: tuple[str, ...] = ()) -> str:
    with start(code, *arguments, prefix=prefix) as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    return out.strip()


def filled(path: Path, *names: str) -> Path:
    with Database(path) as database:
        database.put_many(Put(c(name), "file", c("r" + name)) for name in names or ("a",))
    return path


def check_error(path: Path, kind: type[HashserverError], words: str) -> None:
    """Reading and writing both say in one line, with the file's name, what is wrong."""
    uses: list[Callable[[Database], object]] = [
        lambda database: database.get(c("a")),
        lambda database: database.put(c("b"), "file", c("r")),
    ]
    for use in uses:
        with Database(path) as database, pytest.raises(kind, match=words) as caught:
            use(database)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def unprivileged() -> tuple[str, ...]:
    """Make file modes count for root, too."""
    if os.geteuid():
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv (util-linux) to take root's powers away")
    return ("setpriv", "--bounding-set=-all")


class TestBadFiles:
    def test_is_not_opened_before_it_is_used(self, tmp_path: Path) -> None:
        Database(tmp_path / "seamless.db", others=[tmp_path / "other.db"]).close()
        assert list(tmp_path.iterdir()) == []

    def test_directories_are_made(self, tmp_path: Path) -> None:
        filled(tmp_path / "a" / "b" / "seamless.db")
        assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("name", ["a?b#c%20.db", "spa ce.db", "ü.db", "file:x.db", "-x.db"])
    def test_any_name_will_do(self, tmp_path: Path, name: str) -> None:
        filled(tmp_path / name)
        assert [entry.name for entry in tmp_path.iterdir()] == [name]
        with Database(tmp_path / name, read_only=True) as database:
            assert database.get(c("a")) is not None

    def test_an_empty_file_is_filled(self, tmp_path: Path) -> None:
        (tmp_path / "seamless.db").touch()
        filled(tmp_path / "seamless.db")

    def test_garbage(self, tmp_path: Path) -> None:
        path = tmp_path / "seamless.db"
        path.write_bytes(b"not a database " * 1000)
        check_error(path, DatabaseError, "damaged or no database")
        assert path.read_bytes() == b"not a database " * 1000

    def test_damaged_pages(self, tmp_path: Path) -> None:
        path = filled(tmp_path / "seamless.db", *map(str, range(2000)))
        size = path.stat().st_size
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(size - 4096))
        check_error(path, DatabaseError, "damaged or no database")

    def test_cut_short(self, tmp_path: Path) -> None:
        path = filled(tmp_path / "seamless.db", *map(str, range(2000)))
        os.truncate(path, 5000)
        check_error(path, DatabaseError, "damaged or no database")

    def test_newer(self, tmp_path: Path) -> None:
        path = filled(tmp_path / "seamless.db")
        with sqlite3.connect(path) as connection:
            connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
        connection.close()
        check_error(path, DatabaseError, "version 2.*upgrade seamless-dask")

    def test_of_another_program(self, tmp_path: Path) -> None:
        path = tmp_path / "firefox.sqlite"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE cookies (x)")
        connection.close()
        check_error(path, DatabaseError, "another program")

    def test_a_directory_in_its_place(self, tmp_path: Path) -> None:
        check_error(tmp_path, DatabaseError, "is a directory")

    def test_a_file_where_its_directory_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with Database(tmp_path / "file" / "x" / "seamless.db") as database, pytest.raises(DatabaseError):
            database.get(c("a"))

    def test_a_name_with_nul(self) -> None:
        with pytest.raises(DatabaseError, match="not a file name"):
            Database("a\0b")

    def test_missing_and_read_only(self, tmp_path: Path) -> None:
        with (
            Database(tmp_path / "no.db", read_only=True) as database,
            pytest.raises(DatabaseError, match="exist"),
        ):
            database.get(c("a"))

    @pytest.mark.parametrize("mode", [0o444, 0o555])
    def test_write_protected_file_answers_and_refuses(self, tmp_path: Path, mode: int) -> None:
        path = filled(tmp_path / "seamless.db")
        (path if mode == 0o444 else tmp_path).chmod(mode)
        code = """
        db = Database(sys.argv[1])
        assert db.get(c("a"))
        try: db.put(c("b"), "file", c("r"))
        except ReadOnly as error: print(error)
        assert db.get(c("a"))
        """
        try:
            said = run("".join(line[8:] for line in code.splitlines(True)), path, prefix=unprivileged())
        finally:
            tmp_path.chmod(0o700)
        assert str(path) in said
        assert len(said.splitlines()) == 1

    def test_missing_in_a_write_protected_directory(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o555)
        code = "try: Database(sys.argv[1]).get(c('a'))\nexcept ReadOnly as error: print(error)"
        try:
            assert str(tmp_path) in run(code, tmp_path / "seamless.db", prefix=unprivileged())
            assert str(tmp_path) in run(code, tmp_path / "deep" / "seamless.db", prefix=unprivileged())
        finally:
            tmp_path.chmod(0o700)

    def test_unreadable(self, tmp_path: Path) -> None:
        path = filled(tmp_path / "seamless.db")
        path.chmod(0)
        code = "try: Database(sys.argv[1]).get(c('a'))\nexcept DatabaseError as error: print(error)"
        assert "may not be read" in run(code, path, prefix=unprivileged())


class TestFullDisk:
    CODE = """
db = Database(sys.argv[1])
done = 0
try:
    while True:
        db.put_many([Put(c(f"{done}-{i}"), "file", c("r"), {"stderr": "x" * 200}) for i in range(50)])
        done += 1
except NoSpace as error:
    print(error)
db.close()
with Database(sys.argv[1]) as db:
    for batch in range(done + 1):
        found = len(db.get_many([c(f"{batch}-{i}") for i in range(50)]))
        assert found == (50 if batch < done else 0), (batch, done, found)
"""

    def test_is_told_and_nothing_is_recorded_by_half(self, tmp_path: Path) -> None:
        mount = f'mount -t tmpfs -o size=600k tmpfs {tmp_path} && exec "$@"'
        prefix = ("unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)), "--mount")
        if subprocess.run([*prefix, "sh", "-c", mount, "sh", "true"], capture_output=True).returncode:
            pytest.skip("needs a mount namespace")
        said = run(self.CODE, tmp_path / "seamless.db", prefix=(*prefix, "sh", "-c", mount, "sh"))
        assert "no room on the device" in said
        assert len(said.splitlines()) == 1

    def test_export_leaves_nothing(self, tmp_path: Path) -> None:
        path = filled(tmp_path / "seamless.db", *map(str, range(5000)))
        target = tmp_path / "full"
        target.mkdir()
        mount = f'mount -t tmpfs -o size=64k tmpfs {target} && exec "$@"'
        prefix = ("unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)), "--mount")
        if subprocess.run([*prefix, "sh", "-c", mount, "sh", "true"], capture_output=True).returncode:
            pytest.skip("needs a mount namespace")
        code = """
try: Database(sys.argv[1]).export(sys.argv[2] + "/copy.db")
except NoSpace as error: print(error)
assert os.listdir(sys.argv[2]) == []
"""
        said = run(code, path, target, prefix=(*prefix, "sh", "-c", mount, "sh"))
        assert f"{target}/copy.db" in said

    def test_a_size_limit_of_sqlite_counts_as_full(self, tmp_path: Path) -> None:
        with Database(tmp_path / "seamless.db") as database:
            database.put(c("a"), "file", c("r"))
            writer = database._own._writer  # type: ignore[union-attr]
            assert writer is not None
            writer.execute("PRAGMA max_page_count = 1")
            puts = [Put(c(str(i)), "file", c("r")) for i in range(1000)]
            with pytest.raises(NoSpace):
                database.put_many(puts)
            assert database.get_many(put.tf for put in puts) == {}
            assert database.get(c("a")) is not None


class TestManyAtOnce:
    CODE = """
name = sys.argv[2]
db = Database(sys.argv[1])
errors = []
def work(thread):
    try:
        for i in range(int(sys.argv[3])):
            tf = c(f"{name}-{thread}-{i}")
            db.put(tf, "file", c("r"), {"i": i})
            db.put_failure(c("shared"), {"by": name})
            db.put(c(f"shared-{i}"), "file", c("r"))
            db.put_deferred(c(f"K{i}"), c(f"shared-{i}"), [(tf, "file", c("r"))])
            assert db.lookup(c(f"K{i}")), "not found"
    except BaseException as error:
        errors.append(error)
threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
[t.start() for t in threads]
[t.join() for t in threads]
db.close()
assert not errors, errors
"""

    @pytest.mark.parametrize("network", [False, True])
    def test_processes_and_threads_write_at_once(self, tmp_path: Path, network: bool) -> None:
        path = tmp_path / "seamless.db"
        patch = "from hashserver.results import files; files.is_network_filesystem = lambda path: True\n"
        rounds = 4 if network else 20  # each of the former waits for the disk
        code = (patch if network else "") + self.CODE
        processes = [start(code, path, name, rounds) for name in "xyz"]
        for process in processes:
            with process:
                _, err = process.communicate()
            assert process.returncode == 0, err
        with Database(path) as database:
            asked = [
                c(f"{name}-{thread}-{i}") for name in "xyz" for thread in range(6) for i in range(rounds)
            ]
            assert len(database.get_many(asked)) == 18 * rounds
            assert len(database.failures(c("shared"))) == 10
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()

    def test_all_at_once_make_a_new_one(self, tmp_path: Path) -> None:
        errors: list[Exception] = []

        def use(name: str, path: Path, barrier: threading.Barrier) -> None:
            with Database(path) as database:
                barrier.wait()
                try:
                    database.put(c(name), "file", c("r"))
                    assert database.get(c(name)) is not None
                except Exception as error:
                    errors.append(error)

        for turn in range(15):
            path = tmp_path / str(turn) / "seamless.db"
            barrier = threading.Barrier(8)
            threads = [threading.Thread(target=use, args=(str(i), path, barrier)) for i in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert errors == []

    def test_a_killed_writer_loses_nothing_it_was_told_of(self, tmp_path: Path) -> None:
        code = """
db = Database(sys.argv[1])
for i in range(10**6):
    db.put(c(str(i)), "file", c("r"))
    print(i, flush=True)
"""
        path = tmp_path / "seamless.db"
        with start(code, path) as process:
            assert process.stdout is not None
            told = [int(process.stdout.readline()) for _ in range(50)]
            process.kill()
        with Database(path) as database:
            assert len(database.get_many(c(str(i)) for i in told)) == 50
        assert [entry.name for entry in tmp_path.iterdir()] == ["seamless.db"]

    def test_waits_for_a_slow_writer(self, tmp_path: Path) -> None:
        path = filled(tmp_path / "seamless.db")
        blocker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        blocker.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(1.2, blocker.execute, ["COMMIT"])
        timer.start()
        with Database(path) as database:
            assert database.get(c("a")) is not None
            database.put(c("b"), "file", c("r"))
        timer.join()
        blocker.close()

    def test_one_that_never_ends_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("hashserver.results.sqlitefile.PATIENCE", 0.0)
        path = filled(tmp_path / "seamless.db")
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with Database(path) as database, pytest.raises(HashserverError, match="locked by another process"):
            database.put(c("b"), "file", c("r"))
        blocker.close()

    def test_a_forked_child_has_connections_of_its_own(self, tmp_path: Path) -> None:
        code = """
db = Database(sys.argv[1])
db.put(c("parent"), "file", c("r"))
pid = os.fork()
if pid == 0:
    db.put(c("child"), "file", c("r"))
    db.close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert db.get(c("child")) and db.get(c("parent"))
db.put(c("later"), "file", c("r"))
"""
        run(code, tmp_path / "seamless.db")


class TestJournal:
    @staticmethod
    def mode(path: Path) -> str:
        connection = sqlite3.connect(path)
        try:
            return str(connection.execute("PRAGMA journal_mode").fetchone()[0])
        finally:
            connection.close()

    def test_write_ahead_log_on_a_local_disk(self, tmp_path: Path) -> None:
        assert self.mode(filled(tmp_path / "seamless.db")) == "wal"

    def test_rollback_journal_and_one_warning_on_a_network_file_system(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "is_network_filesystem", lambda path: True)
        with Database(tmp_path / "seamless.db") as database:
            database.put(c("a"), "file", c("r"))
            database.close()
            database.get(c("a"))
            assert len(database.warnings) == 1
            assert "seamless-init" in database.warnings[0]
        assert self.mode(tmp_path / "seamless.db") == "delete"

    def test_a_file_that_moves_changes_its_journal(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = filled(tmp_path / "seamless.db")
        with monkeypatch.context() as patch:
            patch.setattr(files, "is_network_filesystem", lambda path: True)
            with Database(path) as database:
                assert database.get(c("a")) is not None
            assert self.mode(path) == "delete"
        filled(path, "b")
        assert self.mode(path) == "wal"

    def test_the_host_with_the_disk_and_another_one_never_share_a_write_ahead_log(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def on_network(*, is_true: bool) -> None:
            monkeypatch.setattr(files, "is_network_filesystem", lambda path: is_true)

        path = tmp_path / "seamless.db"
        here, there = Database(path), Database(path)
        here.put(c("a"), "file", c("r"))
        on_network(is_true=True)
        with pytest.raises(ServiceUnavailable, match="seamless-init"):  # while it is open here, at once
            there.get(c("a"))
        here.close()
        assert there.get(c("a")) is not None
        there.put(c("b"), "file", c("r"))
        on_network(is_true=False)
        here.put(c("c"), "file", c("r"))  # the log is turned on under an open connection of the other host
        on_network(is_true=True)
        with pytest.raises(ServiceUnavailable, match="seamless-init"):
            there.get(c("c"))
        with pytest.raises(ServiceUnavailable, match="seamless-init"):
            there.put(c("d"), "file", c("r"))
        there.close()
        on_network(is_true=False)
        assert [here.get(c(name)) is not None for name in "abcd"] == [True, True, True, False]
        here.close()


class TestExport:
    def test_stands_alone(self, tmp_path: Path) -> None:
        copy = tmp_path / "there" / "copy.db"
        copy.parent.mkdir()
        with Database(tmp_path / "seamless.db") as database:
            database.put(c("a"), "file", c("r"), {"wall": 1})
            database.put_deferred(c("K"), c("a"), [(c("a"), "file", c("r"))])
            database.export(copy)  # what is still in the log is in it
        assert [entry.name for entry in copy.parent.iterdir()] == ["copy.db"]
        assert TestJournal.mode(copy) == "delete"
        copy.parent.chmod(0o555)
        try:
            code = "db = Database(sys.argv[1], read_only=True); print(db.lookup(c('K'))[1].record)"
            assert run(code, copy, prefix=unprivileged()) == "{'wall': 1}"
        finally:
            copy.parent.chmod(0o700)

    def test_while_others_write(self, tmp_path: Path) -> None:
        with Database(tmp_path / "seamless.db") as database:
            stop = threading.Event()

            def write() -> None:
                i = 0
                while not stop.is_set():
                    database.put_many([Put(c(f"{i}-{j}"), "file", c("r")) for j in range(20)])
                    i += 1

            thread = threading.Thread(target=write)
            thread.start()
            try:
                for _ in range(5):
                    database.export(tmp_path / "copy.db")
                    with Database(tmp_path / "copy.db", read_only=True) as copy:
                        assert copy.counts()["results"] % 20 == 0
            finally:
                stop.set()
                thread.join()

    def test_not_onto_itself_or_a_directory(self, tmp_path: Path) -> None:
        (tmp_path / "link.db").symlink_to("seamless.db")
        with Database(filled(tmp_path / "seamless.db")) as database:
            for target in (
                tmp_path / "seamless.db",
                tmp_path / "link.db",
                tmp_path,
                tmp_path / "no" / "x.db",
            ):
                with pytest.raises(DatabaseError):
                    database.export(target)
            assert database.get(c("a")) is not None

    def test_what_a_killed_export_left_goes(self, tmp_path: Path) -> None:
        process = subprocess.Popen(["true"])
        process.wait()
        (tmp_path / f"copy.db.{process.pid}.part").write_bytes(b"half")
        with Database(filled(tmp_path / "own" / "seamless.db")) as database:
            database.export(tmp_path / "copy.db")
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["copy.db", "own"]

    def test_of_a_database_that_is_only_read(self, tmp_path: Path) -> None:
        with Database(filled(tmp_path / "seamless.db"), read_only=True) as database:
            database.export(tmp_path / "copy.db")
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["copy.db", "seamless.db"]


class TestColleaguesFile:
    def test_one_that_cannot_be_used_is_left_out_with_a_line(self, tmp_path: Path) -> None:
        (tmp_path / "garbage.db").write_bytes(b"garbage" * 1000)
        (tmp_path / "empty.db").touch()
        good = filled(tmp_path / "good.db")
        bad = [tmp_path / "missing.db", tmp_path / "garbage.db", tmp_path / "empty.db", tmp_path]
        with Database(tmp_path / "own.db", others=[*bad, good]) as database:
            for _ in range(2):
                assert database.get(c("a")) is not None
                assert database.lookup(c("K")) is None
            assert [str(path) in line for path, line in zip(bad, database.warnings, strict=True)] == [
                True
            ] * 4
            assert all(line.startswith("left out: ") and "\n" not in line for line in database.warnings)

    def test_no_file_is_made_beside_it(self, tmp_path: Path) -> None:
        theirs = filled(tmp_path / "theirs" / "seamless.db")
        with Database(tmp_path / "own.db", others=[theirs]) as database:
            assert database.get(c("a")) is not None
            assert [entry.name for entry in theirs.parent.iterdir()] == ["seamless.db"]

    def test_its_owner_goes_on_writing(self, tmp_path: Path) -> None:
        theirs = filled(tmp_path / "seamless.db")
        with Database(tmp_path / "own.db", others=[theirs]) as database:
            assert database.get(c("a")) is not None
            filled(theirs, "b")  # opened, written, closed again
            assert database.get(c("b")) is not None
            with Database(theirs) as open_there:
                open_there.put(c("d"), "file", c("r"))
                assert database.get(c("d")) is not None
                open_there.put(c("e"), "file", c("r"))
                assert database.get(c("e")) is not None
            filled(theirs, "f")
            assert database.get(c("f")) is not None
            assert database.warnings == []

    def test_in_use_on_another_host(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "is_network_filesystem", lambda path: True)
        with (
            Database(tmp_path / "theirs.db") as theirs,
            Database(tmp_path / "own.db", others=[theirs.path]) as own,
        ):
            theirs.put(c("a"), "file", c("r"))
            assert own.get(c("a")) is None
            assert "--export-db" in own.warnings[0]

    @pytest.mark.parametrize(
        "change",
        [
            "UPDATE results SET checksum = 'text'",
            "UPDATE results SET checksum = x'00'",
            "UPDATE records SET record = '{'",
            "UPDATE deferred SET tf = 7",
            "UPDATE upstream SET key = 'x'",
            "DROP TABLE results",
        ],
    )
    def test_rows_that_make_no_sense(self, tmp_path: Path, change: str) -> None:
        theirs = tmp_path / "theirs.db"
        with Database(theirs) as database:
            database.put(c("a"), "file", c("r"), {})
            database.put_deferred(c("K"), c("a"), [(c("a"), "file", c("r"))])
        connection = sqlite3.connect(theirs)
        with connection:
            connection.execute(change)
        connection.close()
        with Database(tmp_path / "own.db", others=[theirs]) as database:
            database.lookup(c("K"))
            database.get(c("a"))
            database.producers(c("r"))
            database.get_many([c("a")])
            assert len(database.warnings) == 1
