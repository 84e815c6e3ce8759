"""A stored task with everything that is known of it; ``lmdb_standing`` finds it, and all ops hand it on."""

from __future__ import annotations

from lmdbq.model import State
from lmdbq.store import records as rec
from lmdbq.store.lmdb_known_lanes import Member
from lmdbq.store.lmdb_work import Queue


class Located:
    """A stored task with everything that is known of it: its record, its history, and where it stands."""

    __slots__ = ("deliveries", "failures", "history", "id", "lease", "queue", "record", "state")

    def __init__(
        self,
        task_id: int,
        queue: Queue,
        record: rec.TaskRecord,
        history: rec.History,
        state: State,
        deliveries: int,
        failures: int,
        lease: rec.LeaseRun | None = None,
    ) -> None:
        self.id = task_id
        self.queue = queue
        self.record = record
        self.history = history
        self.state = state
        self.deliveries = deliveries
        self.failures = failures
        self.lease = lease

    @property
    def rank(self) -> int:
        """Where it stands in ready, and its due_at while it is scheduled."""
        return self.history.rank or self.record.scheduled_at

    @property
    def member(self) -> Member:
        """The task as a member of its lane, if it is in one."""
        record = self.record
        return Member(record.options, record.queue_no, record.type_no, record.priority, self.rank, self.id)
