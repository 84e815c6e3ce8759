"""The agreement machine: two stores are told the same random things, must answer the same, and keep the properties.

``AgreementMachine`` is open in one point, ``factory``: what makes the store that is compared with the memory store.
Each property of a queue that can be seen from outside is an invariant or an assertion with its name. Problems are
compared without their sentences, and Prune without ``more`` (a store may have other leftovers to remove).
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from lmdbq import lifecycle, precedence
from lmdbq.clock import ManualClock
from lmdbq.lifecycle import Event
from lmdbq.model import (
    DEFAULT_SETTINGS,
    Call,
    CallOutcome,
    Cancel,
    Claim,
    Claimed,
    Completion,
    Delete,
    Done,
    Edit,
    Enqueue,
    Enqueued,
    Expire,
    Extend,
    Extension,
    Filter,
    Fire,
    Lapse,
    Op,
    Order,
    Outcome,
    Promote,
    Prune,
    Purge,
    QueueDelete,
    QueueView,
    Refill,
    Refused,
    Report,
    Retry,
    SetClose,
    State,
    Status,
    Swept,
    Task,
    TypeSettings,
)
from lmdbq.sharing import is_weighted, parent_of
from lmdbq.store.base import Store
from lmdbq.store.memory import MemoryStore
from tests import agreement_calls as drawn
from tests.store_driver import Driver
from tests.store_factories import Factory, memory

_OPTION_NAMES = {"keepalive_timeout_in_seconds": "keepalive_ns", "retry_strategy": "retry"}
_LANE_REASONS = ("thread", "rate_limited", "paused", "max_running")
_LIVE = (State.SCHEDULED, State.READY, State.RUNNING)
_QUICK_DIRECTORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
_SWEEPS = {Event.PROMOTE, Event.LAPSE, Event.EXPIRE}
_DEATHS = {Event.ENQUEUE, Event.EXPIRE, Event.EDIT, Event.PRUNE}  # what follows one; that a queue keeps so many
_EVENTS: dict[type, set[Event]] = {
    Enqueue: {Event.ENQUEUE, Event.EXPIRE, Event.EDIT},
    Claim: {Event.CLAIM, *_SWEEPS, *_DEATHS},
    Report: {Event.SUCCEED, Event.FAIL, Event.RELEASE, *_DEATHS},
    Cancel: {Event.CANCEL, *_DEATHS},
    Edit: _DEATHS,
    Delete: {Event.DELETE, *_DEATHS},
    Retry: {Event.RETRY, *_DEATHS},
    Purge: {Event.DELETE},
    QueueDelete: {Event.DELETE},
    Promote: {Event.PROMOTE},
    Lapse: {Event.LAPSE, *_DEATHS},
    Expire: _DEATHS,
    Prune: {Event.PRUNE, *_DEATHS},
    SetClose: _DEATHS,
    Fire: {Event.ENQUEUE, Event.EXPIRE, Event.EDIT},
}


@cache
def reachable(start: State | None, events: frozenset[Event]) -> frozenset[State | None]:
    """Return the states that ``events`` may lead to from ``start``. What is removed never comes back."""
    found = {start}
    open_ends = [start]
    while open_ends:
        state = open_ends.pop()
        for event in events:
            more = lifecycle.MOVES.get((state, event), frozenset()) - found
            found |= more
            open_ends += [after for after in more if after is not None]
    return frozenset(found)


def overwritable_fields(task: Task) -> dict[str, Any]:
    """Return the value of each field of ``OVERWRITABLE``, state and due time belonging to scheduled_at."""
    special = {
        "payload": (task.payload, task.encoding),
        "scheduled_at": (task.scheduled_at, task.state, task.due_at),
    }
    plain = {name: getattr(task, name) for name in ("type", "priority", "expires_at")}
    names = ("keepalive_timeout_in_seconds", "retry_strategy", "keep", "tags", "metadata")
    return special | plain | {name: getattr(task.options, _OPTION_NAMES.get(name, name)) for name in names}


class AgreementMachine(RuleBasedStateMachine):
    """Two stores, one clock."""

    factory: ClassVar[Factory] = staticmethod(memory)
    asks_checkers: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="lmdbq-agreement-", dir=_QUICK_DIRECTORY))
        self.clock = ManualClock()
        self.model = MemoryStore()
        self.store: Store = self.factory(self.directory / "store")
        self.ids: list[int] = []
        self.leases: list[tuple[int, int]] = []
        self.sets: list[int] = []
        self.tasks: dict[int, Task] = {}
        self.queues: dict[str, QueueView] = {}
        self.retried: set[int] = set()  # by hand, which makes a task ready whatever its schedule
        self.latest: dict[int, tuple[int, int]] = {}  # task -> its scheduled_at, and the latest now it has had it

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)

    # --- rules

    @rule(op=drawn.enqueues)
    def enqueue(self, op: Op) -> None:
        self._tell(Call((op,)))

    @rule(op=drawn.duplicates)
    def enqueue_duplicates(self, op: Op) -> None:
        self._tell(Call((op,)))

    @rule(op=drawn.plain_enqueues | drawn.uniform_enqueues)
    def enqueue_a_plain_batch(self, op: Op) -> None:
        self._tell(Call((op,)))

    @rule(op=drawn.claims)
    def claim(self, op: Op) -> None:
        self._tell(Call((op,)))

    @rule(limit=st.integers(1, 9))
    def claim_whatever_there_is(self, limit: int) -> None:
        self._tell(Call((Claim(("a", "b"), limit=limit),)))

    @precondition(lambda self: self.leases)
    @rule(op=drawn.reports)
    def report(self, op: Op) -> None:
        self._tell(Call((op,)))

    @precondition(lambda self: self.leases)
    @rule(op=drawn.heartbeats)
    def extend(self, op: Op) -> None:
        self._tell(Call((op,)))

    @precondition(lambda self: self._running())
    @rule(symbol=st.integers(0, 9), said=drawn.completions)
    def end_an_attempt(self, symbol: int, said: Completion) -> None:
        running = self._running()
        task = running[symbol % len(running)]
        self._apply([Call((Report([replace(said, id=task.id, delivery=task.deliveries)]),))])

    @precondition(lambda self: self._running())
    @rule(delay_ns=st.sampled_from([0, 0, None]))
    def fail_and_be_tried_again(self, delay_ns: int | None) -> None:
        task = self._running()[-1]
        said = Completion(task.id, task.deliveries, Status.FAILED, delay_ns=delay_ns)
        self._apply([Call((Report([said]),))])

    @precondition(lambda self: self._running())
    @rule(symbol=st.integers(0, 9), said=drawn.extensions)
    def send_a_heartbeat(self, symbol: int, said: Extension) -> None:
        running = self._running()
        task = running[symbol % len(running)]
        self._apply([Call((Extend((replace(said, id=task.id, delivery=task.deliveries),)),))])

    @precondition(lambda self: self.ids)
    @rule(op=drawn.changes)
    def change_tasks(self, op: Op) -> None:
        self._tell(Call((op,)))

    @rule(op=drawn.sweeps)
    def sweep(self, op: Op) -> None:
        self._tell(Call((op,)))

    @rule(op=drawn.queue_settings)
    def change_a_queue(self, op: Op) -> None:
        self._tell(Call((op,)))

    @rule(op=drawn.type_changes)
    def register_a_type(self, op: Op) -> None:
        self._tell(Call((op,)))

    @rule(op=drawn.schedule_changes)
    def change_a_schedule(self, op: Op) -> None:
        self._tell(Call((op,)))

    @rule(op=drawn.fires)
    def fire(self, op: Op) -> None:
        self._tell(Call((op,)))

    @rule(op=drawn.lane_enqueues)
    def enqueue_into_lanes(self, op: Op) -> None:
        self._tell(Call((op,)))

    @rule(ops=drawn.whole_sets)
    def make_a_set_with_members(self, ops: tuple[Op, ...]) -> None:
        self._tell(Call(ops))

    @precondition(lambda self: self.sets)
    @rule(op=drawn.members(drawn.SETS))
    def add_to_a_set(self, op: Op) -> None:
        self._tell(Call((op,)))

    @precondition(lambda self: self.sets)
    @rule(op=drawn.set_changes)
    def change_a_set(self, op: Op) -> None:
        self._tell(Call((op,)))

    @rule(op=drawn.group_changes)
    def change_a_group(self, op: Op) -> None:
        self._tell(Call((op,)))

    @rule(calls=st.lists(drawn.calls, min_size=2, max_size=4))
    def apply_several_calls(self, calls: list[Call]) -> None:
        self._tell(*calls)

    @rule(call=drawn.calls)
    def apply_a_call_whose_last_op_is_refused(self, call: Call) -> None:
        call = drawn.resolve(call, self.ids, self.leases, self.sets)
        before = self._image()
        self._apply([Call((*call.ops, Purge("never there")))])
        assert self._image() == before, "a refused call left a trace"

    @rule(seconds=st.sampled_from([0.5, 1, 1, 1, 2, 2, 5, 60, 4000]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([-3600, -1, 7200, 86_400]))
    def step_the_wall_clock(self, seconds: int) -> None:
        before = self._due()
        self.clock.step(seconds)
        assert self._due() == before, "a step of the wall clock moved a lease or a schedule"

    @rule()
    def reboot(self) -> None:
        self.clock.reboot()
        running = self._running()
        self._apply([Call((Lapse(),))])
        assert all(self.tasks[task.id].state is State.RUNNING for task in running), "a reboot lapsed a lease"

    @precondition(lambda self: self._stale_leases())
    @rule(symbol=st.integers(0, 9), status=st.sampled_from([Status.SUCCEEDED, Status.FAILED, Status.RELEASED]))
    def use_a_stale_lease(self, symbol: int, status: Status) -> None:
        stale = self._stale_leases()
        task_id, delivery = stale[symbol % len(stale)]
        before = self._image()
        done = self._apply([Call((Report((Completion(task_id, delivery, status),)), _heartbeat(task_id, delivery)))])
        assert {outcome.outcomes[0].outcome for outcome in done[0].outcomes} <= {
            Outcome.STALE_LEASE,
            Outcome.NOT_FOUND,
        }
        assert self._image() == before, "a stale lease changed something"

    @rule(wanted=drawn.filters, limit=st.sampled_from([1, 3, 1000]))
    def read_with_a_filter(self, wanted: Filter, limit: int) -> None:
        left, right = (Driver(store, self.clock).all_tasks(wanted, limit) for store in (self.model, self.store))
        assert left == right
        assert self.model.count(wanted) == self.store.count(wanted) == len(left)

    # --- invariants: the stores agree

    @invariant()
    def every_read_agrees(self) -> None:
        laned = {task.queue for task in self.tasks.values() if task.state is State.READY and _lane(task)}
        assert [_agreed_view(view, laned) for view in self.store.queues()] == [
            _agreed_view(view, laned) for view in self.model.queues()
        ]
        assert self.store.schedules() == self.model.schedules()
        assert self.store.sets() == self.model.sets()
        assert self.store.types() == self.model.types()
        assert Driver(self.model, self.clock).all_tasks() == Driver(self.store, self.clock).all_tasks()
        for task_id in (*self.ids[-9:], max(self.ids, default=0) + 1):
            assert self.store.task(task_id, self.clock) == self.model.task(task_id, self.clock)
        left, right = self.model.due(self.clock), self.store.due(self.clock)
        times = (left.fire_at, left.promote_at, left.expire_at)
        assert times == (right.fire_at, right.promote_at, right.expire_at)
        assert (left.lapse_in_ns is None) == (right.lapse_in_ns is None)
        assert left.lapse_in_ns is None or right.lapse_in_ns <= max(left.lapse_in_ns, 0), "a lapse would come too late"
        assert not left.prune_at or 0 < right.prune_at <= left.prune_at
        assert left.refill_in_ns is None or right.refill_in_ns <= max(left.refill_in_ns, 0), (
            "a token would come too late"
        )
        assert self.store.info().last_id == self.model.info().last_id
        assert self.store.groups(self.clock) == self.model.groups(self.clock)
        assert self.store.group_rules() == self.model.group_rules()
        for queue in (*self.queues, "nowhere"):
            assert self.store.threads(queue) == self.model.threads(queue)

    @invariant()
    def both_checkers_are_clean(self) -> None:
        if self.asks_checkers:
            assert self.model.check() == []
            assert self.store.check() == []

    # --- invariants: properties of a queue

    @invariant()
    def counts_equal_a_recount(self) -> None:
        recount = Counter((task.queue, task.type, task.state.word) for task in self.tasks.values())
        told = {
            (view.name, type_, word): number
            for view in self.store.queues()
            for type_, by_state in view.counts.items()
            for word, number in by_state.items()
        }
        assert told == dict(recount)

    @invariant()
    def a_key_with_one_rule_is_held_by_one_live_task(self) -> None:
        live = [task for task in self.tasks.values() if task.state in _LIVE and task.options.dedupe]
        holders = Counter(task.queue for task in live if task.options.dedupe.key == drawn.STRICT_KEY)
        assert all(number == 1 for number in holders.values()), holders

    @invariant()
    def at_most_max_attempts_are_shown(self) -> None:
        assert all(task.attempts <= task.max_attempts for task in self.tasks.values())

    # --- one apply

    def _tell(self, *calls: Call) -> None:
        self._apply([drawn.resolve(call, self.ids, self.leases, self.sets) for call in calls])

    def _apply(self, calls: Sequence[Call]) -> list[CallOutcome]:
        self._look()
        before, queues_before = self.tasks, self.queues
        left = self.model.apply(calls, self.clock)
        right = self.store.apply(calls, self.clock)
        for call, one, other in zip(calls, left.outcomes, right.outcomes, strict=True):
            assert _comparable(call, other) == _comparable(call, one), call
        self._look()
        self.retried |= {task_id for call in calls for op in call.ops if isinstance(op, Retry) for task_id in op.ids}
        if all(isinstance(outcome, Refused) for outcome in right.outcomes):
            assert self.tasks == before, "refused calls left a trace"
        self._new_ids_rise(right.outcomes)
        self._claims_are_right(calls, right.outcomes, before)
        self._moves_are_in_the_lifecycle(calls, before)
        self._overwrites_change_the_listed_fields_only(calls, right.outcomes, before, queues_before)
        self._later_entries_see_earlier_ones(calls, right.outcomes)
        self._stirred_names_what_changed(right.stirred, before)
        return right.outcomes

    def _look(self) -> None:
        self.tasks = {task.id: task for task in Driver(self.model, self.clock).all_tasks()}
        self.queues = {view.name: view for view in self.model.queues()}
        self.sets = [one.id for one in self.model.sets()]
        now = self.clock.wall_ns()
        for task in self.tasks.values():
            scheduled_at, seen = self.latest.get(task.id, (task.scheduled_at, now))
            self.latest[task.id] = (task.scheduled_at, max(now, seen) if scheduled_at == task.scheduled_at else now)

    def _new_ids_rise(self, outcomes: Sequence[CallOutcome]) -> None:
        fresh = {
            placed.id
            for _, enqueued in _fresh(outcomes, Enqueued)
            for placed in map(enqueued.placed, range(len(enqueued.ids)))
            if placed.outcome is Outcome.ENQUEUED
        }
        assert min(fresh, default=0) > max(self.ids, default=-1) or not fresh, "an id did not rise"
        spawned = {task_id for task_id in self.tasks if task_id > max(self.ids, default=-1)}
        self.ids += sorted(fresh | spawned)

    def _claims_are_right(
        self, calls: Sequence[Call], outcomes: Sequence[CallOutcome], before: dict[int, Task]
    ) -> None:
        now = self.clock.wall_ns()
        for place, claimed in _fresh(outcomes, Claimed):
            handed = [(task.id, task.deliveries) for task in claimed.tasks]
            again = [lease for lease in handed if lease in self.leases]
            if again:  # answered once more to its claim_id, and nothing else beside it
                assert again == handed
                continue
            assert len(set(handed)) == len(handed), "a task was handed out twice"
            for task in claimed.tasks:
                assert task.deliveries > max((d for id_, d in self.leases if id_ == task.id), default=0)
                assert not task.expires_at or now < task.expires_at, "handed out after its end"
                seen = max(now, self.latest.get(task.id, (0, now))[1])
                assert seen >= task.scheduled_at or task.id in self.retried, "handed out early"
            self.leases += handed
            if len(calls) == 1 and len(calls[0].ops) == 1:
                self._claim_takes_the_best(calls[place].ops[0], claimed, before)

    def _claim_takes_the_best(self, op: Op, claimed: Claimed, before: dict[int, Task]) -> None:
        assert isinstance(op, Claim)
        members = {name for name in self.queues if name in op.queues or parent_of(name) in op.queues}
        said = [self.queues[name].settings for name in members]
        is_fair = any(one.order is Order.FAIR for one in said)  # whose turn it was cannot be seen from outside
        if is_weighted(said) or len({one.priority for one in said}) > 1 or is_fair:
            return
        rows = self.model._tables.rows

        def place(task_id: int) -> tuple[int, int, int]:
            return rows[task_id].order(self.queues[rows[task_id].queue].settings)

        order = [place(task.id) for task in claimed.tasks]
        assert order == sorted(order), "not in the order of priority, rank and id"
        left_over = [
            place(task.id)
            for task in self.tasks.values()
            if task.state is State.READY
            and task.id in before  # else a death in the claim has made it
            and task.queue in members
            and (not op.types or task.type in op.types)
            and not self.queues[task.queue].blocked_by
            and not task.waiting_for
            and self.queues[task.queue].settings.rate is None
        ]
        assert not order or not left_over or order[-1] < min(left_over), "a better task was left behind"

    def _moves_are_in_the_lifecycle(self, calls: Sequence[Call], before: dict[int, Task]) -> None:
        events = frozenset(event for call in calls for op in call.ops for event in _EVENTS.get(type(op), ()))
        for task_id in before.keys() | self.tasks.keys():
            old, new = before.get(task_id), self.tasks.get(task_id)
            start, end = old.state if old else None, new.state if new else None
            assert end in reachable(start, events), f"{start} became {end}"

    def _overwrites_change_the_listed_fields_only(
        self,
        calls: Sequence[Call],
        outcomes: Sequence[CallOutcome],
        before: dict[int, Task],
        queues_before: dict[str, QueueView],
    ) -> None:
        if len(calls) != 1 or len(calls[0].ops) != 1:
            return
        for _, enqueued in _fresh(outcomes, Enqueued):
            op = calls[0].ops[0]
            assert isinstance(op, Enqueue)
            listed: dict[int, set[str]] = {}
            kinds = {kind.name: kind.settings for kind in self.model.types()}
            for index, given in enumerate(op.entries):
                known = queues_before.get(given.queue)
                own = known.settings if known else DEFAULT_SETTINGS
                rule = lifecycle.resolve_dedupe(
                    given, precedence.settings_of(kinds.get(given.type, TypeSettings()), own)
                )
                if enqueued.placed(index).outcome is Outcome.OVERWRITTEN:
                    assert rule is not None
                    listed.setdefault(enqueued.ids[index], set()).update(rule.overwrite)
            for task_id, old in before.items():
                new = self.tasks.get(task_id)
                if new is not None:
                    was, is_ = overwritable_fields(old), overwritable_fields(new)
                    assert {name for name in was if was[name] != is_[name]} <= listed.get(task_id, set())

    def _later_entries_see_earlier_ones(self, calls: Sequence[Call], outcomes: Sequence[CallOutcome]) -> None:
        for place, enqueued in _fresh(outcomes, Enqueued):
            ops = [op for op in calls[place].ops if isinstance(op, Enqueue)]
            if len(ops) != 1:
                continue
            ids_of_queue: dict[str, set[int]] = {}
            for index, (given, task_id) in enumerate(zip(ops[0].entries, enqueued.ids, strict=True)):
                if enqueued.placed(index).reason == "external_id":
                    continue  # it was asked for no key
                if given.options.dedupe and given.options.dedupe.key == drawn.STRICT_KEY:
                    ids_of_queue.setdefault(given.queue, set()).add(task_id)
            assert all(len(ids) == 1 for ids in ids_of_queue.values())

    def _stirred_names_what_changed(self, stirred: frozenset[str], before: dict[int, Task]) -> None:
        for task_id in before.keys() | self.tasks.keys():
            old, new = before.get(task_id), self.tasks.get(task_id)
            start, end = old and old.state, new and new.state
            queue = (new or old).queue  # type: ignore[union-attr]
            if start != end and (end is State.READY or start is State.RUNNING):
                assert queue in stirred, f"{queue} was not stirred by {start} -> {end}"

    # --- looks

    def _image(self) -> tuple[Any, ...]:
        return Driver(self.model, self.clock).image(), Driver(self.store, self.clock).image()

    def _due(self) -> list[tuple[int, int, int, int | None]]:
        return [(due.fire_at, due.promote_at, due.expire_at, due.lapse_in_ns) for due in (
            self.model.due(self.clock), self.store.due(self.clock))]  # fmt: skip

    def _running(self) -> list[Task]:
        return [task for task in self.tasks.values() if task.state is State.RUNNING]

    def _stale_leases(self) -> list[tuple[int, int]]:
        def is_stale(task_id: int, delivery: int) -> bool:
            task = self.tasks.get(task_id)
            return task is None or task.deliveries != delivery

        return [lease for lease in self.leases if is_stale(*lease)]


def _lane(task: Task) -> str:
    return task.options.thread or task.options.group


def _agreed_view(view: QueueView, laned: set[str]) -> QueueView:
    """Return what two stores must agree on: when a group was looked at last is their own affair."""
    return replace(view, oldest_ready_at=0) if view.name in laned else view


def _heartbeat(task_id: int, delivery: int) -> Extend:
    return Extend((Extension(task_id, delivery, progress=0.9),))


def _comparable(call: Call, outcome: CallOutcome) -> Any:
    """Return what two stores must agree on."""
    if isinstance(outcome, Refused):
        return outcome.code, [(problem.code, problem.pointer, problem.holder) for problem in outcome.problems]
    return Done(tuple(_agreed(call, one) for one in outcome.outcomes), outcome.replayed)


def _agreed(call: Call, outcome: Any) -> Any:
    if isinstance(outcome, Claimed) and outcome.reason in _LANE_REASONS:  # of any of the lanes, or of its queue
        return Claimed([], "a lane's", outcome.retry_at)
    if isinstance(outcome, Swept):
        if call.memo is not None or any(isinstance(op, Refill) for op in call.ops):
            return None
        return Swept(outcome.count) if any(isinstance(op, Prune) for op in call.ops) else outcome
    return outcome


def _fresh(outcomes: Sequence[CallOutcome], wanted: type) -> Iterator[tuple[int, Any]]:
    """Yield (place of the call, outcome) of all outcomes of a kind, those of replayed calls left out."""
    for place, done in enumerate(outcomes):
        if isinstance(done, Done) and not done.replayed:
            for outcome in done.outcomes:
                if isinstance(outcome, wanted):
                    yield place, outcome
