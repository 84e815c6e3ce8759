"""What is sent and answered about schedules: one Struct per body. Their meaning is in ``schedules``."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from lmdbq.wire import shapes
from lmdbq.wire.answers import At, Count

CRON_CHARS_MAX: Final = 256
TIMEZONE_CHARS_MAX: Final = 64
CatchUpWord = Literal["none", "one", "all"]


class ScheduleBody(shapes.Shape, frozen=True, kw_only=True):
    """A schedule: PUT replaces it, PATCH changes the fields it names (null: back to the default).

    cron: five fields, six with seconds first, or @hourly, @daily, @weekly, @monthly, @yearly. timezone: an IANA name,
    default UTC. catch_up: what is made up for of instants missed by a minute or more: none, one (default: a single
    task for all of them) or all (the latest 100). task: what is enqueued; {instant} in its dedupe_key is the instant.
    """

    cron: Annotated[str, Meta(max_length=CRON_CHARS_MAX)] | None = None
    timezone: Annotated[str, Meta(max_length=TIMEZONE_CHARS_MAX)] | None = None
    catch_up: CatchUpWord | None = None
    paused: bool | None = None
    task: shapes.EntryBody | None = None


class UpcomingAnswer(Struct):
    """An instant to come: in UTC, as clocks in the schedule's zone show it, and a note where they change about it."""

    at: At
    local: str
    note: str


class ScheduleAnswer(Struct):
    """A schedule and where it stands.

    next_at: 0 while it is paused, or if no instant is left. last_at: the last instant that gave a task. fired: how many
    tasks it has enqueued. paused_because: why it was paused by the queue itself, "" if it was not.
    """

    name: str
    cron: str
    timezone: str
    catch_up: CatchUpWord
    paused: bool
    paused_because: str
    task: shapes.EntryBody
    created_at: At
    next_at: At
    last_at: At
    fired: Count
    upcoming: list[UpcomingAnswer] | UnsetType = UNSET


class SchedulesAnswer(Struct):
    """Every schedule, by name."""

    schedules: list[ScheduleAnswer]


class ScheduleNext(Struct):
    """The next instants of a schedule, as if it were not paused."""

    name: str
    upcoming: list[UpcomingAnswer]
