"""What every store does with dead tasks: what follows a death, and being retried in another queue."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lmdbq import limits
from lmdbq.ids import format_id
from lmdbq.model import (
    Call,
    Changed,
    Claim,
    Dedupe,
    Encoding,
    Enqueue,
    Entry,
    Filter,
    Intervals,
    Keep,
    Lapse,
    OnDuplicate,
    Options,
    Outcome,
    Purge,
    Retry,
    RetryStrategy,
    Scope,
    State,
    Until,
)
from tests.store_driver import Driver, S, entry

ALERT = Entry(queue="alerts", type="alert")


def told(q: Driver, queue: str = "alerts") -> list[dict[str, Any]]:
    """Return what each task of a queue was told, the oldest first."""
    return [msgspec.json.decode(task.payload) for task in q.all_tasks(Filter(queue=queue))]


class DeathContract:
    """on_dead: of an entry, of a queue."""

    def test_a_death_enqueues_what_its_entry_says_and_tells_it_why(self, q: Driver):
        task_id = q.add(type="send", payload=b'{"to": "Ada"}', on_dead=ALERT, retry=RetryStrategy(max_attempts=2))
        q.fail(q.take(), "first", delay_ns=0)
        assert told_nothing(q)
        q.clock.advance(1)
        at = q.now
        q.fail(q.take(), "second")

        (report,) = told(q)
        assert report["task_id"] == format_id(task_id)
        assert (report["queue_name"], report["type"], report["payload"]) == ("default", "send", {"to": "Ada"})
        assert report["reason"] == "max_attempts"
        assert [(one["message"], one["delivery"]) for one in report["errors"]] == [("first", 1), ("second", 2)]
        assert report["errors"][1] == {
            "at": at,
            "delivery": 2,
            "message": "second",
            "type": "Error",
            "backtrace": "trace",
        }

    def test_a_template_with_a_payload_keeps_it(self, q: Driver):
        q.add_dead(on_dead=Entry(b'"mine"', "alerts"))
        q.add_dead(on_dead=Entry(b"\xff", "alerts", encoding=Encoding.BYTES))

        assert [task.payload for task in q.all_tasks(Filter(queue="alerts"))] == [b'"mine"', b"\xff"]

    def test_a_payload_of_bytes_is_told_in_base64_and_one_of_messagepack_as_json(self, q: Driver):
        q.add_dead(payload=b"\x00\xff", encoding=Encoding.BYTES, on_dead=ALERT)
        q.add_dead(payload=b"\x93\x01\x02\x03", encoding=Encoding.MSGPACK, on_dead=ALERT)

        first, second = told(q)
        assert (first["payload_base64"], "payload" in first) == ("AP8=", False)
        assert second["payload"] == [1, 2, 3]

    def test_a_template_without_a_queue_goes_to_that_of_the_dead_task(self, q: Driver):
        q.add_dead(queue="mail", on_dead=Entry(queue="", type="alert", delay_ns=9 * S, priority=-3))

        (alert,) = q.all_tasks(Filter(type="alert"))
        assert (alert.queue, alert.state, alert.due_at) == ("mail", State.SCHEDULED, q.now + 9 * S)
        assert alert.priority == -3

    def test_a_follower_that_would_expire_before_it_may_start_is_left_out_and_refuses_no_report(self, q: Driver):
        dead = q.add_dead(on_dead=Entry(queue="alerts", delay_ns=9 * S, expires_in_ns=S))

        assert q.task(dead).state is State.DEAD
        assert q.all_tasks(Filter(queue="alerts")) == []

    def test_a_queue_says_it_for_tasks_that_do_not(self, q: Driver):
        q.put_queue("mail", on_dead=ALERT)
        q.add_dead(queue="mail")
        q.add_dead(queue="mail", on_dead=Entry(queue="others"))

        assert (q.number(State.READY, "alerts"), q.number(State.READY, "others")) == (1, 1)

    def test_a_follower_of_a_queue_is_not_followed_by_itself(self, q: Driver):
        q.put_queue("mail", on_dead=Entry(queue="", type="alert"))
        q.add_dead(queue="mail", type="send")
        alert = q.take("mail")
        assert alert.type == "alert"

        q.fail(alert, retry=False)

        assert q.number(State.DEAD, "mail") == 2
        assert q.claim_ids("mail") == []

    @pytest.mark.parametrize("keep", [None, Keep(dead_ns=0)])
    def test_it_follows_a_lapse_and_a_task_delivered_too_often_kept_or_not(self, q: Driver, keep: Keep | None):
        once = RetryStrategy(max_attempts=1, max_deliveries=1)
        q.add(retry=once, on_dead=ALERT, keep=keep, keepalive_ns=S)
        q.take()
        q.clock.advance(2)
        q.sweep(Lapse())
        q.add(retry=RetryStrategy(max_attempts=9, max_deliveries=1), on_dead=ALERT, keep=keep)
        q.release(q.take())
        assert q.claim_ids() == []

        assert [report["reason"] for report in told(q)] == ["max_attempts", "max_deliveries"]
        assert q.number(State.DEAD) == (0 if keep else 2)

    def test_no_other_end_is_followed(self, q: Driver):
        q.add(on_dead=ALERT)
        q.succeed(q.take())
        q.cancel(q.add(on_dead=ALERT))
        q.delete(q.add(on_dead=ALERT))
        q.add(on_dead=ALERT)
        running = q.take()
        q.cancel(running.id)
        q.fail(running)

        assert told_nothing(q)

    def test_a_follower_with_a_dedupe_key_is_one_for_many_deaths_and_is_never_refused(self, q: Driver):
        rule = Dedupe("storm", on_duplicate=OnDuplicate.REJECT)
        alert = Entry(queue="alerts", options=Options(dedupe=rule))
        for _ in range(3):
            q.add_dead(on_dead=alert)

        assert q.number(State.READY, "alerts") == 1
        assert q.totals("alerts").deduplicated == 2

    def test_deaths_of_one_report_are_followed_in_its_order(self, q: Driver):
        ids = q.enqueue(*(entry(on_dead=ALERT, retry=RetryStrategy(max_attempts=1)) for _ in range(3))).ids
        tasks = {task.id: task for task in q.claim(limit=3).tasks}
        for task_id in ids:
            q.fail(tasks[task_id])

        assert [report["task_id"] for report in told(q)] == [format_id(task_id) for task_id in ids]

    def test_what_a_refused_call_would_have_killed_is_not_followed(self, q: Driver):
        q.add(on_dead=ALERT, retry=RetryStrategy(max_attempts=9, max_deliveries=1))
        q.release(q.take())
        q.refusal(Claim(("default",)), Purge("never there"))

        assert told_nothing(q)


def told_nothing(q: Driver) -> bool:
    return q.store.count(Filter(queue="alerts")) == 0


class RetryElsewhereContract:
    """Retry with a queue."""

    def test_a_dead_task_is_retried_in_another_queue_by_its_settings(self, q: Driver):
        q.put_queue("slow", retry=RetryStrategy(2, Intervals((7 * S,))))
        task_id = q.add_dead(type="send", payload=b"1", tags=("x",))
        before = q.task(task_id)
        q.clock.advance(1)

        changed = q.do(Retry((task_id,), "slow")).outcomes

        assert changed == [Changed(task_id, Outcome.OK, State.READY)]
        after = q.task(task_id)
        assert (after.queue, after.max_attempts, after.deliveries, after.attempts) == ("slow", 2, 1, 0)
        assert (after.payload, after.type, after.created_at, after.errors) == (
            before.payload,
            before.type,
            before.created_at,
            before.errors,
        )
        assert (q.number(State.DEAD), q.number(State.READY, "slow")) == (0, 1)
        assert q.claim_ids() == []
        q.fail(q.take("slow"))
        assert q.task(task_id).due_at == q.now + 7 * S

    def test_a_queue_that_does_not_exist_refuses_the_call(self, q: Driver):
        task_id = q.add_dead()

        refused = q.refusal(Retry((task_id,), "nowhere"))

        assert (refused.code, refused.problems[0].pointer) == ("queue_not_found", "/queue_name")

    def test_the_queue_that_it_goes_to_is_stirred(self, q: Driver):
        q.put_queue("other")
        task_id = q.add_dead()

        assert "other" in q.apply(Call((Retry((task_id,), "other"),))).stirred

    def test_its_key_is_looked_up_where_it_goes_and_free_where_it_was(self, q: Driver):
        q.put_queue("other")
        task_id = q.add_dead(dedupe=Dedupe("k", until=Until.DELETED))
        blocker = q.add(queue="other", dedupe="k")

        assert q.do(Retry((task_id,), "other")).outcomes[0].outcome is Outcome.DEDUPE_CONFLICT
        q.delete(blocker)
        assert q.do(Retry((task_id,), "other")).outcomes[0].outcome is Outcome.OK

        assert q.enqueue(entry(queue="other", dedupe="k")).placed(0).id == task_id
        assert q.enqueue(entry(dedupe="k")).placed(0).outcome is Outcome.ENQUEUED

    def test_a_key_that_a_ttl_holds_goes_with_it(self, q: Driver):
        q.put_queue("other")
        rule = Dedupe("k", until=Until.TTL, ttl_ns=60 * S)
        task_id = q.add_dead(dedupe=rule)

        q.do(Retry((task_id,), "other"))

        assert q.enqueue(entry(dedupe=rule)).placed(0).outcome is Outcome.ENQUEUED
        assert q.enqueue(entry(queue="other", dedupe=rule)).placed(0).outcome is Outcome.SKIPPED

    @pytest.mark.parametrize("scope", [Scope.TYPE, Scope.GLOBAL])
    def test_a_wider_key_belongs_to_the_new_queue(self, q: Driver, scope: Scope):
        q.put_queue("other")
        task_id = q.add_dead(dedupe=Dedupe("k", scope))
        q.do(Retry((task_id,), "other"))

        q.do(Purge("default"))
        assert q.enqueue(entry(dedupe=Dedupe("k", scope))).placed(0).id == task_id
        q.do(Purge("other"))
        assert q.enqueue(entry(dedupe=Dedupe("k", scope))).placed(0).outcome is Outcome.ENQUEUED

    def test_the_limit_on_types_does_not_hold_for_it(self, q: Driver):
        full = [entry(queue="full", type=f"t{number}") for number in range(limits.TYPES_PER_QUEUE_MAX)]
        q.do(Enqueue(full))
        task_id = q.add_dead(type="one more")

        assert q.do(Retry((task_id,), "full")).outcomes[0].outcome is Outcome.OK
