"""What every store does about settings of queues that order or slow down claims (rates, weights, ageing, sub-queues),
and about the number of dead tasks that a queue keeps."""

from __future__ import annotations

from collections import Counter

import pytest

from lmdbq import limits
from lmdbq.model import Keep, Order, Prune, Purge, QueueDelete, Rate, State
from tests.store_driver import Driver, S, entry

BULK = 40


def fill(q: Driver, *queues: str, number: int = BULK) -> None:
    for name in queues:
        q.enqueue(*(entry(queue=name) for _ in range(number)))


def takes(q: Driver, *queues: str, number: int, limit: int = 1) -> list[str]:
    """Return from which queues ``number`` claims take."""
    return [task.queue for _ in range(number) for task in q.claim(*queues, limit=limit).tasks]


class RateContract:
    """Token buckets of queues."""

    def test_moab_2_14_a_queue_gives_its_burst_at_once_and_then_as_its_rate_says(self, q: Driver):
        q.put_queue(rate=Rate(tokens=10, period_ns=S))
        fill(q, "default")

        assert len(q.claim_ids()) == 10
        empty = q.claim(limit=5)
        assert (empty.tasks, empty.reason, empty.token_in_ns) == ([], "rate_limited", S // 10)
        assert empty.retry_at == q.now + S // 10
        q.clock.advance(0.099999)
        assert q.claim_ids() == []
        q.clock.advance(0.000001)
        assert len(q.claim_ids()) == 1
        q.clock.advance(0.35)
        assert len(q.claim_ids()) == 3
        q.clock.advance(60)
        assert len(q.claim_ids()) == 10, "never more than it can hold"

    def test_eddyq_7_85_twenty_tasks_at_ten_a_second_take_a_second(self, q: Driver):
        q.put_queue(rate=Rate(tokens=10, period_ns=S))
        fill(q, "default", number=20)
        begun = q.clock.steady_ns()

        while q.number(State.READY):
            wait = q.claim(limit=20).token_in_ns
            q.clock.advance(wait / S)

        assert q.clock.steady_ns() - begun == S

    def test_a_burst_of_its_own(self, q: Driver):
        q.put_queue(rate=Rate(tokens=1, period_ns=S, burst=3))
        fill(q, "default")

        assert len(q.claim_ids()) == 3
        q.clock.advance(2)
        assert len(q.claim_ids()) == 2

    def test_eddyq_7_87_a_rate_and_a_cap_both_hold(self, q: Driver):
        q.put_queue(rate=Rate(tokens=4, period_ns=S), max_running=2)
        fill(q, "default")

        assert len(q.claim_ids()) == 2
        q.clock.advance(10)
        full = q.claim()
        assert (full.tasks, full.reason, full.token_in_ns) == ([], "max_running", 0)

    def test_a_claim_that_takes_the_last_tokens_says_when_there_are_more(self, q: Driver):
        q.put_queue(rate=Rate(tokens=2, period_ns=S))
        fill(q, "default", number=3)

        claimed = q.claim(limit=10)

        assert (len(claimed.tasks), claimed.token_in_ns) == (2, S // 2)
        q.clock.advance(1)
        assert q.claim(limit=10).token_in_ns == 0, "nothing is left to wait for it"

    def test_tasks_that_expired_cost_no_token(self, q: Driver):
        q.put_queue(rate=Rate(tokens=1, period_ns=S))
        q.enqueue(*(entry(expires_in_ns=S) for _ in range(5)))
        live = q.add()
        q.clock.advance(2)

        assert q.claim_ids() == [live]

    def test_eddyq_7_90_the_same_rate_again_refills_nothing(self, q: Driver):
        q.put_queue(rate=Rate(tokens=10, period_ns=60 * S))
        fill(q, "default")
        q.claim_ids()

        q.put_queue(rate=Rate(tokens=10, period_ns=60 * S), max_running=30)

        assert q.claim_ids() == []

    def test_a_new_rate_keeps_what_came_in(self, q: Driver):
        q.put_queue(rate=Rate(tokens=10, period_ns=10 * S))
        fill(q, "default")
        q.claim_ids()
        q.clock.advance(3)

        q.patch_queue(rate=Rate(tokens=2, period_ns=S))

        assert len(q.claim_ids()) == 2, "three came in, two are what it can hold"
        q.patch_queue(rate=None)
        assert len(q.claim_ids()) == BULK - 12

    def test_a_reboot_brings_no_burst(self, q: Driver):
        q.put_queue(rate=Rate(tokens=10, period_ns=10 * S))
        fill(q, "default")
        assert len(q.claim_ids()) == 10

        q.clock.reboot()

        assert q.claim_ids() == []
        q.clock.advance(2)
        assert len(q.claim_ids()) == 2

    def test_moab_2_14_the_bucket_outlives_a_purge_and_not_its_queue(self, q: Driver):
        q.put_queue(rate=Rate(tokens=10, period_ns=60 * S))
        fill(q, "default")
        q.claim_ids()
        q.do(Purge("default"))
        fill(q, "default")
        assert q.claim_ids() == []

        q.do(QueueDelete("default"))
        q.put_queue(rate=Rate(tokens=10, period_ns=60 * S))
        fill(q, "default")
        assert len(q.claim_ids()) == 10

    def test_a_step_of_the_wall_clock_brings_no_token(self, q: Driver):
        q.put_queue(rate=Rate(tokens=1, period_ns=60 * S))
        fill(q, "default")
        q.claim_ids()

        q.clock.step(3600)

        assert q.claim_ids() == []

    def test_a_queue_that_is_held_up_does_not_hold_up_the_others_of_the_claim(self, q: Driver):
        q.put_queue("slow", rate=Rate(tokens=1, period_ns=60 * S))
        fill(q, "slow", "fast")

        assert Counter(takes(q, "slow", "fast", number=1, limit=10)) == {"slow": 1, "fast": 9}
        assert takes(q, "slow", "fast", number=1, limit=10) == ["fast"] * 10


class WeightContract:
    """Queues of one claim that take turns."""

    def test_weights_share_the_claims(self, q: Driver):
        q.put_queue("a", weight=3)
        q.put_queue("b", weight=1)
        fill(q, "a", "b")

        assert Counter(takes(q, "a", "b", number=40)) == {"a": 30, "b": 10}

    def test_a_large_claim_shares_as_many_small_ones_do(self, q: Driver):
        q.put_queue("a", weight=1)
        fill(q, "a", "b", "c")

        assert Counter(takes(q, "a", "b", "c", number=1, limit=30)) == {"a": 10, "b": 10, "c": 10}

    def test_nobody_starves_whatever_the_priorities_of_tasks(self, q: Driver):
        q.put_queue("a", weight=100)
        q.put_queue("b", weight=1)
        q.enqueue(*(entry(queue="a", priority=-100) for _ in range(250)), *(entry(queue="b", priority=100),) * 5)

        assert Counter(takes(q, "a", "b", number=202)) == {"a": 200, "b": 2}

    def test_who_had_nothing_for_long_is_not_made_up_for(self, q: Driver):
        q.put_queue("a", weight=1)
        q.put_queue("b", weight=1)
        fill(q, "a")
        takes(q, "a", "b", number=20)

        fill(q, "b")

        assert Counter(takes(q, "a", "b", number=10)) == {"a": 5, "b": 5}

    def test_a_queue_is_not_passed_over_while_others_take_turns(self, q: Driver):
        for name in "abcd":
            q.put_queue(name, weight=1)
            for _ in range(20):
                q.add(queue=name)
        taken = [q.claim(*names).tasks[0].queue for _ in range(6) for names in (("a", "b"), ("c", "d"), ("c", "d"))]
        assert (taken.count("a"), taken.count("b")) == (3, 3)

    def test_without_weights_tasks_go_in_their_own_order(self, q: Driver):
        first = [q.add(queue=name) for name in ("a", "b", "a")]
        urgent = q.add(queue="b", priority=-1)

        assert q.claim_ids("b", "a") == [urgent, *first]

    def test_a_queue_without_tasks_takes_no_turn(self, q: Driver):
        q.put_queue("a", weight=5)
        q.put_queue("empty", weight=5)
        fill(q, "a", number=3)

        assert takes(q, "empty", "a", number=1, limit=10) == ["a"] * 3


class AgeingContract:
    """Priorities that age."""

    def test_what_waits_for_long_enough_goes_before_what_is_more_urgent(self, q: Driver):
        q.put_queue(order=Order.AGEING, ageing_ns=10 * S)
        patient = q.add(priority=5)
        q.clock.advance(49)
        urgent = q.add(priority=0)
        q.clock.advance(2)
        late = q.add(priority=0)

        assert q.claim_ids() == [urgent, patient, late]

    def test_at_the_same_time_priority_decides(self, q: Driver):
        q.put_queue(order=Order.AGEING)
        ids = q.enqueue(*(entry(priority=priority) for priority in (7, -32_768, 32_767, 0, -1))).ids

        assert q.claim_ids() == [ids[1], ids[4], ids[3], ids[0], ids[2]]

    def test_a_stream_of_urgent_tasks_starves_nobody(self, q: Driver):
        """The property: a task of priority p is taken before any that comes p x ageing later, however urgent."""
        q.put_queue(order=Order.AGEING, ageing_ns=S)
        patient = q.add(priority=20)
        taken: list[int] = []
        for _ in range(25):
            q.add(priority=0)
            q.clock.advance(1)
            taken += q.claim_ids(limit=1)

        assert patient in taken
        assert taken.index(patient) == 20

    def test_the_order_of_a_queue_may_change_at_any_time(self, q: Driver):
        old = q.add(priority=1)
        q.clock.advance(120)
        new = q.add(priority=0)
        q.put_queue(order=Order.AGEING)
        assert q.claim_ids(limit=1) == [old]

        q.put_queue(order=Order.STRICT)
        older = q.add(priority=1)
        assert q.claim_ids() == [new, older]

    def test_types_and_queues_are_merged_as_each_orders(self, q: Driver):
        q.put_queue("aged", order=Order.AGEING, ageing_ns=S)
        first = q.add(queue="aged", type="t", priority=1)
        q.clock.advance(2)
        second = q.add(queue="aged", type="u", priority=0)
        strict = q.add(queue="plain", priority=1)

        assert q.claim_ids("plain", "aged") == [first, second, strict]

    def test_a_retry_is_not_lost_among_the_priorities(self, q: Driver):
        q.put_queue(order=Order.AGEING)
        ids = q.enqueue(*(entry(priority=number % 7) for number in range(30))).ids
        for _ in range(40):
            for task in q.claim(limit=3).tasks:
                if task.deliveries == 1:
                    q.fail(task, delay_ns=0)
                else:
                    q.succeed(task)

        assert q.number(State.READY) == 0
        assert len(ids) == 30


class SubQueueContract:
    """Queues whose parent's claims drain them."""

    def test_runqy_6_67_a_claim_of_the_parent_drains_its_sub_queues_by_priority(self, q: Driver):
        for name, priority in (("inference.premium", -10), ("inference.standard", -3), ("inference.default", -1)):
            q.put_queue(name, priority=priority)
        fill(q, "inference.default", "inference.standard", "inference.premium", number=3)

        taken = takes(q, "inference", number=9)

        assert taken == ["inference.premium"] * 3 + ["inference.standard"] * 3 + ["inference.default"] * 3

    def test_runqy_6_67_inside_a_sub_queue_the_first_comes_first(self, q: Driver):
        ids = [q.add(queue="inference.premium") for _ in range(5)]

        assert q.claim_ids("inference") == ids

    def test_the_parent_is_one_of_them(self, q: Driver):
        q.put_queue("p.before", priority=-1)
        q.put_queue("p.after", priority=1)
        fill(q, "p", "p.after", "p.before", number=1)

        assert takes(q, "p", number=1, limit=3) == ["p.before", "p", "p.after"]

    def test_a_parent_that_does_not_exist_drains_them_too(self, q: Driver):
        first = q.add(queue="p.x")

        assert q.claim_ids("p") == [first]

    def test_a_sub_queue_is_claimed_alone_and_is_nobodys_parent(self, q: Driver):
        fill(q, "p", "p.x", "p.x.y", number=1)

        assert takes(q, "p.x", number=1, limit=9) == ["p.x"]
        assert sorted(takes(q, "p", number=1, limit=9)) == ["p", "p.x.y"]

    def test_names_that_only_look_alike_are_left_alone(self, q: Driver):
        fill(q, "px", "p-x", "q.p", number=1)

        assert q.claim_ids("p") == []

    def test_what_holds_up_one_holds_up_no_other(self, q: Driver):
        q.put_queue("p.x", paused=True, priority=-1)
        q.put_queue("p.y", max_running=1)
        fill(q, "p.x", "p.y", number=2)

        assert takes(q, "p", number=1, limit=9) == ["p.y"]
        assert q.claim("p").reason == "paused"

    def test_what_is_due_in_a_sub_queue_is_promoted(self, q: Driver):
        first = q.add(queue="p.x", delay_ns=S)
        assert q.claim("p").retry_at == q.now + S
        q.clock.advance(1)

        assert q.claim_ids("p") == [first]


class DeadLetterContract:
    """How many dead tasks a queue keeps."""

    def test_the_oldest_goes_at_the_next_death(self, q: Driver):
        q.put_queue(max_dead=2)
        ids = [self._dies(q) for _ in range(4)]

        assert [task.id for task in q.all_tasks()] == ids[2:]
        assert q.totals().dead == 4

    def test_what_would_go_first_is_the_oldest(self, q: Driver):
        q.put_queue(max_dead=1)
        kept = q.add_dead(keep=Keep(dead_ns=limits.DAY_NS))
        task_id = q.add(keep=Keep(dead_ns=S))

        assert q.fail(q.take(), retry=False).state is None
        assert [task.id for task in q.all_tasks()] == [kept]
        assert task_id not in [task.id for task in q.all_tasks()]

    def test_by_age_and_by_number(self, q: Driver):
        q.put_queue(max_dead=2, keep=Keep(dead_ns=10 * S))
        first = self._dies(q)
        q.clock.advance(5)
        second = self._dies(q)
        q.clock.advance(5)

        assert q.sweep(Prune()).count == 1
        assert [q.state(task_id) for task_id in (first, second)] != [State.DEAD, State.DEAD]
        assert q.state(second) is State.DEAD

    def test_a_lower_number_holds_at_the_next_prune(self, q: Driver):
        ids = [self._dies(q) for _ in range(5)]
        q.patch_queue(max_dead=2)
        assert q.store.due(q.clock).prune_at <= q.now

        assert q.sweep(Prune()).count == 3
        assert [task.id for task in q.all_tasks()] == ids[3:]

    @staticmethod
    def _dies(q: Driver) -> int:
        q.clock.advance(0.001)
        return q.add_dead()


class QueueSettingsContract(RateContract, WeightContract, AgeingContract, SubQueueContract, DeadLetterContract):
    """All of it."""

    @pytest.mark.parametrize("limit", [1, 7])
    def test_all_at_once(self, q: Driver, limit: int):
        q.put_queue("p.a", weight=2, order=Order.AGEING, rate=Rate(30, 60 * S))
        q.put_queue("p.b", weight=1, max_running=20)
        fill(q, "p.a", "p.b", number=60)

        counts: Counter[str] = Counter()
        while tasks := q.claim("p", limit=limit).tasks:
            counts.update(task.queue for task in tasks)

        assert counts == {"p.a": 30, "p.b": 20}
