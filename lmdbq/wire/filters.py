"""What people ask for: filters over tasks, and actions on all that match."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw

from lmdbq import limits
from lmdbq.lifecycle import Event, may
from lmdbq.model import (
    EVERY_TASK,
    WAITING,
    Cancel,
    Delete,
    Edit,
    Entry,
    Filter,
    Op,
    Retry,
    State,
)
from lmdbq.wire import requests, shapes, values
from lmdbq.wire.problems import Codec, Problems, decode_as

FILTER_NAMES: Final = shapes.FilterBody.__struct_fields__
_INT: Final = re.compile(r"-?[0-9]{1,20}")  # one of more digits is too large for any field, and for int()
_NUMBERS: Final = frozenset({"priority_min", "priority_max", "attempts_min", "attempts_max"})
_EVENTS: Final = {"cancel": Event.CANCEL, "retry": Event.RETRY, "edit": Event.EDIT, "delete": Event.DELETE}
# What an action looks at, unless its filter names states: all others would only be conflicts.
ACTION_STATES: Final = {
    "cancel": (*WAITING, State.RUNNING),
    "retry": (State.DEAD, State.CANCELLED),
    "edit": WAITING,
    "delete": (),
}


def filter_of(wanted: shapes.FilterBody | None, pointer: str, problems: Problems) -> Filter:
    """Return the filter in engine units; what is wrong with it goes to ``problems``."""
    if wanted is None:
        return EVERY_TASK
    if wanted.queue_name is not None:
        values.check_queue_name(wanted.queue_name, f"{pointer}/queue_name", problems)
    if wanted.type is not None:
        values.check_type_name(wanted.type, f"{pointer}/type", problems)
    if wanted.external_id is not None:
        values.check_text(wanted.external_id, f"{pointer}/external_id", problems, limits.NAME_BYTES_MAX)
    states = [wanted.state] if isinstance(wanted.state, str) else dict.fromkeys(wanted.state or ())
    return Filter(
        queue=wanted.queue_name or "",
        type=wanted.type or "",
        states=tuple(State[word.upper()] for word in states),
        tag=wanted.tag or "",
        dedupe_key=wanted.dedupe_key or "",
        thread=wanted.thread_id or "",
        group=wanted.group_key or "",
        external_id=wanted.external_id or "",
        set_id=values.set_id_of(wanted.set_id, f"{pointer}/set_id", problems),
        reason=wanted.reason or "",
        priority=_range(wanted.priority_min, wanted.priority_max, limits.PRIORITY_MIN, limits.PRIORITY_MAX),
        attempts=_range(wanted.attempts_min, wanted.attempts_max, 0, limits.DELIVERIES_MAX),
        created=_span(wanted, "created", pointer, problems),
        scheduled=_span(wanted, "scheduled", pointer, problems),
        ended=_span(wanted, "ended", pointer, problems),
    )


def _range(low: int | None, high: int | None, least: int, most: int) -> tuple[int, int] | None:
    if low is None and high is None:
        return None
    return (least if low is None else low, most if high is None else high)


def _span(wanted: shapes.FilterBody, name: str, pointer: str, problems: Problems) -> tuple[int, int] | None:
    start, before = getattr(wanted, f"{name}_from"), getattr(wanted, f"{name}_before")
    if start is None and before is None:
        return None
    return (
        values.instant_ns(start, f"{pointer}/{name}_from", problems),
        limits.INSTANT_NS_MAX if before is None else values.instant_ns(before, f"{pointer}/{name}_before", problems),
    )


def read_query(query: Mapping[str, Sequence[str]], problems: Problems) -> Filter:
    """Return the filter that the parameters of a query say; what is wrong with them goes to ``problems``."""
    said: dict[str, Any] = {}
    for name in FILTER_NAMES:
        for text in query.get(name, ())[:1]:
            is_number = name in _NUMBERS or (name.endswith(("_from", "_before")) and text.isdigit())
            said[name] = int(text) if is_number and _INT.fullmatch(text) else text
    if "state" in said:
        said["state"] = [word for text in query["state"] for word in text.split(",") if word]
    try:
        body = msgspec.convert(said, shapes.FilterBody)
    except msgspec.ValidationError as bad:
        problems.add("bad_parameter", "", str(bad).replace("`", "'"))
        return EVERY_TASK
    return filter_of(body, "", problems)


class Action(NamedTuple):
    """A decoded /v1/tasks/actions. queue: where a retry goes. entry, fields: what an edit sets."""

    action: str
    wanted: Filter
    dry_run: bool
    limit: int
    after: int
    queue: str = ""
    entry: Entry = Entry()
    fields: tuple[str, ...] = ()

    def ops(self, ids: Sequence[int]) -> tuple[Op, ...]:
        """Return what does it to the tasks ``ids``, as far as they still match then."""
        if self.action == "edit":
            return tuple(Edit(task_id, self.entry, self.fields, self.wanted) for task_id in ids)
        if self.action == "retry":
            return (Retry(tuple(ids), self.queue, self.wanted),)
        return ((Cancel if self.action == "cancel" else Delete)(tuple(ids), self.wanted),)

    def may(self, state: State) -> bool:
        """Whether it can be done to a task in ``state``."""
        return may(state, _EVENTS[self.action])


def read_action(body: bytes, codec: Codec) -> Action:
    """Return what a /v1/tasks/actions body asks for. Raises NotParseable or InvalidInput."""
    request = decode_as(shapes.ActionRequest, body, codec)
    problems = Problems()
    wanted = filter_of(request.filter, "/filter", problems)
    if wanted == EVERY_TASK and not request.all:
        problems.add("missing_field", "/filter", 'a filter that matches every task needs "all": true beside it')
    after = values.read_cursor(request.cursor, "/cursor", problems)
    if request.queue_name is not None:
        values.check_queue_name(request.queue_name, "/queue_name", problems)
        if request.action != "retry":
            problems.add("not_allowed", "/queue_name", "only a retry takes tasks to another queue")
    entry = Entry()
    fields: tuple[str, ...] = ()
    if (request.action == "edit") != (request.fields is not UNSET):
        problems.add("missing_field", "/fields", "an edit, and only an edit, says the `fields` it changes")
    elif request.action == "edit":
        raw = codec.decoder(dict[str, Raw]).decode(body)["fields"]
        entry, fields = requests.read_fields(bytes(raw), codec, "/fields", problems)
    problems.raise_if_any()
    if not wanted.states:
        wanted = msgspec.structs.replace(wanted, states=ACTION_STATES[request.action])
    after_all = request.dry_run, request.limit, after
    return Action(request.action, wanted, *after_all, request.queue_name or "", entry, fields)


def read_retry(body: bytes, codec: Codec) -> str:
    """Return the queue that a /v1/tasks/{id}/retry body names, "" for none. Raises NotParseable or InvalidInput."""
    said = decode_as(shapes.RetryRequest, body, codec).queue_name if body else None
    problems = Problems()
    if said is not None:
        values.check_queue_name(said, "/queue_name", problems)
    problems.raise_if_any()
    return said or ""
