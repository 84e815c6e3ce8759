"""Schedules: from the wire to engine units and back.

A schedule's ``task`` is the entry that POST /v1/tasks takes, without an instant in it. What is answered as ``task`` can
be sent again, so ``entry_body`` says every field of an entry that is not at its default.
"""

from __future__ import annotations

from typing import Any, Final, cast

from msgspec import UNSET, Raw

from lmdbq import cron
from lmdbq.model import CatchUp, Dedupe, Encoding, Entry, Problem, Schedule, ScheduleView
from lmdbq.schedules import problems_of
from lmdbq.wire import payloads, shapes, values
from lmdbq.wire.policies import keep_answer, retry_answer
from lmdbq.wire.problems import Codec, Problems, decode_as
from lmdbq.wire.requests import Incoming, to_entry
from lmdbq.wire.schedule_shapes import ScheduleAnswer, ScheduleBody, UpcomingAnswer

_FIELD_OF_KEY: Final = {
    "cron": "cron",
    "timezone": "timezone",
    "catch_up": "catch_up",
    "paused": "paused",
    "task": "entry",
}


def read_schedule(body: bytes, codec: Codec, *, whole: bool) -> tuple[Schedule, tuple[str, ...]]:
    """Return (schedule, the fields of model.Schedule that were named). whole: cron and task must be said, as for PUT.

    Of a part only what it names means anything. Raises NotParseable or InvalidInput.
    """
    accept = Incoming(body, codec)
    said = decode_as(ScheduleBody, body, codec)
    named = codec.decoder(dict[str, Raw]).decode(body)
    problems = Problems()
    for name in ("cron", "task"):
        if getattr(said, name) is None and (whole or name in named):
            problems.add("missing_field", f"/{name}", f"{name} is required")
    if not named and not whole:
        problems.add("missing_field", "", "name at least one field to change")
    entry = Entry() if said.task is None else to_entry(said.task, "default", "/task", problems, accept)
    schedule = Schedule(
        said.cron or "* * * * *",
        entry,
        said.timezone if said.timezone is not None else "UTC",
        CatchUp[said.catch_up.upper()] if said.catch_up else CatchUp.ONE,
        bool(said.paused),
    )
    for problem in problems_of(schedule):
        problems.add(problem.code, problem.pointer, problem.detail)
    problems.raise_if_any()
    return schedule, tuple(_FIELD_OF_KEY[name] for name in named)


def schedule_answer(view: ScheduleView, codec: Codec, now_wall: int, count: int = 0) -> ScheduleAnswer:
    """Return a schedule as people see it, with its next ``count`` instants."""
    said = view.schedule
    return ScheduleAnswer(
        name=view.name,
        cron=said.cron,
        timezone=said.timezone,
        catch_up=cast("Any", said.catch_up.name.lower()),
        paused=said.paused,
        paused_because=view.reason,
        task=entry_body(said.entry, codec),
        created_at=view.created_at,
        next_at=view.next_at,
        last_at=view.last_at,
        fired=view.fired,
        upcoming=upcoming(view, now_wall, count) if count else UNSET,
    )


def upcoming(view: ScheduleView, now_wall: int, count: int) -> list[UpcomingAnswer]:
    """Return the next ``count`` instants of a schedule, as if it were not paused; none if it cannot be read."""
    said = view.schedule
    after = view.next_at - 1 if view.next_at else max(now_wall, view.last_at)
    try:
        return [UpcomingAnswer(*one) for one in cron.upcoming(said.cron, said.timezone, after, count)]
    except ValueError:  # and so it is paused, or will be: paused_because says why
        return []


def entry_body(entry: Entry, codec: Codec) -> shapes.EntryBody:
    """Return an entry as it is sent to be enqueued; its times are durations."""
    options = entry.options
    said: dict[str, Any] = {
        "queue_name": entry.queue,
        "type": entry.type,
        "priority": entry.priority or None,
        "delay_in_seconds": values.seconds(entry.delay_ns) or None,
        "expires_in_seconds": values.seconds(entry.expires_in_ns) or None,
        "keepalive_timeout_in_seconds": values.seconds(options.keepalive_ns) or None,
        "retry_strategy": None if options.retry is None else retry_answer(options.retry),
        "keep": None if options.keep is None else keep_answer(options.keep),
        "thread_id": options.thread or None,
        "rejoin": options.rejoin or None,
        "group_key": options.group or None,
        "tags": list(options.tags) or None,
        "metadata": Raw(codec.of_json(options.metadata)) if options.metadata else UNSET,
        **_dedupe_fields(options.dedupe),
    }
    if codec.is_json and entry.encoding is Encoding.BYTES:
        said["payload_base64"] = payloads.to_base64(entry.payload)
    elif entry.payload != b"null" or entry.encoding is not Encoding.JSON:
        to = payloads.to_json if codec.is_json else payloads.to_msgpack
        said["payload"] = Raw(to(entry.payload, entry.encoding))
    return shapes.EntryBody(**said)


def _dedupe_fields(dedupe: Dedupe | None) -> dict[str, Any]:
    if dedupe is None:
        return {}
    words = (("dedupe_scope", dedupe.scope), ("dedupe_until", dedupe.until), ("on_duplicate", dedupe.on_duplicate))
    return {
        "dedupe_key": dedupe.key,
        "dedupe_ttl_in_seconds": values.seconds(dedupe.ttl_ns) or None,
        "overwrite_on_duplicate": list(dedupe.overwrite) or None,
        **{name: None if word is None else word.name.lower() for name, word in words},
    }


def check_schedule_name(name: str, pointer: str, problems: Problems) -> None:
    """Refuse what is no name of a schedule: those of types are."""
    before = len(problems.found)
    values.check_type_name(name, pointer, problems)
    if len(problems.found) > before:
        detail = "a schedule's name is 1 to 128 of the characters -_.:/0-9A-Za-z"
        problems.found[-1] = Problem("bad_name", pointer, detail)
