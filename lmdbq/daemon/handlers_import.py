"""Bulk import: POST /v1/enqueue with an NDJSON body, an entry per line, any length.

Lines are committed in chunks, each a call of its own: 1,000 lines or 1 MiB. A chunk that is refused because of some
lines is tried again without them. The answer comes after the whole body has been read, and says how far it got; a
client that sends everything before it reads would otherwise wait for us while we wait for it. For the same reason the
outcomes, if asked for, are spooled to a temporary file.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from aiohttp import hdrs, web

from lmdbq import limits
from lmdbq.daemon.context import DAEMON, Daemon
from lmdbq.daemon.replies import (
    BODY_SECONDS,
    HttpProblem,
    bad_parameter,
    broken_off,
    flag,
    number,
    only_parameters,
    refusal,
)
from lmdbq.errors import InvalidInput, LmdbqError, NotParseable
from lmdbq.model import Enqueue, Enqueued, Entry, Outcome, Refused
from lmdbq.wire import render, requests
from lmdbq.wire.answers import ImportAnswer, LineProblem
from lmdbq.wire.problems import JSON, JSON_CODEC, Problems
from lmdbq.wire.values import check_queue_name

CHUNK_LINES: Final = 1_000
CHUNK_BYTES: Final = 1024 * 1024
ERRORS_MAX: Final = 100
LINE_BYTES_MAX: Final = 2 * limits.PAYLOAD_BYTES_MAX  # a payload in base64 or with escapes, and the other fields
_SPOOL_BYTES: Final = 1024 * 1024
_BLANK: Final = b" \t\r\n"

log = logging.getLogger("lmdbq.daemon")


class Line(NamedTuple):
    """A line that was read: its number, from 1, and its entry."""

    number: int
    entry: Entry


async def enqueue_lines(request: web.Request) -> web.StreamResponse:
    """Read and commit the whole body, then answer with one summary."""
    only_parameters(request, "queue_name", "from_line", "on_error", "outcomes")
    queue = request.query.get("queue_name", "default")
    problems = Problems()
    check_queue_name(queue, "/queue_name", problems)
    problems.raise_if_any()
    on_error = request.query.get("on_error", "continue")
    if on_error not in ("continue", "stop"):
        raise bad_parameter("on_error", "it is continue or stop")
    if "Idempotency-Key" in request.headers:
        raise HttpProblem(
            422, "bad_idempotency_key", "a bulk import takes no Idempotency-Key; give its entries dedupe keys instead"
        )
    first = int(number(request, "from_line", 1, 1, 2**53))
    with tempfile.SpooledTemporaryFile(_SPOOL_BYTES) as spool:
        job = Import(
            request.app[DAEMON],
            queue,
            first,
            stop=on_error == "stop",
            spool=spool if flag(request, "outcomes") else None,
        )
        try:
            async for line_number, line in _lines(request):
                await job.take(line_number, line)
                if not line_number % CHUNK_LINES:
                    await asyncio.sleep(0)  # others have a turn: lines that are not committed are not waited for
            await job.flush()
        except BaseException:  # the client went away, or the daemon ends
            if job.settled >= first:
                said = "an import into %s was cut off: its lines up to %d are dealt with, and perhaps some more"
                log.warning(said, queue, job.settled)
            raise
        return await _answer(request, job)


async def _lines(request: web.Request) -> AsyncIterator[tuple[int, bytes | None]]:
    """Yield each line with its number; None for one that is too long."""
    rest = bytearray()
    count = 0
    too_long = False
    async for block in _blocks(request):
        *whole, tail = block.split(b"\n")
        for piece in whole:
            count += 1
            too_long = too_long or len(rest) + len(piece) > LINE_BYTES_MAX
            yield count, None if too_long else bytes(rest) + piece
            rest.clear()
            too_long = False
        if len(rest) + len(tail) > LINE_BYTES_MAX:
            too_long = True
            rest.clear()
        elif not too_long:
            rest += tail
    if rest or too_long:
        yield count + 1, None if too_long else bytes(rest)


async def _blocks(request: web.Request) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                block = await request.content.readany()
        except TimeoutError:
            raise HttpProblem(408, "slow_body", f"nothing of the body arrived for {BODY_SECONDS:.0f} s") from None
        if not block:
            return
        yield block


class Import:
    """One bulk import in progress."""

    def __init__(
        self,
        daemon: Daemon,
        queue: str,
        first: int,
        *,
        stop: bool,
        spool: tempfile.SpooledTemporaryFile[bytes] | None,
    ) -> None:
        self._daemon = daemon
        self._queue = queue
        self._first = first
        self._stop = stop
        self.spool = spool
        self._chunk: list[Line] = []
        self._chunk_bytes = 0
        self.lines = 0
        self.settled = first - 1
        self.counts: dict[Outcome, int] = dict.fromkeys((Outcome.ENQUEUED, Outcome.SKIPPED, Outcome.OVERWRITTEN), 0)
        self.failed = 0
        self.stopped = False
        self._stop_at: tuple[int, str, str, str] | None = None
        self.errors: list[LineProblem] = []

    async def take(self, line_number: int, line: bytes | None) -> None:
        """Take the next line; after a stop it is only counted."""
        self.lines = line_number
        if self.stopped or line_number < self._first:
            return
        try:
            if line is None:
                raise NotParseable(f"a line has at most {LINE_BYTES_MAX} bytes")
            if line.strip(_BLANK):
                self._chunk.append(Line(line_number, requests.read_entry(line, JSON_CODEC, self._queue)))
        except InvalidInput as bad:
            await self._fail(line_number, bad.problems[0].code, bad.problems[0].pointer, bad.detail)
        except NotParseable as bad:
            await self._fail(line_number, bad.code, "", bad.detail)
        self._chunk_bytes += len(line or b"")
        if len(self._chunk) >= CHUNK_LINES or self._chunk_bytes >= CHUNK_BYTES:
            await self.flush()

    async def _fail(self, line_number: int, code: str, pointer: str, detail: str) -> None:
        if self._stop:
            await self.flush()
            if self.stopped:
                return
            self.stopped = True
            self.settled = line_number - 1
        self._note(line_number, code, pointer, detail)

    def _note(self, line_number: int, code: str, pointer: str, detail: str) -> None:
        self.failed += 1
        if len(self.errors) < ERRORS_MAX:
            self.errors.append(LineProblem(line_number, code, pointer, detail))

    async def flush(self) -> None:
        """Commit what has been taken."""
        chunk, self._chunk, self._chunk_bytes = self._chunk, [], 0
        if self.stopped:
            return
        while chunk:
            chunk = await self._commit(chunk)  # each round leaves at least one line fewer
        if self._stop_at is not None and not self.stopped:
            self._halt(*self._stop_at)
        if not self.stopped:
            self.settled = self.lines

    async def _commit(self, chunk: list[Line]) -> list[Line]:
        """Commit a chunk; return what is left to try without the lines that were refused."""
        op = Enqueue([line.entry for line in chunk], create_queues=not self._daemon.settings.strict_queues)
        try:
            outcome = await self._daemon.engine.call(op)
        except LmdbqError as failure:
            self._halt(chunk[0].number, failure.code, "", failure.detail)
            return []
        if isinstance(outcome, Refused):
            return self._without_refused(chunk, outcome)
        done = outcome.outcomes[0]
        assert isinstance(done, Enqueued)
        self._count(chunk, done)
        return []

    def _count(self, chunk: list[Line], done: Enqueued) -> None:
        for index, line in enumerate(chunk):
            placed = done.placed(index)
            self.counts[placed.outcome] += 1
            if self.spool is not None:
                self.spool.write(JSON_CODEC.encode(render.entry_outcome(line.entry, placed, None)) + b",")

    def _halt(self, line_number: int, code: str, pointer: str, detail: str) -> None:
        """Stop before ``line_number``: nothing from there on was committed."""
        self.stopped = True
        self.settled = line_number - 1
        if len(self.errors) == ERRORS_MAX:
            self.errors.pop()
        self._note(line_number, code, pointer, detail)

    def _without_refused(self, chunk: list[Line], refused: Refused) -> list[Line]:
        """Return the lines to try again: without those that were refused, or (stop) those before the first of them."""
        wrong: dict[int, tuple[str, str, str]] = {}
        for problem in refused.problems:
            index, _, field = problem.pointer.removeprefix("/entries/").partition("/")
            if index.isdigit():
                wrong.setdefault(int(index), (problem.code, f"/{field}", problem.detail))
        if not wrong:
            self._halt(chunk[0].number, refused.code, "", refusal(refused).detail)
            return []
        if self._stop:
            first = min(wrong)
            self._stop_at = (chunk[first].number, *wrong[first])
            return chunk[:first]
        for position in sorted(wrong):
            self._note(chunk[position].number, *wrong[position])
        return [line for position, line in enumerate(chunk) if position not in wrong]


async def _answer(request: web.Request, job: Import) -> web.StreamResponse:
    """Write the summary, and behind it the outcomes from their spool."""
    summary = ImportAnswer(
        lines=job.lines,
        enqueued=job.counts[Outcome.ENQUEUED],
        skipped=job.counts[Outcome.SKIPPED],
        overwritten=job.counts[Outcome.OVERWRITTEN],
        failed=job.failed,
        last_line=job.settled,
        stopped=job.stopped,
        errors=job.errors,
    )
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: JSON})
    await response.prepare(request)
    with broken_off(request):
        await _write(response, JSON_CODEC.encode(summary), job.spool)
    return response


async def _write(response: web.StreamResponse, text: bytes, spool: tempfile.SpooledTemporaryFile[bytes] | None) -> None:
    if spool is None:
        await response.write(text + b"\n")
    else:
        await response.write(text[:-1] + b',"outcomes":[')
        size = spool.tell()
        spool.seek(0)
        while spool.tell() < size - 1:  # all but the last comma
            await response.write(spool.read(min(_SPOOL_BYTES, size - 1 - spool.tell())))
        await response.write(b"]}\n")
    await response.write_eof()
