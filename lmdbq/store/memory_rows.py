"""The rows of the memory store: immutable records of a task, a queue, a dedupe slot and what is remembered."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from lmdbq.clock import Now
from lmdbq.lifecycle import ResolvedDedupe, place_of
from lmdbq.model import (
    DEFAULT_SETTINGS,
    PLAIN,
    Encoding,
    Failure,
    OpOutcome,
    Options,
    Problem,
    QueueSettings,
    Scope,
    State,
    Status,
    Totals,
)
from lmdbq.sharing import NO_PACE, Pace


class Denied(Exception):
    """An op refuses its call: nothing of the call may stay."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems[0].code)
        self.problems = problems


class Lease(Struct, frozen=True):
    """A running task's lease: it ends at ``deadline`` (steady ns of boot ``boot_no``) and is ``length_ns`` long.

    claimed_ns: how long it was when it was claimed, which is what a new boot goes by.
    """

    boot_no: int
    deadline: int
    length_ns: int
    claimed_ns: int
    progress: float | None = None

    def seen_in(self, boot_no: int) -> Lease:
        """Return the lease as boot ``boot_no`` knows it: what was said by Extend in another one is forgotten."""
        if boot_no == self.boot_no:
            return self
        return Lease(self.boot_no, self.deadline, self.claimed_ns, self.claimed_ns)


class SlotName(NamedTuple):
    """Which dedupe slot: ``home`` is the queue or the type the key is unique in, "" for a global key."""

    scope: Scope
    home: str
    key: str


class LaneName(NamedTuple):
    """Which lane: a thread of a queue, or a group (of no queue)."""

    queue: str
    thread: str
    group: str


class Slot(Struct, frozen=True):
    """Who took a dedupe key last. blocks_until: end of a slot that was taken with until ttl, else None."""

    id: int
    queue: str
    taken_at: int
    blocks_until: int | None


class Row(Struct, frozen=True):
    """A task. ``ended_by`` is how its last delivery ended; ``retried_at`` its deliveries when last retried by hand."""

    id: int
    queue: str
    type: str
    payload: bytes
    encoding: Encoding
    priority: int
    created_at: int
    scheduled_at: int
    expires_at: int
    rank: int
    state: State
    due_at: int = 0
    options: Options = PLAIN
    slot: SlotName | None = None
    deliveries: int = 0
    retried_at: int = 0
    snoozes: int = 0  # releases with a delay since then
    failures: int = 0
    errors: tuple[Failure, ...] = ()
    lease: Lease | None = None
    cancel_requested: bool = False
    ended_by: tuple[int, Status] | None = None
    result: bytes | None = None
    result_encoding: Encoding = Encoding.JSON
    ended_at: int = 0
    remove_at: int = 0
    reason: str = ""

    def is_waiting(self) -> bool:
        """Whether nobody works on it yet, or again."""
        return self.state in (State.SCHEDULED, State.READY)

    def has_expired(self, now: Now) -> bool:
        """Whether it waited for too long."""
        return self.is_waiting() and 0 < self.expires_at <= now.wall

    @property
    def lane(self) -> LaneName | None:
        """Its thread or group."""
        if self.options.thread:
            return LaneName(self.queue, self.options.thread, "")
        return LaneName("", "", self.options.group) if self.options.group else None

    def order(self, settings: QueueSettings = DEFAULT_SETTINGS) -> tuple[int, int, int]:
        """Where it stands among ready tasks, as its queue orders them."""
        return *place_of(settings, self.priority, self.rank), self.id


class Queue(Struct, frozen=True):
    """A queue's settings and totals, and how fast it is served."""

    settings: QueueSettings
    totals: Totals
    pace: Pace = NO_PACE


class Remembered(Struct, frozen=True):
    """A call that can be asked for again until ``until`` (wall ns)."""

    body_hash: bytes
    outcomes: tuple[OpOutcome, ...]
    until: int


class RememberedClaim(Struct, frozen=True):
    """The leases that a claim_id answered, until ``until`` (wall ns)."""

    leases: tuple[tuple[int, int], ...]
    until: int


def slot_name(rule: ResolvedDedupe, queue: str, type_: str) -> SlotName:
    """Return the slot of a dedupe rule for a task of ``type_`` in ``queue``."""
    home = {Scope.QUEUE: queue, Scope.TYPE: type_, Scope.GLOBAL: ""}[rule.scope]
    return SlotName(rule.scope, home, rule.key)
