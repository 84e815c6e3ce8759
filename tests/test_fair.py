"""The property of a fair queue, on every store: shares are as the weights, within one task, over any stretch of claims
while two groups both have tasks; nobody starves; within a group the order is strict."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbq import limits
from lmdbq.clock import ManualClock
from lmdbq.model import GroupPut, GroupSettings, Order, QueuePut, QueueSettings
from lmdbq.store.lmdb_rows import Rows
from tests.store_driver import Driver, entry
from tests.store_factories import FACTORIES

WEIGHTS = st.lists(st.sampled_from([1, 1, 2, 3, 7, 50]), min_size=2, max_size=5)
CLAIMS = st.lists(st.integers(1, 9), min_size=2, max_size=12)


@contextmanager
def fair_queue(name: str) -> Iterator[Driver]:
    with tempfile.TemporaryDirectory() as directory:
        store = FACTORIES[name](Path(directory) / "store")
        try:
            q = Driver(store, ManualClock())
            q.do(QueuePut("default", QueueSettings(order=Order.FAIR)))
            yield q
            assert store.check() == []
        finally:
            store.close()


@pytest.mark.parametrize("store", FACTORIES)
@given(weights=WEIGHTS, claims=CLAIMS, blocks=st.permutations(range(5)))
def test_shares_are_as_the_weights_within_one_task_over_any_prefix(
    store: str, weights: list[int], claims: list[int], blocks: list[int]
):
    with fair_queue(store) as q:
        for number, weight in enumerate(weights):
            q.do(GroupPut(str(number), GroupSettings(weight=weight)))
        for number in [block for block in blocks if block < len(weights)]:
            q.enqueue(*(entry(group=str(number)) for _ in range(sum(claims))))
        had = [0] * len(weights)
        last = [0] * len(weights)
        for limit in claims:
            for task in q.claim(limit=limit).tasks:
                number = int(task.options.group)
                had[number] += 1
                assert task.id > last[number], "not in the order of the group"
                last[number] = task.id
                for one, other in combinations(range(len(weights)), 2):
                    ahead = had[one] * weights[other] - had[other] * weights[one]
                    assert abs(ahead) <= weights[one] + weights[other]


@pytest.mark.parametrize("store", FACTORIES)
@given(
    arrivals=st.lists(st.lists(st.sampled_from(["a", "b", "c", "", "new"]), max_size=4), min_size=5, max_size=30),
    backlog=st.integers(1, 5),
)
def test_whoever_comes_a_group_waits_no_longer_than_a_turn_of_each_of_the_others(
    store: str, arrivals: list[list[str]], backlog: int
):
    with fair_queue(store) as q:
        q.enqueue(*(entry(group="waits") for _ in range(backlog)))
        since, known, fresh = 0, set[str](), 0
        for names in arrivals:
            for name in names:
                fresh += name == "new"
                name = f"new {fresh}" if name == "new" else name
                known.add(name)
                q.enqueue(entry(group=name))
            for task in q.claim(limit=1).tasks:
                since = 0 if task.options.group == "waits" else since + 1
                backlog -= task.options.group == "waits"
            assert not backlog or since <= 2 * len(known) + 1


def test_a_change_of_the_order_reaches_more_groups_than_one_transaction_looks_at():
    with fair_queue("lmdb") as q:
        number = limits.SWEEP_MAX + 200
        for _ in range(2):
            q.enqueue(*(entry(group=f"{name:05}") for name in range(number)))
        q.put_queue(order=Order.STRICT)
        assert q.store.check() == []
        assert len(set(q.claim_ids(limit=10))) == 10

        q.put_queue(order=Order.FAIR)
        assert q.store.check() == []
        taken = [task.options.group for _ in range(12) for task in q.claim(limit=100).tasks]

        assert max(taken.count(name) for name in taken) == 1, "each group has had one turn, and none a second"


def test_a_claim_reads_as_much_whether_there_are_two_hundred_groups_or_two_thousand(monkeypatch: pytest.MonkeyPatch):
    reads: list[bytes] = []
    first_from = Rows.first_from

    def counted(self: Rows, database: str, key: bytes) -> tuple[bytes, bytes] | None:
        reads.append(key)
        return first_from(self, database, key)

    monkeypatch.setattr(Rows, "first_from", counted)
    counts: list[int] = []
    for number in (200, 2_000):
        with fair_queue("lmdb") as q:
            for _ in range(4_000 // number):
                q.enqueue(*(entry(group=f"{name:05}") for name in range(number)))
            reads.clear()
            assert len(q.claim_ids(limit=100)) == 100
            counts.append(len(reads))

    assert counts[1] <= 1.2 * counts[0]
