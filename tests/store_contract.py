"""What a store has to do to be one. A store is held to it by a fixture ``q`` that yields a ``Driver`` of it.

``EveryStore`` is the promise of ``lmdbq.store.base``; ``Capabilities`` is what a store may offer besides (a strict
order, ids that rise, counts that are exact at any moment), which the two stores of this package do.
"""

from __future__ import annotations

from tests.contract_batches import BatchContract
from tests.contract_claim import ClaimContract, OrderCapability
from tests.contract_dead import DeathContract, RetryElsewhereContract
from tests.contract_dedupe import DedupeContract
from tests.contract_enqueue import EnqueueContract, IdCapability, UniformEntriesContract
from tests.contract_externals import ExternalIdContract
from tests.contract_fair import FairContract
from tests.contract_fold import CoalesceContract, FoldContract, MaxWaitContract
from tests.contract_groups import GroupContract
from tests.contract_lanes import ThreadContract
from tests.contract_leases import LeaseContract
from tests.contract_manage import CountCapability, QueueContract, TaskActionContract
from tests.contract_queues import QueueSettingsContract
from tests.contract_schedules import ScheduleContract
from tests.contract_sets import SetContract
from tests.contract_timed import TimedContract
from tests.contract_types import TypeContract


class EveryStore(
    EnqueueContract,
    UniformEntriesContract,
    DedupeContract,
    ClaimContract,
    LeaseContract,
    BatchContract,
    TaskActionContract,
    QueueContract,
    TimedContract,
    ScheduleContract,
    QueueSettingsContract,
    FairContract,
    TypeContract,
    ThreadContract,
    GroupContract,
    DeathContract,
    RetryElsewhereContract,
    ExternalIdContract,
    SetContract,
    FoldContract,
    MaxWaitContract,
    CoalesceContract,
):
    """All that a program may rely on, whatever the store."""


class Capabilities(OrderCapability, IdCapability, CountCapability):
    """Strict order, rising ids, exact counts."""
