"""What follows the end of a task: entries that are spawned, to be enqueued in the call that ended it."""

from __future__ import annotations

from lmdbq.store.lmdb_standing import Located
from lmdbq.store.lmdb_work import Work
from lmdbq.wire.followups import after_death, resolve_on_dead


def follow_death(work: Work, task: Located, reason: str) -> None:
    """Let what is to follow a task's death be enqueued."""
    record, queue = task.record, task.queue
    if record.options.on_dead is None and queue.settings.on_dead is None:
        return
    type_name = work.type_name(record.type_no)
    template = resolve_on_dead(record.options.on_dead, queue.settings, queue.name, type_name)
    if template is not None:
        work.spawned.append(
            after_death(
                template,
                task.id,
                queue.name,
                type_name,
                record.payload,
                record.encoding,
                reason,
                task.history.errors,
            )
        )
