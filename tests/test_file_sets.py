"""Sets in a file: what a foreign reader and ``dump`` see, and what becomes of them when bytes are damaged."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest
from msgspec.structs import replace

from lmdbq.clock import ManualClock
from lmdbq.ids import format_set_id
from lmdbq.model import (
    NEW_SET,
    Call,
    Condition,
    Enqueue,
    Entry,
    Prune,
    Purge,
    SetClose,
    SetMake,
    SetState,
    TaskSet,
)
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.dump import dump_lines
from lmdbq.store.lmdb import open_store
from lmdbq.store.lmdb_sets import LOST
from tests import foreign_reader
from tests.contract_sets import CALLBACK, FAILED, counts, followers, of
from tests.store_driver import Driver, S, entry
from tests.test_file_schedules import flipped, write


class Made:
    """A closed store with a set of two: one waits, the other has succeeded and is kept."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        q = Driver(open_store(directory), ManualClock())
        self.set_id = q.do(SetMake(TaskSet(callback=CALLBACK, on_unmet=FAILED, condition=Condition.FINISHED))).id
        self.done = q.add(set_id=self.set_id)
        q.succeed(q.take(), result=b"1")
        self.waits = q.add(set_id=self.set_id)
        q.do(SetClose(self.set_id))
        q.store.close()

    def open(self) -> Driver:
        return Driver(open_store(self.directory), ManualClock())

    def damage(self, database: str, key: bytes) -> None:
        with lmdb.open(str(self.directory), max_dbs=32, lib_version=0) as env:
            handle = env.open_db(ks.PREFIX + database.encode(), create=False)
            with env.begin() as txn:
                value = txn.get(key, db=handle)
        write(self.directory, database, key, flipped(value))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "q")


def closes_clean(q: Driver) -> None:
    assert q.store.check() == []
    q.store.close()


def test_a_foreign_reader_and_dump_see_sets(made: Made):
    (record,) = foreign_reader.Reader(made.directory).sets().values()
    assert (record["id"], record["state"], record["members"]) == (made.set_id, 1, 2)
    assert (record["pending"], record["succeeded"]) == (1, 1)
    assert (record["set"]["condition"], record["set"]["callback"]["type"]) == (2, "callback")
    (line,) = [line for line in dump_lines(made.directory) if line.startswith("lmdbq/set ")]
    assert line.startswith(f"lmdbq/set  {format_set_id(made.set_id)}  id=")
    assert "members=2 pending=1 succeeded=1" in line


def test_a_damaged_member_counts_as_deleted_and_the_set_is_decided(made: Made):
    made.damage("task", ks.task(made.waits))
    q = made.open()
    assert q.claim().tasks == []
    assert counts(q, made.set_id) == {"members": 2, "succeeded": 1, "deleted": 1}
    assert followers(q) == ["callback"]
    closes_clean(q)


def test_a_damaged_member_that_had_ended_stays_what_it_was(made: Made):
    made.damage("task", ks.task(made.done))
    q = made.open()
    q.delete(made.done)
    assert counts(q, made.set_id) == {"members": 2, "succeeded": 1, "pending": 1}
    closes_clean(q)


def test_a_damaged_member_of_a_purged_queue_counts_too(made: Made):
    made.damage("task", ks.task(made.waits))
    q = made.open()
    q.do(Purge("default"))
    q.sweep(Prune())
    assert counts(q, made.set_id) == {"members": 2, "succeeded": 1, "deleted": 1}
    closes_clean(q)


def test_a_damaged_set_is_unmet_and_says_why(made: Made):
    made.damage("set", ks.task_set(made.set_id))
    q = made.open()
    assert any("K11" in line for line in q.store.check())
    assert q.cancel(made.waits).outcome.value == "ok"
    one = of(q, made.set_id)
    assert (one.state, one.reason, one.members, one.pending) == (SetState.UNMET, LOST, 1, 1)
    assert followers(q) == []
    q.clock.advance(8 * 86_400)
    q.sweep(Prune())
    assert q.store.sets() == []
    closes_clean(q)


def test_a_damaged_set_hinders_no_report(made: Made):
    made.damage("set", ks.task_set(made.set_id))
    q = made.open()
    q.succeed(q.take())
    assert of(q, made.set_id).reason == LOST
    closes_clean(q)


def test_what_a_read_puts_aside_decides_a_set_too(made: Made):
    """A task index is damaged and with it the record of a member: who reads mends both."""
    with lmdb.open(str(made.directory), max_dbs=32, lib_version=0) as env:
        handle = env.open_db(ks.PREFIX + b"ready", create=False)
        with env.begin() as txn:
            (key,) = [bytes(key) for key in txn.cursor(db=handle).iternext(values=False)]
    made.damage("ready", key)
    made.damage("task", ks.task(made.waits))
    q = made.open()
    q.store.queues()
    assert q.claim().tasks == []
    assert (counts(q, made.set_id)["deleted"], followers(q)) == (1, ["callback"])
    closes_clean(q)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"pending": 2, "members": 3}, "has 2 pending members, 1 counted"),
        ({"members": 7}, "its counts do not add up"),
        ({"id": 3}, "stands under another id"),
        ({"state": SetState.MET, "remove_at": 5}, "is decided and has no forget key"),
    ],
)
def test_the_checker_finds_a_set_that_counts_wrong(made: Made, change: dict[str, int], line: str):
    q = made.open()
    one = replace(of(q, made.set_id), **change)
    q.store.close()
    write(made.directory, "set", ks.task_set(made.set_id), rec.write_map(one))
    q = made.open()
    assert any(found.startswith("K18") and line in found for found in q.store.check())
    q.store.close()


def test_the_sequence_is_found_again_beyond_the_last_set(made: Made):
    q = made.open()
    set_id = q.do(SetMake()).id
    q.store.close()
    made.damage("count", ks.SEQUENCE)
    q = made.open()
    assert q.add() > set_id
    closes_clean(q)


def test_an_expired_holder_decides_its_set_before_the_next_call_of_the_batch(tmp_path: Path):
    """Enqueues of several callers are written together; what one of them decides belongs to it."""
    q = Driver(open_store(tmp_path / "q"), ManualClock())
    made, _, _ = q.do(
        SetMake(TaskSet(Condition.FINISHED, Entry(queue="after"))),
        Enqueue((entry(set_id=NEW_SET, dedupe="k", expires_in_ns=S),)),
        SetClose(NEW_SET),
    )
    q.clock.advance(2)
    q.apply(Call((Enqueue((entry(dedupe="k"),)),)), Call((Enqueue((entry(queue="next"),)),)))
    assert of(q, made.id).expired == 1
    assert [task.queue for task in q.all_tasks()] == ["default", "after", "next"]
    closes_clean(q)
