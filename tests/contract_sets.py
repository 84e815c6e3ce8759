"""What every store does with sets of tasks, and with what follows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lmdbq.ids import next_id
from lmdbq.model import (
    NEW_SET,
    Cancel,
    Claim,
    Condition,
    Dedupe,
    Delete,
    Edit,
    Enqueue,
    Entry,
    Expire,
    Filter,
    Keep,
    Lapse,
    Memo,
    OnDuplicate,
    Options,
    Outcome,
    Prune,
    Purge,
    QueueDelete,
    Retry,
    RetryStrategy,
    SetChanged,
    SetClose,
    SetDelete,
    SetMake,
    SetState,
    SetView,
    State,
    TaskSet,
)
from tests.store_driver import Driver, S, entry

CALLBACK = Entry(queue="after", type="callback")
FAILED = Entry(queue="after", type="unmet")


def make(q: Driver, condition: Condition = Condition.ALL, **said: Any) -> int:
    """Return a new set; its callback is CALLBACK, and FAILED if it is not met."""
    task_set = TaskSet(**{"condition": condition, "callback": CALLBACK, "on_unmet": FAILED, **said})
    made: SetChanged = q.do(SetMake(task_set))
    assert made.state is SetState.OPEN
    return made.id


def of(q: Driver, set_id: int) -> SetView:
    one = q.store.set(set_id)
    assert one is not None
    return one


def counts(q: Driver, set_id: int) -> dict[str, int]:
    one = of(q, set_id)
    names = ("members", "pending", "succeeded", "dead", "cancelled", "expired", "deleted")
    return {name: number for name in names if (number := getattr(one, name))}


def followers(q: Driver) -> list[str]:
    """Return the types of what was enqueued for sets."""
    return [task.type for task in q.all_tasks(Filter(queue="after"))]


def succeed(q: Driver, task_id: int) -> None:
    assert q.take().id == task_id
    q.finish(task_id)


def die(q: Driver, task_id: int) -> None:
    task = q.take()
    assert task.id == task_id
    q.fail(task, retry=False)


def lapse(q: Driver, task_id: int) -> None:
    assert q.take().id == task_id
    q.clock.advance(3)
    q.sweep(Lapse())


def expire(q: Driver, task_id: int) -> None:
    q.clock.advance(3600)
    q.sweep(Expire())


def expire_for_another(q: Driver, task_id: int) -> None:
    q.clock.advance(3600)
    q.enqueue(entry(dedupe="k"), entry(), create_queues=False)


def expire_in_a_claim(q: Driver, task_id: int) -> None:
    q.clock.advance(3600)
    assert q.claim().tasks == []


def expire_in_an_edit(q: Driver, task_id: int) -> None:
    q.clock.advance(3600)
    assert q.edit(task_id, "priority", priority=1).outcome is Outcome.GONE


def cancel_a_running_one(q: Driver, task_id: int) -> None:
    task = q.take()
    q.cancel(task_id)
    q.fail(task)


def delete_a_running_one(q: Driver, task_id: int) -> None:
    q.take()
    q.delete(task_id)


def purge(q: Driver, task_id: int) -> None:
    q.do(Purge("default"))
    q.sweep(Prune())


def purge_a_running_one(q: Driver, task_id: int) -> None:
    q.take()
    purge(q, task_id)


def delete_its_queue(q: Driver, task_id: int) -> None:
    q.do(QueueDelete("default"))
    q.sweep(Prune())


ENDS: dict[Callable[[Driver, int], None], str] = {
    succeed: "succeeded",
    die: "dead",
    lapse: "dead",
    lambda q, task_id: q.cancel(task_id): "cancelled",  # type: ignore[dict-item, return-value]
    cancel_a_running_one: "cancelled",
    expire: "expired",
    expire_for_another: "expired",
    expire_in_a_claim: "expired",
    expire_in_an_edit: "expired",
    lambda q, task_id: q.delete(task_id): "deleted",  # type: ignore[dict-item, return-value]
    delete_a_running_one: "deleted",
    purge: "deleted",
    purge_a_running_one: "deleted",
    delete_its_queue: "deleted",
}
MEMBER: dict[str, Any] = {"expires_in_ns": 600 * S, "dedupe": "k", "keepalive_ns": 2 * S}


class SetContract:
    """set_id: a member of a set; and what the set does."""

    # --- how members end ---

    @pytest.mark.parametrize("is_kept", [True, False])
    @pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
    def test_however_a_member_ends_it_counts_once_and_the_set_is_decided(
        self, q: Driver, end: Callable[[Driver, int], None], is_kept: bool
    ):
        keep = Keep(S, S, S) if is_kept else Keep(0, 0, 0)
        q.put_queue(retry=RetryStrategy(max_attempts=1))
        set_id = make(q)
        task_id = q.add(set_id=set_id, keep=keep, **MEMBER)
        q.do(SetClose(set_id))
        assert counts(q, set_id) == {"members": 1, "pending": 1}

        end(q, task_id)

        how = ENDS[end]
        is_met = how == "succeeded"
        assert counts(q, set_id) == {"members": 1, how: 1}
        assert of(q, set_id).state is (SetState.MET if is_met else SetState.UNMET)
        assert followers(q) == ["callback" if is_met else "unmet"]

    def test_one_that_is_tried_again_or_handed_back_is_not_over(self, q: Driver):
        set_id = make(q)
        q.add(set_id=set_id)
        q.do(SetClose(set_id))

        q.fail(q.take(), delay_ns=0)
        q.release(q.take())
        q.release(q.take(), delay_ns=S)

        assert counts(q, set_id) == {"members": 1, "pending": 1}
        assert followers(q) == []

    # --- conditions ---

    @pytest.mark.parametrize(
        ("condition", "ends", "state"),
        [
            (Condition.ALL, "ss", SetState.MET),
            (Condition.ALL, "sd", SetState.UNMET),
            (Condition.ANY, "dd", SetState.UNMET),
            (Condition.ANY, "ds", SetState.MET),
            (Condition.FINISHED, "dd", SetState.MET),
            (Condition.FINISHED, "ss", SetState.MET),
            (Condition.ALL, "", SetState.MET),
            (Condition.ANY, "", SetState.UNMET),
            (Condition.FINISHED, "", SetState.MET),
        ],
    )
    def test_conditions(self, q: Driver, condition: Condition, ends: str, state: SetState):
        set_id = make(q, condition)
        for how in ends:
            task_id = q.add(set_id=set_id)
            (succeed if how == "s" else die)(q, task_id)
        decided_early = condition is Condition.ANY and "s" in ends
        assert of(q, set_id).state is (SetState.MET if decided_early else SetState.OPEN)

        q.do(SetClose(set_id))

        one = of(q, set_id)
        assert (one.state, one.ended_at, one.remove_at) == (state, q.now, q.now + one.set.keep_ns)
        assert followers(q) == ["callback" if state is SetState.MET else "unmet"]

    def test_any_is_decided_by_the_first_success_while_others_wait(self, q: Driver):
        set_id = make(q, Condition.ANY)
        first, second = (q.add(set_id=set_id) for _ in range(2))
        succeed(q, first)
        assert (of(q, set_id).state, followers(q)) == (SetState.MET, ["callback"])

        succeed(q, second)
        q.do(SetClose(set_id))
        assert counts(q, set_id) == {"members": 2, "pending": 1, "succeeded": 1}, "it changes no more"
        assert followers(q) == ["callback"]

    def test_an_open_set_waits_for_more(self, q: Driver):
        set_id = make(q)
        succeed(q, q.add(set_id=set_id))
        assert (of(q, set_id).state, followers(q)) == (SetState.OPEN, [])
        succeed(q, q.add(set_id=set_id))
        q.do(SetClose(set_id))
        assert followers(q) == ["callback"]

    def test_a_set_without_callbacks_is_decided_as_well(self, q: Driver):
        set_id = make(q, callback=None, on_unmet=None)
        q.do(SetClose(set_id))
        assert (of(q, set_id).state, followers(q)) == (SetState.MET, [])

    # --- what follows ---

    def test_a_callback_without_a_payload_is_told_and_says_its_set(self, q: Driver):
        set_id = make(q)
        succeed(q, q.add(set_id=set_id))
        q.do(SetClose(set_id))

        (task,) = q.all_tasks(Filter(queue="after"))
        assert b'"state":"met","members":1,"succeeded":1,' in task.payload
        assert (task.options.callback_of, task.options.set_id) == (set_id, 0)

    def test_a_payload_of_its_own_stays_as_it_is(self, q: Driver):
        set_id = make(q, callback=Entry(b'{"n":1}', queue="after"))
        q.do(SetClose(set_id))
        assert [task.payload for task in q.all_tasks(Filter(queue="after"))] == [b'{"n":1}']

    def test_a_callback_whose_key_is_taken_is_skipped_and_the_report_is_not_refused(self, q: Driver):
        rule = Dedupe("k", on_duplicate=OnDuplicate.REJECT)
        q.add(queue="after", type="holder", dedupe="k")
        set_id = make(q, callback=Entry(queue="after", type="callback", options=Options(dedupe=rule)))
        task_id = q.add(set_id=set_id)
        q.do(SetClose(set_id))

        succeed(q, task_id)

        assert (of(q, set_id).state, followers(q)) == (SetState.MET, ["holder"])

    def test_a_repeated_report_adds_nothing(self, q: Driver):
        set_id = make(q, Condition.FINISHED)
        q.add(set_id=set_id, keep=Keep(succeeded_ns=600 * S))
        q.do(SetClose(set_id))
        task = q.take()
        for _ in range(3):
            assert q.succeed(task).outcome is Outcome.OK
        assert (counts(q, set_id), followers(q)) == ({"members": 1, "succeeded": 1}, ["callback"])

    def test_a_callback_joins_no_set(self, q: Driver):
        other = make(q)
        set_id = make(q, callback=entry(queue="after", set_id=other))
        q.do(SetClose(set_id))
        assert counts(q, other) == {}, "what is enqueued by itself joins nothing"

    def test_sets_that_one_call_decides_are_followed_in_the_order_of_their_ids(self, q: Driver):
        sets = [make(q, callback=Entry(queue="after", type=f"t{n}")) for n in range(3)]
        ids = [q.add(set_id=set_id) for set_id in reversed(sets)]
        for set_id in sets:
            q.do(SetClose(set_id))
        q.do(Cancel(tuple(ids[:2])), Delete((ids[2],)), *(Retry((one,)) for one in ids[:2]))
        assert [of(q, set_id).state for set_id in sets] == [SetState.UNMET] * 3
        assert len(followers(q)) == 3

    # --- joining ---

    def test_a_set_with_members_in_one_call(self, q: Driver):
        last_id = q.store.info().last_id
        made, enqueued, closed = q.do(
            SetMake(TaskSet(callback=CALLBACK)),
            Enqueue((entry(set_id=NEW_SET), entry(set_id=NEW_SET, delay_ns=S))),
            SetClose(NEW_SET),
        )
        assert made.id == next_id(last_id, q.now)
        assert closed == SetChanged(made.id, SetState.CLOSED)
        assert [q.task(task_id).options.set_id for task_id in enqueued.ids] == [made.id] * 2
        assert [task.id for task in q.all_tasks(Filter(set_id=made.id))] == enqueued.ids
        assert q.store.count(Filter(set_id=made.id)) == 2
        assert counts(q, made.id) == {"members": 2, "pending": 2}

    def test_new_set_is_that_of_the_same_call_only(self, q: Driver):
        make(q)
        assert q.refusal(Enqueue((entry(set_id=NEW_SET),))).code == "set_not_found"
        assert q.refusal(SetClose(NEW_SET)).problems[0].pointer == "/set_id"

    def test_a_refused_call_makes_no_set(self, q: Driver):
        q.add(dedupe="k")
        rejected = entry(set_id=NEW_SET, dedupe=Dedupe("k", on_duplicate=OnDuplicate.REJECT))
        refused = q.refusal(SetMake(), Enqueue((entry(set_id=NEW_SET), rejected)), SetClose(NEW_SET))
        assert refused.code == "duplicate"
        assert q.store.sets() == []

    def test_nobody_joins_a_set_that_is_closed_decided_or_unknown(self, q: Driver):
        closed, decided = make(q), make(q)
        q.add(set_id=closed)
        q.do(SetClose(closed), SetClose(decided))
        for set_id, code in ((closed, "set_closed"), (decided, "set_decided"), (5, "set_not_found")):
            refused = q.refusal(Enqueue((entry(), entry(set_id=set_id))))
            assert (refused.code, refused.problems[0].pointer) == (code, "/entries/1/set_id")

    def test_a_running_member_may_add_to_its_closed_set_with_its_lease(self, q: Driver):
        set_id, other = make(q), make(q)
        q.add(set_id=set_id)
        q.do(SetClose(set_id))
        task = q.take()
        lease = (task.id, task.deliveries)

        added = q.do(Enqueue((entry(set_id=set_id),), lease=lease)).ids[0]
        assert q.refusal(Enqueue((entry(set_id=set_id),), lease=(task.id, task.deliveries + 1))).code == "set_closed"
        q.add(set_id=other)
        q.do(SetClose(other))
        assert q.refusal(Enqueue((entry(set_id=other),), lease=lease)).code == "set_closed", "of another set"
        q.succeed(task)
        assert q.refusal(Enqueue((entry(set_id=set_id),), lease=lease)).code == "set_closed", "it runs no more"
        assert followers(q) == []
        succeed(q, added)
        assert (counts(q, set_id), followers(q)) == ({"members": 2, "succeeded": 2}, ["callback"])

    def test_a_duplicate_joins_nothing_and_an_overwritten_task_stays_in_its_set(self, q: Driver):
        first, second = make(q), make(q)
        task_id = q.add(set_id=first, dedupe="k")
        other_id = q.add(external_id="e")

        overwrite = Dedupe("k", overwrite=("payload",))
        done = q.enqueue(
            entry(set_id=second, dedupe="k"),
            entry(set_id=second, dedupe=overwrite, payload=b"2"),
            entry(set_id=second, external_id="e"),
        )

        assert [done.placed(n).outcome for n in range(3)] == [Outcome.SKIPPED, Outcome.OVERWRITTEN, Outcome.SKIPPED]
        assert (counts(q, first), counts(q, second)) == ({"members": 1, "pending": 1}, {})
        assert [q.task(one).options.set_id for one in (task_id, other_id)] == [first, 0]

    def test_a_new_task_that_a_later_entry_overwrites_is_one_member(self, q: Driver):
        set_id = make(q)
        overwrite = Dedupe("k", overwrite=("payload", "scheduled_at"))
        q.enqueue(entry(set_id=set_id, dedupe=overwrite), entry(set_id=set_id, dedupe=overwrite, delay_ns=S))
        assert counts(q, set_id) == {"members": 1, "pending": 1}

    def test_lanes_and_edits_change_nothing(self, q: Driver):
        set_id = make(q)
        task_id = q.add(set_id=set_id, thread="x")
        q.do(Edit(task_id, entry(priority=3, delay_ns=S), ("priority", "scheduled_at")))
        q.add(set_id=set_id, group="g")
        assert counts(q, set_id) == {"members": 2, "pending": 2}
        assert q.task(task_id).options.set_id == set_id

    # --- retried by hand ---

    @pytest.mark.parametrize("end", [die, lambda q, task_id: q.cancel(task_id)], ids=["dead", "cancelled"])
    def test_a_member_that_is_retried_by_hand_is_pending_again(self, q: Driver, end: Callable[[Driver, int], None]):
        set_id = make(q)
        task_id = q.add(set_id=set_id)
        end(q, task_id)
        q.put_queue("elsewhere")
        assert q.do(Retry((task_id,), "elsewhere")).outcomes[0].outcome is Outcome.OK
        q.do(SetClose(set_id))
        assert counts(q, set_id) == {"members": 1, "pending": 1}

        q.succeed(q.take("elsewhere"))
        assert (counts(q, set_id), followers(q)) == ({"members": 1, "succeeded": 1}, ["callback"])

    def test_once_the_set_is_decided_a_retry_is_no_matter_to_it(self, q: Driver):
        set_id = make(q)
        task_id = q.add(set_id=set_id)
        q.do(SetClose(set_id))
        die(q, task_id)
        before = of(q, set_id)

        q.retry(task_id)
        succeed(q, task_id)

        assert (of(q, set_id), followers(q)) == (before, ["unmet"])

    def test_a_dead_member_that_is_removed_was_dead(self, q: Driver):
        set_id = make(q)
        dead, purged = q.add_dead(set_id=set_id, keep=Keep(dead_ns=S)), q.add_dead(set_id=set_id)
        q.clock.advance(2)
        q.sweep(Prune())
        assert q.state(dead) is Outcome.GONE
        q.delete(purged)
        assert counts(q, set_id) == {"members": 2, "dead": 2}

    # --- its own life ---

    def test_it_is_forgotten_when_its_time_is_over(self, q: Driver):
        set_id = make(q, keep_ns=60 * S)
        q.do(SetClose(set_id))
        assert q.store.due(q.clock).prune_at == q.now + 60 * S
        q.clock.advance(59)
        q.sweep(Prune())
        assert of(q, set_id).state is SetState.MET
        q.clock.advance(1)
        q.sweep(Prune())
        assert q.store.set(set_id) is None
        assert q.refusal(SetClose(set_id)).code == "set_not_found"

    @pytest.mark.parametrize("closed", [True, False])
    def test_a_set_that_is_deleted_leaves_its_members(self, q: Driver, closed: bool):
        set_id = make(q)
        task_id = q.add(set_id=set_id)
        if closed:
            q.do(SetClose(set_id))
        assert q.do(SetDelete(set_id)) == SetChanged(set_id, None)
        succeed(q, task_id)
        assert (q.store.sets(), followers(q)) == ([], [])
        assert q.refusal(SetDelete(set_id)).code == "set_not_found"

    def test_a_decided_set_can_be_deleted(self, q: Driver):
        set_id = make(q)
        q.do(SetClose(set_id))
        q.do(SetDelete(set_id))
        q.clock.advance(30 * 86_400)
        q.sweep(Prune())
        assert q.store.sets() == []

    def test_closing_twice_is_harmless(self, q: Driver):
        set_id = make(q)
        assert q.do(SetClose(set_id)).state is SetState.CLOSED
        assert q.do(SetClose(set_id)).state is SetState.MET
        assert followers(q) == ["callback"]

    def test_pages_and_states(self, q: Driver):
        ids = [make(q) for _ in range(3)]
        q.do(SetClose(ids[1]))
        assert [one.id for one in q.store.sets()] == ids
        assert [one.id for one in q.store.sets(ids[0], 1)] == [ids[1]]
        assert [one.id for one in q.store.sets(states=(SetState.OPEN,))] == [ids[0], ids[2]]
        assert q.store.set(ids[2] + 1) is None is q.store.set(-1)

    def test_a_repeated_call_makes_one_set(self, q: Driver):
        memo = Memo("key", b"hash")
        ops = (SetMake(), Enqueue((entry(set_id=NEW_SET),)), SetClose(NEW_SET))
        first, again = q.call(*ops, memo=memo), q.call(*ops, memo=memo)
        assert first.outcomes == again.outcomes  # type: ignore[union-attr]
        assert len(q.store.sets()) == 1

    def test_its_ids_are_of_the_sequence_of_tasks(self, q: Driver):
        first = q.add()
        set_id = make(q)
        assert first < set_id < q.add()
        assert q.state(set_id) is Outcome.GONE

    def test_a_death_in_a_claim_decides_too(self, q: Driver):
        set_id = make(q, Condition.FINISHED)
        task_id = q.add(set_id=set_id, retry=RetryStrategy(max_attempts=1, max_deliveries=1))
        q.do(SetClose(set_id))
        q.release(q.take())
        assert q.do(Claim(("default",))).tasks == []
        assert (q.task(task_id).state, followers(q)) == (State.DEAD, ["callback"])
