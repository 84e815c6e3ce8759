"""What producers and workers call: enqueue, dequeue, report, extend, and their singular twins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from aiohttp import web
from msgspec import UNSET

from lmdbq import limits
from lmdbq.daemon.context import DAEMON, Daemon
from lmdbq.daemon.handlers_import import enqueue_lines
from lmdbq.daemon.replies import (
    NDJSON_TYPES,
    HttpProblem,
    codec_in,
    codec_out,
    content_type,
    memo_of,
    only_parameters,
    read_body,
    reply,
    reply_bytes,
    settled,
)
from lmdbq.ids import parse_lease
from lmdbq.model import (
    Call,
    CallOutcome,
    Claimed,
    Done,
    Enqueue,
    Enqueued,
    Entry,
    ExtendDone,
    Outcome,
    Report,
    ReportDone,
    Reported,
    Scope,
    Task,
)
from lmdbq.wire import render, render_claims, reports, requests
from lmdbq.wire.answers import ExtendAnswer, ExtendOutcome, TaskCreated
from lmdbq.wire.problems import Codec
from lmdbq.wire.views import task_answer


async def enqueue(request: web.Request) -> web.StreamResponse:
    """POST /v1/enqueue: a batch, or a bulk import when the body is NDJSON."""
    if content_type(request) in NDJSON_TYPES:
        return await enqueue_lines(request)
    only_parameters(request)
    daemon = request.app[DAEMON]
    codec = codec_in(request)
    body = await read_body(request)
    batch = requests.read_enqueue(body, codec)
    done = await _place(request, daemon, batch.entries, body, lease=batch.lease)
    out = codec_out(request)
    stored = _stored(daemon, batch.entries, done, with_tasks=batch.return_tasks)
    answer = render.enqueue_answer(batch, done, stored, out)
    return reply_bytes(answer, out)


async def create_task(request: web.Request) -> web.StreamResponse:
    """POST /v1/tasks: one task. 201 if it is new, 200 if it is a duplicate, 409 if duplicates are to be rejected."""
    only_parameters(request)
    daemon = request.app[DAEMON]
    codec = codec_in(request)
    body = await read_body(request)
    entry = requests.read_entry(body, codec)
    done = await _place(request, daemon, [entry], body, prefix="/entries/0")
    placed = done.placed(0)
    out = codec_out(request)
    holder = daemon.store.task(placed.id, daemon.clock) if placed.outcome is not Outcome.ENQUEUED else None
    stored = holder if isinstance(holder, Task) else None
    if placed.outcome is Outcome.SKIPPED:
        task = UNSET if stored is None else task_answer(stored, out)
    else:
        task = render.placed_task(entry, placed, done.now, stored, out)
    status = 201 if placed.outcome is Outcome.ENQUEUED else 200
    return reply(request, TaskCreated(render.entry_outcome(entry, placed, stored), task), status)


async def _place(
    request: web.Request,
    daemon: Daemon,
    entries: Sequence[Entry],
    body: bytes,
    prefix: str = "",
    lease: tuple[int, int] = (0, 0),
) -> Enqueued:
    op = Enqueue(entries, create_queues=not daemon.settings.strict_queues, lease=lease)
    outcome = await daemon.engine.call(op, memo=memo_of(request, daemon, body), size_bytes=len(body))
    done = settled(outcome, prefix=prefix).outcomes[0]
    assert isinstance(done, Enqueued)
    return done


def _stored(daemon: Daemon, entries: Sequence[Entry], done: Enqueued, *, with_tasks: bool) -> dict[int, Task]:
    """Return those tasks the answer must show as they are stored: overwritten ones, and holders in other queues."""
    if not done.odd:
        return {}
    wanted = set()
    for index, placed in done.odd.items():
        dedupe = entries[index].options.dedupe
        elsewhere = dedupe is not None and dedupe.scope not in (None, Scope.QUEUE)
        if (placed.outcome is Outcome.OVERWRITTEN and with_tasks) or (placed.deduped and elsewhere):
            wanted.add(placed.id)
    found = {number: daemon.store.task(number, daemon.clock) for number in wanted}
    return {number: task for number, task in found.items() if isinstance(task, Task)}


# --- workers ----------------------------------------------------------------------------------------------------------


async def dequeue(request: web.Request) -> web.StreamResponse:
    """POST /v1/dequeue."""
    only_parameters(request)
    daemon = request.app[DAEMON]
    wanted = reports.read_dequeue(await read_body(request), codec_in(request))
    claimed, _ = await daemon.engine.dequeue(wanted.claim, wanted.wait_seconds)
    codec = codec_out(request)

    def body(given: Claimed) -> bytes:
        return render_claims.dequeue_answer(given, daemon.clock.wall_ns(), codec)

    return await _deliver(request, daemon, claimed, codec, body)


async def _deliver(
    request: web.Request, daemon: Daemon, claimed: Claimed, codec: Codec, body: Callable[[Claimed], bytes]
) -> web.StreamResponse:
    """Write the answer of a claim here and now; tasks whose answer cannot be written, or is too long, are given back.

    A claim bounds its payloads as they are kept; in the reader's encoding they may be several times as long.
    """
    held = claimed
    try:
        written = body(held)
        while len(written) > limits.CLAIM_BYTES_MAX and len(held.tasks) > 1:
            half = len(held.tasks) // 2
            surplus, held = Claimed(held.tasks[half:]), Claimed(held.tasks[:half])
            await daemon.engine.release(surplus)
            written = body(held)
        response = reply_bytes(written, codec)
        await response.prepare(request)
        await response.write_eof()
    except (ConnectionError, asyncio.CancelledError):
        await daemon.engine.release(held)
        raise
    return response


async def report(request: web.Request) -> web.StreamResponse:
    """POST /v1/report; with `dequeue` in the body, a claim in the same transaction."""
    only_parameters(request)
    daemon = request.app[DAEMON]
    body = await read_body(request)
    said = reports.read_report(body, codec_in(request))
    codec = codec_out(request)
    if said.dequeue is None:
        done = settled(await daemon.engine.call(said.op, size_bytes=len(body)))
        told = _reported(daemon, said.op, done)
        return reply_bytes(render_claims.report_answer(said.leases, told, None, daemon.clock.wall_ns(), codec), codec)
    after, reported = Call((said.op,)) if said.leases else None, list[Reported]()
    if after is not None and daemon.streams.hold_any(one.id for one in said.op.completions):
        # The dequeue may wait, and a stream must know of its free place before it has the next task, or this one again.
        done = settled(await daemon.engine.call(said.op, size_bytes=len(body)))
        after, reported = None, list(_reported(daemon, said.op, done))
    claimed, outcome = await daemon.engine.dequeue(said.dequeue.claim, said.dequeue.wait_seconds, after=after)
    if outcome is not None:
        reported = list(await _reported_with(daemon, said, outcome, claimed))

    def whole(given: Claimed) -> bytes:
        return render_claims.report_answer(said.leases, reported, given, daemon.clock.wall_ns(), codec)

    return await _deliver(request, daemon, claimed, codec, whole)


async def _reported_with(
    daemon: Daemon, said: reports.Reports, outcome: CallOutcome, claimed: Claimed
) -> Sequence[Reported]:
    try:
        return _reported(daemon, said.op, settled(outcome))
    except HttpProblem:
        await daemon.engine.release(claimed)
        raise


def _reported(daemon: Daemon, op: Report, done: Done) -> Sequence[Reported]:
    told = done.outcomes[0]
    assert isinstance(told, ReportDone)
    daemon.ended(one.id for one, what in zip(op.completions, told.outcomes, strict=True) if what.outcome is Outcome.OK)
    return told.outcomes


async def extend(request: web.Request) -> web.StreamResponse:
    """POST /v1/extend."""
    only_parameters(request)
    daemon = request.app[DAEMON]
    body = await read_body(request)
    said = reports.read_extend(body, codec_in(request))
    done = settled(await daemon.engine.call(said.op, size_bytes=len(body)))
    return reply(request, ExtendAnswer(_extended(said.leases, done)))


def _extended(leases: Sequence[str], done: Done) -> list[ExtendOutcome]:
    told = done.outcomes[0]
    assert isinstance(told, ExtendDone)
    return render_claims.extend_outcomes(leases, told.outcomes)


# --- the singular twins -----------------------------------------------------------------------------------------------


async def succeed(request: web.Request) -> web.StreamResponse:
    """POST /v1/leases/{lease}/succeed."""
    return await _end(request, "succeeded")


async def fail(request: web.Request) -> web.StreamResponse:
    """POST /v1/leases/{lease}/fail."""
    return await _end(request, "failed")


async def release(request: web.Request) -> web.StreamResponse:
    """POST /v1/leases/{lease}/release."""
    return await _end(request, "released")


async def extend_one(request: web.Request) -> web.StreamResponse:
    """POST /v1/leases/{lease}/extend."""
    only_parameters(request)
    daemon = request.app[DAEMON]
    lease = _lease(request)
    op = reports.read_extension(lease, await read_body(request), codec_in(request))
    outcome = _extended([lease], settled(await daemon.engine.call(op)))[0]
    _check_lease(Outcome(outcome.outcome))
    return reply(request, outcome)


async def _end(request: web.Request, status: str) -> web.Response:
    only_parameters(request)
    daemon = request.app[DAEMON]
    lease = _lease(request)
    body = await read_body(request)
    op = reports.read_completion(lease, status, body, codec_in(request))
    done = settled(await daemon.engine.call(op, size_bytes=len(body)))
    _check_lease(_reported(daemon, op, done)[0].outcome)
    return web.Response(status=204)


def _lease(request: web.Request) -> str:
    lease = request.match_info["lease"]
    try:
        parse_lease(lease)
    except ValueError as bad:
        raise HttpProblem(404, "not_found", str(bad)) from None
    return lease


_LEASE_PROBLEMS = {
    Outcome.NOT_FOUND: (404, "there is no such task; it may have been deleted, or have ended and not been kept"),
    Outcome.NOT_RUNNING: (409, "this task no longer runs: its lease lapsed, or it was reported before"),
    Outcome.STALE_LEASE: (409, "this lease is over, and somebody else may have the task; drop what you did for it"),
}


def _check_lease(outcome: Outcome) -> None:
    if outcome in _LEASE_PROBLEMS:
        status, detail = _LEASE_PROBLEMS[outcome]
        raise HttpProblem(status, outcome.value, detail)
