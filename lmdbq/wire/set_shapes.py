"""What is sent and answered about sets: one Struct per body. Their meaning is in ``sets``."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from lmdbq import limits
from lmdbq.wire import shapes
from lmdbq.wire.answers import At, Count, EntryOutcome, SetId

ConditionWord = Literal["all", "any", "finished"]
SetStateWord = Literal["open", "closed", "met", "unmet"]
_Entries = Annotated[list[shapes.EntryBody], Meta(max_length=limits.ENTRIES_MAX)]


class SetMembers(shapes.Shape, frozen=True, kw_only=True):
    """Body of POST /v1/sets/{set_id}/close: the last members, if there are more; they name no set themselves.

    lease: as in /v1/enqueue.
    """

    entries: _Entries | None = None
    queue_name: shapes.QueueName | None = None
    lease: shapes.LeaseText | None = None


class SetBody(shapes.Shape, frozen=True, kw_only=True):
    """Body of POST /v1/sets. condition: the set is met when all its members have succeeded (default), when any has, or
    when all are finished, however they ended. callback: what is enqueued once when it is met, on_unmet: when it is
    closed, all members are over, and it is not; without a payload they are told the set's id, state and counts.
    keep_in_seconds: for how long it can be read after that (default 7 days). entries: its first members, close: no
    others come.
    """

    condition: ConditionWord | None = None
    callback: shapes.EntryBody | None = None
    on_unmet: shapes.EntryBody | None = None
    keep_in_seconds: shapes.Seconds | None = None
    entries: _Entries | None = None
    queue_name: shapes.QueueName | None = None
    close: bool = False


class SetAnswer(Struct):
    """A set, and how its members stand; once it is met or unmet, how they stood then.

    members = pending + succeeded + dead + cancelled + expired + deleted. state: open (takes members), closed, met or
    unmet. ended_at: when it was decided. remove_at: when it is forgotten. reason: why the queue itself has ended it.
    outcomes: what became of the entries that came with this request.
    """

    id: SetId
    state: SetStateWord
    condition: ConditionWord
    members: Count
    pending: Count
    succeeded: Count
    dead: Count
    cancelled: Count
    expired: Count
    deleted: Count
    created_at: At
    ended_at: At
    remove_at: At
    keep_in_seconds: float
    callback: shapes.EntryBody | UnsetType = UNSET
    on_unmet: shapes.EntryBody | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    outcomes: list[EntryOutcome] | UnsetType = UNSET


class SetsAnswer(Struct):
    """Sets, the oldest first. next: the cursor of the next page."""

    sets: list[SetAnswer]
    next: str | UnsetType = UNSET
