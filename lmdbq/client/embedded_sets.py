"""Sets of an embedded queue. They are decided by whoever reports, claims or prunes in the directory."""

from __future__ import annotations

import asyncio
from typing import Any

from lmdbq import sets
from lmdbq.client.core import Request
from lmdbq.client.embedded_file import OpenQueue
from lmdbq.client.embedded_tasks import LOOK_SECONDS, Query, commit, settled
from lmdbq.errors import refusal
from lmdbq.ids import parse_set_id
from lmdbq.model import SetDelete, SetView
from lmdbq.wire import sets as wire
from lmdbq.wire.problems import JSON_CODEC, Problems
from lmdbq.wire.set_shapes import SetAnswer, SetsAnswer


async def all_sets(queue: OpenQueue, query: Query) -> SetsAnswer:
    """Answer a page of sets."""
    problems = Problems()
    states = wire.read_states(query.get("state", []), problems)
    after = wire.read_set_cursor(query.get("cursor", [None])[0], problems)
    problems.raise_if_any()
    limit = int(query.get("limit", [str(wire.PAGE_DEFAULT)])[0])
    return wire.sets_answer(await asyncio.to_thread(queue.store.sets, after, limit, states), limit, JSON_CODEC)


async def make_set(queue: OpenQueue, body: bytes) -> SetAnswer:
    """Carry out a request that makes a set."""
    return await _carry_out(queue, wire.read_set(body, JSON_CODEC), len(body))


async def one_set(queue: OpenQueue, request: Request[Any], id: str, verb: str) -> SetAnswer | None:
    """Carry out a request about one set."""
    try:
        set_id = parse_set_id(id)
    except ValueError as bad:
        raise refusal(404, "set_not_found", str(bad)) from None
    if verb == "close":
        return await _carry_out(queue, wire.read_close(request.body, JSON_CODEC, set_id), len(request.body))
    if request.method == "DELETE":
        await commit(queue, SetDelete(set_id))
        return None
    return wire.set_answer(await _until_decided(queue, set_id, request.wait_seconds), JSON_CODEC)


async def _carry_out(queue: OpenQueue, asked: wire.SetRequest, size_bytes: int) -> SetAnswer:
    outcome = await queue.engine.call(*asked.ops, size_bytes=size_bytes)
    queue.moved()
    set_id, outcomes = asked.placed(settled(outcome).outcomes)
    return wire.set_answer(_look(queue, set_id), JSON_CODEC, outcomes or None)


async def _until_decided(queue: OpenQueue, set_id: int, wait_seconds: float) -> SetView:
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_seconds
    while True:
        moved = queue.next_move()
        one = _look(queue, set_id)
        left = until - loop.time()
        if sets.is_decided(one) or left <= 0:
            return one
        await asyncio.wait([moved], timeout=min(left, LOOK_SECONDS))


def _look(queue: OpenQueue, set_id: int) -> SetView:
    one = queue.store.set(set_id)
    if one is None:
        raise refusal(404, "set_not_found", sets.unknown("").detail)
    return one
