"""A large claim of queues with weights takes what as many claims of one task would, on every store."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lmdbq import limits
from lmdbq.clock import ManualClock
from lmdbq.model import Entry, Order, Rate, RetryStrategy
from lmdbq.sharing import Turns
from tests.store_driver import Driver, S, entry
from tests.store_factories import FACTORIES

NAMES = ("a", "b", "c")
tasks = st.lists(
    st.fixed_dictionaries(
        {"payload": st.sampled_from([b"", b"x", b"x" * 50])},
        optional={
            "group": st.sampled_from(["g", "h"]),
            "expires_in_ns": st.sampled_from([S // 2, 90 * S]),
            "priority": st.sampled_from([-1, 1]),
            "retry": st.just(RetryStrategy(max_deliveries=1)),
            "on_dead": st.just(Entry(queue="graves")),
        },
    ),
    min_size=1,
    max_size=8,
)
queues = st.fixed_dictionaries(
    {"weight": st.sampled_from([0, 1, 1, 2, 7])},
    optional={
        "order": st.sampled_from(Order),
        "rate": st.just(Rate(tokens=3, period_ns=60 * S)),
        "max_running": st.sampled_from([1, 5]),
    },
)


@given(
    settings=st.tuples(queues, queues, queues),
    given_tasks=st.lists(st.tuples(st.sampled_from(NAMES), tasks), min_size=3, max_size=8),
    claims=st.lists(st.tuples(st.integers(1, 30), st.sampled_from([60, 120, limits.CLAIM_BYTES_MAX])), max_size=4),
    released=st.integers(0, 6),
)
def test_both_stores_take_the_same_tasks_in_the_same_order(settings, given_tasks, claims, released):  # type: ignore[no-untyped-def]
    taken: list[list[list[tuple[int, int, str]]]] = []
    for name, factory in FACTORIES.items():
        with tempfile.TemporaryDirectory() as directory:
            q = Driver(factory(Path(directory) / "store"), ManualClock())
            for queue, said in zip(NAMES, settings, strict=True):
                q.put_queue(queue, **said)
            for queue, many in given_tasks:
                q.enqueue(*(entry(queue=queue, **one) for one in many))
            for task in q.claim(*NAMES, limit=released).tasks if released else ():
                q.release(task)
            q.clock.advance(1)
            found = [
                [(t.id, t.deliveries, t.queue) for t in q.claim(*NAMES, limit=n, bytes_max=b).tasks] for n, b in claims
            ]
            found.append([(t.id, t.deliveries, t.state.name) for t in q.all_tasks()])
            assert q.store.check() == [], name
            q.store.close()
        taken.append(found)
    assert taken[0] == taken[1]


@given(
    weights=st.lists(st.integers(0, 9), min_size=4, max_size=4),
    starts=st.lists(st.sampled_from([0, 1 << 18, 1 << 20, 3 << 19]), min_size=2, max_size=4),
    time=st.sampled_from([0, 1 << 18, 1 << 20]),
    lead=st.integers(0, 20),
    count=st.integers(1, 50),
)
def test_the_turns_ahead_are_those_that_come(weights: list[int], starts: list[int], time: int, lead: int, count: int):
    names = [str(number) for number in range(len(starts))]
    turns = Turns(dict(zip(names, starts, strict=True)), dict(zip(names, weights, strict=False)), time)
    for _ in range(lead):
        turns.serve(turns.next() or "")
    name = turns.next() or ""
    ahead, came = turns.ahead(name, count), 0
    for _ in range(count):
        whose = turns.next() or ""
        came += whose == name
        turns.serve(whose)

    assert ahead == came
