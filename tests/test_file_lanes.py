"""Lanes in a file: what is damaged of them is made anew, and every task comes to its end; a dump names all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmdbq.clock import ManualClock
from lmdbq.ids import format_id
from lmdbq.model import GroupPut, GroupRule, GroupSettings, Prune, Rate, RulePut
from lmdbq.store import keyspace as ks
from lmdbq.store.dump import dump_lines
from lmdbq.store.lmdb import open_store
from tests.foreign_reader import Reader
from tests.store_driver import Driver, S, entry
from tests.test_file_damage import flip, values

KINDS = [("lane", b""), ("catalog", b"L"), ("catalog", b"l"), ("catalog", b"R"), ("catalog", b"N")]


def fill(directory: Path) -> list[int]:
    """Make a file with threads and groups in every state; return the tasks that are to come to their end."""
    q = Driver(open_store(directory), ManualClock())
    q.do(RulePut(GroupRule("g*", GroupSettings(max_running=2))))
    q.do(GroupPut("rated", GroupSettings(rate=Rate(1, S))))
    ids = q.enqueue(
        *(entry(thread="held", type=kind) for kind in "ab"),
        *(entry(thread="free", keepalive_ns=5 * S) for _ in range(2)),
        *(entry(group="g1", type=kind) for kind in "aabb"),
        *(entry(group="rated") for _ in range(2)),
        entry(thread="next", priority=9),
    ).ids
    q.fail(q.take(types=("a",)), delay_ns=3 * S)
    q.claim(limit=4, keepalive_ns=9 * S)
    assert q.store.check() == []
    q.store.close()
    return ids


@pytest.mark.parametrize(("database", "prefix"), KINDS)
def test_what_is_damaged_of_a_lane_is_made_anew_and_nothing_is_lost(tmp_path: Path, database: str, prefix: bytes):
    ids = fill(tmp_path / "whole")
    data = (tmp_path / "whole" / "data.mdb").read_bytes()
    found = {key: value for key, value in values(tmp_path / "whole", database).items() if key.startswith(prefix)}
    assert found
    for number, (key, value) in enumerate(found.items()):
        place = tmp_path / str(number)
        place.mkdir()
        (place / "data.mdb").write_bytes(data)
        flip(place, key, value, 0)
        q = Driver(open_store(place), ManualClock())
        done: set[int] = set()
        for _ in range(40):
            q.clock.advance(1)
            for task in q.claim(limit=9).tasks:
                q.succeed(task)
                done.add(task.id)
        assert done == set(ids), key
        q.do(Prune())
        if database == "catalog" and prefix in (b"R", b"N"):  # nothing but people, or the next lane, looks at these
            q.do(RulePut(GroupRule("g*", GroupSettings())))
            q.add(thread="new")
        assert q.store.check() == []
        q.store.close()


def test_a_dump_names_lanes_rules_and_wakes(tmp_path: Path):
    ids = fill(tmp_path)
    text = "\n".join(dump_lines(tmp_path))

    assert "DAMAGED" not in text
    for words in (
        "lmdbq/catalog  thread 'held' queue_no=1",
        "lmdbq/catalog  group 'rated'",
        "lmdbq/catalog  rule 'g*'",
        "lmdbq/catalog  last_lane  lane_no=5",
        "lmdbq/lane  exposed queue_no=1",
        f"id={format_id(ids[1])}",
        "lmdbq/wake  boot_no=1",
    ):
        assert words in text, words


def test_lane_numbers_begin_again_and_leave_out_those_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("lmdbq.store.lmdb_known_lanes.LANES_NO_MAX", 3)
    q = Driver(open_store(tmp_path), ManualClock())
    kept = q.add(thread="one")
    for name in ("two", "three", "four", "five"):
        q.add(thread=name)
        q.delete(q.store.info().last_id)
    assert [view.name for view in q.store.threads("default")] == ["one"]
    assert q.claim_ids() == [kept]
    assert q.store.check() == []
    q.store.close()
    assert {key for key in values(tmp_path, "catalog") if key[:1] == b"l"} == {ks.lane_by_no(1)}


def test_a_foreign_reader_sees_lanes_as_the_store_does(tmp_path: Path):
    fill(tmp_path)
    reader = Reader(tmp_path)
    store, clock = open_store(tmp_path), ManualClock()
    found = reader.lanes()
    for thread in store.threads("default"):
        told = found.pop(("default", thread.name))
        assert (told["ready"], told["held_by"]) == (thread.ready, thread.holder)
        assert told["next"] == ([thread.head] if thread.head else [])
    for group in store.groups(clock):
        told = found.pop(("", group.name))
        assert (told["ready"], told["running"], told["settings"] is None) == (
            group.ready,
            group.running,
            group.settings is None,
        )
    assert found == {}
    assert reader.group_rules() == [rule.pattern for rule in store.group_rules()]
    states = {task.id: task.state.word for task in Driver(store, clock).all_tasks()}
    assert {task_id: task["state"] for task_id, task in reader.tasks().items()} == states
    store.close()
