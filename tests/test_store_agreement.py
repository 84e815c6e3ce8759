"""The same random calls on the memory store and on every other store: equal outcomes, equal reads, clean checkers.

The machine and its properties are in ``agreement_machine``. LMDBQ_STORM=1 runs it for a night.
"""

from __future__ import annotations

import os

from hypothesis import settings

from tests.agreement_machine import AgreementMachine
from tests.store_factories import FACTORIES

IS_STORM = os.environ.get("LMDBQ_STORM") == "1"


class LmdbAgainstMemory(AgreementMachine):
    """The file against the dicts."""

    factory = staticmethod(FACTORIES["lmdb"])


TestLmdbAgainstMemory = LmdbAgainstMemory.TestCase
TestLmdbAgainstMemory.settings = settings(
    max_examples=5000 if IS_STORM else 120, stateful_step_count=60 if IS_STORM else 40
)
