"""What every store does with the ids that other systems know tasks by."""

from __future__ import annotations

import pytest

from lmdbq.model import (
    Call,
    ClaimedTask,
    Edit,
    Enqueue,
    Filter,
    Outcome,
    Placed,
    Prune,
    Purge,
    QueueDelete,
    State,
    UniformEntries,
)
from tests.contract_dedupe import bring
from tests.store_driver import Driver, S, entry


def named(q: Driver, external_id: str = "e") -> list[int]:
    wanted = Filter(external_id=external_id)
    found = [task.id for task in q.all_tasks(wanted)]
    assert q.store.count(wanted) == len(found)
    return found


class ExternalIdContract:
    """external_id: one stored task has it."""

    @pytest.mark.parametrize("state", State)
    def test_a_second_entry_is_skipped_whatever_the_state_of_the_first(self, q: Driver, state: State):
        task_id = bring(q, state, external_id="e")

        placed = q.enqueue(entry(external_id="e", payload=b"2", queue="other")).placed(0)

        assert (placed.id, placed.outcome, placed.state) == (task_id, Outcome.SKIPPED, state)
        assert (placed.deduped, placed.reason) == (True, "external_id")
        assert named(q) == [task_id]
        assert q.totals("other").deduplicated == 1

    def test_entries_of_one_call_see_each_other(self, q: Driver):
        done = q.enqueue(entry(external_id="e"), entry(external_id="f"), entry(external_id="e"))

        assert done.ids[0] == done.ids[2] != done.ids[1]
        assert done.odd == {2: Placed(done.ids[0], Outcome.SKIPPED, State.READY, q.now, 0, True, "external_id")}

    def test_calls_of_one_apply_see_each_other(self, q: Driver):
        first, second = q.apply(*(Call((Enqueue((entry(external_id="e"),)),)) for _ in range(2))).outcomes
        assert second.outcomes[0].ids == first.outcomes[0].ids  # type: ignore[union-attr]

    def test_namespaces_keep_ids_apart(self, q: Driver):
        ids = q.enqueue(entry(external_id="e"), entry(external_id="e", namespace_no=2)).ids
        assert len(set(ids)) == 2

    def test_it_goes_with_its_task_however_that_goes(self, q: Driver):
        q.succeed(bring_running(q))
        assert named(q) == []
        q.delete(q.add(external_id="e"))
        assert named(q) == []
        q.add(external_id="e", expires_in_ns=S)
        q.clock.advance(2)
        again = q.add(external_id="e")  # the first has expired, and is removed for it
        assert named(q) == [again]

    @pytest.mark.parametrize("removal", [Purge("gone"), QueueDelete("gone")])
    def test_those_of_a_purged_queue_are_free_at_once(self, q: Driver, removal: Purge | QueueDelete):
        q.add(queue="gone", external_id="e")
        q.do(removal)

        assert named(q) == []
        again = q.add(external_id="e")
        q.do(Prune())
        assert named(q) == [again]

    def test_an_edit_and_a_retry_keep_it(self, q: Driver):
        task_id = q.add_dead(external_id="e")
        q.retry(task_id)
        q.do(Edit(task_id, entry(tags=("x",)), ("tags",)))

        assert named(q) == [task_id]
        assert q.task(task_id).options.external_id == "e"

    def test_it_is_asked_before_the_dedupe_key_and_takes_none(self, q: Driver):
        q.add(external_id="e")
        q.enqueue(entry(external_id="e", dedupe="k"))

        assert q.enqueue(entry(dedupe="k")).placed(0).outcome is Outcome.ENQUEUED

    def test_batches_without_one_are_as_they_were(self, q: Driver):
        q.add(external_id="e")
        assert q.do(Enqueue(UniformEntries([b"1"] * 20))).odd == {}


def bring_running(q: Driver) -> ClaimedTask:
    q.add(external_id="e")
    return q.take()
