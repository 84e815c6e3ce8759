"""Changes of queues: put, patch, delete, purge."""

from __future__ import annotations

from msgspec.structs import replace

from lmdbq.model import (
    Order,
    Problem,
    Purge,
    QueueChanged,
    QueueDelete,
    QueuePatch,
    QueuePut,
    QueueSettings,
    Refused,
)
from lmdbq.store.lmdb_exposed import look_at_groups
from lmdbq.store.lmdb_work import Queue, Work


def put_queue(work: Work, op: QueuePut) -> QueueChanged:
    """Run one QueuePut."""
    queue = work.queue(op.queue)
    work.stirred.add(op.queue)
    if queue is None:
        work.create_queue(op.queue, op.settings)
        return QueueChanged(op.queue, created=True)
    _replace(work, queue, op.settings)
    return QueueChanged(op.queue)


def patch_queue(work: Work, op: QueuePatch) -> QueueChanged | Refused:
    """Run one QueuePatch."""
    queue = work.queue(op.queue)
    if queue is None:
        return unknown_queue(op.queue)
    _replace(work, queue, replace(queue.settings, **{field: getattr(op.settings, field) for field in op.fields}))
    work.stirred.add(op.queue)
    return QueueChanged(op.queue)


def _replace(work: Work, queue: Queue, settings: QueueSettings) -> None:
    """Give a queue other settings; groups get turns there, or lose them, if its order becomes fair or another."""
    work.save_queue(Queue(queue.no, queue.name, queue.created_at, settings))
    if (queue.settings.order is Order.FAIR) is not (settings.order is Order.FAIR):
        look_at_groups(work)


def delete_queue(work: Work, op: QueueDelete) -> QueueChanged | Refused:
    """Run one QueueDelete."""
    queue = work.queue(op.queue)
    if queue is None:
        return unknown_queue(op.queue)
    work.stirred.add(op.queue)
    return QueueChanged(op.queue, tasks=work.bury(queue, keep_name=False))


def purge(work: Work, op: Purge) -> QueueChanged | Refused:
    """Run one Purge."""
    queue = work.queue(op.queue)
    if queue is None:
        return unknown_queue(op.queue)
    work.stirred.add(op.queue)
    return QueueChanged(op.queue, tasks=work.bury(queue, keep_name=True))


def unknown_queue(name: str, pointer: str = "/name") -> Refused:
    """Return the refusal of a call that names a queue which does not exist."""
    detail = f"there is no queue {name!r}; GET /v1/queues lists those that exist"
    return Refused("queue_not_found", (Problem("queue_not_found", pointer, detail),))
