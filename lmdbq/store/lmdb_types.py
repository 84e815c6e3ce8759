"""What types decide for their tasks: the rules of a task are its type's, and where that says nothing its queue's.

``rules`` is what every op asks that resolves anything from settings; most files have no type that says something, and
then it is the queue's settings, as they are. What was put together is kept in the ``Work`` of a transaction, by the
queue's object, which is replaced when its settings change; ``put_type`` forgets it all.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lmdbq import lifecycle, precedence
from lmdbq.model import DEFAULT_SETTINGS, NO_TYPE_SETTINGS, QueueSettings, RetryStrategy, TypeChanged, TypePut, TypeView
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec

if TYPE_CHECKING:
    from lmdbq.store.lmdb_work import Queue, Work

_log = logging.getLogger(__name__)


def rules(work: Work, queue: Queue | None, type_no: int) -> QueueSettings:
    """Return the settings that hold for tasks of a type in a queue (None: one that is yet to be made)."""
    own = DEFAULT_SETTINGS if queue is None else queue.settings
    if work.any_types is None:
        found = work.first_from("catalog", ks.TYPE_RECORDS)
        work.any_types = found is not None and found[0].startswith(ks.TYPE_RECORDS)
    if not work.any_types:
        return own
    known = work.rules.get((queue, type_no))
    if known is None:
        record = _read(work, type_no)
        known = own if record.settings == NO_TYPE_SETTINGS else precedence.settings_of(record.settings, own)
        work.rules[(queue, type_no)] = known
    return known


def retry_rule(work: Work, queue: Queue, type_no: int, said: RetryStrategy | None) -> lifecycle.ResolvedRetry:
    """Return how a task of a type in a queue is tried again. said: by the task itself."""
    settings = rules(work, queue, type_no)
    if said is None and settings is queue.settings:
        return queue.retry
    return lifecycle.resolve_retry(said, settings.retry)


def put_type(work: Work, op: TypePut) -> TypeChanged:
    """Run one TypePut."""
    says_nothing = op.settings == NO_TYPE_SETTINGS and not op.schema
    type_no = work.type_no(op.name) if says_nothing else work.create_type(op.name)
    key = ks.type_record(type_no)
    value = None if says_nothing else rec.write_map(rec.TypeRecord(op.settings, op.schema))
    if work.get("catalog", key) == value:
        return TypeChanged(op.name, changed=False)
    if value is None:
        work.delete("catalog", key)
    else:
        work.put("catalog", key, value)
    work.any_types, work.rules = None, {}
    return TypeChanged(op.name, changed=True)


def types(work: Work) -> list[TypeView]:
    """Return every type of which something is known, by name."""
    numbers = [ks.read_number(key) for key, _ in work.of("catalog", ks.TYPE_RECORDS)]
    found = [(work.type_name(type_no), _read(work, type_no)) for type_no in numbers]
    return sorted((TypeView(name, record.settings, record.schema) for name, record in found), key=lambda one: one.name)


def _read(work: Work, type_no: int) -> rec.TypeRecord:
    """Return what a type says. A record that is damaged says nothing, until the type's next worker says it again."""
    value = work.get("catalog", ks.type_record(type_no))
    try:
        return rec.TypeRecord() if value is None else rec.read_type(value)
    except rec.Damaged as error:
        _log.error("what type %d decides is lost, until one of its workers starts again: %s", type_no, error)
        return rec.TypeRecord()
