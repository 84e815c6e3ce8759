"""Schedules in a file: what a foreign reader and ``dump`` see, and what becomes of them when bytes are damaged."""

from __future__ import annotations

from pathlib import Path

import lmdb
import msgpack
import pytest

from lmdbq.clock import ManualClock
from lmdbq.model import CatchUp, Fire, Schedule, ScheduleDelete, SchedulePatch, SchedulePut, Swept
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.dump import dump_lines
from lmdbq.store.lmdb import open_store
from tests import foreign_reader
from tests.store_driver import Driver, S, entry

START = ManualClock().wall_ns()
DUE = START + 40 * S  # 22:14:00


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A closed store with two schedules that are due together, and one that is paused."""
    q = Driver(open_store(tmp_path / "q"), ManualClock())
    for name in ("broken", "sound"):
        q.do(SchedulePut(name, Schedule("* * * * *", entry(type=name), "Europe/Berlin", CatchUp.ALL)))
    q.do(SchedulePut("later", Schedule("0 3 * * *", entry(payload=b"7"), paused=True)))
    q.store.close()
    return tmp_path / "q"


def opened(directory: Path, seconds: float = 0) -> Driver:
    clock = ManualClock()
    clock.advance(seconds)
    return Driver(open_store(directory), clock)


def write(directory: Path, database: str, key: bytes, value: bytes | None) -> None:
    with lmdb.open(str(directory), max_dbs=32, lib_version=0) as env:
        handle = env.open_db(ks.PREFIX + database.encode(), create=False)
        with env.begin(write=True) as txn:
            if value is None:
                assert txn.delete(key, db=handle)
            else:
                txn.put(key, value, db=handle)


def flipped(value: bytes) -> bytes:
    return value[:3] + bytes([value[3] ^ 1]) + value[4:]


def damage(directory: Path, key: bytes) -> None:
    with lmdb.open(str(directory), max_dbs=32, lib_version=0) as env:
        handle = env.open_db(ks.PREFIX + b"catalog", create=False)
        with env.begin() as txn:
            value = txn.get(key, db=handle)
    write(directory, "catalog", key, flipped(value))


def test_a_foreign_reader_sees_schedules(directory: Path):
    found = foreign_reader.Reader(directory).schedules()

    assert {name: record["due_at"] for name, record in found.items()} == {"broken": DUE, "sound": DUE, "later": 0}
    assert found["sound"]["next_at"] == DUE
    said = found["sound"]["schedule"]
    assert (said["cron"], said["timezone"], said["catch_up"]) == ("* * * * *", "Europe/Berlin", 2)
    assert found["later"]["schedule"]["paused"] is True
    assert found["later"]["schedule"]["entry"]["payload"] == b"7"


def test_dump_names_them(directory: Path):
    lines = [line for line in dump_lines(directory) if "schedule" in line]

    assert any(line.startswith("lmdbq/catalog  schedule 'sound'  no=2 ") for line in lines)
    assert any(line.startswith("lmdbq/catalog  schedule_no=2  name='sound'") for line in lines)
    assert f"lmdbq/schedule  due_at={DUE} schedule_no=2" in lines


def test_a_schedule_outlives_its_process(directory: Path):
    q = opened(directory, 40)

    assert q.sweep(Fire()) == Swept(2)
    q.store.close()
    again = opened(directory, 40)
    assert again.sweep(Fire()) == Swept(0)
    assert again.store.check() == []
    again.store.close()


def test_a_damaged_record_loses_that_schedule_and_no_other(directory: Path):
    damage(directory, ks.schedule_by_name("broken"))
    q = opened(directory, 40)
    assert [line for line in q.store.check() if line.startswith("K11")]
    assert "lost" in q.store.schedules()[0].reason

    assert q.sweep(Fire()) == Swept(1)
    assert [task.type for task in q.all_tasks()] == ["sound"]
    shown = q.store.schedule("broken")
    assert shown is not None
    assert (shown.next_at, "lost" in shown.reason) == (0, True)
    assert q.store.check() == []
    assert q.refusal(SchedulePatch("broken", Schedule("", entry()), ("paused",))).code == "bad_cron"
    q.do(SchedulePut("broken", Schedule("* * * * *", entry()), keep_paused=True))
    q.clock.advance(60)
    assert q.sweep(Fire()) == Swept(2)
    assert q.store.check() == []
    q.store.close()


@pytest.mark.parametrize("op", [ScheduleDelete("broken"), SchedulePut("broken", Schedule("0 4 * * *", entry()))])
def test_a_damaged_record_may_be_replaced_or_deleted_before_it_is_due(
    directory: Path, op: ScheduleDelete | SchedulePut
):
    damage(directory, ks.schedule_by_name("broken"))
    q = opened(directory)

    q.do(op)

    assert q.store.check() == []
    q.clock.advance(40)
    assert q.sweep(Fire()) == Swept(1)
    q.store.close()


def test_a_damaged_number_is_made_anew(directory: Path):
    damage(directory, ks.schedule_by_no(1))
    q = opened(directory, 40)

    assert q.sweep(Fire()) == Swept(2)
    assert q.store.check() == []
    q.store.close()


def test_a_due_key_of_no_schedule_is_removed(directory: Path):
    write(directory, "schedule", ks.schedule(DUE - S, 9), b"")
    write(directory, "schedule", ks.schedule(DUE - S, 2), b"")
    q = opened(directory, 40)
    assert len([line for line in q.store.check() if line.startswith("K13")]) == 2

    assert q.sweep(Fire()) == Swept(2)
    assert q.store.check() == []
    q.store.close()


def test_the_checker_misses_a_due_key_and_a_number(directory: Path):
    write(directory, "schedule", ks.schedule(DUE, 2), None)
    write(directory, "catalog", ks.schedule_by_no(3), None)
    q = opened(directory)

    lines = q.store.check()

    assert len(lines) == 2
    assert all(line.startswith("K13") for line in lines)
    q.store.close()


def test_the_map_of_a_record_is_what_the_specification_says():
    said = entry(payload=b"1", queue="q", type="t", priority=-3, delay_ns=5)
    bare, full = [
        msgpack.unpackb(rec.write_map(rec.ScheduleRecord(1, Schedule("@daily", one)))[:-4]) for one in (entry(), said)
    ]

    assert bare == {"no": 1, "schedule": {"cron": "@daily", "entry": {"options": {}}}}
    assert full["schedule"]["entry"] == {
        "payload": b"1",
        "queue": "q",
        "type": "t",
        "priority": -3,
        "delay_ns": 5,
        "options": {},
    }


def test_the_same_put_again_writes_nothing(directory: Path):
    q = opened(directory)
    before = q.store.changed()

    q.do(SchedulePut("sound", Schedule("* * * * *", entry(type="sound"), "Europe/Berlin", CatchUp.ALL)))

    assert q.store.changed() == before
    q.store.close()
