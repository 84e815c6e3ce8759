"""The invariant of external ids: K17."""

from __future__ import annotations

from collections.abc import Iterator

from lmdbq.ids import format_id
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.check_facts import File
from lmdbq.store.check_tasks import EXTERNAL
from lmdbq.store.dump import key_words


def k17(file: File) -> Iterator[str]:
    """An external id names a stored task that has it, and every task that has one is named."""
    expected = {
        ks.external(record.options.namespace_no, record.options.external_id): task_id
        for task_id in file.tasks.with_flags(EXTERNAL)
        if (record := file.tasks.record(task_id)) is not None and record.queue_no in file.queues
    }
    for key, value in file.items("external"):
        named = file.sound("external", key, lambda value=value: rec.read_task_id(value))  # type: ignore[misc]
        if named is None or expected.pop(bytes(key), None) == named:
            continue
        record = file.tasks.record(named)
        if record is None or record.queue_no in file.queues:
            yield f"K17: external {key_words('external', key)} names {format_id(named)}, which does not have it"
    for task_id in expected.values():
        yield f"K17: the external id of task {format_id(task_id)} does not name it"
