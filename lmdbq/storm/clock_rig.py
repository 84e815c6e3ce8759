"""What the parties of a clock storm share: the daemon under its false clock, who is blamed, and how they run.

A party is a user of the daemon in threads of its own, who knows from the steady clock and from ``WallClock`` what must
be, and blames what is not. Parties go on through every step, stop and restart; while the daemon is being stopped or
started, calls may fail. Whoever judges lateness leaves out what the machine itself stood still, or had no core for the
daemon, as ``Stalls`` saw it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, Protocol

from lmdbq.bench.procfs import NoCore
from lmdbq.storm.fake_clock import WallClock
from lmdbq.storm.report import Report
from lmdbq.storm.served import Caller, Served, Unreachable, WrongAnswer

LATE_SECONDS: Final = 1.0
LULL_SECONDS: Final = 3.5  # by then the short leases are over
_STALL_SECONDS: Final = 0.02  # shorter ones are not counted
_BEAT_SECONDS: Final = 0.01
_RETRY_SECONDS: Final = 0.02


class Party(Protocol):
    """A user of the daemon. threads: what it does, until ``Rig.over`` is set."""

    def threads(self) -> list[Callable[[Caller], None]]:
        """Return what to run, each in a thread and with a connection of its own."""
        ...

    def finish(self, caller: Caller) -> None:
        """Judge what is left, once all threads have ended and every instant that was asked for has come."""
        ...


class Wake(NamedTuple):
    """A moment from which tasks could be given again: the daemon was started (perhaps in a new boot) or went on, or a
    lull ended. maybe_from: when it began to start; ``at`` is infinite until it was found ready."""

    at: float
    started: bool
    new_boot: bool
    maybe_from: float


class Taken(NamedTuple):
    """Tasks that were given, between two steady times."""

    tasks: list[dict[str, Any]]
    asked_at: float
    given_at: float


class Stalls(threading.Thread):
    """Notes when this machine let a thread wait that had asked for a short sleep, and when it had no core for another
    process.

    pid: says whom to look at now, 0 = nobody. Each moment is kept with how many seconds were lost just before it.
    """

    def __init__(self, pid: Callable[[], int]) -> None:
        super().__init__(name="storm-stalls", daemon=True)
        self._pid = pid
        self._over = threading.Event()
        self._stalls: list[tuple[float, float]] = []
        self._waits: list[tuple[float, float]] = []

    def run(self) -> None:
        last, no_core = time.monotonic(), NoCore()
        while not self._over.wait(_BEAT_SECONDS):
            now = time.monotonic()
            if now - last - _BEAT_SECONDS > _STALL_SECONDS:
                self._stalls.append((now, now - last - _BEAT_SECONDS))
            if (pid := self._pid()) and (lost := no_core.seconds(pid)):
                self._waits.append((now, lost))
            last = now

    def seconds(self, since: float, until: float) -> float:
        """Return for how long the machine stood still, or had no core, between two steady times."""
        return max(
            sum(length for at, length in lost if at >= since and at - length <= until)
            for lost in (self._stalls, self._waits)
        )

    def __enter__(self) -> Stalls:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


class Rig:
    """The daemon, its clock, and the report, for all parties."""

    def __init__(self, served: Served, wall: WallClock, report: Report, stalls: Stalls) -> None:
        self.served = served
        self.wall = wall
        self.over = threading.Event()
        self.lull = threading.Event()
        self.over_at = 0.0
        self.step_no = 0
        self.stalls = stalls
        self.wakes: list[Wake] = []
        self._report = report
        self._lock = threading.Lock()
        self._changes = 0  # odd while the daemon is being stopped and started
        self._highest_id = ""

    # --- what the storm does ---

    @contextmanager
    def changing(self) -> Iterator[None]:
        """For the length of a block calls may fail."""
        self._changes += 1
        try:
            yield
        finally:
            self._changes += 1

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """For the length of a block nobody writes: whatever comes, the daemon must notice by itself."""
        self.lull.set()
        time.sleep(LULL_SECONDS)
        try:
            yield
        finally:
            now = time.monotonic()
            self.wakes.append(Wake(now, started=False, new_boot=False, maybe_from=now))
            self.lull.clear()

    def start(self, *, new_boot: bool = False) -> None:
        """Start the daemon, and note that it acts again."""
        self.wall.starting()
        wake = Wake(math.inf, started=True, new_boot=new_boot, maybe_from=time.monotonic())
        self.wakes.append(wake)
        self.served.start()
        self.wall.seen(self.served.pid)
        self.wakes[-1] = wake._replace(at=time.monotonic())

    def wake(self) -> None:
        """Note that the daemon, which was stopped, acts again."""
        self.wall.seen(self.served.pid)
        now = time.monotonic()
        self.wakes.append(Wake(now, started=False, new_boot=False, maybe_from=now))

    # --- what parties use ---

    def blame(self, problem: str) -> None:
        """Take down that something is not as it must be."""
        with self._lock:
            self._report.blame(f"seed {self._report.seed}, after step {self.step_no}", [problem])

    def count(self, name: str, number: int = 1) -> None:
        """Add to a figure."""
        with self._lock:
            self._report.count(name, number)

    def post(self, caller: Caller, path: str, value: dict[str, Any]) -> dict[str, Any] | None:
        """Return the answer to a request; None if it failed and may have. Whatever else fails is blamed."""
        before = self._changes
        if caller.opened_after != before:  # a connection of before a stop may be dead
            caller.close()
            caller.opened_after = before
        try:
            return caller.post(path, value)
        except (*Unreachable, WrongAnswer) as error:
            if before % 2 == 0 and self._changes == before:
                said = self.served.log[-500:]
                self.blame(f"{path} failed, and nobody disturbed it: {error!r}; the daemon says: {said}")
            time.sleep(_RETRY_SECONDS)
            return None

    def enqueue(self, caller: Caller, entries: list[dict[str, Any]], queue: str) -> list[str]:
        """Return the ids of new tasks, which must be above all that were answered before; none if it failed."""
        with self._lock:
            highest = self._highest_id
        answer = self.post(caller, "/v1/enqueue", {"queue_name": queue, "entries": entries, "return_tasks": False})
        ids = [outcome["id"] for outcome in answer["outcomes"]] if answer else []
        for before, after in zip([highest, *ids], ids, strict=False):
            if after <= before:
                self.blame(f"the id {after} was given after {before}")
        with self._lock:
            self._highest_id = max([self._highest_id, *ids])
        self.count("ids", len(ids))
        return ids

    def late(self, begin: float, end: float) -> bool:
        """Whether what could have happened at ``begin`` and had not by ``end`` was held up too long."""
        return end - begin > LATE_SECONDS + self.stalls.seconds(begin, end)


class Claims:
    """Dequeues of one queue. One that was not answered is asked again by its claim id, for what it may have claimed."""

    def __init__(self, rig: Rig, queue: str, limit: int) -> None:
        self._rig = rig
        self._queue = queue
        self._asked: dict[str, Any] = {"queue_names": [queue], "limit": limit}
        self._number = 0
        self._unanswered: tuple[dict[str, Any], float] | None = None

    def take(self, caller: Caller, wait_seconds: float) -> Taken | None:
        """Return what was given; None if there was no answer."""
        if self._unanswered is None:
            self._number += 1
            asked = self._asked | {"wait_in_seconds": wait_seconds, "claim_id": f"{self._queue} {self._number}"}
            self._unanswered = asked, time.monotonic()
        asked, asked_at = self._unanswered
        answer = self._rig.post(caller, "/v1/dequeue", asked)
        if answer is None:
            return None
        self._unanswered = None
        return Taken(answer["tasks"], asked_at, time.monotonic())

    def take_all(self, take: Callable[[], int]) -> None:
        """Have ``take`` called until nothing is left to be given."""
        if self._unanswered is not None:
            take()
        while take():
            pass


def run_parties(rig: Rig, parties: list[Party], during: Callable[[], None], afterwards: Callable[[], None]) -> None:
    """Run ``during`` while all parties do, then ``afterwards``; then let them finish. Raises what a party raised."""
    failures: list[BaseException] = []

    def run(work: Callable[[Caller], None]) -> None:
        try:
            with rig.served.caller() as caller:
                work(caller)
        except BaseException as error:  # noqa: BLE001  (raised again below)
            failures.append(error)

    threads = [
        threading.Thread(target=run, args=(work,), name="storm-party", daemon=True)
        for party in parties
        for work in party.threads()
    ]
    for thread in threads:
        thread.start()
    try:
        during()
    finally:
        rig.over_at = time.monotonic()
        rig.over.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    afterwards()
    with rig.served.caller() as caller:
        for party in parties:
            party.finish(caller)
