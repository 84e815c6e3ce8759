"""A file with at least one of everything that is read of tasks, lanes and queues, made by calls at times of our own."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from lmdbq.clock import ManualClock
from lmdbq.model import (
    Dedupe,
    Delete,
    Done,
    Encoding,
    Enqueue,
    Entry,
    GroupPut,
    GroupSettings,
    Intervals,
    Keep,
    Memo,
    Order,
    Polynomial,
    Purge,
    QueueDelete,
    RetryStrategy,
    Scope,
    TypePut,
    TypeSettings,
    Until,
)
from lmdbq.store.lmdb import LmdbStore, open_store
from tests.store_driver import Driver, S, entry

LONG_KEY = "ключ" * 64  # 256 characters, 512 bytes: stands as a prefix and a digest
KEPT = Keep(succeeded_ns=3_600 * S, dead_ns=3_600 * S, cancelled_ns=3_600 * S)


class Full(NamedTuple):
    """The store, its driver, and the tasks that the tests speak of by name."""

    store: LmdbStore
    q: Driver
    ids: dict[str, int]


def fill(directory: Path) -> Full:
    """Return a store in ``directory`` that holds something of each kind, in every state."""
    store = open_store(directory)
    q = Driver(store, ManualClock())
    ids: dict[str, int] = {}
    q.put_queue("mail", max_running=3, keepalive_ns=90 * S, retry=RetryStrategy(max_attempts=4), keep=KEPT)
    q.put_queue("idle", paused=True, dedupe=Dedupe(scope=Scope.GLOBAL))
    q.do(TypePut("send", TypeSettings(keepalive_ns=80 * S), b'{"type": "object"}'))
    _fill_running(q, ids)
    _fill_ended(q, ids)
    _fill_waiting(q, ids)
    _fill_dedupe(q, ids)
    _fill_graves(q, ids)
    _fill_lanes(q, ids)
    _fill_quarantine(directory, q, ids)
    return Full(store, q, ids)


def _fill_running(q: Driver, ids: dict[str, int]) -> None:
    batch = q.enqueue(*[entry(queue="mail", type="send", payload=b"%d" % number) for number in range(8)])
    assert len(q.claim("mail", limit=5, claim_id="claim-1").tasks) == 3  # max_running
    ids["run_first"], ids["run_last"] = batch.ids[0], batch.ids[2]
    ids["ready_run"] = batch.ids[4]
    ids["extended"] = q.add(queue="beat", type="long", tags=("slow", "gpu"), metadata=b'{"who": "me"}')
    q.extend(q.take("beat"), keepalive_ns=500 * S, progress=0.25)
    ids["cancel_asked"] = q.add(queue="beat", type="long")
    q.take("beat")
    q.cancel(ids["cancel_asked"])
    ids["extended_again"] = q.add(queue="beat", type="long", keepalive_ns=7 * S)
    q.extend(q.take("beat"), keepalive_ns=2 * S)  # shorter than its own: the main file holds it


def _fill_ended(q: Driver, ids: dict[str, int]) -> None:
    backoff = RetryStrategy(backoff=Intervals((10 * S, 20 * S)))
    ids["dead"] = q.add_dead(queue="end", type="a", payload=b"\x00\xff\xfe", encoding=Encoding.BYTES)
    ids["succeeded"] = q.add(queue="end", type="b", keep=KEPT, payload=b"\x93\x01\x02\x03", encoding=Encoding.MSGPACK)
    q.succeed(q.take("end"), result=b'"done"')
    ids["cancelled"] = q.add(queue="end", type="c", retry=RetryStrategy(3, Polynomial(1.5, 2 * S), 9))
    q.cancel(ids["cancelled"])
    ids["retrying"] = q.add(queue="end", type="d", retry=backoff, priority=-7)
    q.fail(q.take("end"), "flaky")
    ids["released"] = q.add(queue="end", type="e", priority=300)
    q.release(q.take("end"))
    ids["retried_by_hand"] = q.add_dead(queue="again", type="f")
    q.retry(ids["retried_by_hand"])
    ids["lapsed"] = q.add(queue="lapse", keepalive_ns=S)
    q.take("lapse")
    q.clock.advance(1.5)
    assert q.claim_ids("lapse") == []  # it lapses, and waits for its second attempt


def _fill_waiting(q: Driver, ids: dict[str, int]) -> None:
    ids["scheduled"] = q.add(queue="later", delay_ns=3_600 * S, expires_in_ns=7_200 * S)
    ids["expiring"] = q.add(queue="later", type="x", expires_in_ns=600 * S)
    ids["edited"] = q.add(queue="later", priority=5)
    q.edit(ids["edited"], "payload", "priority", "scheduled_at", payload=b'"new"', priority=-5, delay_ns=60 * S)
    done = q.call(Enqueue((Entry(queue="later", type="memo"),)), memo=Memo("key-1", b"hash"))
    assert isinstance(done, Done)
    ids["memo"] = q.store.info().last_id


def _fill_dedupe(q: Driver, ids: dict[str, int]) -> None:
    for name, dedupe in {
        "slot_queue": Dedupe("k"),
        "slot_type": Dedupe("k", Scope.TYPE, Until.STARTED),
        "slot_global": Dedupe("k", Scope.GLOBAL, Until.DELETED),
        "slot_long": Dedupe(LONG_KEY),
        "slot_ttl": Dedupe("t", until=Until.TTL, ttl_ns=900 * S),
        "slot_ttl_gone": Dedupe("u", until=Until.TTL, ttl_ns=900 * S),
    }.items():
        ids[name] = q.add(queue="dedupe", type="d", dedupe=dedupe)
    q.enqueue(entry(queue="dedupe", type="d", dedupe=LONG_KEY))  # skipped
    q.delete(ids["slot_ttl_gone"])  # its slot stays for its time


def _fill_graves(q: Driver, ids: dict[str, int]) -> None:
    ids["purged"] = q.add(queue="purged", dedupe="gone", expires_in_ns=600 * S)
    q.enqueue(*[entry(queue="purged") for _ in range(3)])
    q.take("purged")
    q.do(Purge("purged"))
    ids["after_purge"] = q.add(queue="purged", dedupe="gone")
    q.put_queue("deleted")
    q.do(QueueDelete("deleted"))
    ids["deleted"] = q.add(queue="mail")
    q.do(Delete((ids["deleted"],)))


def _fill_lanes(q: Driver, ids: dict[str, int]) -> None:
    q.do(GroupPut("team", GroupSettings(max_running=2, weight=3)))
    q.put_queue("turns", order=Order.FAIR)
    for queue in ("laned", "turns"):
        first, second = q.enqueue(*[entry(queue=queue, thread="steps") for _ in range(2)]).ids
        ids[f"{queue}_holder"], ids[f"{queue}_behind"] = first, second
        for group in ("team", "others", "team"):
            ids[f"{queue}_{group}"] = q.add(queue=queue, group=group, external_id=f"{queue}:{len(ids)}")
    assert len(q.claim("laned", limit=3).tasks) == 3
    assert [task.options.group for task in q.claim("turns", limit=2).tasks] == ["", "team"]
    q.add(queue="laned", type="known", external_id="laned:known")


def _fill_quarantine(directory: Path, q: Driver, ids: dict[str, int]) -> None:
    ids["quarantined"] = q.add(queue="damaged", payload=b'"a payload that comes only once"')
    ids["beside_quarantined"] = q.add(queue="damaged")
    damage(directory, b"a payload that comes only once")
    assert q.take("damaged").id == ids["beside_quarantined"]


def damage(directory: Path, old: bytes) -> None:
    """Flip the first bit of ``old`` in the raw data file, wherever it stands there (not in the middle of a commit)."""
    data = directory / "data.mdb"
    raw = data.read_bytes()
    found = raw.find(old)
    assert found >= 0, "these bytes are nowhere in the file"
    with data.open("r+b") as file:
        while found >= 0:
            file.seek(found)
            file.write(bytes([raw[found] ^ 1]))
            found = raw.find(old, found + 1)
