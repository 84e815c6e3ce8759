"""What runqy's users rely on, asked of both stores: its checks by their numbers, as ``peer_checks`` counts them.

Most of them are about its wire formats and stand with its dialects.
"""

from __future__ import annotations

from lmdbq.model import Filter, Outcome, State
from tests.store_driver import Driver, entry


def test_runqy_6_29_a_batch_is_worked_off_in_its_order(q: Driver):
    ids = q.enqueue(*[entry(payload=b'"%c"' % letter) for letter in b"abc"]).ids

    assert [q.take().id for _ in range(3)] == ids


def test_runqy_6_34_a_finished_task_shows_its_result_and_when_it_ended(q: Driver):
    task_id = q.add()
    q.clock.advance(2)
    q.succeed(q.take(), result=b'{"ok":true}')

    task = q.task(task_id)
    assert (task.state, task.result, task.ended_at) == (State.SUCCEEDED, b'{"ok":true}', q.now)


def test_runqy_6_35_a_deleted_task_is_told_from_one_that_never_was(q: Driver):
    task_id = q.add()
    q.delete(task_id)

    assert (q.state(task_id), q.state(task_id + 1)) == (Outcome.GONE, Outcome.NOT_FOUND)


def test_runqy_6_40_a_list_begins_with_the_oldest(q: Driver):
    ids = q.enqueue(*[entry() for _ in range(4)]).ids

    page = q.store.tasks(Filter(states=(State.READY,)), q.clock, 0, 2)
    assert [task.id for task in page.tasks] == ids[:2]


def test_runqy_6_42_a_deleted_task_no_longer_runs(q: Driver):
    first, second = q.enqueue(entry(), entry()).ids
    q.delete(first)

    assert q.claim_ids() == [second]


def test_runqy_6_56_a_thousand_payloads_get_a_thousand_ids(q: Driver):
    outcome = q.enqueue(*[entry(payload=b"%d" % number) for number in range(1_000)])

    assert len(set(outcome.ids)) == 1_000
    assert outcome.odd == {}
