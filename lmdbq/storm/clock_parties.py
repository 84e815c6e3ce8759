"""The parties of a clock storm: who enqueues for later and waits, and who holds leases.

Both judge by two clocks. An instant that was asked for is wall time: the task must not be given before the daemon's
clock has shown it, and at most a second after it could. A lease is steady time: it must hold its whole length from when
it was asked for, and be given to somebody else at most a second after its length is over; after a restart or a stop,
the start counts, and in a new boot every lease begins anew.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from lmdbq.storm.clock_rig import Claims, Rig
from lmdbq.storm.fake_clock import SLEW_SECONDS
from lmdbq.storm.served import Caller

_HOUR: Final = 3_600.0
_DAY: Final = 86_400.0
_US: Final = 1_000_000
_START_GRACE_SECONDS: Final = 5.0  # a lease due sooner after a start is given that long, or its own length if shorter


class Wanted(Struct):
    """A task that was enqueued for an instant (Unix seconds): since when it is known to be stored (steady)."""

    instant: float
    stored_at: float | None = None


class Timed:
    """Enqueues tasks for instants near and far, and takes each when it comes."""

    def __init__(self, rig: Rig, seed: str) -> None:
        self._rig = rig
        self._chosen = random.Random(f"{seed}/timed")
        self._claims = Claims(rig, "timed", limit=200)
        self._wanted: dict[int, Wanted] = {}
        self._lock = threading.Lock()
        self._asked = 0
        self._worst_late = 0.0

    def threads(self) -> list[Callable[[Caller], None]]:
        """Return the producer and the worker."""
        return [self._produce, self._work]

    def _produce(self, caller: Caller) -> None:
        while not self._rig.over.wait(self._chosen.uniform(0.02, 0.1)):
            if not self._rig.lull.is_set():
                # Steps of hours and days are to bring some near: many come soon after whole hours and days.
                away = self._chosen.choice((0.0, 0.0, _HOUR, 2 * _HOUR, _DAY)) + self._chosen.uniform(-1.0, 3.0)
                self._enqueue(caller, away)
        self._enqueue(caller, 0.0)  # the worker, who waits for one, is to see that all is over

    def _enqueue(self, caller: Caller, away_seconds: float) -> None:
        number = self._asked
        at_us = round((self._rig.wall.now() + away_seconds) * _US)
        wanted = self._wanted[number] = Wanted(at_us / _US)
        self._asked += 1
        entry = {"payload": {"number": number}, "scheduled_at": at_us * 1_000}
        if self._rig.enqueue(caller, [entry], "timed"):
            wanted.stored_at = time.monotonic()
            self._rig.count("scheduled")

    def _work(self, caller: Caller) -> None:
        while not self._rig.over.is_set():
            self._take(caller, wait_seconds=10.0)

    def _take(self, caller: Caller, wait_seconds: float) -> int:
        taken = self._claims.take(caller, wait_seconds)
        if taken is None:
            return 0
        tasks = taken.tasks
        for task in tasks:
            self._judge(task, taken.asked_at, taken.given_at)
        while tasks:
            reports = [{"lease": task["lease"], "status": "succeeded"} for task in tasks]
            said = self._rig.post(caller, "/v1/report", {"reports": reports})
            if said is not None:
                wrong = [outcome for outcome in said["outcomes"] if outcome["outcome"] != "ok"]
                for outcome in wrong:
                    self._rig.blame(f"a lease of a minute was answered {outcome} at once")
                break
        return len(tasks)

    def _judge(self, task: dict[str, Any], asked_at: float, given_at: float) -> None:
        number = task["payload"]["number"]
        with self._lock:
            wanted = self._wanted.pop(number, None)
        if wanted is None:
            self._rig.blame(f"task {number} was given twice, within the minute of its lease")
            return
        stored_at = given_at if wanted.stored_at is None else wanted.stored_at
        latest = self._rig.wall.latest(min(asked_at, stored_at), given_at)
        if latest + SLEW_SECONDS < wanted.instant:
            self._rig.blame(f"task {number} was given {wanted.instant - latest:.3f} s early")
        until = given_at if not self._rig.over.is_set() else min(given_at, self._rig.over_at)  # since when nobody asks
        for begin, end in self._rig.wall.due(wanted.instant, stored_at, until):
            self._worst_late = max(self._worst_late, end - begin)
            if self._rig.late(begin, end):
                self._rig.blame(f"task {number} had come, and was not given for {end - begin:.3f} s")

    def finish(self, caller: Caller) -> None:
        """Take what is left; all of it must be there."""
        self._claims.take_all(lambda: self._take(caller, wait_seconds=1.0))
        for number, wanted in self._wanted.items():
            if wanted.stored_at is not None:
                self._rig.blame(f"task {number} was accepted, and never given")
        self._rig.count("worst ms late", round(1_000 * self._worst_late))


class Lease(Struct):
    """A lease that is out. from_at, until_at: it was given, or prolonged, somewhere between these two steady times.

    acts_at: when its holder prolongs or reports it next; None if he has forgotten it.
    """

    text: str
    seconds: float
    from_at: float
    until_at: float
    acts_at: float | None
    prolongs: int


class Leases:
    """Takes leases of many lengths; keeps some alive, ends some, forgets some, and holds long ones to the end."""

    TASKS: Final = 40
    HELD: Final = 10  # of them for longer than the storm lasts

    def __init__(self, rig: Rig, seed: str) -> None:
        self._rig = rig
        self._chosen = random.Random(f"{seed}/leases")
        self._lock = threading.Lock()
        self._leases: dict[str, Lease] = {}

    def threads(self) -> list[Callable[[Caller], None]]:
        """Return who takes leases, and who holds them."""
        return [self._take, self._hold]

    def _refill(self, caller: Caller, number: int) -> None:
        strategy = {"max_attempts": 1_000, "max_deliveries": 1_000, "retry_intervals_in_seconds": [0]}
        self._rig.enqueue(caller, [{"retry_strategy": strategy}] * number, "leased")

    def _take(self, caller: Caller) -> None:
        self._refill(caller, self.TASKS)
        while not self._rig.over.is_set():
            if self._rig.lull.is_set():
                time.sleep(0.02)
                continue
            held = sum(lease.seconds > 60 for lease in list(self._leases.values()))
            long = held < self.HELD and self._chosen.random() < 0.3
            seconds = self._chosen.choice((600.0, _HOUR, 12 * _HOUR) if long else (1.0, 1.5, 2.0, 3.0))
            asked = {
                "queue_names": ["leased"],
                "limit": 2,
                "wait_in_seconds": 1.0,
                "keepalive_timeout_in_seconds": seconds,
            }
            asked_at = time.monotonic()
            answer = self._rig.post(caller, "/v1/dequeue", asked)
            given_at = time.monotonic()
            for task in answer["tasks"] if answer else []:
                self._given(task, seconds, asked_at, given_at)

    def _given(self, task: dict[str, Any], seconds: float, asked_at: float, given_at: float) -> None:
        with self._lock:
            before = self._leases.get(task["id"])
            acts_at = given_at + seconds * self._chosen.uniform(0.1, 0.7) if self._chosen.random() < 0.6 else None
            prolongs = self._chosen.randint(0, 3)
            self._leases[task["id"]] = Lease(task["lease"], seconds, asked_at, given_at, acts_at, prolongs)
        self._rig.count("leases")
        if before is not None and _delivery(task["lease"]) == _delivery(before.text) + 1:  # else an answer was lost
            self._rig.count("leases lapsed")
            self._judge_lapse(before, given_at)

    def _judge_lapse(self, lease: Lease, given_at: float) -> None:
        if given_at < lease.from_at + lease.seconds:
            after = given_at - lease.from_at
            self._rig.blame(f"lease {lease.text} of {lease.seconds} s lapsed {after:.3f} s after it was asked for")
        due_at = self._due_at(lease, given_at)
        if self._rig.late(due_at, given_at):
            self._rig.blame(f"the task of lease {lease.text} came back {given_at - due_at:.3f} s late")

    def _due_at(self, lease: Lease, by: float) -> float:
        """Return the steady time by which a lease that nobody prolonged must have lapsed."""
        due_at = lease.until_at + lease.seconds
        for wake in self._rig.wakes:
            if lease.until_at < wake.at and wake.maybe_from <= by:
                graced = min(lease.seconds, _START_GRACE_SECONDS) if wake.started else 0.0
                due_at = max(due_at, wake.at + (lease.seconds if wake.new_boot else graced))
        return due_at

    def _hold(self, caller: Caller) -> None:
        while not self._rig.over.wait(0.02):
            now = time.monotonic()
            with self._lock:
                acting = [
                    (task_id, lease)
                    for task_id, lease in self._leases.items()
                    if lease.seconds < 60 and lease.acts_at is not None and lease.acts_at <= now
                ]
            for task_id, lease in acting:
                if lease.prolongs and not self._rig.lull.is_set():
                    self._prolong(caller, task_id, lease)
                else:
                    self._report(caller, task_id, lease)

    def _prolong(self, caller: Caller, task_id: str, lease: Lease) -> None:
        body = {"leases": [{"lease": lease.text, "keepalive_timeout_in_seconds": lease.seconds}]}
        asked_at = time.monotonic()
        answer = self._rig.post(caller, "/v1/extend", body)
        answered_at = time.monotonic()
        with self._lock:
            lease.until_at = answered_at  # also when no answer came: it may have been done
            if answer is None:
                return
            if self._held(answer, lease, answered_at):
                lease.from_at = asked_at
                lease.prolongs -= 1
                lease.acts_at = answered_at + lease.seconds * self._chosen.uniform(0.1, 0.7)
            else:
                lease.acts_at = None

    def _report(self, caller: Caller, task_id: str, lease: Lease) -> None:
        answer = self._rig.post(caller, "/v1/report", {"reports": [{"lease": lease.text, "status": "succeeded"}]})
        answered_at = time.monotonic()
        if answer is None:
            return  # sent again: a report that was accepted is answered ok again, or not_found once it is gone
        with self._lock:
            kept = self._held(answer, lease, answered_at)
            if kept and self._leases.get(task_id) is lease:
                del self._leases[task_id]
            lease.acts_at = None
        if kept:
            self._rig.count("leases kept")
            self._refill(caller, 1)

    def _held(self, answer: dict[str, Any], lease: Lease, answered_at: float) -> bool:
        outcome = answer["outcomes"][0]["outcome"]
        if outcome != "ok" and answered_at < lease.from_at + lease.seconds:
            self._rig.blame(f"lease {lease.text} of {lease.seconds} s was {outcome} while it must hold")
        return bool(outcome == "ok")

    def finish(self, caller: Caller) -> None:
        """The long leases must still hold; of the others, none may be overdue."""
        now = self._rig.over_at  # nobody has taken any since
        for task_id, lease in list(self._leases.items()):
            if lease.seconds > 60:
                self._report(caller, task_id, lease)
            elif self._rig.late(due_at := self._due_at(lease, now), now):
                self._rig.blame(f"lease {lease.text} is {now - due_at:.3f} s overdue, and its task was not given again")


def _delivery(lease: str) -> int:
    """Return how the manieth delivery of its task a lease is."""
    return int(lease.rpartition(".")[2])
