"""Schedules in Python's values: when (``Cron``), what is enqueued, and where one stands (``ScheduleInfo``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Struct

from lmdbq.client.core import entry_body
from lmdbq.client.entries import Entry, bodies_of
from lmdbq.client.options import moment
from lmdbq.wire.schedule_shapes import ScheduleAnswer, UpcomingAnswer


class Cron(Struct, frozen=True):
    """When a schedule enqueues its task.

    expression: five fields, or six with seconds first, or @hourly, @daily, @weekly, @monthly, @yearly. timezone: an
    IANA name. catch_up: what is made up for of instants that were missed by a minute or more: nothing, one task for all
    of them, or all (at most the latest 100).
    """

    expression: str
    timezone: str = "UTC"
    catch_up: Literal["none", "one", "all"] = "one"


class UpcomingInstant(Struct, frozen=True):
    """An instant to come. local: as clocks in the schedule's zone show it. note: what is odd, if they change then."""

    at: datetime
    local: str
    note: str


class ScheduleInfo(Struct, frozen=True, kw_only=True):
    """A schedule as it was when it was asked for.

    task: the fields of what it enqueues, in the API's words. next_at: None while it is paused. last_at: the last
    instant that gave a task. fired: how many it has enqueued. paused_because: why the queue has paused it, or "".
    upcoming: its next instants; empty in a list of schedules.
    """

    name: str
    cron: Cron
    paused: bool
    paused_because: str
    task: Mapping[str, Any]
    created_at: datetime | None
    next_at: datetime | None
    last_at: datetime | None
    fired: int
    upcoming: Sequence[UpcomingInstant]


def schedule_info(answer: ScheduleAnswer) -> ScheduleInfo:
    """Return an answer of the API in Python's values."""
    return ScheduleInfo(
        name=answer.name,
        cron=Cron(answer.cron, answer.timezone, answer.catch_up),
        paused=answer.paused,
        paused_because=answer.paused_because,
        task=msgspec.json.decode(msgspec.json.encode(answer.task)),
        created_at=moment(answer.created_at),
        next_at=moment(answer.next_at),
        last_at=moment(answer.last_at),
        fired=answer.fired,
        upcoming=[] if answer.upcoming is UNSET else upcoming_instants(answer.upcoming),
    )


def upcoming_instants(answers: Sequence[UpcomingAnswer]) -> list[UpcomingInstant]:
    """Return instants of the API in Python's values."""
    return [UpcomingInstant(at, one.local, one.note) for one in answers if (at := moment(one.at)) is not None]


def cron_fields(cron: str | Cron) -> dict[str, Any]:
    """Return the fields of the API that say when."""
    said = Cron(cron) if isinstance(cron, str) else cron
    return {"cron": said.expression, "timezone": said.timezone, "catch_up": said.catch_up}


def task_field(entry: Entry[Any]) -> Any:
    """Return the field of the API that says what is enqueued."""
    (body,) = bodies_of([entry])
    return entry_body(body)
