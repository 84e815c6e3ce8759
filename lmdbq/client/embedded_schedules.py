"""Schedules of an embedded queue. They fire while some process of the directory keeps the time: a worker, say."""

from __future__ import annotations

import asyncio
from typing import Any

from lmdbq import limits
from lmdbq.client.core import Request
from lmdbq.client.embedded_file import OpenQueue
from lmdbq.client.embedded_tasks import Query, commit
from lmdbq.errors import refusal
from lmdbq.model import (
    Enqueue,
    Enqueued,
    Entry,
    Outcome,
    Schedule,
    ScheduleDelete,
    SchedulePatch,
    SchedulePut,
    ScheduleView,
    Task,
)
from lmdbq.schedules import entry_of
from lmdbq.wire import render
from lmdbq.wire.answers import TaskCreated
from lmdbq.wire.problems import JSON_CODEC, Problems
from lmdbq.wire.schedule_shapes import ScheduleAnswer, ScheduleNext, SchedulesAnswer
from lmdbq.wire.schedules import check_schedule_name, read_schedule, schedule_answer, upcoming


async def all_schedules(queue: OpenQueue) -> SchedulesAnswer:
    """Answer every schedule by name."""
    now = queue.clock.wall_ns()
    views = await asyncio.to_thread(queue.store.schedules)
    return SchedulesAnswer([schedule_answer(view, JSON_CODEC, now) for view in views])


async def one_schedule(queue: OpenQueue, request: Request[Any], name: str, verb: str, query: Query) -> Any:
    """Carry out a request about one schedule."""
    match request.method, verb:
        case "GET", "":
            return _shown(queue, _look(queue, name))
        case "GET", _:
            count = int(query.get("count", [str(limits.UPCOMING_DEFAULT)])[0])
            return ScheduleNext(name, upcoming(_look(queue, name), queue.clock.wall_ns(), count))
        case "PUT", _:
            return await _put(queue, request, name)
        case "PATCH", _:
            schedule, named = read_schedule(request.body, JSON_CODEC, whole=False)
            await commit(queue, SchedulePatch(name, schedule, named))
        case "DELETE", _:
            await commit(queue, ScheduleDelete(name))
            return None
        case _, "run":
            return await _run(queue, _look(queue, name))
        case _:
            await commit(queue, SchedulePatch(name, Schedule("", Entry(), paused=verb == "pause"), ("paused",)))
    return _shown(queue, _look(queue, name))


def _look(queue: OpenQueue, name: str) -> ScheduleView:
    view = queue.store.schedule(name)
    if view is None:
        raise refusal(404, "schedule_not_found", f"there is no schedule {name[:128]!r}; put creates one")
    return view


def _shown(queue: OpenQueue, view: ScheduleView) -> ScheduleAnswer:
    return schedule_answer(view, JSON_CODEC, queue.clock.wall_ns(), limits.UPCOMING_DEFAULT)


async def _put(queue: OpenQueue, request: Request[Any], name: str) -> ScheduleAnswer:
    schedule, named = read_schedule(request.body, JSON_CODEC, whole=True)
    problems = Problems()
    check_schedule_name(name, "/name", problems)
    problems.raise_if_any()
    await commit(queue, SchedulePut(name, schedule, keep_paused="paused" not in named))
    return _shown(queue, _look(queue, name))


async def _run(queue: OpenQueue, view: ScheduleView) -> TaskCreated:
    entry = entry_of(view.name, view.schedule, queue.clock.wall_ns())
    done = await commit(queue, Enqueue((entry,)))
    assert isinstance(done, Enqueued)
    placed = done.placed(0)
    found = queue.store.task(placed.id, queue.clock) if placed.outcome is not Outcome.ENQUEUED else None
    stored = found if isinstance(found, Task) else None
    task = render.placed_task(entry, placed, done.now, stored, JSON_CODEC)
    return TaskCreated(render.entry_outcome(entry, placed, stored), task)
