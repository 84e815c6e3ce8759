"""The same random calls on the memory store and on every other store: equal outcomes, equal reads, clean checkers.

The machine and its properties are in ``agreement_machine``. LMDBQ_STORM=1 runs it for a night.
"""

from __future__ import annotations

import os

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from lmdbq.model import Call, Claim, Op, Order, QueuePut, QueueSettings
from tests import agreement_calls as drawn
from tests.agreement_machine import AgreementMachine
from tests.store_factories import FACTORIES

IS_STORM = os.environ.get("LMDBQ_STORM") == "1"


class LmdbAgainstMemory(AgreementMachine):
    """The file against the dicts."""

    factory = staticmethod(FACTORIES["lmdb"])


TestLmdbAgainstMemory = LmdbAgainstMemory.TestCase
TestLmdbAgainstMemory.settings = settings(
    max_examples=5000 if IS_STORM else 80, stateful_step_count=60 if IS_STORM else 40
)


class FairLmdbAgainstMemory(LmdbAgainstMemory):
    """The same where most queues begin with an order that is fair, and most tasks have groups."""

    @initialize(orders=st.lists(st.sampled_from([Order.FAIR, Order.FAIR, Order.STRICT]), min_size=3, max_size=3))
    def make_queues(self, orders: list[Order]) -> None:
        for name, order in zip(("a", "b", "a.x"), orders, strict=True):
            self._tell(Call((QueuePut(name, QueueSettings(order=order)),)))

    @rule(op=drawn.group_enqueues)
    def enqueue_into_groups(self, op: Op) -> None:
        self._tell(Call((op,)))

    @rule(limit=st.integers(1, 9), types=st.sampled_from([(), (), ("t",)]))
    def claim_in_turns(self, limit: int, types: tuple[str, ...]) -> None:
        self._tell(Call((Claim(("a", "b"), limit=limit, types=types),)))


TestFairLmdbAgainstMemory = FairLmdbAgainstMemory.TestCase
TestFairLmdbAgainstMemory.settings = settings(
    max_examples=5000 if IS_STORM else 50, stateful_step_count=60 if IS_STORM else 40
)
