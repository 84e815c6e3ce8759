"""External ids: the ids that other systems know tasks by, each unique among the stored tasks of its namespace.

A key names the task that took it, and goes with it, however that goes. Nothing else is ever asked of it, so one that
names nobody (what a grave or a quarantine leaves for a while) is as good as none, and the next task takes it over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from lmdbq.limits import NAMESPACES
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_rows import Broken, Rows


def holder_id(work: Rows, namespace_no: int, external_id: str) -> int:
    """Return the task that took an external id last, 0 if nobody has it. It need not be stored any more."""
    key = ks.external(namespace_no, external_id)
    value = work.get("external", key)
    if value is None:
        return 0
    try:
        return rec.read_task_id(value)
    except rec.Damaged as error:
        raise Broken("external", key) from error


def take(work: Rows, namespace_no: int, external_id: str, task_id: int) -> None:
    """Make a task the one that an external id names."""
    work.put("external", ks.external(namespace_no, external_id), rec.write_task_id(task_id))


def release(work: Rows, task_id: int, record: rec.TaskRecord) -> None:
    """Remove a removed task's external id, if it has one that still names it."""
    options = record.options
    if options.external_id and holder_id(work, options.namespace_no, options.external_id) == task_id:
        work.delete("external", ks.external(options.namespace_no, options.external_id))


def free(work: Rows, task_id: int) -> None:
    """Remove the external id of a task whose record cannot tell it; every one is looked at."""
    value = rec.write_task_id(task_id)
    for key in [key for key, found in work.of("external", b"") if found == value]:
        work.delete("external", key)


def named_by(work: Rows, external_id: str) -> Iterator[int]:
    """Yield the task that an external id names in each namespace."""
    for namespace_no in NAMESPACES:
        if task_id := holder_id(work, namespace_no, external_id):
            yield task_id


def mend(work: Rows, key: bytes) -> None:
    """Make a damaged external id anew from the task that has it; without one it goes."""
    work.delete("external", key)
    for task_key, value in list(work.of("task", b"")):
        with contextlib.suppress(rec.Damaged):
            options = rec.read_task(value).options
            if options.external_id and ks.external(options.namespace_no, options.external_id) == key:
                take(work, options.namespace_no, options.external_id, ks.read_id(task_key))
