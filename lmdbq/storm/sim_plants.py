"""Faults put into a simulation on purpose: each must be found, or the simulation proves nothing."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from msgspec.structs import replace

from lmdbq import lanes, schedules
from lmdbq.buckets import Bucket
from lmdbq.clock import Now
from lmdbq.engine.committer import Commit
from lmdbq.engine.waiters import Waiters
from lmdbq.model import Call, GroupSettings, Report, Schedule
from lmdbq.sharing import Turns, next_turn
from lmdbq.store import (
    memory_claim,
    memory_enqueue,
    memory_fair,
    memory_lanes,
    memory_rows,
    memory_schedules,
    memory_state,
)
from lmdbq.store.memory import MemoryStore
from lmdbq.store.memory_rows import Row
from lmdbq.store.memory_state import Tables
from lmdbq.storm.sim_parts import SimCommitter, SimStore
from lmdbq.storm.sim_planting import every, replaced
from lmdbq.storm.sim_set_plants import SET_PLANTS
from lmdbq.wire import folding, followups


def nothing() -> AbstractContextManager[None]:
    """Put in nothing."""
    return replaced(SimStore, "apply", SimStore.apply)


def forget_a_wakeup() -> AbstractContextManager[None]:
    """Every fifth time, what a commit has stirred is told to nobody."""
    settled = Waiters.settled
    told = 0

    def forgetful(self: Waiters, stirred: Iterable[str]) -> None:
        nonlocal told
        names = list(stirred)
        told += bool(names)
        settled(self, () if names and told % 5 == 0 else names)

    return replaced(Waiters, "settled", forgetful)


def ignore_the_fence() -> AbstractContextManager[None]:
    """A report is taken for one of the task's last delivery, whatever delivery it names."""

    def unfenced(self: SimStore, calls: Iterable[Call], clock: Any) -> Any:
        def of_today(call: Call) -> Call:
            if not isinstance(call.ops[0], Report):
                return call
            completions = []
            for one in call.ops[0].completions:
                task = self.inner.task(one.id, clock)
                completions.append(replace(one, delivery=getattr(task, "deliveries", one.delivery)))
            return Call((Report(completions),))

        asked = list(calls)
        self.version += 1
        applied = self.inner.apply([of_today(call) for call in asked], clock)
        self._heard(asked, applied, clock.wall_ns(), clock.steady_ns())
        return applied

    return replaced(SimStore, "_commit", unfenced)


def answer_before_commit() -> AbstractContextManager[None]:
    """Answers are given when the transaction has been worked out, and it is committed afterwards."""

    def hasty(self: SimCommitter, commit: Commit) -> None:
        store = self._store
        assert isinstance(store, SimStore)
        assert isinstance(store.inner, MemoryStore)
        rehearsal = copy.deepcopy(store.inner, {id(store.inner._lock): threading.Lock()})
        calls = [call for unit in commit.units for call in unit.calls]
        commit.result = rehearsal.apply(calls, self._clock)
        self._deliver(commit)
        store.apply(calls, self._clock)

    return replaced(SimCommitter, "_write", hasty)


def lose_a_claim() -> AbstractContextManager[None]:
    """What was claimed for a caller who has gone is not given back."""
    return replaced(Waiters, "_finish", _finish_and_forget)


def _finish_and_forget(self: Any, waiter: Any, claimed: Any) -> None:
    self._remove(waiter)
    if not waiter.future.done():
        waiter.future.set_result((claimed, waiter.reported))


def two_of_a_thread() -> AbstractContextManager[None]:
    """Who holds a thread is forgotten now and then."""
    return replaced(memory_claim, "started", every(3, memory_lanes.started, _started_without("thread")))


def _started_without(lane: str) -> Callable[..., None]:
    started = memory_lanes.started
    return lambda tables, row, now: None if getattr(row.options, lane) else started(tables, row, now)


def forget_a_cap() -> AbstractContextManager[None]:
    """Now and then nobody counts how many of a group run."""
    return replaced(memory_lanes, "running_of", every(7, memory_lanes.running_of, lambda *_: 0))


def spend_no_token() -> AbstractContextManager[None]:
    """No claim spends a token of its group."""
    return replaced(memory_claim, "started", _started_without("group"))


def leave_a_lane_shut() -> AbstractContextManager[None]:
    """A group that was paused once is not looked at again."""
    paused: set[str] = set()

    def shut(limits: GroupSettings, running: int, bucket: Bucket | None) -> str:
        word = blocked_by(limits, running, bucket)
        if word == "paused":
            paused.add("")
        return "paused" if paused else word

    blocked_by = lanes.blocked_by
    return replaced(lanes, "blocked_by", shut)


def an_instant_twice() -> AbstractContextManager[None]:
    """Now and then a schedule stays where it stood when it has given its task."""

    def again(schedule: Schedule, next_at: int, wall: int, count_max: int) -> schedules.Firing:
        instants = firing(schedule, next_at, wall, count_max).instants
        return schedules.Firing(instants, max(instants, default=wall))

    firing = schedules.firing
    return replaced(schedules, "firing", every(3, firing, again))


def an_instant_lost() -> AbstractContextManager[None]:
    """Now and then a schedule moves on and gives no task."""

    def lose(tables: Tables, *args: Any) -> int:
        before = len(tables.spawned)
        count = fire(tables, *args)
        del tables.spawned[before:]
        return count

    fire = memory_schedules._fire_one
    return replaced(memory_schedules, "_fire_one", every(3, fire, lose))


def lose_a_fold() -> AbstractContextManager[None]:
    """Now and then what a duplicate brought is not folded in."""
    return replaced(folding, "folded", every(3, folding.folded, lambda fold, old, new, items_max: old))


def let_a_duplicate_in() -> AbstractContextManager[None]:
    """Now and then a key that is taken is not seen."""
    return replaced(Tables, "blocking", every(4, Tables.blocking, lambda *_: None))


def forget_an_edit() -> AbstractContextManager[None]:
    """Now and then an edit is answered and not made."""
    return replaced(memory_enqueue, "overwritten", every(3, memory_enqueue.overwritten, lambda row, *_: row))


def take_the_last() -> AbstractContextManager[None]:
    """Now and then a claim looks from the wrong end."""
    wanted = memory_claim._wanted
    return replaced(memory_claim, "_wanted", every(9, wanted, lambda *args: wanted(*args)[::-1]))


def forget_a_weight() -> AbstractContextManager[None]:
    """Queues that share by weight do not take turns: the first has all."""
    return replaced(Turns, "next", lambda self: next(iter(self._left), None))


def forget_to_age() -> AbstractContextManager[None]:
    """Where priorities age, they do not."""
    return replaced(memory_rows, "place_of", lambda _, priority, rank: (priority, rank))


def pass_a_group_over() -> AbstractContextManager[None]:
    """Now and then a claim takes a group for held up that is not."""

    def held(tables: Tables, row: Row, now: Now) -> str:
        return "paused" if row.options.group else blocked_by(tables, row, now)

    blocked_by = memory_lanes.blocked_by
    return replaced(memory_claim, "blocked_by", every(4, blocked_by, held))


def first_come_first_served() -> AbstractContextManager[None]:
    """A fair queue gives its tasks in their order, whoever has had his turn."""

    def first(tables: Tables, queue: str, rows: list[Row]) -> Row | None:
        return min(rows, key=lambda row: (row.priority, row.rank, row.id), default=None)

    return replaced(memory_fair, "first_of", first)


def forget_a_share() -> AbstractContextManager[None]:
    """In a fair queue all groups weigh the same."""
    return replaced(memory_fair, "next_turn", lambda time, weight: next_turn(time, 1))


def forget_a_death() -> AbstractContextManager[None]:
    """Now and then nothing follows a death."""
    return replaced(memory_state, "resolve_on_dead", every(3, followups.resolve_on_dead, lambda *_: None))


PLANTS: Final[Mapping[str, Callable[[], AbstractContextManager[None]]]] = {
    "": nothing,
    "forget-a-wakeup": forget_a_wakeup,
    "ignore-the-fence": ignore_the_fence,
    "answer-before-commit": answer_before_commit,
    "lose-a-claim": lose_a_claim,
    "two-of-a-thread": two_of_a_thread,
    "forget-a-cap": forget_a_cap,
    "spend-no-token": spend_no_token,
    "leave-a-lane-shut": leave_a_lane_shut,
    "an-instant-twice": an_instant_twice,
    "an-instant-lost": an_instant_lost,
    "lose-a-fold": lose_a_fold,
    "let-a-duplicate-in": let_a_duplicate_in,
    "forget-an-edit": forget_an_edit,
    "take-the-last": take_the_last,
    "forget-a-weight": forget_a_weight,
    "forget-to-age": forget_to_age,
    "pass-a-group-over": pass_a_group_over,
    "first-come-first-served": first_come_first_served,
    "forget-a-share": forget_a_share,
    "forget-a-death": forget_a_death,
    **SET_PLANTS,
}
