"""Flipped bytes: a damaged task is put aside and named, whatever else is damaged is made anew, and the rest goes on.

One file is made with a bit of everything; each test takes a copy, flips bytes of a value where it stands on disk, and
then lives on in it until nothing is left to do. Every task must come to its end, but for those whose own record or
history was hit: they are in quarantine, by id.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import lmdb
import pytest

from lmdbq.clock import ManualClock
from lmdbq.errors import FormatUnknown
from lmdbq.ids import format_id
from lmdbq.model import (
    DEFAULT_SETTINGS,
    Claim,
    Completion,
    Dedupe,
    Filter,
    Keep,
    Memo,
    Outcome,
    Prune,
    Purge,
    Refused,
    Report,
    RetryStrategy,
    Scope,
    State,
    Status,
    Until,
)
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.dump import dump_lines
from lmdbq.store.lmdb import open_store
from tests.store_driver import EVERYTHING, Driver, S, entry

QUEUES = ("run", "ready", "later", "ended", "keys")
TYPES = ("t", "u", "other")
LEASE_SECONDS = 1_000


class World(NamedTuple):
    """A closed store's directory, and what was in it: names for some ids, and the leases out in the world."""

    directory: Path
    ids: dict[str, int]
    leases: dict[int, int]
    wall: int


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    directory = tmp_path_factory.mktemp("damage") / "q"
    q = Driver(open_store(directory), ManualClock())
    ids: dict[str, int] = {}
    q.put_queue("ready", retry=RetryStrategy(max_attempts=7))
    run = q.enqueue(*[entry(queue="run", type="t", payload=b'"run %d"' % number) for number in range(4)])
    taken = q.claim("run", limit=4, keepalive_ns=LEASE_SECONDS * S, claim_id="claim").tasks
    q.cancel(run.ids[3])  # a running task with a history
    ids |= {"running": run.ids[1], "running with history": run.ids[3]}
    tired = q.add(queue="ready", type="t", payload=b'"tired"')
    for _ in range(2):
        q.fail(q.take("ready"), "again", delay_ns=0)
    ready = q.enqueue(*[entry(queue="ready", type="t", payload=b'"ready %d"' % number) for number in range(5)])
    other = q.add(queue="ready", type="other", expires_in_ns=10**15)
    ids |= {"ready with history": tired, "ready": ready.ids[2], "first ready": ready.ids[0], "expiring": other}
    ids["scheduled"] = q.add(queue="later", type="t", delay_ns=50 * S, payload=b'"later"')
    ids["backoff"] = q.add(queue="later", type="u")
    q.fail(q.take("later"), "not yet", delay_ns=60 * S)
    ids["dead"] = q.add_dead(queue="ended", type="t", keep=Keep(dead_ns=10**17), payload=b'"dead"')
    ids["slot"] = q.add(queue="keys", type="t", dedupe="k")
    ids["long slot"] = q.add(queue="keys", type="t", dedupe=Dedupe("ключ" * 64, Scope.TYPE))
    ids["ttl slot"] = q.add(queue="keys", type="t", dedupe=Dedupe("t", Scope.GLOBAL, Until.TTL, 10**15))
    q.call(memo=Memo("idempotent", b"hash"))
    assert q.store.check() == []
    q.store.close()
    return World(directory, ids, {task.id: task.deliveries for task in taken}, q.now)


# --- where values stand on disk ---


def values(directory: Path, database: str) -> dict[bytes, bytes]:
    with lmdb.open(str(directory), max_dbs=20, lib_version=0, lock=False, readonly=True) as env:
        handle = env.open_db(ks.PREFIX + database.encode(), create=False)
        with env.begin() as txn:
            return dict(txn.cursor(db=handle).iternext())


def flip(directory: Path, key: bytes, value: bytes, at: int, mask: int = 1) -> None:
    """Flip bits of byte ``at`` of a value in the raw file; in every copy of it, as old pages are not cleared."""
    raw = bytearray((directory / "data.mdb").read_bytes())
    found = raw.find(key + value)
    assert found >= 0
    while found >= 0:
        raw[found + len(key) + at] ^= mask
        found = raw.find(key + value)
    (directory / "data.mdb").write_bytes(raw)


def copy_of(world: World, place: Path) -> Path:
    place.mkdir()
    shutil.copy(world.directory / "data.mdb", place / "data.mdb")
    return place


def opened(directory: Path, world: World) -> Driver:
    clock = ManualClock(wall=world.wall)
    return Driver(open_store(directory), clock)


# --- living on ---


def live_on(q: Driver, world: World) -> set[int]:
    """Do all that is left to do, as workers and timers would; return the tasks that came to their end."""
    done: set[int] = set()
    report = Report([Completion(task_id, delivery, Status.SUCCEEDED) for task_id, delivery in world.leases.items()])
    for outcome, task_id in zip(q.do(report).outcomes, world.leases, strict=True):
        if outcome.outcome is Outcome.OK:
            done.add(task_id)
    for task in q.all_tasks():
        if task.state is State.DEAD:
            assert q.retry(task.id).outcome in (Outcome.OK, Outcome.GONE)
    for _ in range(3):
        q.clock.advance(70)
        while tasks := q.claim(*QUEUES, limit=3).tasks:
            for task in tasks:
                assert q.succeed(task).outcome is Outcome.OK
                done.add(task.id)
    q.clock.advance(LEASE_SECONDS)
    assert q.claim_ids(*QUEUES) == [], "a lease was not known to be ended"
    for task_id in world.ids.values():
        q.cancel(task_id)  # meets what nothing else has met
    for queue in QUEUES:
        for type_name in TYPES:  # meets every name
            q.add(queue=queue, type=type_name)
            assert q.succeed(q.take(queue)).outcome is Outcome.OK
    q.clock.advance(10**7)
    while q.sweep(Prune()).more:
        pass
    return done


def all_ids(world: World) -> set[int]:
    return {ks.read_id(key) for key in values(world.directory, "task")}


def test_the_world_comes_to_its_end_when_nothing_is_damaged(world: World, tmp_path: Path):
    q = opened(copy_of(world, tmp_path / "q"), world)
    assert live_on(q, world) == all_ids(world)
    assert q.store.check() == []
    assert q.store.count(EVERYTHING) == 0
    q.store.close()


# --- tasks ---


def spoilt(world: World, place: Path, database: str, key: bytes, at: int) -> Driver:
    directory = copy_of(world, place)
    flip(directory, key, values(world.directory, database)[key], at)
    return opened(directory, world)


def positions(world: World, database: str, key: bytes) -> range:
    return range(len(values(world.directory, database)[key]))


@pytest.mark.parametrize(
    "name", ["ready", "first ready", "expiring", "scheduled", "dead", "slot", "ttl slot", "backoff"]
)
def test_a_damaged_record_is_put_aside_by_name_and_the_rest_goes_on(world: World, tmp_path: Path, name: str):
    task_id = world.ids[name]
    every = positions(world, "task", ks.task(task_id))
    for at in every if name == "ready" else every[:: len(every) // 3]:
        q = spoilt(world, tmp_path / str(at), "task", ks.task(task_id), at)
        assert [line for line in q.store.check() if format_id(task_id) in line and line.startswith("K11")]
        assert q.store.task(task_id, q.clock) is Outcome.QUARANTINED
        assert task_id not in {task.id for task in q.all_tasks()}
        assert live_on(q, world) == all_ids(world) - {task_id}, f"byte {at}"
        put_aside(q, task_id)


def test_a_running_task_whose_record_was_damaged_since_may_still_succeed(world: World, tmp_path: Path):
    """Nobody needs its bytes again, so they are only looked at where they might name a dedupe slot."""
    task_id = world.ids["running"]
    slot = range(rec.TASK_HEAD_BYTES - 9, rec.TASK_HEAD_BYTES)
    for at in {*positions(world, "task", ks.task(task_id))[::9], slot[0], slot[-1]}:
        q = spoilt(world, tmp_path / str(at), "task", ks.task(task_id), at)
        assert q.store.task(task_id, q.clock) is Outcome.QUARANTINED
        assert live_on(q, world) == all_ids(world) - ({task_id} if at in slot else set()), f"byte {at}"
        if at in slot:
            put_aside(q, task_id)
        else:
            assert q.store.task(task_id, q.clock) is Outcome.GONE
            assert q.store.check() == []
            q.store.close()


def test_a_running_task_whose_history_was_damaged_since_may_still_succeed(world: World, tmp_path: Path):
    task_id = world.ids["running with history"]
    for at in positions(world, "history", ks.history(task_id))[::4]:
        q = spoilt(world, tmp_path / str(at), "history", ks.history(task_id), at)
        assert live_on(q, world) == all_ids(world), f"byte {at}"
        assert q.store.check() == []
        q.store.close()


@pytest.mark.parametrize("name", ["ready with history", "backoff", "dead"])
def test_a_task_with_a_damaged_history_is_put_aside_too(world: World, tmp_path: Path, name: str):
    task_id = world.ids[name]
    for at in positions(world, "history", ks.history(task_id))[::4]:
        q = spoilt(world, tmp_path / str(at), "history", ks.history(task_id), at)
        assert [line for line in q.store.check() if format_id(task_id) in line and line.startswith("K11")]
        assert live_on(q, world) == all_ids(world) - {task_id}, f"byte {at}"
        put_aside(q, task_id)


def put_aside(q: Driver, task_id: int) -> None:
    """Find one task in quarantine and the store whole; then let a person delete it."""
    assert q.store.check() == []
    assert q.store.info().quarantined == 1
    assert q.store.task(task_id, q.clock) is Outcome.QUARANTINED
    directory = Path(q.store.info().path).parent
    assert any("quarantine" in line and format_id(task_id) in line for line in dump_lines(directory))
    assert q.delete(task_id).outcome is Outcome.OK
    assert q.store.task(task_id, q.clock) is Outcome.GONE
    assert q.store.info().quarantined == 0
    q.store.close()


def test_a_purge_takes_damaged_tasks_with_it(world: World, tmp_path: Path):
    q = spoilt(world, tmp_path / "q", "task", ks.task(world.ids["slot"]), 20)
    q.do(Purge("keys"))
    while q.sweep(Prune()).more:
        pass
    assert q.store.check() == []
    assert q.store.task(world.ids["slot"], q.clock) is Outcome.GONE
    assert q.add(queue="keys", dedupe="k")
    q.store.close()


# --- indexes, counts, names: made anew ---

MADE_ANEW = ("ready", "lease", "scheduled", "ended", "dedupe", "count", "catalog")


def indexed(world: World) -> Iterator[tuple[str, bytes]]:
    for database in MADE_ANEW:
        for key in values(world.directory, database):
            if (database, key) != ("catalog", ks.meta()):
                yield database, key


@pytest.mark.parametrize("database", MADE_ANEW)
def test_what_an_index_says_is_made_anew(world: World, tmp_path: Path, database: str):
    keys = [key for found, key in indexed(world) if found == database]
    assert keys
    for number, key in enumerate(keys):
        every = positions(world, database, key)
        for at in {every[0], every[len(every) // 2], every[-1]}:
            q = spoilt(world, tmp_path / f"{number}-{at}", database, key, at)
            assert any(line.startswith("K11") for line in q.store.check())
            seen_before = {task.id: task for task in q.all_tasks()}
            assert set(seen_before) == all_ids(world)
            q.store.queues()
            q.store.due(q.clock)
            assert live_on(q, world) == all_ids(world), f"{database} {key.hex()} byte {at}"
            assert q.store.check() == []
            assert q.store.info().quarantined == 0
            assert q.store.count(EVERYTHING) == 0
            q.store.close()


def test_what_is_made_anew_says_what_it_said(world: World, tmp_path: Path):
    """Deliveries (the fence of leases), failures, deadlines, slots and counts, as they were before the damage."""
    whole = opened(copy_of(world, tmp_path / "whole"), world)
    expected = whole.all_tasks()
    counts = [(view.name, view.counts) for view in whole.store.queues()]
    whole.store.close()
    for number, (database, key) in enumerate(indexed(world)):
        if key == ks.queue_by_name("ready"):
            continue  # it had settings: see below
        q = spoilt(world, tmp_path / str(number), database, key, 1)
        q.claim("nobody's")  # any write; what it does not meet is met by the reads
        assert q.all_tasks() == expected, f"{database} {key.hex()}"
        assert [(view.name, view.counts) for view in q.store.queues()] == counts
        q.store.close()


def test_a_damaged_queue_goes_on_with_default_settings(world: World, tmp_path: Path):
    key = ks.queue_by_name("ready")
    q = spoilt(world, tmp_path / "q", "catalog", key, 3)
    before = [task.id for task in q.all_tasks(Filter(queue="ready"))]
    assert q.task(world.ids["ready"]).max_attempts == 5
    assert sorted(q.claim_ids("ready")) == before
    view = q.store.queue("ready")
    assert view is not None
    assert view.settings == DEFAULT_SETTINGS
    assert q.store.check() == []
    q.store.close()


def test_the_fence_holds_over_a_lease_run_made_anew(world: World, tmp_path: Path):
    key = next(iter(values(world.directory, "lease")))
    q = spoilt(world, tmp_path / "q", "lease", key, 3)
    task_id = world.ids["running"]
    stale = Report((Completion(task_id, world.leases[task_id] + 1, Status.SUCCEEDED),))
    assert q.do(stale).outcomes[0].outcome is Outcome.STALE_LEASE
    q.clock.advance(LEASE_SECONDS - 1)
    assert q.claim_ids("run") == []
    q.clock.advance(2)
    while task := next(iter(q.claim("run").tasks), None):
        assert task.deliveries == world.leases[task.id] + 1
        q.succeed(task)
    late = Report((Completion(task_id, world.leases[task_id], Status.SUCCEEDED),))
    assert q.do(late).outcomes[0].outcome in (Outcome.STALE_LEASE, Outcome.NOT_RUNNING, Outcome.NOT_FOUND)
    assert q.store.check() == []
    q.store.close()


@pytest.mark.parametrize(("slot", "kept"), [("slot", "k"), ("long slot", "ключ" * 64), ("ttl slot", "t")])
def test_a_slot_made_anew_still_blocks(world: World, tmp_path: Path, slot: str, kept: str):
    scope = {"slot": Scope.QUEUE, "long slot": Scope.TYPE, "ttl slot": Scope.GLOBAL}[slot]
    key = next(key for key in values(world.directory, "dedupe") if ks.read_slot(key)[0] == scope)
    q = spoilt(world, tmp_path / "q", "dedupe", key, 5)
    again = q.enqueue(entry(queue="keys", type="t", dedupe=Dedupe(kept, scope)))
    assert again.placed(0).outcome is Outcome.SKIPPED
    assert again.ids == [world.ids[slot]]
    assert q.store.check() == []
    q.store.close()


# --- what cannot be made anew ---


def test_a_damaged_idempotency_key_is_an_error_to_its_caller_alone(world: World, tmp_path: Path):
    directory = copy_of(world, tmp_path / "q")
    q = opened(directory, world)
    q.call(Claim(("none",)), memo=Memo("idempotent", b"hash"))
    q.store.close()
    key = ks.memo(ks.MemoKind.IDEMPOTENCY, b"idempotent")
    flip(directory, key, values(directory, "memo")[key], 2)
    q = opened(directory, world)
    refused = q.call(Claim(("none",)), memo=Memo("idempotent", b"hash"))
    assert isinstance(refused, Refused)
    assert "damaged" in refused.problems[0].detail
    assert q.claim("ready").tasks
    q.clock.advance(3_700)
    q.sweep(Prune())
    assert q.call(Claim(("none",)), memo=Memo("idempotent", b"hash")) != refused
    assert q.store.check() == []
    q.store.close()


def test_a_damaged_claim_memo_is_forgotten(world: World, tmp_path: Path):
    key = ks.memo(ks.MemoKind.CLAIM, b"claim")
    q = spoilt(world, tmp_path / "q", "memo", key, 2)
    assert len(q.claim("ready", claim_id="claim").tasks) == 1
    assert q.store.check() == []
    q.store.close()


def test_the_files_own_facts_cannot_be_made_anew(world: World, tmp_path: Path):
    q = spoilt(world, tmp_path / "q", "catalog", ks.meta(), 1)
    with pytest.raises(FormatUnknown, match="restore a backup"):
        q.store.info()


# --- several at once ---


@pytest.mark.parametrize("seed", range(1_000 if os.environ.get("LMDBQ_STORM") == "1" else 30))
def test_however_much_is_damaged_the_rest_goes_on(world: World, tmp_path: Path, seed: int):
    chosen = random.Random(seed)
    directory = copy_of(world, tmp_path / "q")
    indexes = [found for found in indexed(world) if found[0] != "catalog"]  # of a name only one half may be lost
    tasks = [("task", key) for key in values(world.directory, "task")]
    histories = [("history", key) for key in values(world.directory, "history")]
    hit = chosen.sample(indexes, chosen.randrange(1, 12)) + chosen.sample(tasks, chosen.randrange(5))
    hit += chosen.sample(histories, chosen.randrange(3))
    for database, key in hit:
        value = values(world.directory, database)[key]
        flip(directory, key, value, chosen.randrange(len(value)), 1 << chosen.randrange(8))
    q = opened(directory, world)
    spoiled = {ks.read_id(key) for database, key in hit if database in ("task", "history")}
    assert live_on(q, world) >= all_ids(world) - spoiled, hit
    assert q.store.check() == [], hit
    q.store.close()
