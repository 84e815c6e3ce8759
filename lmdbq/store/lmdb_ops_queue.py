"""Changes of queues: put, patch, delete, purge."""

from __future__ import annotations

from msgspec.structs import replace

from lmdbq.model import Problem, Purge, QueueChanged, QueueDelete, QueuePatch, QueuePut, Refused
from lmdbq.store.lmdb_work import Queue, Work


def put_queue(work: Work, op: QueuePut) -> QueueChanged:
    """Run one QueuePut."""
    queue = work.queue(op.queue)
    work.stirred.add(op.queue)
    if queue is None:
        work.create_queue(op.queue, op.settings)
        return QueueChanged(op.queue, created=True)
    work.save_queue(Queue(queue.no, queue.name, queue.created_at, op.settings))
    return QueueChanged(op.queue)


def patch_queue(work: Work, op: QueuePatch) -> QueueChanged | Refused:
    """Run one QueuePatch."""
    queue = work.queue(op.queue)
    if queue is None:
        return unknown_queue(op.queue)
    settings = replace(queue.settings, **{field: getattr(op.settings, field) for field in op.fields})
    work.save_queue(Queue(queue.no, queue.name, queue.created_at, settings))
    work.stirred.add(op.queue)
    return QueueChanged(op.queue)


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
