"""Schedules: what is enqueued again and again, where each stands, pause, resume, run now."""

from __future__ import annotations

from aiohttp import web

from lmdbq import limits
from lmdbq.daemon.context import DAEMON
from lmdbq.daemon.replies import HttpProblem, codec_in, codec_out, number, only_parameters, read_body, reply, settled
from lmdbq.model import (
    Enqueue,
    Enqueued,
    Entry,
    Op,
    Outcome,
    Schedule,
    ScheduleChanged,
    ScheduleDelete,
    SchedulePatch,
    SchedulePut,
    ScheduleView,
    Task,
)
from lmdbq.schedules import entry_of
from lmdbq.wire import render
from lmdbq.wire.answers import TaskCreated
from lmdbq.wire.problems import Problems
from lmdbq.wire.schedule_shapes import ScheduleNext, SchedulesAnswer
from lmdbq.wire.schedules import check_schedule_name, read_schedule, schedule_answer, upcoming


async def list_schedules(request: web.Request) -> web.StreamResponse:
    """GET /v1/schedules."""
    only_parameters(request)
    daemon = request.app[DAEMON]
    codec, now = codec_out(request), daemon.clock.wall_ns()
    return reply(request, SchedulesAnswer([schedule_answer(one, codec, now) for one in daemon.store.schedules()]))


async def get_schedule(request: web.Request) -> web.StreamResponse:
    """GET /v1/schedules/{name}: the schedule and its next five instants."""
    only_parameters(request)
    return _shown(request, _look(request))


def _shown(request: web.Request, view: ScheduleView, status: int = 200) -> web.Response:
    now = request.app[DAEMON].clock.wall_ns()
    return reply(request, schedule_answer(view, codec_out(request), now, limits.UPCOMING_DEFAULT), status)


def _look(request: web.Request) -> ScheduleView:
    name = request.match_info["name"]
    view = request.app[DAEMON].store.schedule(name)
    if view is None:
        detail = f"there is no schedule {name[:128]!r}; PUT /v1/schedules/NAME creates one"
        raise HttpProblem(404, "schedule_not_found", detail)
    return view


async def next_instants(request: web.Request) -> web.StreamResponse:
    """GET /v1/schedules/{name}/next: its next instants, with what is odd about them where clocks change."""
    only_parameters(request, "count")
    count = int(number(request, "count", limits.UPCOMING_DEFAULT, 1, limits.UPCOMING_MAX))
    view = _look(request)
    return reply(request, ScheduleNext(view.name, upcoming(view, request.app[DAEMON].clock.wall_ns(), count)))


async def put_schedule(request: web.Request) -> web.StreamResponse:
    """PUT /v1/schedules/{name}: create it (201), or replace it (200).

    With the same cron and timezone it stays where it stood; without `paused` it stays paused if it was.
    """
    schedule, named = read_schedule(await read_body(request), codec_in(request), whole=True)
    name = request.match_info["name"]
    problems = Problems()
    check_schedule_name(name, "/name", problems)
    problems.raise_if_any()
    strict = request.app[DAEMON].settings.strict_queues
    put = SchedulePut(name, schedule, keep_paused="paused" not in named, create_queues=not strict)
    changed = await _change(request, put)
    return _shown(request, _look(request), 201 if changed.created else 200)


async def patch_schedule(request: web.Request) -> web.StreamResponse:
    """PATCH /v1/schedules/{name}: change what is named."""
    schedule, named = read_schedule(await read_body(request), codec_in(request), whole=False)
    await _change(request, SchedulePatch(_look(request).name, schedule, named))
    return _shown(request, _look(request))


async def pause_schedule(request: web.Request) -> web.StreamResponse:
    """POST /v1/schedules/{name}/pause: it enqueues nothing until it is resumed."""
    return await _paused(request, paused=True)


async def resume_schedule(request: web.Request) -> web.StreamResponse:
    """POST /v1/schedules/{name}/resume: it goes on with the next instant from now."""
    return await _paused(request, paused=False)


async def _paused(request: web.Request, *, paused: bool) -> web.Response:
    known = _look(request)
    await _change(request, SchedulePatch(known.name, Schedule("", Entry(), paused=paused), ("paused",)))
    return _shown(request, _look(request))


async def run_schedule(request: web.Request) -> web.StreamResponse:
    """POST /v1/schedules/{name}/run: enqueue its task now, paused or not; its instants stay what they are."""
    only_parameters(request)
    daemon = request.app[DAEMON]
    view = _look(request)
    entry = entry_of(view.name, view.schedule, daemon.clock.wall_ns())
    done = settled(await daemon.engine.call(Enqueue((entry,), not daemon.settings.strict_queues))).outcomes[0]
    assert isinstance(done, Enqueued)
    placed = done.placed(0)
    found = daemon.store.task(placed.id, daemon.clock) if placed.outcome is not Outcome.ENQUEUED else None
    stored = found if isinstance(found, Task) else None
    task = render.placed_task(entry, placed, done.now, stored, codec_out(request))
    status = 201 if placed.outcome is Outcome.ENQUEUED else 200
    return reply(request, TaskCreated(render.entry_outcome(entry, placed, stored), task), status)


async def delete_schedule(request: web.Request) -> web.StreamResponse:
    """DELETE /v1/schedules/{name}: the tasks that it has enqueued stay."""
    await _change(request, ScheduleDelete(_look(request).name))
    return web.Response(status=204)


async def _change(request: web.Request, op: Op) -> ScheduleChanged:
    only_parameters(request)
    done = settled(await request.app[DAEMON].engine.call(op)).outcomes[0]
    assert isinstance(done, ScheduleChanged)
    return done
