"""Any sequence of changes leaves the database where a few dictionaries would be."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hashserver.checksum import Checksum, hash_bytes
from hashserver.errors import Irreproducible
from hashserver.results.database import Database

TFS = [hash_bytes(b"tf%d" % i) for i in range(5)]
KEYS = [hash_bytes(b"key%d" % i) for i in range(4)]
VALUES = [(format_, hash_bytes(b"r%d" % i)) for format_ in ("file", "text") for i in range(2)]

Value = tuple[str, Checksum]
Pairs = frozenset[tuple[Checksum, Value]]


class Model(RuleBasedStateMachine):
    """`KEYS[i]` may refer to transformations and to keys before it."""

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.database = Database(Path(self.directory.name) / "seamless.db")
        self.current: dict[Checksum, Value] = {}
        self.beside: dict[Checksum, dict[Value, int]] = {tf: {} for tf in TFS}  # 0: never was current
        self.contests = 0
        self.rows: dict[Checksum, dict[Pairs, Checksum]] = {key: {} for key in KEYS}

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()
            self.directory.cleanup()

    @rule(tf=st.sampled_from(TFS), value=st.sampled_from(VALUES))
    def put(self, tf: Checksum, value: Value) -> None:
        refused = False
        try:
            self.database.put(tf, *value)
        except Irreproducible:
            refused = True
        assert refused == (self.current.get(tf, value) != value)
        if refused:
            self.beside[tf].setdefault(value, 0)
        else:
            self.current[tf] = value
            self.beside[tf].pop(value, None)

    @rule(tf=st.sampled_from(TFS))
    def contest(self, tf: Checksum) -> None:
        moved = self.database.contest(tf)
        value = self.current.pop(tf, None)
        assert (moved and (moved.format, moved.checksum)) == value
        if value is not None:
            self.contests += 1
            self.beside[tf][value] = self.contests

    @rule(tf=st.sampled_from(TFS))
    def undo(self, tf: Checksum) -> None:
        moved = self.database.contest(tf, undo=True)
        contested = [value for value, number in self.beside[tf].items() if number]
        value = max(contested, key=lambda value: self.beside[tf][value], default=None)
        assert (moved and (moved.format, moved.checksum)) == value
        if value is not None:
            if tf in self.current:
                self.beside[tf].setdefault(self.current[tf], 0)
            del self.beside[tf][value]
            self.current[tf] = value

    @rule(data=st.data(), level=st.integers(0, len(KEYS) - 1), tf=st.sampled_from(TFS))
    def put_deferred(self, data: st.DataObject, level: int, tf: Checksum) -> None:
        upstream = data.draw(
            st.lists(st.sampled_from(TFS + KEYS[:level]), min_size=1, max_size=3, unique=True)
        )
        drawn = [(up, data.draw(st.sampled_from(VALUES))) for up in upstream]
        # as an executor does it: with what is current, where there is something
        known = [(up, found[1]) if (found := self.lookup(up)) else (up, value) for up, value in drawn]
        self.database.put_deferred(KEYS[level], tf, [(up, *value) for up, value in known])
        self.rows[KEYS[level]][frozenset(known)] = tf

    @rule()
    def reopen(self) -> None:
        self.database.close()

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "database"):
            return
        expected = {key: found for key in TFS + KEYS if (found := self.lookup(key))}
        answers = self.database.lookup_many(TFS + KEYS)
        assert {key: (tf, (r.format, r.checksum)) for key, (tf, r) in answers.items()} == expected
        assert {key: self.database.lookup(key) for key in TFS + KEYS} == {
            k: answers.get(k) for k in TFS + KEYS
        }
        for tf in TFS:
            kept = {(result.format, result.checksum) for result in self.database.irreproducible(tf)}
            assert kept == set(self.beside[tf])

    def lookup(self, key: Checksum) -> tuple[Checksum, Value] | None:
        if key in self.current:
            return key, self.current[key]
        for pairs, tf in reversed(self.rows.get(key, {}).items()):
            holds = all((found := self.lookup(up)) is not None and found[1] == value for up, value in pairs)
            if holds and tf in self.current:
                return tf, self.current[tf]
        return None


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, database=None)
