"""Schedules: from the wire to engine units and back.

A schedule's ``task`` is the entry that POST /v1/tasks takes, without an instant in it. What is answered as ``task`` can
be sent again, so ``template_answer`` says every field of an entry that is not at its default.
"""

from __future__ import annotations

from typing import Any, Final, cast

from msgspec import UNSET, Raw

from lmdbq import cron
from lmdbq.model import CatchUp, Entry, Problem, Schedule, ScheduleView
from lmdbq.schedules import problems_of
from lmdbq.wire import values
from lmdbq.wire.fields import Incoming
from lmdbq.wire.problems import Codec, Problems, decode_as
from lmdbq.wire.requests import to_entry
from lmdbq.wire.schedule_shapes import ScheduleAnswer, ScheduleBody, UpcomingAnswer
from lmdbq.wire.templates import template_answer

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
        task=template_answer(said.entry, codec),
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


def check_schedule_name(name: str, pointer: str, problems: Problems) -> None:
    """Refuse what is no name of a schedule: those of types are."""
    before = len(problems.found)
    values.check_type_name(name, pointer, problems)
    if len(problems.found) > before:
        detail = "a schedule's name is 1 to 128 of the characters -_.:/0-9A-Za-z"
        problems.found[-1] = Problem("bad_name", pointer, detail)
