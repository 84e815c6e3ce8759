"""What every store does with groups. Tests named after a check of another system hold that check."""

from __future__ import annotations

from typing import Any

import pytest

from lmdbq import limits
from lmdbq.model import (
    Call,
    Completion,
    Expire,
    Filter,
    GroupChanged,
    GroupDelete,
    GroupPatch,
    GroupPut,
    GroupRule,
    GroupSettings,
    Intervals,
    Order,
    Outcome,
    Prune,
    Purge,
    Rate,
    Refill,
    Report,
    RetryStrategy,
    RuleChanged,
    RuleDelete,
    RulePut,
    State,
    Status,
)
from tests.store_driver import Driver, S, entry

AT_ONCE = RetryStrategy(max_attempts=9, backoff=Intervals((0,)))
IN_A_MINUTE = RetryStrategy(max_attempts=9, backoff=Intervals((60 * S,)))


def group(q: Driver, name: str = "g", **settings: Any) -> GroupChanged:
    """Give a group settings of its own."""
    changed: GroupChanged = q.do(GroupPut(name, GroupSettings(**settings)))
    return changed


def members(q: Driver, number: int, name: str = "g", **said: Any) -> list[int]:
    """Enqueue ``number`` tasks of a group in one call; return their ids."""
    return q.enqueue(*(entry(group=name, **said) for _ in range(number))).ids


def tokens(q: Driver, name: str = "g") -> int | None:
    view = q.store.group(name, q.clock)
    assert view is not None
    return view.tokens


class GroupContract:
    """Groups: caps, pauses and rates over all queues, set at run time and by rules."""

    def test_eddyq_7_47_a_group_that_nobody_configured_is_unlimited(self, q: Driver):
        ids = members(q, 5)

        assert q.claim_ids() == ids
        (view,) = q.store.groups(q.clock)
        assert (view.name, view.settings, view.running, view.ready, view.blocked_by) == ("g", None, 5, 0, "")

    def test_eddyq_7_79_no_more_run_than_the_cap_and_the_count_ends_at_zero(self, q: Driver):
        group(q, max_running=3)
        ids = members(q, 20)
        done: list[int] = []
        while running := q.claim_ids(limit=10):
            assert 1 <= len(running) <= 3
            assert q.store.group("g", q.clock).running == len(running)
            for task_id in running:
                q.finish(task_id)
            done += running

        assert done == ids
        assert q.store.group("g", q.clock).running == 0

    def test_a_cap_holds_over_all_queues_and_types(self, q: Driver):
        group(q, max_running=2)
        a = q.add(queue="a", type="x", group="g")
        b = q.add(queue="b", type="y", group="g")
        c = q.add(queue="a", type="z", group="g")

        assert q.claim_ids("a", "b") == [a, b]
        assert q.claim("a", "b").reason == "max_running"
        q.finish(b)
        assert q.claim_ids("b") == []
        assert q.claim_ids("a") == [c]

    def test_a_place_that_is_freed_in_one_queue_stirs_the_others(self, q: Driver):
        group(q, max_running=1)
        first = q.add(queue="a", group="g")
        q.add(queue="b", group="g")
        assert q.claim_ids("a", "b") == [first]

        applied = q.apply(Call((Report([Completion(first, 1, Status.SUCCEEDED)]),)))
        assert "b" in applied.stirred

    def test_eddyq_7_81_two_groups_progress_side_by_side(self, q: Driver):
        group(q, "one", max_running=1)
        group(q, "many", max_running=8)
        one, many = members(q, 3, "one"), members(q, 8, "many")

        assert q.claim_ids() == [one[0], *many]

    def test_eddyq_7_45_a_full_group_at_the_head_holds_nobody_up(self, q: Driver):
        group(q, max_running=2)
        slow = members(q, 100)
        plain = q.enqueue(*(entry() for _ in range(20))).ids

        assert q.claim_ids() == [*slow[:2], *plain]

    def test_eddyq_7_46_tasks_of_groups_and_others_stand_in_one_order(self, q: Driver):
        late = members(q, 1, priority=10)
        plain = q.add()
        early = members(q, 1, priority=-10)

        assert q.claim_ids() == [*early, plain, *late]

    def test_eddyq_7_41_with_a_cap_of_one_they_run_in_order(self, q: Driver):
        group(q, max_running=1)
        ids = members(q, 10)
        ran: list[int] = []
        while running := q.claim_ids():
            ran += running
            q.finish(running[0])

        assert ran == ids

    def test_eddyq_7_82_a_paused_group_starts_nothing_and_goes_on_when_it_is_resumed(self, q: Driver):
        (running,) = members(q, 1)
        assert q.claim_ids() == [running]
        q.do(GroupPatch("g", GroupSettings(paused=True), ("paused",)))
        waiting = members(q, 2)

        assert q.claim().reason == "paused"
        assert q.task(waiting[0]).waiting_for == "group 'g', which is paused"
        assert q.finish(running).outcome is Outcome.OK
        q.do(GroupPatch("g", GroupSettings(), ("paused",)))
        assert q.claim_ids() == waiting

    def test_eddyq_7_83_a_cap_lowered_below_what_runs_holds_until_fewer_run(self, q: Driver):
        group(q, max_running=3)
        ids = members(q, 5)
        assert q.claim_ids() == ids[:3]
        group(q, max_running=1)
        q.finish(ids[0])
        q.finish(ids[1])

        assert q.claim_ids() == []
        q.finish(ids[2])
        assert q.claim_ids() == [ids[3]]

    def test_eddyq_7_84_a_cap_of_zero_starts_nothing(self, q: Driver):
        group(q, max_running=0)
        ids = members(q, 2)

        assert q.claim().reason == "max_running"
        group(q, max_running=None)
        assert q.claim_ids() == ids

    def test_eddyq_7_85_a_rate_lets_a_burst_go_and_then_one_at_a_time(self, q: Driver):
        group(q, rate=Rate(10, S))
        ids = members(q, 20)

        assert q.claim_ids() == ids[:10]
        claimed = q.claim()
        assert (claimed.reason, claimed.retry_at) == ("rate_limited", q.now + S // 10)
        q.clock.advance(0.1)
        assert q.claim_ids() == [ids[10]]
        q.clock.advance(0.9)
        assert q.claim_ids() == ids[11:]

    def test_moab_6_22_a_bucket_of_three_in_three_seconds(self, q: Driver):
        group(q, rate=Rate(3, 3 * S))
        ids = members(q, 10)

        assert q.claim_ids() == ids[:3]
        assert q.claim_ids() == []
        q.clock.advance(1)
        assert q.claim_ids() == [ids[3]]
        q.clock.advance(9)
        assert q.claim_ids() == ids[4:7]

    def test_eddyq_7_86_an_idle_bucket_never_holds_more_than_its_capacity(self, q: Driver):
        group(q, rate=Rate(2, S, 4))
        members(q, 2)
        assert len(q.claim_ids()) == 2
        q.clock.advance(3600)

        assert tokens(q) == 4
        ids = members(q, 9)
        assert q.claim_ids() == ids[:4]

    def test_eddyq_7_87_a_cap_and_a_rate_hold_both(self, q: Driver):
        group(q, max_running=2, rate=Rate(4, S))
        ids = members(q, 9)

        assert q.claim_ids() == ids[:2]
        q.finish(ids[0])
        q.finish(ids[1])
        assert q.claim_ids() == ids[2:4]
        q.finish(ids[2])
        assert q.claim().reason == "rate_limited"

    def test_eddyq_7_88_when_the_rate_is_taken_away_the_cap_stays(self, q: Driver):
        group(q, max_running=2, rate=Rate(1, 60 * S))
        ids = members(q, 9)
        assert q.claim_ids() == ids[:1]
        q.do(GroupPatch("g", GroupSettings(), ("rate",)))

        assert q.claim_ids() == ids[1:2]

    def test_eddyq_7_90_a_rate_that_is_set_again_gives_no_new_tokens(self, q: Driver):
        group(q, rate=Rate(2, 60 * S))
        ids = members(q, 9)
        assert q.claim_ids() == ids[:2]
        group(q, rate=Rate(2, 60 * S))

        assert q.claim_ids() == []
        assert tokens(q) == 0

    def test_what_came_in_under_another_rate_is_kept(self, q: Driver):
        group(q, rate=Rate(10, 10 * S))
        members(q, 30)
        assert len(q.claim_ids()) == 10
        q.clock.advance(4)
        group(q, rate=Rate(3, 3600 * S))

        assert tokens(q) == 0 or tokens(q) == 3
        assert len(q.claim_ids()) == 3

    def test_moab_3_2_14_a_lowered_capacity_leaves_no_surplus(self, q: Driver):
        group(q, rate=Rate(100, S))
        group(q, rate=Rate(1, 60 * S))
        ids = members(q, 3)

        assert q.claim_ids() == ids[:1]

    def test_a_step_of_the_wall_clock_brings_no_tokens(self, q: Driver):
        group(q, rate=Rate(1, 60 * S))
        ids = members(q, 3)
        assert q.claim_ids() == ids[:1]
        q.clock.step(86_400)

        assert q.claim_ids() == []

    def test_a_reboot_brings_no_burst(self, q: Driver):
        group(q, rate=Rate(5, 10 * S))
        ids = members(q, 20)
        assert q.claim_ids() == ids[:5]
        q.clock.advance(2)
        q.clock.reboot()

        assert len(q.claim_ids()) <= 1
        q.clock.advance(2)
        assert len(q.claim_ids()) == 1

    def test_a_retry_spends_a_token_too(self, q: Driver):
        group(q, rate=Rate(2, 60 * S))
        ids = members(q, 2, retry=AT_ONCE)
        q.fail(q.take())

        assert len(q.claim_ids()) == 1
        assert q.claim_ids() == []
        assert len(ids) == 2

    def test_an_expired_task_costs_no_token(self, q: Driver):
        group(q, rate=Rate(1, 60 * S))
        members(q, 3, expires_in_ns=S)
        (alive,) = members(q, 1)
        q.clock.advance(1)

        assert q.claim_ids() == [alive]

    def test_refill_is_due_when_the_next_token_is(self, q: Driver):
        group(q, rate=Rate(1, 10 * S))
        ids = members(q, 2)
        q.claim_ids()

        assert q.store.due(q.clock).refill_in_ns == 10 * S
        q.clock.advance(10)
        applied = q.apply(Call((Refill(),)))
        assert "default" in applied.stirred
        assert q.claim_ids() == ids[1:]
        q.clock.advance(3600)
        q.do(Refill())
        assert q.store.due(q.clock).refill_in_ns is None

    def test_eddyq_7_75_recovered_tasks_free_their_places(self, q: Driver):
        group(q, max_running=1)
        ids = members(q, 2, keepalive_ns=S, retry=RetryStrategy(max_attempts=1))
        assert q.claim_ids() == ids[:1]
        q.clock.advance(1)

        assert q.claim_ids() == ids[1:]

    @pytest.mark.parametrize("how", ["delete", "release", "fail", "succeed"])
    def test_a_place_is_freed_however_a_task_stops(self, q: Driver, how: str):
        group(q, max_running=1)
        first, second = members(q, 2, retry=IN_A_MINUTE)
        lease = q.take()
        if how == "delete":
            q.delete(first)
        else:
            getattr(q, how)(lease, **({"delay_ns": 60 * S} if how == "release" else {}))

        assert q.claim_ids() == [second]

    @pytest.mark.parametrize("how", ["delete", "cancel", "edit", "expire"])
    def test_waiting_members_may_go_or_move(self, q: Driver, how: str):
        group(q, max_running=1)
        first, second, third = (members(q, 1, expires_in_ns=9 * S if at == 1 else 0)[0] for at in range(3))
        assert q.claim_ids() == [first]
        if how == "edit":
            q.edit(second, "priority", priority=9)
        elif how == "expire":
            q.clock.advance(9)
            q.sweep(Expire())
        else:
            getattr(q, how)(second)
        q.finish(first)

        assert q.claim_ids() == [third]
        assert q.store.group("g", q.clock).ready == (1 if how == "edit" else 0)

    def test_running_tasks_of_a_purged_queue_fill_the_cap_until_they_are_drained(self, q: Driver):
        group(q, max_running=1)
        members(q, 3)
        q.take()
        q.do(Purge("default"))
        fresh = members(q, 1)
        assert q.store.group("g", q.clock).ready == 1

        assert q.claim_ids() == []
        q.do(Prune())
        assert q.claim_ids() == fresh

    def test_a_group_that_is_gone_leaves_nothing(self, q: Driver):
        (only,) = members(q, 1)
        q.finish(q.take().id)

        assert q.store.groups(q.clock) == []
        assert q.store.group("g", q.clock) is None
        assert q.store.group("never", q.clock) is None
        assert q.state(only) is Outcome.GONE

    def test_settings_of_a_group_are_put_patched_and_taken_away(self, q: Driver):
        assert group(q, max_running=3) == GroupChanged("g", created=True)
        assert group(q, weight=2) == GroupChanged("g")
        q.do(GroupPatch("g", GroupSettings(max_running=4), ("max_running",)))
        assert q.store.group("g", q.clock).settings == GroupSettings(max_running=4, weight=2)
        assert q.do(GroupDelete("g")) == GroupChanged("g")
        assert q.store.group("g", q.clock) is None
        assert q.refusal(GroupDelete("g")).problems[0].pointer == "/name"
        assert q.refusal(GroupDelete("g")).code == "group_not_found"

    def test_eddyq_7_91_a_rule_holds_for_every_group_that_it_matches(self, q: Driver):
        rule = GroupRule("shopify:*", GroupSettings(max_running=2))
        assert q.do(RulePut(rule)) == RuleChanged("shopify:*", created=True)
        for shop in "abc":
            members(q, 3, f"shopify:{shop}")

        assert len(q.claim_ids()) == 6
        assert [(view.name, view.rule, view.limits.max_running) for view in q.store.groups(q.clock)] == [
            (f"shopify:{shop}", "shopify:*", 2) for shop in "abc"
        ]

    def test_eddyq_7_92_the_rule_of_higher_priority_holds_then_the_longer_one(self, q: Driver):
        for pattern, cap, priority in (("s:*", 1, 0), ("s:p:*", 2, 0), ("*", 3, 5), ("t:*", 4, 5)):
            q.do(RulePut(GroupRule(pattern, GroupSettings(max_running=cap), priority)))
        q.do(RuleDelete("*"))
        caps = {}
        for name in ("s:x", "s:p:x", "t:x", "u"):
            members(q, 5, name)
        for task in q.claim(limit=99).tasks:
            caps[task.options.group] = caps.get(task.options.group, 0) + 1

        assert caps == {"s:x": 1, "s:p:x": 2, "t:x": 4, "u": 5}

    def test_eddyq_7_93_a_groups_own_cap_holds_beside_any_rule(self, q: Driver):
        group(q, max_running=1)
        q.do(RulePut(GroupRule("*", GroupSettings(max_running=5), 9)))
        members(q, 5)

        assert len(q.claim_ids()) == 1

    def test_eddyq_7_94_a_rules_bucket_begins_full(self, q: Driver):
        q.do(RulePut(GroupRule("g*", GroupSettings(rate=Rate(2, 60 * S)))))
        ids = members(q, 5)

        assert q.claim_ids() == ids[:2]

    @pytest.mark.parametrize(
        ("pattern", "fits", "differs"),
        [("a_b", "a_b", "axb"), ("100%off", "100%off", "100zoff"), ("a\\b", "a\\b", "ab")],
    )
    def test_eddyq_7_95_a_pattern_is_literal_but_for_stars(self, q: Driver, pattern: str, fits: str, differs: str):
        q.do(RulePut(GroupRule(pattern, GroupSettings(max_running=0))))
        members(q, 1, fits)
        (free,) = members(q, 1, differs)

        assert q.claim_ids() == [free]

    def test_a_rule_that_changes_reaches_groups_with_waiting_tasks(self, q: Driver):
        q.do(RulePut(GroupRule("g*", GroupSettings(max_running=0))))
        ids = members(q, 4)
        assert q.claim_ids() == []
        q.do(RulePut(GroupRule("g*", GroupSettings(max_running=3))))
        assert q.claim_ids() == ids[:3]
        assert q.do(RuleDelete("g*")) == RuleChanged("g*")

        assert q.claim_ids() == ids[3:]
        assert q.refusal(RuleDelete("g*")).code == "rule_not_found"
        assert q.store.group_rules() == []

    def test_a_rule_reaches_more_groups_than_one_step_looks_at(self, q: Driver):
        q.do(RulePut(GroupRule("g*", GroupSettings(max_running=0))))
        names = [f"g{number:04}" for number in range(limits.SWEEP_MAX + 200)]
        ids = q.enqueue(*(entry(group=name) for name in names)).ids
        q.do(RuleDelete("g*"))
        q.do(Refill())

        assert q.claim_ids() == ids[:1000]
        assert q.claim_ids() == ids[1000:]

    def test_groups_are_listed_by_name_a_page_at_a_time(self, q: Driver):
        for name in "cab":
            members(q, 1, name)
        group(q, "d", paused=True)

        assert [view.name for view in q.store.groups(q.clock, limit=2)] == ["a", "b"]
        assert [view.name for view in q.store.groups(q.clock, after="b")] == ["c", "d"]

    def test_tasks_are_found_by_their_group(self, q: Driver):
        ids = members(q, 2)
        q.add(group="h")
        q.add()

        assert [task.id for task in q.all_tasks(Filter(group="g"))] == ids
        assert q.store.count(Filter(group="g", states=(State.READY,))) == 2

    def test_in_an_ageing_queue_the_tasks_of_a_group_age_too(self, q: Driver):
        q.put_queue(order=Order.AGEING, ageing_ns=S)
        old = q.add(group="g", priority=5)
        q.clock.advance(6)
        young = q.add(group="g", priority=0)

        assert q.claim_ids(limit=1) == [old]
        assert q.claim_ids() == [young]
