"""The property of a strict and of an ageing queue, on every store, against an order that is computed from the rule
alone: strict is priority, then since when it may run, then the order of acceptance; in an ageing queue a unit of
priority is worth a span of waiting. That of a fair queue is in ``test_fair``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbq.clock import ManualClock
from lmdbq.limits import KEEPALIVE_NS_MAX
from lmdbq.model import Order, QueuePut, QueueSettings
from tests.store_driver import Driver
from tests.store_factories import FACTORIES

S = 1_000_000_000
AGEING_NS = 3 * S
PRIORITIES = st.one_of(st.integers(-3, 6), st.sampled_from([-32_768, 32_767]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), PRIORITIES, st.integers(0, 20), st.sampled_from("tu")),
        st.tuples(st.just("wait"), st.integers(0, 9)),
        st.tuples(st.just("claim"), st.integers(1, 4)),
    ),
    min_size=15,
    max_size=40,
)
Key = Callable[[int, int, int], tuple[int, ...]]  # of a task's priority, since when it may run, and its id


def strict(priority: int, due_at: int, task_id: int) -> tuple[int, ...]:
    return priority, due_at, task_id


def ageing(priority: int, due_at: int, _task_id: int) -> tuple[int, ...]:
    return (due_at + priority * AGEING_NS,)  # between equals the rule says nothing


@pytest.mark.parametrize(("order", "key"), [(Order.STRICT, strict), (Order.AGEING, ageing)])
@pytest.mark.parametrize("store", FACTORIES)
@given(steps=STEPS)
def test_a_claim_takes_what_the_order_puts_first(
    store: str, order: Order, key: Key, steps: list[tuple[str, int] | tuple[str, int, int, str]]
):
    with tempfile.TemporaryDirectory() as directory:
        opened = FACTORIES[store](Path(directory) / "store")
        try:
            q = Driver(opened, ManualClock())
            q.do(QueuePut("default", QueueSettings(order=order, ageing_ns=AGEING_NS if order is Order.AGEING else 0)))
            waiting: dict[int, tuple[int, int]] = {}  # priority and since when it may run, by id
            for word, *values in [*steps, ("wait", 30), ("claim", 1_000)]:
                if word == "add":
                    priority, delay, kind = values
                    due_at = q.now + int(delay) * S
                    waiting[q.add(priority=priority, type=kind, scheduled_at=due_at)] = (int(priority), due_at)
                elif word == "wait":
                    q.clock.advance(int(values[0]))
                else:
                    keys = sorted(key(*said, one) for one, said in waiting.items() if said[1] <= q.now)
                    taken = [
                        key(*waiting.pop(one), one)
                        for one in q.claim_ids(limit=int(values[0]), keepalive_ns=KEEPALIVE_NS_MAX)
                    ]
                    assert taken == keys[: int(values[0])]
            assert not waiting
            assert opened.check() == []
        finally:
            opened.close()
