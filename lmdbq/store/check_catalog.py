"""The checker's invariants about the catalog, memos, graves and schedules: K8, K9, K12 and K13 of ``keyspace``."""

from __future__ import annotations

from collections.abc import Iterator

from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.check_facts import File
from lmdbq.store.dump import key_words


def k8(file: File) -> Iterator[str]:
    """Catalog names and numbers point at each other; keys name live queues or graves."""
    names: dict[int, str] = {}
    types: dict[int, str] = {}
    for key, value in file.items("catalog"):
        if key[:1] == b"Q":
            queue = file.sound("catalog", key, lambda value=value: rec.read_queue(value))  # type: ignore[misc]
            if queue is not None:
                names[queue.no] = ks.read_name(key)
        elif key[:1] == b"T":
            number = file.sound("catalog", key, lambda value=value: rec.read_number(value))  # type: ignore[misc]
            types[number or 0] = ks.read_name(key)
        elif key[:1] == b"B":
            file.sound("catalog", key, lambda value=value: rec.read_pace(value))  # type: ignore[misc]
            if ks.read_number(key) and ks.read_number(key) not in file.queues:
                yield f"K8: {key_words('catalog', key)} is that of no queue"
    if names != file.queues:
        yield f"K8: queues by name {names} and by number {file.queues} differ"
    if types != file.types:
        yield f"K8: types by name and by number differ: {set(types.items()) ^ set(file.types.items())}"
    for key, _ in file.items("catalog"):
        if key[:1] == ks.TYPE_RECORDS and ks.read_number(key) not in file.types:
            yield f"K8: lmdbq/catalog {key_words('catalog', key)} is about a type that does not exist"
    known = file.graves | set(file.queues)
    for database in ("ready", "scheduled", "deadline", "ended", "expiry", "count"):
        for key, _ in file.items(database):
            queue_no = ks.read_queue_no(key)
            if queue_no and queue_no not in known:
                yield f"K8: lmdbq/{database} {key_words(database, key)} names queue {queue_no}, which does not exist"


def k9(file: File) -> Iterator[str]:
    """Every memo has its forget key."""
    for key, value in file.items("memo"):
        memo = file.sound("memo", key, lambda value=value: rec.read_memo(value))  # type: ignore[misc]
        if memo is None:
            continue
        kind = ks.MemoKind(key[0])
        if file.get("forget", ks.forget(memo.remove_at, kind, bytes(key[1:]))) is None:
            yield f"K9: memo {key_words('memo', key)} has no forget key"


def k12(file: File) -> Iterator[str]:
    """A grave holds no queue's name, and its tasks are counted nowhere."""
    for queue_no in file.graves & set(file.queues):
        yield f"K12: queue {queue_no} is live and buried"
    for key, _ in file.items("count"):
        if ks.read_count(key)[0] in file.graves:
            yield f"K12: {key_words('count', key)} counts tasks of a grave"


def k13(file: File) -> Iterator[str]:
    """Names and numbers of schedules point at each other; one with a next_at has its one key in lmdbq/schedule."""
    names: dict[int, str] = {}
    by_no: dict[int, str] = {}
    expected: set[bytes] = set()
    for key, value in file.items("catalog"):
        if key[:1] == b"S":
            record = file.sound("catalog", key, lambda value=value: rec.read_schedule(value))  # type: ignore[misc]
            if record is not None:
                names[record.no] = ks.read_name(key)
                if record.next_at:
                    expected.add(ks.schedule(record.next_at, record.no))
        elif key[:1] == b"s":
            name = file.sound("catalog", key, lambda value=value: rec.read_name(value))  # type: ignore[misc]
            by_no[ks.read_number(key)] = name or ""
    if names != by_no:
        yield f"K13: schedules by name {names} and by number {by_no} differ"
    found = {bytes(key) for key, _ in file.items("schedule")}
    yield from (f"K13: schedule {key_words('schedule', key)} is missing" for key in sorted(expected - found))
    yield from (f"K13: schedule {key_words('schedule', key)} belongs to none" for key in sorted(found - expected))
