"""Drafts: tasks as they will stand when a call is written, and the one way to write a changed one.

Enqueue plans with drafts before it writes anything; Edit makes a draft of one stored task. ``overwrite`` changes
exactly the listed fields of a draft, new or stored, and ``write_stored`` brings a stored task to what its draft says.
"""

from __future__ import annotations

import copy

from msgspec.structs import replace

from lmdbq.model import PLAIN, Encoding, Entry, Options, State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_known_lanes import is_laned
from lmdbq.store.lmdb_standing import Located, enter, leave
from lmdbq.store.lmdb_work import Work

_OPTION_FIELDS = {
    "keepalive_timeout_in_seconds": "keepalive_ns",
    "retry_strategy": "retry",
    "keep": "keep",
    "tags": "tags",
    "metadata": "metadata",
}


class Draft:
    """A task as it will stand. id: 0 until it is allotted. stored: where a stored task stands now, None for a new one.

    state None: it had expired, and is to be removed. slot: (scope, owner_no) of its dedupe slot.
    """

    __slots__ = (
        "changed",
        "encoding",
        "expires_at",
        "id",
        "moved",
        "options",
        "payload",
        "priority",
        "queue_name",
        "rank",
        "scheduled_at",
        "slot",
        "state",
        "stored",
        "type",
    )

    def __init__(
        self,
        entry: Entry,
        scheduled_at: int,
        expires_at: int,
        state: State | None,
    ) -> None:
        self.id = 0
        self.queue_name = entry.queue
        self.type = entry.type
        self.payload = entry.payload
        self.encoding: Encoding = entry.encoding
        self.priority = entry.priority
        self.scheduled_at = scheduled_at
        self.rank = scheduled_at
        self.expires_at = expires_at
        self.options: Options = entry.options
        self.state = state
        self.slot: tuple[int, int] = (rec.NO_SLOT, 0)
        self.stored: Located | None = None
        self.changed = False
        self.moved = False  # to another scheduled_at, which gives up the head of a thread

    def copy(self) -> Draft:
        """Return a draft that can be changed while this one stays."""
        return copy.copy(self)


def draft_of(work: Work, task: Located) -> Draft:
    """Return the draft of a stored task; one that waits and has expired has state None."""
    record = task.record
    entry = Entry(
        record.payload,
        task.queue.name,
        work.type_name(record.type_no),
        record.encoding,
        record.priority - ks.PRIORITY_BIAS,
        options=record.options,
    )
    draft = Draft(entry, record.scheduled_at, record.expires_at, task.state)
    draft.id = task.id
    draft.rank = task.rank
    draft.slot = (record.slot_scope, record.slot_owner)
    draft.stored = task
    if task.state in (State.SCHEDULED, State.READY) and record.expires_at and record.expires_at <= work.now.wall:
        draft.state = None
    return draft


def overwrite(
    draft: Draft, entry: Entry, fields: tuple[str, ...], scheduled_at: int, expires_at: int, now_wall: int
) -> None:
    """Change exactly ``fields`` of a waiting draft to what ``entry`` says; times are the entry's resolved ones."""
    draft.changed = True
    options = draft.options
    for field in fields:
        if field == "payload":
            draft.payload, draft.encoding = entry.payload, entry.encoding
        elif field == "type":
            draft.type = entry.type
        elif field == "priority":
            draft.priority = entry.priority
        elif field == "scheduled_at":
            draft.scheduled_at = draft.rank = scheduled_at
            draft.moved = True
            draft.state = State.SCHEDULED if scheduled_at > now_wall else State.READY
        elif field == "expires_at":
            draft.expires_at = expires_at
        else:
            name = _OPTION_FIELDS[field]
            options = replace(options, **{name: getattr(entry.options, name)})
    draft.options = PLAIN if options == PLAIN else options


def write_stored(work: Work, draft: Draft) -> None:
    """Bring a stored, waiting task to what its draft says: record, standing, count."""
    task = draft.stored
    assert task is not None
    assert draft.state is not None
    leave(work, task)
    if draft.moved and is_laned(task.record.options):
        work.lanes.stopped(task.member, is_running=False, keeps_head=False)
    old_type_no, old_state = task.record.type_no, task.state
    task.record = rec.TaskRecord(
        task.queue.no,
        work.create_type(draft.type),
        draft.encoding,
        draft.priority + ks.PRIORITY_BIAS,
        task.record.created_at,
        draft.scheduled_at,
        draft.expires_at,
        *draft.slot,
        draft.options,
        draft.payload,
    )
    work.put("task", ks.task(task.id), rec.write_task_record(task.record))
    rank = draft.rank if draft.rank != draft.scheduled_at else 0
    if rank != task.history.rank:
        task.history.rank = rank
        work.put_history(task.id, task.history)
    task.state = draft.state
    work.count(task.queue.no, old_type_no, leaves=old_state)
    work.count(task.queue.no, task.record.type_no, enters=task.state)
    enter(work, task)
