"""How a worker claims: with the reports it owes, again after a failure, and without leaving anything behind at the end.

A claim carries an id of its own until it was answered: repeated, it brings the same tasks. So a connection that broke
loses none, and one that was broken off by a stop is asked about once more, and what it got is handed back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from lmdbq.client import core
from lmdbq.client.leases import Held, Job, log, note_outcomes
from lmdbq.client.places import Transport
from lmdbq.client.reports import released
from lmdbq.client.verbs import subscription
from lmdbq.errors import CorruptFile, FormatUnknown, InvalidInput, LmdbqError, NotOurFile, Refusal
from lmdbq.wire.answers import DequeueAnswer, ReportAnswer
from lmdbq.wire.shapes import DequeueRequest
from lmdbq.wire.why import in_words

POLL_SECONDS: Final = 20.0
RETRY_SECONDS: Final = 0.5  # between two claims when the daemon refused one for now
_FOR_NOW: Final = frozenset({408, 429, 500, 502, 503, 504, 507})


class Claims:
    """Claims tasks of ``queues`` and reports what ``held`` owes. stop: once set, nothing is waited for."""

    def __init__(
        self,
        transport: Transport,
        held: Held,
        stop: threading.Event,
        queues: Sequence[str],
        types: Sequence[str],
        lease: float | None,
    ) -> None:
        self._transport = transport
        self._held = held
        self._stop = stop
        self._queues = tuple(queues)
        self._types = tuple(types)
        self._lease = lease
        self._reason = ""  # why the last claim came back empty

    def claim(self, room: Callable[[], int]) -> list[Job]:
        """Report what is owed and claim as many as there is room for.

        It returns with tasks, or with none once the worker is told to stop.
        """
        wanted = self.wanted(room(), POLL_SECONDS)
        while not self._stop.is_set():
            try:
                jobs = self.claim_once(wanted)
            except LmdbqError as error:
                if self._stop.is_set():
                    self._hand_back(wanted)
                    break
                if not _is_for_now(error):
                    raise
                log.warning("claiming: %s", error)
                self._stop.wait(RETRY_SECONDS)
                continue
            if jobs:
                return jobs
            wanted = self.wanted(room(), POLL_SECONDS)
        return []

    def wanted(self, limit: int, wait: float) -> DequeueRequest:
        """Return a claim for up to ``limit`` tasks that waits for the first, ``wait`` seconds."""
        return subscription(*self._queues, types=self._types, limit=limit, wait=wait, lease=self._lease)

    def claim_once(self, wanted: DequeueRequest) -> list[Job]:
        """Send what is owed and claim. Raises LmdbqError if it cannot; then the reports stay owed."""
        owed = self._held.take_owed()
        self._held.parked = True
        answer: DequeueAnswer | ReportAnswer
        try:
            if owed:
                answer = self._transport.call(core.report(owed, wanted), self._stop)
                note_outcomes(answer.outcomes)
            else:
                answer = self._transport.call(core.dequeue(wanted), self._stop)
        except LmdbqError:
            self._held.unsettled(owed)
            raise
        finally:
            self._held.parked = False
        self._note_reason(answer.reason or "")
        if answer.reason == "draining":
            self._stop.wait(RETRY_SECONDS)
        return [Job(task, self._lease) for task in answer.tasks or ()]

    def _note_reason(self, reason: str) -> None:
        """Say in the log why there is nothing to do, once for each time that it changes."""
        if reason != self._reason and reason not in ("", "empty"):
            log.info("nothing to claim: %s", in_words(reason, ", ".join(self._queues)))
        self._reason = reason

    def _hand_back(self, wanted: DequeueRequest) -> None:
        """Release what a claim that was broken off may have got: the same claim id answers the same tasks again."""
        again = msgspec.structs.replace(wanted, wait_in_seconds=0.0)
        try:
            tasks = self._transport.call(core.dequeue(again), self._stop).tasks
        except LmdbqError as error:
            log.info("nothing to hand back: %s", error)
            return
        for task in tasks:
            self._held.owe(released(task.lease or ""))


def _is_for_now(error: LmdbqError) -> bool:
    """Whether the same request may be accepted later: no daemon, a draining one, a full disk, a proxy's trouble."""
    if isinstance(error, Refusal):
        return error.status in _FOR_NOW
    return not isinstance(error, InvalidInput | NotOurFile | FormatUnknown | CorruptFile)
