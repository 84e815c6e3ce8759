"""What every store does about a queue whose order is fair: its groups take turns, by their weights."""

from __future__ import annotations

from collections import Counter

from lmdbq.model import (
    GroupPut,
    GroupRule,
    GroupSettings,
    Order,
    Purge,
    QueueDelete,
    QueuePatch,
    QueueSettings,
    RulePut,
    State,
)
from tests.store_driver import Driver, entry


def backlog(q: Driver, *groups: str, number: int = 6, **said: object) -> None:
    """Enqueue ``number`` tasks of each group, one group after the other; "" is no group."""
    for group in groups:
        q.enqueue(*(entry(group=group, **said) for _ in range(number)))


def takes(q: Driver, number: int, *queues: str, limit: int = 1, **said: object) -> list[str]:
    """Return from which groups ``number`` claims take."""
    return [task.options.group for _ in range(number) for task in q.claim(*queues, limit=limit, **said).tasks]


def weigh(q: Driver, **weights: int) -> None:
    for group, weight in weights.items():
        q.do(GroupPut(group, GroupSettings(weight=weight)))


class FairContract:
    """Turns of groups within a queue."""

    def test_groups_take_turns_whoever_came_first(self, q: Driver):
        q.put_queue(order=Order.FAIR)
        backlog(q, "a", "b", "c", number=3)

        assert takes(q, 9) == ["a", "b", "c"] * 3

    def test_a_large_claim_goes_as_many_small_ones_do(self, q: Driver):
        q.put_queue(order=Order.FAIR)
        weigh(q, a=3)
        backlog(q, "a", "b", "", number=20)

        assert Counter(takes(q, 1, limit=20)) == {"a": 12, "b": 4, "": 4}
        assert Counter(takes(q, 20)) == {"a": 8, "b": 6, "": 6}

    def test_a_rule_gives_weights_too(self, q: Driver):
        q.put_queue(order=Order.FAIR)
        q.do(RulePut(GroupRule("paid:*", GroupSettings(weight=4))))
        backlog(q, "free:1", "paid:1", number=20)

        assert Counter(takes(q, 20)) == {"paid:1": 16, "free:1": 4}

    def test_a_weight_that_changes_holds_from_the_next_turn_on(self, q: Driver):
        q.put_queue(order=Order.FAIR)
        backlog(q, "a", "b", number=30)
        assert Counter(takes(q, 10)) == {"a": 5, "b": 5}

        weigh(q, b=9)
        takes(q, 2)

        assert Counter(takes(q, 20)) == {"a": 2, "b": 18}

    def test_within_a_group_and_within_the_others_the_order_is_strict(self, q: Driver):
        q.put_queue(order=Order.FAIR)
        late = q.add(group="a", type="t", delay_ns=2_000)
        q.clock.advance(0.000001)
        first = [q.add(group="a", type=type_) for type_ in "utu"]
        plain = [q.add(type=type_) for type_ in "tut"]
        q.clock.advance(1)

        ids = q.claim_ids()

        assert [task_id for task_id in ids if task_id in (*first, late)] == [*first, late]
        assert [task_id for task_id in ids if task_id in plain] == plain

    def test_what_has_no_group_is_one_party_threads_included(self, q: Driver):
        q.put_queue(order=Order.FAIR)
        for thread in ("x", "y", "z", "", "", ""):
            q.add(thread=thread)
        backlog(q, "a")

        assert takes(q, 12) == ["", "a"] * 6

    def test_priority_stays_above_the_order(self, q: Driver):
        q.put_queue(order=Order.FAIR)
        backlog(q, "a", "b", number=2)
        backlog(q, "a", "", number=2, priority=-1)

        assert takes(q, 4) == ["", "a", "", "a"]
        assert Counter(takes(q, 4)) == {"a": 2, "b": 2}

    def test_who_had_nothing_for_long_is_not_made_up_for(self, q: Driver):
        q.put_queue(order=Order.FAIR)
        backlog(q, "a", number=30)
        takes(q, 20)

        backlog(q, "b", "", number=10)

        assert Counter(takes(q, 9)) == {"a": 3, "b": 3, "": 3}

    def test_eddyq_7_46_a_stream_of_new_groups_and_of_tasks_without_one_starves_nobody(self, q: Driver):
        q.put_queue(order=Order.FAIR)
        backlog(q, "waits", number=5)
        taken: list[str] = []
        for number in range(30):
            q.add()
            backlog(q, f"new {number}", number=1)
            taken += takes(q, 2)

        assert taken.count("waits") == 5
        assert taken.index("waits") < 4

    def test_a_group_that_is_empty_after_each_task_does_not_go_before_others(self, q: Driver):
        q.put_queue(order=Order.FAIR)
        backlog(q, "waits", number=10)
        taken: list[str] = []
        for _ in range(10):
            backlog(q, "again", number=1)
            (task,) = q.claim().tasks
            q.succeed(task)
            taken.append(task.options.group)

        assert Counter(taken) == {"waits": 5, "again": 5}

    def test_a_capped_group_holds_up_nobody_and_keeps_its_turn(self, q: Driver):
        q.put_queue(order=Order.FAIR)
        q.do(GroupPut("a", GroupSettings(max_running=1)))
        backlog(q, "a", "b", number=9)
        (held,) = q.claim().tasks
        assert takes(q, 4) == ["b"] * 4

        q.succeed(held)

        assert takes(q, 2) == ["a", "b"]

    def test_a_claim_of_one_type_takes_turns_among_those_that_have_it(self, q: Driver):
        q.put_queue(order=Order.FAIR)
        backlog(q, "a", number=4, type="t")
        backlog(q, "b", number=4, type="u")
        assert takes(q, 3, types=("t",)) == ["a"] * 3

        assert takes(q, 3) == ["b", "a", "b"]

    def test_the_order_may_change_at_any_time(self, q: Driver):
        backlog(q, "a", "b", number=4)
        assert takes(q, 2) == ["a", "a"]

        q.put_queue(order=Order.FAIR)
        assert sorted(takes(q, 2)) == ["a", "b"]

        q.do(QueuePatch("default", QueueSettings(), ("order",)))
        assert takes(q, 4) == ["a", "b", "b", "b"]

    def test_between_queues_the_task_that_is_next_counts(self, q: Driver):
        q.put_queue("fair", order=Order.FAIR)
        for group in "aa":
            q.add(queue="fair", group=group)
        q.add(queue="plain")
        q.add(queue="fair", group="b")

        assert takes(q, 4, "fair", "plain") == ["a", "", "b", "a"]

    def test_a_purge_keeps_the_time_of_the_others(self, q: Driver):
        q.put_queue(order=Order.FAIR)
        backlog(q, "a", "", number=9)
        takes(q, 9)
        q.do(Purge("default"))
        backlog(q, "", "a", number=4)
        assert Counter(takes(q, 4)) == {"": 2, "a": 2}

        q.do(QueueDelete("default"))
        q.put_queue(order=Order.FAIR)
        backlog(q, "b", "", number=4)
        assert takes(q, 4) == ["", "b", "", "b"]

    def test_a_failed_task_waits_for_a_turn_of_its_group(self, q: Driver):
        q.put_queue(order=Order.FAIR)
        backlog(q, "a", "b", number=3)
        for _ in range(9):
            (task,) = q.claim().tasks
            if task.deliveries == 1 and task.options.group == "a":
                q.fail(task, delay_ns=0)
            else:
                q.succeed(task)

        assert q.number(State.READY) == 0
