"""Bugs put into the LMDB store on purpose: the agreement machine must find each of them.

This is the test of the tests. Each bug is one function of the store made wrong in a way that a person might. The
checkers are not asked, so that what finds it is that the two stores disagree, or that a property fails; one bug only
litters, and is for the checker to find.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from msgspec.structs import replace

from lmdbq import limits
from lmdbq.errors import LmdbqError
from lmdbq.model import Report, State
from lmdbq.store import (
    lmdb_calls,
    lmdb_lanes,
    lmdb_ops_claim,
    lmdb_ops_report,
    lmdb_ops_timed,
    lmdb_plan,
    lmdb_sets,
    lmdb_standing,
    lmdb_tasks,
    lmdb_work,
)
from tests.agreement_machine import AgreementMachine
from tests.store_factories import FACTORIES

Plant = Callable[[pytest.MonkeyPatch], None]
SEARCH = settings(
    max_examples=1000,
    stateful_step_count=40,
    phases=[Phase.generate],
    derandomize=True,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


class WithCheckers(AgreementMachine):
    """The agreement machine as it is."""

    factory = staticmethod(FACTORIES["lmdb"])


class WithoutCheckers(WithCheckers):
    """The agreement machine, on what can be seen from outside alone."""

    asks_checkers = False


# --- the bugs ---


def a_removed_task_keeps_its_dedupe_slot(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lmdb_tasks, "release_slot", lambda work, task_id, record: None)


def a_key_is_free_as_soon_as_its_task_runs(patch: pytest.MonkeyPatch) -> None:
    blocks = lmdb_plan.Planner._is_blocked

    def forgiving(self: Any, taken: Any, rule: Any) -> bool:
        is_running = taken.draft is not None and taken.draft.state is State.RUNNING
        return not is_running and blocks(self, taken, rule)

    patch.setattr(lmdb_plan.Planner, "_is_blocked", forgiving)


def a_report_is_accepted_whatever_its_delivery(patch: pytest.MonkeyPatch) -> None:
    def report(work: Any, op: Report) -> Any:
        completions = []
        for completion in op.completions:
            found = lmdb_standing.find_lease(work, completion.id)
            completions.append(replace(completion, delivery=found[1].deliveries) if found else completion)
        return lmdb_ops_report.report(work, Report(completions))

    patch.setitem(lmdb_calls._RUNNERS, Report, report)


def a_run_that_is_split_loses_its_front(patch: pytest.MonkeyPatch) -> None:
    without = lmdb_standing.without
    patch.setattr(lmdb_standing, "without", lambda first, last, taken: without(first, last, taken)[-1:])


def a_dead_task_is_not_counted(patch: pytest.MonkeyPatch) -> None:
    count = lmdb_work.Work.count

    def forgetful(self: Any, queue_no: int, type_no: int, **moves: Any) -> None:
        if moves.get("enters") is not State.DEAD:
            count(self, queue_no, type_no, **moves)

    patch.setattr(lmdb_work.Work, "count", forgetful)


def promote_takes_what_is_due_in_a_second(patch: pytest.MonkeyPatch) -> None:
    promote = lmdb_ops_timed.promote

    def hasty(work: Any, op: Any, queues: Any) -> Any:
        now = work.now
        work.now = now._replace(wall=now.wall + limits.SECOND_NS)
        try:
            return promote(work, op, queues)
        finally:
            work.now = now

    patch.setattr(lmdb_ops_timed, "promote", hasty)


def a_set_forgets_a_member_that_expires(patch: pytest.MonkeyPatch) -> None:
    left = lmdb_sets.Sets.left

    def forgetful(self: Any, set_id: int, how: str) -> None:
        left(self, set_id, how if how != "expired" else "deleted")

    patch.setattr(lmdb_sets.Sets, "left", forgetful)


def a_claim_does_not_expire_what_is_overdue(patch: pytest.MonkeyPatch) -> None:
    def sweep(work: Any, queue: Any) -> None:
        lmdb_ops_timed.lapse(work, lmdb_ops_timed.Lapse(), [queue])
        lmdb_ops_timed.promote(work, lmdb_ops_timed.Promote(), [queue])

    patch.setattr(lmdb_ops_claim, "sweep_queue", sweep)


def a_heartbeat_is_answered_but_not_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lmdb_work.Work, "get_extension", lambda self, task_id, delivery, boot_no: None)


def a_failed_task_keeps_its_place_in_the_order(patch: pytest.MonkeyPatch) -> None:
    change_state = lmdb_tasks.change_state

    def stubborn(work: Any, task: Any, state: State, ready: Any = None) -> None:
        if state is State.READY:
            task.history.rank = 0
        change_state(work, task, state, ready)

    patch.setattr(lmdb_tasks, "change_state", stubborn)


def an_idempotency_key_is_not_remembered(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lmdb_calls, "remember", lambda work, call, done: None)


def a_thread_gives_up_its_head_when_it_is_tried_again(patch: pytest.MonkeyPatch) -> None:
    stopped = lmdb_lanes.Lanes.stopped

    def forgetful(self: Any, task: Any, *, is_running: bool, keeps_head: bool) -> None:
        stopped(self, task, is_running=is_running, keeps_head=False)

    patch.setattr(lmdb_lanes.Lanes, "stopped", forgetful)


def a_full_group_that_is_freed_is_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    wanted = lmdb_lanes.Lanes._wanted

    def stubborn(self: Any, lane: Any, known: Any) -> Any:
        return known if not known and not lane.is_thread and lane.record.settings else wanted(self, lane, known)

    patch.setattr(lmdb_lanes.Lanes, "_wanted", stubborn)


BUGS: list[Plant] = [
    a_key_is_free_as_soon_as_its_task_runs,
    a_report_is_accepted_whatever_its_delivery,
    a_run_that_is_split_loses_its_front,
    a_dead_task_is_not_counted,
    promote_takes_what_is_due_in_a_second,
    a_claim_does_not_expire_what_is_overdue,
    a_heartbeat_is_answered_but_not_kept,
    a_failed_task_keeps_its_place_in_the_order,
    an_idempotency_key_is_not_remembered,
    a_thread_gives_up_its_head_when_it_is_tried_again,
    a_full_group_that_is_freed_is_not_looked_at,
    a_set_forgets_a_member_that_expires,
]


def assert_found(machine: type[AgreementMachine]) -> None:
    with pytest.raises((AssertionError, LmdbqError)):
        run_state_machine_as_test(machine, settings=SEARCH)


@pytest.mark.parametrize("plant", BUGS)
def test_a_planted_bug_is_found_by_disagreement(plant: Plant, monkeypatch: pytest.MonkeyPatch):
    plant(monkeypatch)

    assert_found(WithoutCheckers)


def test_a_planted_litter_bug_is_found_by_the_checker(monkeypatch: pytest.MonkeyPatch):
    a_removed_task_keeps_its_dedupe_slot(monkeypatch)

    assert_found(WithCheckers)
