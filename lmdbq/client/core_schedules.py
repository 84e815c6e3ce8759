"""The requests about schedules; a part of ``core``."""

from __future__ import annotations

from urllib.parse import quote

from lmdbq.client.core import Fields, Request, reading, sending
from lmdbq.wire.answers import TaskCreated
from lmdbq.wire.schedule_shapes import ScheduleAnswer, ScheduleNext, SchedulesAnswer


def _path(name: str, verb: str = "") -> str:
    return f"/v1/schedules/{quote(name, safe='')}{verb}"


def schedules() -> Request[SchedulesAnswer]:
    """Read every schedule."""
    return reading("/v1/schedules", SchedulesAnswer)


def schedule(name: str) -> Request[ScheduleAnswer]:
    """Read one schedule and its next instants."""
    return reading(_path(name), ScheduleAnswer)


def next_instants(name: str, count: int | None = None) -> Request[ScheduleNext]:
    """Read the next ``count`` (1..100) instants of a schedule."""
    return reading(_path(name, "/next"), ScheduleNext, {"count": count})


def put_schedule(name: str, fields: Fields) -> Request[ScheduleAnswer]:
    """Create a schedule, or replace it."""
    return sending("PUT", _path(name), ScheduleAnswer, fields, repeatable=True)


def patch_schedule(name: str, fields: Fields) -> Request[ScheduleAnswer]:
    """Replace the named fields of a schedule."""
    return sending("PATCH", _path(name), ScheduleAnswer, fields, repeatable=True)


def delete_schedule(name: str) -> Request[None]:
    """Remove a schedule."""
    return Request("DELETE", _path(name), type(None))


def pause_schedule(name: str) -> Request[ScheduleAnswer]:
    """Let a schedule enqueue nothing until it is resumed."""
    return sending("POST", _path(name, "/pause"), ScheduleAnswer, {}, repeatable=True)


def resume_schedule(name: str) -> Request[ScheduleAnswer]:
    """Let a paused schedule go on."""
    return sending("POST", _path(name, "/resume"), ScheduleAnswer, {}, repeatable=True)


def run_schedule(name: str) -> Request[TaskCreated]:
    """Enqueue a schedule's task now. Not repeatable: it would be enqueued twice."""
    return sending("POST", _path(name, "/run"), TaskCreated, {})
