"""The simulated world: a daemon that is killed and started again, clients, and a network between them that errs.

A request is sent from a client's process, arrives at the daemon after a while, once, twice or never, and is carried out
there by the real engine, in the way the HTTP handlers do it; the answer travels back under the same perils. A client
that waits no longer closes its connection, which the daemon hears of some time later, or never. Every answer passes the
judge before it leaves the daemon: what it says must have been committed.

The trap: whoever is killed must not take others with it. Each callback belongs to a process (see ``virtual_loop``);
those of the network belong to the world.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

from lmdbq.errors import CommitUnknown, LmdbqError
from lmdbq.limits import PAGE_TASKS_MAX
from lmdbq.model import EVERY_TASK, Applied, Call, CallOutcome, Claim, Claimed, Done, Memo, Op, Task
from lmdbq.store.base import Store
from lmdbq.storm.sim_judge import Judge
from lmdbq.storm.sim_life import Fault
from lmdbq.storm.sim_parts import SimClock, SimCommitter, SimEngine, SimStore
from lmdbq.storm.virtual_loop import Process, VirtualLoop

HISTORY_LEN: Final = 4_000
WAY_SECONDS: Final = 0.003  # mean time a message is on its way
QUIET: Final = (0.5, 2.0, 10.0)  # how long clients pause: in a busy world the next wake-up hides one that was forgotten
CROWDED: Final = 0.35  # of the worlds: many tasks come at once; in the others dequeues have to wait
EVERYTHING: Final = "*"
FAILING: Final = 0.002  # of the applies


class Lost(Exception):
    """No answer came."""


class Asked:
    """One request: an op, or a claim that may wait and be committed with a report (``after``)."""

    def __init__(self, *ops: Op, memo: Memo | None = None) -> None:
        self.ops = ops
        self.memo = memo
        self.claim: Claim | None = None
        self.wait_seconds = 0.0
        self.after: Call | None = None

    @classmethod
    def dequeue(cls, claim: Claim, wait_seconds: float, after: Call | None = None) -> Asked:
        """Return a request for tasks."""
        asked = cls(claim)
        asked.claim, asked.wait_seconds, asked.after = claim, wait_seconds, after
        return asked


class Connection:
    """What one request travels on. reply: the client's end; closed: whether the daemon has heard of its end."""

    def __init__(self, number: int, asked: Asked, reply: asyncio.Future[Any]) -> None:
        self.number = number
        self.asked = asked
        self.reply = reply
        self.closed = False
        self.tasks: list[asyncio.Task[None]] = []


class Daemon:
    """One life of the daemon. parked: the connections whose dequeue waits in its engine."""

    def __init__(self, world: World, number: int) -> None:
        self.process = Process(f"daemon {number}")
        self.engine = SimEngine(cast(Store, world.store), world.clock)
        self.started_at = world.loop.time()
        self.is_ready = False
        self.parked: dict[int, Connection] = {}
        self._world = world

    async def start(self) -> None:
        """Begin to serve; die when the file has failed."""
        await self.engine.start()
        self.is_ready = True
        await self.engine.fatal
        self._world.note_for_all("the file has failed, the daemon ends")
        self._world.crash()

    async def stop(self) -> None:
        """End in good order: everybody is answered, and nothing is left."""
        self.is_ready = False
        await self.engine.stop()
        status = self.engine.status()
        if status.pending_calls or status.parked:
            self._world.blame(Fault(f"stopped with {status.pending_calls} calls pending and {status.parked} parked"))
        self._world.crash()

    async def serve(self, connection: Connection) -> None:
        """Carry out one request and send the answer."""
        asked = connection.asked
        try:
            if asked.claim is None:
                answer: Any = await self._call(asked)
            else:
                answer = await self._dequeue(connection, asked.claim)
        except LmdbqError as error:
            self._world.send_back(connection, error)
            return
        if not connection.closed:
            self._world.send_back(connection, answer)
        elif asked.claim is not None:
            self._world.note("nobody is there for the answer to", f"#{connection.number}")
            await self.engine.release(answer[0])

    async def _call(self, asked: Asked) -> CallOutcome:
        outcome = await self.engine.call(*asked.ops, memo=asked.memo)
        self._world.judge.answers.answered(asked.ops[0], outcome)
        return outcome

    async def _dequeue(self, connection: Connection, claim: Claim) -> tuple[Claimed, CallOutcome | None]:
        asked = connection.asked
        key = id(asyncio.current_task())
        self.parked[key] = connection
        try:
            claimed, reported = await self.engine.dequeue(
                claim, connection.asked.wait_seconds, after=connection.asked.after
            )
        finally:
            del self.parked[key]
        if claimed.tasks:
            self._world.judge.answers.given(claim, claimed)
        if asked.after is not None:
            self._world.judge.answers.answered(asked.after.ops[0], reported)
        return claimed, reported


class World:
    """Everything that is simulated in one run. ``steps`` counts what the history has; ``calm``: nothing errs."""

    def __init__(self, chosen: random.Random, store: Store, reopen: Callable[[], Store] | None = None) -> None:
        self.chosen = chosen
        self.loop = VirtualLoop(chosen)  # type: ignore[abstract]
        self.clock = SimClock(self.loop)
        self.judge = Judge(self.note)
        self.store = SimStore(store, chosen, self._heard, self.judge.answers.excuse)
        self.history: deque[tuple[float, str, frozenset[str]]] = deque(maxlen=HISTORY_LEN)
        self.steps = 0
        self.calm = False
        self.quiet = chosen.choice(QUIET)
        self.is_crowded = chosen.random() < CROWDED
        self.crashes = 0
        self.fault: Fault | None = None
        self.daemon: Daemon | None = None
        self.words = itertools.count()  # of which keys and claim ids are made
        self._reopen = reopen
        self._numbers = itertools.count(1)
        SimCommitter.chosen = chosen

    def note(self, what: str, *subjects: object) -> None:
        """Write a line of the history. subjects: the tasks, queues and requests it is about."""
        self.steps += 1
        words = [str(subject) for subject in subjects]
        self.history.append((self.loop.time(), " ".join([what, *words]), frozenset(words)))

    def note_for_all(self, what: str) -> None:
        """Write a line that every tail of the history has."""
        self.steps += 1
        self.history.append((self.loop.time(), what, frozenset({EVERYTHING})))

    def blame(self, fault: Fault) -> None:
        """End the run: something is not as it must be."""
        if self.fault is None:
            self.fault = fault
            self.loop.is_over = True

    def stored(self) -> list[Task]:
        """Return all that the store has."""
        found: list[Task] = []
        after = 0
        while True:
            page = self.store.tasks(EVERY_TASK, self.clock, after, PAGE_TASKS_MAX)
            found += page.tasks
            after = page.after
            if not after:
                return found

    def tail(self, fault: Fault, most: int = 40) -> list[str]:
        """Return the shortest end of the history that shows a fault: the lines about its subjects."""
        lines = [
            f"{at:.4f} {text}"
            for at, text, subjects in self.history
            if not fault.subjects or subjects & {*fault.subjects, EVERYTHING}
        ]
        return lines[-most:]

    def _heard(self, calls: Sequence[Call], applied: Applied, wall: int, steady: int) -> None:
        try:
            self.judge.hear(calls, applied, wall, steady)
        except Fault as fault:
            self.blame(fault)
        if self.chosen.random() < 0.9:
            self.loop.later(self.loop.outside, self._delay(), self.loop.wake_readers)

    # --- the daemon ---------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start a daemon on the file as it is."""
        self.store.failing = 0.0 if self.calm else FAILING
        self.daemon = daemon = Daemon(self, self.crashes + 1)
        self.note_for_all(f"{daemon.process.name} starts")
        self.loop.start(daemon.process, daemon.start())

    def stop(self) -> None:
        """Ask the daemon to end."""
        if self.daemon is not None and self.daemon.is_ready:
            self.note_for_all("the daemon is asked to end")
            self.loop.start(self.daemon.process, self.daemon.stop())

    def crash(self) -> None:
        """Kill the daemon where it stands; now and then the machine goes down with it."""
        if self.daemon is None:
            return
        self.crashes += 1
        self.daemon.process.kill()
        self.daemon = None
        self.judge.unclaimed.clear()
        self.note_for_all("the daemon is killed")
        if self._reopen is not None:
            self.store.inner.close()
            self.store.inner = self._reopen()
        if self.chosen.random() < 0.2:
            self.judge.settle(self.clock.wall_ns(), self.clock.steady_ns())
            self.clock.reboot()
            self.judge.rearm(self.clock.steady_ns())
            self.note_for_all("the machine boots")
        self.loop.later(self.loop.outside, self.chosen.uniform(0.01, 2.0), self.boot)

    # --- the network --------------------------------------------------------------------------------------------------

    async def ask(self, asked: Asked) -> Any:
        """Send a request from the running client's process and return its answer. Raises Lost, LmdbqError."""
        connection = Connection(next(self._numbers), asked, self.loop.create_future())
        self.note(f"asks {_words(asked)}", f"#{connection.number}")
        for _ in range(self._copies()):
            self.loop.later(self.loop.outside, self._delay(), self._arrive, connection)
        patience = asked.wait_seconds + (10.0 if self.calm else self.chosen.choice((0.02, 1.0, 5.0)))
        try:
            async with asyncio.timeout(patience):
                return await connection.reply
        except TimeoutError:
            self.note("waits no longer for", f"#{connection.number}")
            raise Lost from None
        finally:
            self.loop.later(self.loop.outside, self._delay(), self._close, connection)

    def _arrive(self, connection: Connection) -> None:
        daemon = self.daemon
        if daemon is None or not daemon.is_ready:
            self.loop.later(self.loop.outside, self._delay(), _refuse, connection)
            return
        task = self.loop.start(daemon.process, daemon.serve(connection))
        connection.tasks.append(task)
        task.add_done_callback(self._ended, context=self.loop.outside.context)

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Fault):
            self.blame(error)
        elif error is not None and not isinstance(error, CommitUnknown | LmdbqError):
            self.blame(Fault(f"a handler failed: {error!r}"))

    def send_back(self, connection: Connection, answer: Any) -> None:
        """Send an answer to a client."""
        self.note("answers", f"#{connection.number}", *_subjects(answer))
        if self._copies():
            self.loop.later(self.loop.outside, self._delay(), _deliver, connection, answer)

    def _close(self, connection: Connection) -> None:
        """The daemon hears that the client has gone; now and then it never does."""
        if self.calm or self.chosen.random() < 0.8:
            connection.closed = True
            for task in connection.tasks:
                task.cancel()

    def _copies(self) -> int:
        return 1 if self.calm else self.chosen.choices((1, 0, 2), (0.94, 0.03, 0.03))[0]

    def _delay(self) -> float:
        times = 50 if not self.calm and self.chosen.random() < 0.02 else 1
        return self.chosen.expovariate(1 / WAY_SECONDS) * times


def _deliver(connection: Connection, answer: Any) -> None:
    if connection.reply.done():
        return
    if isinstance(answer, Exception):
        connection.reply.set_exception(answer)
    else:
        connection.reply.set_result(answer)


def _refuse(connection: Connection) -> None:
    _deliver(connection, Lost())


def _words(asked: Asked) -> str:
    op = asked.ops[0]
    if isinstance(op, Claim):
        return f"for {op.limit} of {'+'.join(op.queues)} {op.claim_id}, waiting {asked.wait_seconds} s"
    return type(op).__name__


def _subjects(answer: Any) -> list[int]:
    """Return the tasks an answer hands out."""
    if isinstance(answer, tuple) and isinstance(answer[0], Claimed):
        return [task.id for task in answer[0].tasks]
    if isinstance(answer, Done):
        return [number for one in answer.outcomes for number in getattr(one, "ids", ())]
    return []
