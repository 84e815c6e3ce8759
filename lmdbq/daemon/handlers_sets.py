"""Sets: made, looked at, waited for, closed, deleted."""

from __future__ import annotations

import asyncio

from aiohttp import web

from lmdbq import limits, sets
from lmdbq.daemon.context import DAEMON, LOOK_SECONDS
from lmdbq.daemon.replies import (
    HttpProblem,
    codec_in,
    codec_out,
    memo_of,
    number,
    only_parameters,
    read_body,
    reply,
    settled,
)
from lmdbq.ids import parse_set_id
from lmdbq.model import SetDelete, SetView
from lmdbq.wire import sets as wire
from lmdbq.wire.answers import EntryOutcome
from lmdbq.wire.problems import Problems


async def make_set(request: web.Request) -> web.StreamResponse:
    """POST /v1/sets: make a set, perhaps with members, perhaps closed at once; all of it or nothing."""
    body = await read_body(request)
    strict = request.app[DAEMON].settings.strict_queues
    asked = wire.read_set(body, codec_in(request), create_queues=not strict)
    return await _carry_out(request, asked, body, 201)


async def close_set(request: web.Request) -> web.StreamResponse:
    """POST /v1/sets/{set_id}/close: no more members come, but for those in the body."""
    set_id = _set_id(request)
    body = await read_body(request)
    strict = request.app[DAEMON].settings.strict_queues
    asked = wire.read_close(body, codec_in(request), set_id, create_queues=not strict)
    return await _carry_out(request, asked, body, 200)


async def _carry_out(request: web.Request, asked: wire.SetRequest, body: bytes, status: int) -> web.Response:
    only_parameters(request)
    daemon = request.app[DAEMON]
    memo = memo_of(request, daemon, body)
    done = settled(await daemon.engine.call(*asked.ops, memo=memo, size_bytes=len(body)))
    set_id, outcomes = asked.placed(done.outcomes)
    return _shown(request, _look(request, set_id), status, outcomes)


async def list_sets(request: web.Request) -> web.StreamResponse:
    """GET /v1/sets: the oldest first."""
    only_parameters(request, "state", "limit", "cursor")
    limit = int(number(request, "limit", wire.PAGE_DEFAULT, 1, limits.PAGE_TASKS_MAX))
    problems = Problems()
    states = wire.read_states(request.query.getall("state", []), problems)
    after = wire.read_set_cursor(request.query.get("cursor"), problems)
    problems.raise_if_any()
    found = await asyncio.to_thread(request.app[DAEMON].store.sets, after, limit, states)
    return reply(request, wire.sets_answer(found, limit, codec_out(request)))


async def get_set(request: web.Request) -> web.StreamResponse:
    """GET /v1/sets/{set_id}; with ?wait_in_seconds= held back until it is decided."""
    only_parameters(request, "wait_in_seconds")
    wait = number(request, "wait_in_seconds", 0, 0, limits.WAIT_SECONDS_MAX)
    set_id = _set_id(request)
    loop, draining = asyncio.get_running_loop(), request.app[DAEMON].draining
    until = loop.time() + wait
    while True:
        one = _look(request, set_id)
        left = until - loop.time()
        if sets.is_decided(one) or left <= 0 or draining.is_set():
            return _shown(request, one)
        await asyncio.sleep(min(left, LOOK_SECONDS))


async def delete_set(request: web.Request) -> web.StreamResponse:
    """DELETE /v1/sets/{set_id}: its members stay, and nothing follows it."""
    only_parameters(request)
    settled(await request.app[DAEMON].engine.call(SetDelete(_set_id(request))))
    return web.Response(status=204)


def _set_id(request: web.Request) -> int:
    try:
        return parse_set_id(request.match_info["set_id"])
    except ValueError as bad:
        raise HttpProblem(404, "set_not_found", str(bad)) from None


def _look(request: web.Request, set_id: int) -> SetView:
    one = request.app[DAEMON].store.set(set_id)
    if one is None:
        raise HttpProblem(404, "set_not_found", sets.unknown("").detail)
    return one


def _shown(
    request: web.Request, one: SetView, status: int = 200, outcomes: list[EntryOutcome] | None = None
) -> web.Response:
    return reply(request, wire.set_answer(one, codec_out(request), outcomes or None), status)
