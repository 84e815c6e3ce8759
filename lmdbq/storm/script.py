"""What a session asks for, step by step: each kind of call with how often it is asked, all chosen by a seed.

The script remembers only what it was answered (leases, ids), as any client would. Payloads are numbers that never come
again, so that a task which nobody asked for would show.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable
from typing import Final

from lmdbq.limits import SECOND_NS
from lmdbq.model import (
    Call,
    Cancel,
    Claim,
    Claimed,
    Completion,
    Condition,
    Dedupe,
    Delete,
    Edit,
    Enqueue,
    Enqueued,
    Entry,
    ErrorInfo,
    Expire,
    Extend,
    Extension,
    Fire,
    GroupDelete,
    GroupPut,
    GroupSettings,
    Intervals,
    Keep,
    Lapse,
    Memo,
    OnDuplicate,
    Op,
    OpOutcome,
    Options,
    Promote,
    Prune,
    Purge,
    QueueDelete,
    QueuePut,
    QueueSettings,
    Rate,
    Refill,
    Report,
    Retry,
    RetryStrategy,
    Schedule,
    ScheduleDelete,
    SchedulePut,
    Scope,
    SetChanged,
    SetClose,
    SetMake,
    Status,
    TaskSet,
    UniformEntries,
    Until,
)

QUEUES: Final = ("mail", "thumbs", "rare")
TYPES: Final = ("default", "send", "resize")
KEYS: Final = 25
LEASE_NS_MAX: Final = 40 * SECOND_NS
GROUPS: Final = ("one", "two")
SCHEDULES: Final = ("often", "seldom")
FOLLOWER: Final = Entry(queue="rare", type="send")
TIMED: Final[tuple[Op, ...]] = (Fire(), Refill(), Promote(), Lapse(), Expire(), Prune())
IDS_KEPT: Final = 60
LARGE_BATCH: Final = 100

# How often each kind of step is taken, in a hundred and a bit.
WEIGHTS: Final = {
    "enqueue": 22,
    "enqueue_many": 4,
    "group": 10,
    "claim": 17,
    "report": 17,
    "extend": 7,
    "pass_time": 9,
    "cancel": 3,
    "delete": 3,
    "retry": 3,
    "edit": 3,
    "settings": 3,
    "group_settings": 3,
    "schedule": 2,
    "set": 2,
    "set_close": 2,
    "purge": 1,
    "queue_delete": 1,
    "reopen": 1,
    "reboot": 2,
}


def claim_all() -> Claim:
    """Return a claim of all that is ready."""
    return Claim(QUEUES, limit=1_000, keepalive_ns=LEASE_NS_MAX)


class Script:
    """Chooses the calls of a session."""

    def __init__(self, chosen: random.Random) -> None:
        self._chosen = chosen
        self._numbers = itertools.count(1)
        self._leases: list[tuple[int, int]] = []
        self._ids: list[int] = []
        self._sets: list[int] = []  # that are open
        self._makers: dict[str, Callable[[], Op]] = {
            "enqueue": lambda: Enqueue((self._entry(),)),
            "enqueue_many": self._enqueue_many,
            "claim": self._claim,
            "report": self._report,
            "extend": self._extend,
            "cancel": lambda: Cancel(self._some_ids()),
            "delete": lambda: Delete(self._some_ids()),
            "retry": lambda: Retry(self._some_ids()),
            "edit": self._edit,
            "settings": self._settings,
            "group_settings": self._group_settings,
            "schedule": self._schedule,
            "set": self._set,
            "set_close": lambda: SetClose(self._sets.pop() if self._sets else 1),
            "purge": lambda: Purge(self._queue()),
            "queue_delete": lambda: QueueDelete(self._queue()),
        }

    def kind(self) -> str:
        """Return the kind of the next step."""
        return self._chosen.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]

    def pause_seconds(self) -> float:
        """Return how much time is to pass."""
        return self._chosen.choice([0.001, 1.0, 5.0, 30.0])

    def calls(self, kind: str) -> list[Call]:
        """Return the calls of one step; ``group`` is several callers in one transaction."""
        if kind != "group":
            return [self._call(self._makers[kind]())]
        kinds = self._chosen.choices(["enqueue", "claim", "report", "extend"], k=self._chosen.randrange(2, 9))
        return [self._call(self._makers[one]()) for one in kinds]

    def learn(self, op: Op, answer: OpOutcome) -> None:
        """Remember what a client would."""
        if isinstance(answer, Claimed):
            self._leases += [(task.id, task.deliveries) for task in answer.tasks]
        elif isinstance(answer, Enqueued):
            self._ids = [*self._ids, *answer.ids][-IDS_KEPT:]
        elif isinstance(op, SetMake) and isinstance(answer, SetChanged):
            self._sets.append(answer.id)

    def take_leases(self, most: int) -> list[tuple[int, int]]:
        """Return up to ``most`` leases, and forget them."""
        self._chosen.shuffle(self._leases)
        taken, self._leases = self._leases[:most], self._leases[most:]
        return taken

    # --- ops ---

    def _call(self, op: Op) -> Call:
        memo = None
        if isinstance(op, Enqueue) and self._chosen.random() < 0.2:
            memo = Memo(f"key-{self._chosen.randrange(KEYS)}", bytes([self._chosen.randrange(2)]) * 16)
        return Call((op,), memo)

    def _queue(self) -> str:
        return self._chosen.choices(QUEUES, [6, 3, 1])[0]

    def _payload(self) -> bytes:
        number = next(self._numbers)
        padding = self._chosen.choice([0, 0, 0, 0, 20, 200, 3000]) if number % 3 == 0 else 0
        return b'"%d%s"' % (number, b"." * padding)

    def _entry(self) -> Entry:
        chosen = self._chosen
        thread, group = chosen.choice([("", "")] * 6 + [("first", ""), ("", GROUPS[0]), ("", GROUPS[1])])
        return Entry(
            self._payload(),
            self._queue(),
            chosen.choice(TYPES),
            priority=chosen.choice([0, 0, 0, -10, 5]),
            delay_ns=chosen.choice([0, 0, 0, 2, 20]) * SECOND_NS,
            expires_in_ns=chosen.choice([0, 0, 0, 0, 60]) * SECOND_NS,
            options=Options(
                keepalive_ns=chosen.choice([0, 10 * SECOND_NS, LEASE_NS_MAX]),
                retry=chosen.choice([None, RetryStrategy(max_attempts=2, backoff=Intervals((SECOND_NS,)))]),
                keep=chosen.choice([None, None, Keep(succeeded_ns=20 * SECOND_NS, dead_ns=5 * SECOND_NS)]),
                dedupe=self._dedupe() if chosen.random() < 0.4 else None,
                thread=thread,
                group=group,
                on_dead=FOLLOWER if chosen.random() < 0.2 else None,
                set_id=self._sets[-1] if self._sets and chosen.random() < 0.3 else 0,
            ),
        )

    def _dedupe(self) -> Dedupe:
        until = self._chosen.choice([None, Until.STARTED, Until.DELETED, Until.TTL])
        how = self._chosen.choice([None, OnDuplicate.REJECT, OnDuplicate.OVERWRITE])
        return Dedupe(
            f"task {self._chosen.randrange(KEYS)}",
            self._chosen.choice([None, Scope.TYPE, Scope.GLOBAL]),
            until,
            20 * SECOND_NS if until is Until.TTL else 0,
            how,
            ("payload", "priority") if how is OnDuplicate.OVERWRITE else (),
        )

    def _enqueue_many(self) -> Enqueue:
        number = self._chosen.randrange(2, LARGE_BATCH + 1)
        if self._chosen.random() < 0.5:
            return Enqueue([self._entry() for _ in range(number // 4 + 1)])
        payloads = [self._payload() for _ in range(number)]
        keys = [f"batch {next(self._numbers)}" for _ in payloads] if self._chosen.random() < 0.3 else ()
        return Enqueue(UniformEntries(payloads, self._queue(), self._chosen.choice(TYPES), keys=keys))

    def _claim(self) -> Claim:
        queues = tuple(self._chosen.sample(QUEUES, self._chosen.randrange(1, len(QUEUES) + 1)))
        claim_id = f"claim-{self._chosen.randrange(5)}" if self._chosen.random() < 0.3 else ""
        types = (self._chosen.choice(TYPES),) if self._chosen.random() < 0.2 else ()
        lease_ns = self._chosen.choice([0, SECOND_NS, LEASE_NS_MAX])
        return Claim(queues, types, self._chosen.choice([1, 1, 3, 40]), lease_ns, claim_id)

    def _report(self) -> Report:
        taken = self.take_leases(self._chosen.choice([1, 1, 3, 40])) or [(1, 1)]
        status = self._chosen.choice([Status.SUCCEEDED, Status.SUCCEEDED, Status.FAILED, Status.RELEASED])
        result = b'"well"' if status is Status.SUCCEEDED and self._chosen.random() < 0.2 else None
        error = ErrorInfo("no answer", "TimeoutError") if status is Status.FAILED else None
        delay_ns = 3 * SECOND_NS if status is Status.RELEASED and self._chosen.random() < 0.5 else None
        return Report(tuple(Completion(*lease, status, result, error=error, delay_ns=delay_ns) for lease in taken))

    def _extend(self) -> Extend:
        some = self._chosen.sample(self._leases, min(len(self._leases), 10)) or [(1, 1)]
        return Extend(tuple(Extension(*lease, LEASE_NS_MAX, 0.5) for lease in some))

    def _some_ids(self) -> tuple[int, ...]:
        return tuple(self._chosen.sample(self._ids, min(len(self._ids), self._chosen.randrange(1, 5)))) or (1,)

    def _set(self) -> SetMake:
        condition = self._chosen.choice(list(Condition))
        return SetMake(TaskSet(condition, FOLLOWER, FOLLOWER, self._chosen.choice([20, 600]) * SECOND_NS))

    def _edit(self) -> Edit:
        return Edit(self._some_ids()[0], self._entry(), ("payload", "priority", "scheduled_at"))

    def _settings(self) -> QueuePut:
        return QueuePut(
            self._queue(),
            QueueSettings(
                paused=self._chosen.random() < 0.1,
                max_running=self._chosen.choice([0, 0, 30]),
                keepalive_ns=self._chosen.choice([0, 15 * SECOND_NS]),
            ),
        )

    def _group_settings(self) -> GroupPut | GroupDelete:
        name = self._chosen.choice(GROUPS)
        if self._chosen.random() < 0.3:
            return GroupDelete(name)
        rate = Rate(2, SECOND_NS) if self._chosen.random() < 0.3 else None
        cap = self._chosen.choice([None, 1, 3])
        return GroupPut(name, GroupSettings(self._chosen.random() < 0.2, cap, rate))

    def _schedule(self) -> SchedulePut | ScheduleDelete:
        name = self._chosen.choice(SCHEDULES)
        if self._chosen.random() < 0.3:
            return ScheduleDelete(name)
        cron = "*/5 * * * * *" if name == SCHEDULES[0] else "30 * * * * *"
        return SchedulePut(name, Schedule(cron, self._scheduled(), paused=self._chosen.random() < 0.1))

    def _scheduled(self) -> Entry:
        return Entry(self._payload(), self._queue(), self._chosen.choice(TYPES))
