"""POST /v1/stream: tasks are pushed to a worker for as long as the connection lives.

The first frame of the request is the subscription; from then on any byte that is received extends the leases of what
the worker holds. Frames out: task, heartbeat, cancel, bye; NDJSON or MessagePack, as the request. At most ``limit``
tasks are out at a time, and that bounds every buffer; a place is free again when its task was reported (over any
connection), lapsed or was deleted. When the connection ends, what it held is released, uncounted.

A request body may end after the subscription (curl sends it so): the stream goes on, but nothing extends its leases.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

import msgpack  # type: ignore[import-untyped]  # it has no stubs
import msgspec
from aiohttp import hdrs, web

from lmdbq import limits
from lmdbq.daemon.context import DAEMON, Daemon
from lmdbq.daemon.replies import (
    NDJSON,
    NDJSON_TYPES,
    HttpProblem,
    broken_off,
    codec_in,
    content_type,
    only_parameters,
)
from lmdbq.errors import Busy, LmdbqError, NotCommitted
from lmdbq.ids import format_id, format_lease
from lmdbq.model import Claim, Claimed, ClaimedTask, Done, Extend, ExtendDone, Extension, Outcome, State, Task
from lmdbq.wire import render_claims, reports
from lmdbq.wire.frames import Bye, CancelNotice, Heartbeat, StreamFrame
from lmdbq.wire.problems import JSON_CODEC, Codec

log = logging.getLogger("lmdbq.daemon")

FRAME_BYTES_MAX: Final = 64 * 1024
SUBSCRIBE_SECONDS: Final = 30.0
HEARTBEAT_SECONDS_MAX: Final = 15.0
REPORTING_SHARE: Final = 0.4  # of a stopping daemon's grace; what is held then is released, while that can be committed


async def stream(request: web.Request) -> web.StreamResponse:
    """Serve one stream until it ends."""
    only_parameters(request)
    daemon = request.app[DAEMON]
    codec = JSON_CODEC if content_type(request) in NDJSON_TYPES else codec_in(request)
    claim = reports.read_subscription(await _first_frame(request, codec), codec)
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: NDJSON if codec.is_json else codec.media_type})
    await response.prepare(request)
    worker = Stream(daemon, claim, codec, request, response)
    with broken_off(request):
        try:
            await worker.run()
        finally:
            await worker.release()
        await response.write_eof()
    return response


async def _first_frame(request: web.Request, codec: Codec) -> bytes:
    """Return the bytes of the subscription; whatever has come behind it counts as bytes received."""
    got = bytearray()
    try:
        async with asyncio.timeout(SUBSCRIBE_SECONDS):
            while len(got) <= FRAME_BYTES_MAX:
                block = await request.content.readany()
                got += block
                frame = _frame_in(bytes(got), codec, ended=not block)
                if frame is not None:
                    return frame
    except TimeoutError:
        raise HttpProblem(408, "slow_body", f"no subscription arrived within {SUBSCRIBE_SECONDS:.0f} s") from None
    raise HttpProblem(413, "frame_too_large", f"a frame has at most {FRAME_BYTES_MAX} bytes")


def _frame_in(got: bytes, codec: Codec, *, ended: bool) -> bytes | None:
    if codec.is_json:
        line, newline, _ = got.partition(b"\n")
        return line if newline or ended else None
    unpacker = msgpack.Unpacker(max_buffer_size=FRAME_BYTES_MAX)
    unpacker.feed(got[:FRAME_BYTES_MAX])  # what came with the frame may be much more
    try:
        unpacker.skip()
    except (msgpack.OutOfData, ValueError):
        return got if ended else None
    return got[: unpacker.tell()]


class Stream:
    """One worker's connection. held: what it has, by task id."""

    def __init__(
        self, daemon: Daemon, claim: Claim, codec: Codec, request: web.Request, response: web.StreamResponse
    ) -> None:
        self._daemon = daemon
        self._claim = claim
        self._codec = codec
        self._request = request
        self._response = response
        self._held: dict[int, ClaimedTask] = {}
        self._told: set[int] = set()  # those whose cancel was said
        self._sure_until_ns = 0  # steady; before that, no lease that is held can lapse
        self._place_free = asyncio.Event()
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Push tasks until the daemon drains and everything held was reported, or there is no time left for it.

        A connection that ends cancels this.
        """
        helpers = [asyncio.ensure_future(helper) for helper in (self._receive(), self._beat(), self._notice_drain())]
        pushing = asyncio.ensure_future(self._push())
        try:
            await asyncio.wait([pushing, *helpers], return_when=asyncio.FIRST_EXCEPTION)
            for done in (pushing, *helpers):
                if done.done():
                    done.result()
        except _Finished:
            return
        except LmdbqError as failure:
            log.warning("a stream ends: %s", failure.code)
            await self._send(StreamFrame(bye=Bye(failure.code)))
        finally:
            for task in (pushing, *helpers):
                task.cancel()
            await asyncio.gather(pushing, *helpers, return_exceptions=True)

    async def release(self) -> None:
        """Give back what is still held; what cannot be is told by its lease, as it lapses."""
        held, self._held = list(self._held.values()), {}
        self._daemon.streams.drop((task.id for task in held), self._freed)
        try:
            await self._daemon.engine.release(Claimed(held))
        except LmdbqError as failure:
            log.warning("%d tasks of a stream that ends were not given back: %s", len(held), failure.code)

    async def _push(self) -> None:
        while not self._daemon.draining.is_set():
            self._place_free.clear()
            places = self._claim.limit - len(self._held)
            if places <= 0:
                await self._place_free.wait()
                continue
            claim = msgspec.structs.replace(self._claim, limit=places)
            claimed, _ = await self._daemon.engine.dequeue(claim, limits.WAIT_SECONDS_MAX)
            self._hold(claimed.tasks)
            for task in claimed.tasks:
                await self._send_task(task)
            if claimed.reason == "draining":
                break
        await self._send(StreamFrame(bye=Bye("draining")))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._daemon.settings.grace_seconds * REPORTING_SHARE):
                while self._held:
                    self._place_free.clear()
                    await self._place_free.wait()
        raise _Finished

    async def _notice_drain(self) -> None:
        """Wake the pushing from its wait for a free place."""
        await self._daemon.draining.wait()
        self._place_free.set()

    def _hold(self, tasks: list[ClaimedTask]) -> None:
        ends_ns = [self._daemon.clock.steady_ns() + task.keepalive_ns for task in tasks]
        self._sure_until_ns = min(ends_ns + [self._sure_until_ns] * bool(self._held), default=0)
        self._held.update((task.id, task) for task in tasks)
        self._daemon.streams.hold((task.id for task in tasks), self._freed)

    def _freed(self, task_id: int) -> None:
        self._held.pop(task_id, None)
        self._told.discard(task_id)
        self._place_free.set()

    def _lost(self, task: ClaimedTask) -> None:
        """Its lease holds no longer, and nobody reported it here."""
        self._daemon.streams.drop([task.id], self._freed)
        if self._held.get(task.id) is task:
            self._freed(task.id)

    def _look_for_lapses(self) -> None:
        """Free the places of tasks whose leases lapsed, or ended by another process. Reads only if one may have."""
        if self._daemon.clock.steady_ns() < self._sure_until_ns:
            return
        for task in list(self._held.values()):
            found = self._daemon.store.task(task.id, self._daemon.clock)
            if not isinstance(found, Task) or (found.state, found.deliveries) != (State.RUNNING, task.deliveries):
                self._lost(task)

    async def _receive(self) -> None:
        """Extend leases when bytes arrive, no more often than is useful."""
        loop = asyncio.get_running_loop()
        extended_at = loop.time()
        while await self._request.content.readany():
            if self._held and loop.time() - extended_at >= self._lease_seconds() / 4:
                extended_at = loop.time()
                await self._extend()

    def _lease_seconds(self) -> float:
        return min(task.keepalive_ns for task in self._held.values()) / limits.SECOND_NS

    async def _extend(self) -> None:
        held = list(self._held.values())
        begun_ns = self._daemon.clock.steady_ns()
        op = Extend(tuple(Extension(task.id, task.deliveries) for task in held))
        try:
            outcome = await self._daemon.engine.call(op)
        except (Busy, NotCommitted) as failure:
            log.warning("a stream's leases were not extended: %s", failure.code)
            return  # the next bytes try again
        assert isinstance(outcome, Done)
        told = outcome.outcomes[0]
        assert isinstance(told, ExtendDone)
        self._sure_until_ns = begun_ns + min(task.keepalive_ns for task in held)
        if len(self._held) > len(held):
            self._sure_until_ns = 0  # others came meanwhile; it is known again after the next extension
        for task, one in zip(held, told.outcomes, strict=True):
            if one.outcome is not Outcome.OK:
                self._lost(task)
            elif one.cancel_requested and task.id not in self._told:
                self._told.add(task.id)
                lease = format_lease(task.id, task.deliveries)
                await self._send(StreamFrame(cancel=CancelNotice(format_id(task.id), lease)))

    async def _beat(self) -> None:
        length = self._claim.keepalive_ns or limits.KEEPALIVE_NS_DEFAULT
        pause = min(HEARTBEAT_SECONDS_MAX, length / limits.SECOND_NS / 3)
        while True:
            self._look_for_lapses()
            await self._send(StreamFrame(heartbeat=Heartbeat(self._daemon.clock.wall_ns())))
            await asyncio.sleep(pause)

    async def _send_task(self, task: ClaimedTask) -> None:
        if self._codec.is_json:
            await self._write(b"".join(render_claims.tasks_json([task], b'{"task":', b"}\n")))
        else:
            await self._send(StreamFrame(task=render_claims.claimed_task(task, self._codec)))

    async def _send(self, frame: StreamFrame) -> None:
        text = self._codec.encode(frame)
        await self._write(text + b"\n" if self._codec.is_json else text)

    async def _write(self, data: bytes) -> None:
        async with self._writing:
            await self._response.write(data)


class _Finished(Exception):
    """The stream has said bye and everything it held was reported."""
