"""Sets: from the wire to engine units and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, cast

from msgspec import UNSET
from msgspec.structs import replace

from lmdbq import limits
from lmdbq.ids import format_set_id
from lmdbq.model import (
    NEW_SET,
    Condition,
    Enqueue,
    Enqueued,
    Entry,
    Op,
    OpOutcome,
    SetChanged,
    SetClose,
    SetMake,
    SetState,
    SetView,
    TaskSet,
)
from lmdbq.wire import shapes, values
from lmdbq.wire.answers import EntryOutcome
from lmdbq.wire.fields import Incoming
from lmdbq.wire.problems import Codec, Problems, decode_as
from lmdbq.wire.render import entry_outcome
from lmdbq.wire.requests import template_of, to_entries
from lmdbq.wire.set_shapes import SetAnswer, SetBody, SetMembers, SetsAnswer
from lmdbq.wire.templates import template_answer

PAGE_DEFAULT: Final = 100


class SetRequest(NamedTuple):
    """What is to be done about a set, in one call: make it, add members, close it. entries: those members."""

    ops: tuple[Op, ...]
    entries: Sequence[Entry]

    def placed(self, outcomes: Sequence[OpOutcome]) -> tuple[int, list[EntryOutcome]]:
        """Return the set's id, and what became of each entry."""
        set_id, placed = 0, list[EntryOutcome]()
        for told in outcomes:
            if isinstance(told, SetChanged):
                set_id = told.id
            elif isinstance(told, Enqueued):
                placed = [entry_outcome(one, told.placed(index), None) for index, one in enumerate(self.entries)]
        return set_id, placed


def read_set(body: bytes, codec: Codec, *, create_queues: bool = True) -> SetRequest:
    """Return what a POST /v1/sets body asks for. Raises NotParseable or InvalidInput."""
    accept = Incoming(body, codec)
    said = decode_as(SetBody, body, codec)
    problems = Problems()
    made = TaskSet(
        Condition[said.condition.upper()] if said.condition else Condition.ALL,
        _follower(said.callback, "/callback", problems, accept),
        _follower(said.on_unmet, "/on_unmet", problems, accept),
        limits.KEEP_SET_NS_DEFAULT
        if said.keep_in_seconds is None
        else values.duration_ns(said.keep_in_seconds, "/keep_in_seconds", problems, high_ns=limits.KEEP_NS_MAX),
    )
    entries = _members(said.entries, said.queue_name, NEW_SET, problems, accept)
    problems.raise_if_any()
    ops: list[Op] = [SetMake(made)]
    if entries:
        ops.append(Enqueue(entries, create_queues))
    if said.close:
        ops.append(SetClose(NEW_SET))
    return SetRequest(tuple(ops), entries)


def read_close(body: bytes, codec: Codec, set_id: int, *, create_queues: bool = True) -> SetRequest:
    """Return what a POST /v1/sets/{set_id}/close body asks for. Raises NotParseable, InvalidInput."""
    if not body:
        return SetRequest((SetClose(set_id),), ())
    accept = Incoming(body, codec)
    said = decode_as(SetMembers, body, codec)
    problems = Problems()
    lease = values.lease_of(said.lease, "/lease", problems)
    entries = _members(said.entries, said.queue_name, set_id, problems, accept)
    problems.raise_if_any()
    added: tuple[Op, ...] = (Enqueue(entries, create_queues, lease=lease),) if entries else ()
    return SetRequest((*added, SetClose(set_id)), entries)


def _members(
    said: list[shapes.EntryBody] | None, queue: str | None, set_id: int, problems: Problems, accept: Incoming
) -> list[Entry]:
    if queue is not None:
        values.check_queue_name(queue, "/queue_name", problems)
    entries = to_entries(said or [], queue or "default", problems, accept)
    for index, entry in enumerate(said or []):
        if entry.set_id:
            problems.add(
                "both_given", f"/entries/{index}/set_id", "these entries are members of this set: leave it out"
            )
    return [replace(one, options=replace(one.options, set_id=set_id)) for one in entries]


def _follower(said: shapes.EntryBody | None, pointer: str, problems: Problems, accept: Incoming) -> Entry | None:
    if said is None:
        return None
    made = template_of(said, pointer, problems, accept)
    if len(made.payload) > limits.SET_PAYLOAD_BYTES_MAX:
        detail = f"what follows a set has a payload of at most {limits.SET_PAYLOAD_BYTES_MAX} bytes; send where it is"
        problems.add("payload_too_large", f"{pointer}/payload", detail)
    return made


def read_states(said: Sequence[str], problems: Problems) -> tuple[SetState, ...]:
    """Return the states that the parameter `state` of a query names."""
    found: list[SetState] = []
    for word in (word for text in said for word in text.split(",") if word):
        if word.upper() in SetState.__members__:
            found.append(SetState[word.upper()])
        else:
            problems.add("bad_parameter", "/state", "a set is open, closed, met or unmet")
    return tuple(dict.fromkeys(found))


def read_set_cursor(text: str | None, problems: Problems) -> int:
    """Return where a page begins: behind the set that ``text`` names, as the page before said."""
    return values.set_id_of(text, "/cursor", problems)


def set_answer(one: SetView, codec: Codec, outcomes: list[EntryOutcome] | None = None) -> SetAnswer:
    """Return a set as people see it."""
    said = one.set
    return SetAnswer(
        id=format_set_id(one.id),
        state=cast("Any", one.state.word),
        condition=cast("Any", said.condition.name.lower()),
        members=one.members,
        pending=one.pending,
        succeeded=one.succeeded,
        dead=one.dead,
        cancelled=one.cancelled,
        expired=one.expired,
        deleted=one.deleted,
        created_at=one.created_at,
        ended_at=one.ended_at,
        remove_at=one.remove_at,
        keep_in_seconds=values.seconds(said.keep_ns),
        callback=template_answer(said.callback, codec) if said.callback else UNSET,
        on_unmet=template_answer(said.on_unmet, codec) if said.on_unmet else UNSET,
        reason=one.reason or UNSET,
        outcomes=UNSET if outcomes is None else outcomes,
    )


def sets_answer(found: Sequence[SetView], limit: int, codec: Codec) -> SetsAnswer:
    """Return a page of sets; one that is full has a next."""
    following = format_set_id(found[-1].id) if len(found) >= limit else UNSET
    return SetsAnswer([set_answer(one, codec) for one in found], following)
