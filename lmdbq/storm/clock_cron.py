"""A party of a clock storm: schedules of every second, each instant of which must give one task, once.

Each task says which instant it stands for. None may come twice, whatever the clock does, nor before the daemon's clock
has shown its instant, nor more than a second after it could. And of each stretch in which the daemon ran and its clock
went on as it should, no instant beyond the latest that it had ever shown may be missing: a schedule whose instants the
clock has left behind waits until they come again, and what is stepped over is missed, which is for ``catch_up``.

The traps: nobody knows what was done at the very moment of a step, so the last second before one is not asked for. In a
lull nobody may write or ask, so schedules are paused for it, and begin with the first instant after it: what the clock
shows again of before is stepped over, too, unless they were active all the time since it first left it.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from lmdbq.storm.clock_rig import LATE_SECONDS, Claims, Rig
from lmdbq.storm.fake_clock import SLEW_SECONDS, Span
from lmdbq.storm.served import Caller, Unreachable

QUEUE: Final = "cron"
SCHEDULES: Final = ("none", "one")  # each named after its catch_up
LIMIT: Final = 200
GRACE_SECONDS: Final = 50.0  # an instant that a daemon comes to within a minute was not missed
_NS: Final = 1_000_000_000
_RETRY_SECONDS: Final = 0.05


class Given(NamedTuple):
    """The task of an instant, and when (steady seconds) it was given first."""

    task_id: str
    at: float


class Expected(NamedTuple):
    """An instant (Unix seconds) for which there must be a task, and from when to when it could be given (steady).

    is_next: the daemon surely did not count it among what a step had passed over.
    """

    instant: int
    begin: float
    end: float
    is_next: bool


class Active(NamedTuple):
    """From when to when (steady seconds) all schedules were surely not paused."""

    begin: float
    end: float


class Cron:
    """Puts the schedules, pauses them in lulls, takes their tasks, and judges what has come."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._claims = Claims(rig, QUEUE, LIMIT)
        self._lock = threading.Lock()
        self._given: dict[tuple[str, int], Given] = {}  # by schedule and instant
        self._active: list[Active] = []
        self._taken_at = 0.0  # what was ready by then has been taken

    def threads(self) -> list[Callable[[Caller], None]]:
        """Return who keeps the schedules, and who takes their tasks."""
        return [self._keep, self._work]

    # --- schedules ----------------------------------------------------------------------------------------------------

    def _keep(self, caller: Caller) -> None:
        self._follow_lulls(caller)
        for name in SCHEDULES:  # the worker, who waits for a task, is to see that all is over
            self._put(caller, name, paused=False)

    def _follow_lulls(self, caller: Caller) -> None:
        if not self._insist(caller, paused=False):
            return
        began = time.monotonic()
        while not self._rig.over.wait(0.02):
            if self._rig.lull.is_set():
                self._active.append(Active(began, time.monotonic()))
                if not self._insist(caller, paused=True) or not self._wait_for_the_end_of_the_lull():
                    return
                if not self._insist(caller, paused=False):
                    return
                began = time.monotonic()
        self._active.append(Active(began, time.monotonic()))

    def _wait_for_the_end_of_the_lull(self) -> bool:
        while self._rig.lull.is_set():
            if self._rig.over.wait(0.02):
                return False
        return True

    def _insist(self, caller: Caller, *, paused: bool) -> bool:
        """Put all schedules; False if the storm was over first."""
        for name in SCHEDULES:
            while not self._put(caller, name, paused=paused):
                if self._rig.over.wait(_RETRY_SECONDS):
                    return False
        return True

    @staticmethod
    def _put(caller: Caller, name: str, *, paused: bool) -> bool:
        body = {"cron": "* * * * * *", "catch_up": name, "paused": paused, "task": {"queue_name": QUEUE}}
        try:
            status, _ = caller.ask("PUT", f"/v1/schedules/{name}", json.dumps(body).encode())
        except Unreachable:
            return False
        return 200 <= status < 300

    # --- tasks --------------------------------------------------------------------------------------------------------

    def _work(self, caller: Caller) -> None:
        while not self._rig.over.is_set():
            self._take(caller, wait_seconds=10.0)  # in a lull nobody asks

    def _take(self, caller: Caller, wait_seconds: float) -> int:
        taken = self._claims.take(caller, wait_seconds)
        if taken is None:
            return 0
        tasks = taken.tasks
        for task in tasks:
            self._judge(task, min(taken.asked_at, self._taken_at), taken.given_at)
        if len(tasks) < LIMIT:
            self._taken_at = taken.asked_at
        reports = [{"lease": task["lease"], "status": "succeeded"} for task in tasks]
        while reports and self._rig.post(caller, "/v1/report", {"reports": reports}) is None:
            pass
        return len(tasks)

    def _judge(self, task: dict[str, Any], since: float, given_at: float) -> None:
        told = task["metadata"]["schedule"]
        key = told["name"], told["instant_at"] // _NS
        with self._lock:
            first = self._given.setdefault(key, Given(task["id"], given_at))
        if first.task_id != task["id"]:
            self._rig.blame(f"schedule {key[0]} gave {first.task_id} and {task['id']} for the instant {key[1]}")
        latest = self._rig.wall.latest(since, given_at)
        if latest + SLEW_SECONDS < key[1]:
            self._rig.blame(f"the instant {key[1]} of schedule {key[0]} came {key[1] - latest:.3f} s early")

    # --- what must have come ------------------------------------------------------------------------------------------

    def finish(self, caller: Caller) -> None:
        """Take what is left, and look for what is missing."""
        self._claims.take_all(lambda: self._take(caller, wait_seconds=0.5))
        self._rig.count("instants", len(self._given))
        for wanted in self._expected():
            for name in SCHEDULES:
                if name == "one" and not wanted.is_next:
                    continue  # of those that were missed it gives the latest
                self._rig.count("instants that must be")
                given = self._given.get((name, wanted.instant))
                if given is None:
                    self._rig.blame(f"schedule {name} gave no task for the instant {wanted.instant}")
                elif self._rig.late(wanted.begin, at := min(given.at, wanted.end)):
                    late = at - wanted.begin
                    self._rig.blame(f"the instant {wanted.instant} of schedule {name} came {late:.3f} s late")

    def _expected(self) -> Iterator[Expected]:
        over_at = self._rig.over_at
        spans = [span._replace(end=min(span.end, over_at)) for span in self._rig.wall.spans() if span.begin <= over_at]
        return expected(spans, self._active, self._rig.wall.wall, self._rig.stalls.seconds)


def expected(
    spans: Sequence[Span],
    active: Sequence[Active],
    wall: Callable[[float, float], float],
    lost: Callable[[float, float], float],
) -> Iterator[Expected]:
    """Yield what must have come of what the daemon saw, the earliest first.

    wall: ``WallClock.wall``. lost: returns how many seconds of those between two steady times the machine stood still.
    """
    shown, shown_at = -1.0, -math.inf
    for span in spans:
        first, last = wall(span.begin, span.ahead), wall(span.end, span.ahead)
        stayed = any(one.begin < shown_at and span.begin < one.end for one in active)
        goes_on = stayed and 0 <= first - shown < GRACE_SECONDS
        for instant in range(int(shown if goes_on else max(first, shown)) + 1, int(last) + 1):
            begin = max(span.begin, instant - wall(0.0, span.ahead))
            by = begin + LATE_SECONDS + lost(begin, span.end)
            if by < span.end and any(one.begin < begin and by < one.end for one in active):
                seen_by = span.begin + 2 * LATE_SECONDS + lost(span.begin, begin)
                yield Expected(instant, begin, span.end, goes_on or begin > seen_by)
        if last > shown:
            shown, shown_at = last, span.end
