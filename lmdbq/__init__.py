"""lmdbq: a durable task queue that is one file. ``lmdbq serve`` starts it; "ok" means on disk.

Each name below is imported when it is first used, so that ``import lmdbq`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lmdbq.client.aio import AsyncClient as AsyncClient
    from lmdbq.client.aio_groups import AsyncGroupHandle as AsyncGroupHandle
    from lmdbq.client.aio_handles import AsyncHandle as AsyncHandle
    from lmdbq.client.aio_handles import AsyncLease as AsyncLease
    from lmdbq.client.aio_handles import AsyncQueueHandle as AsyncQueueHandle
    from lmdbq.client.aio_handles import AsyncSelection as AsyncSelection
    from lmdbq.client.aio_schedules import AsyncScheduleHandle as AsyncScheduleHandle
    from lmdbq.client.aio_sets import AsyncSetHandle as AsyncSetHandle
    from lmdbq.client.aio_within import AsyncEnqueuer as AsyncEnqueuer
    from lmdbq.client.context import Context as Context
    from lmdbq.client.context import current as current
    from lmdbq.client.directives import Dead as Dead
    from lmdbq.client.directives import Retry as Retry
    from lmdbq.client.directives import Snooze as Snooze
    from lmdbq.client.directives import Stopped as Stopped
    from lmdbq.client.entries import Entry as Entry
    from lmdbq.client.info import GroupInfo as GroupInfo
    from lmdbq.client.info import GroupRuleInfo as GroupRuleInfo
    from lmdbq.client.info import QueueInfo as QueueInfo
    from lmdbq.client.info import TaskInfo as TaskInfo
    from lmdbq.client.info import ThreadInfo as ThreadInfo
    from lmdbq.client.info import WorkerInfo as WorkerInfo
    from lmdbq.client.options import Debounce as Debounce
    from lmdbq.client.options import Dedupe as Dedupe
    from lmdbq.client.options import Keep as Keep
    from lmdbq.client.options import Options as Options
    from lmdbq.client.options import Rate as Rate
    from lmdbq.client.options import RetryStrategy as RetryStrategy
    from lmdbq.client.options import Throttle as Throttle
    from lmdbq.client.schedule_info import Cron as Cron
    from lmdbq.client.schedule_info import ScheduleInfo as ScheduleInfo
    from lmdbq.client.set_info import SetInfo as SetInfo
    from lmdbq.client.sync import Client as Client
    from lmdbq.client.sync_groups import GroupHandle as GroupHandle
    from lmdbq.client.sync_handles import Handle as Handle
    from lmdbq.client.sync_handles import Lease as Lease
    from lmdbq.client.sync_handles import QueueHandle as QueueHandle
    from lmdbq.client.sync_handles import Selection as Selection
    from lmdbq.client.sync_schedules import ScheduleHandle as ScheduleHandle
    from lmdbq.client.sync_sets import SetHandle as SetHandle
    from lmdbq.client.sync_within import Enqueuer as Enqueuer
    from lmdbq.client.tasks import Task as Task
    from lmdbq.client.tasks import Tasks as Tasks
    from lmdbq.client.worker import Worker as Worker
    from lmdbq.errors import AccessDenied as AccessDenied
    from lmdbq.errors import Conflict as Conflict
    from lmdbq.errors import Duplicate as Duplicate
    from lmdbq.errors import Full as Full
    from lmdbq.errors import InvalidInput as InvalidInput
    from lmdbq.errors import LeaseLost as LeaseLost
    from lmdbq.errors import LmdbqError as LmdbqError
    from lmdbq.errors import NotFound as NotFound
    from lmdbq.errors import NotNow as NotNow
    from lmdbq.errors import Refusal as Refusal
    from lmdbq.errors import ResultTimeout as ResultTimeout
    from lmdbq.errors import StoreError as StoreError
    from lmdbq.errors import TaskCancelled as TaskCancelled
    from lmdbq.errors import TaskDead as TaskDead
    from lmdbq.errors import TaskError as TaskError
    from lmdbq.errors import TaskGone as TaskGone
    from lmdbq.errors import TransactionUnusable as TransactionUnusable
    from lmdbq.errors import Unreachable as Unreachable

_MODULES = {
    "client.aio": ("AsyncClient",),
    "client.aio_groups": ("AsyncGroupHandle",),
    "client.aio_handles": ("AsyncHandle", "AsyncLease", "AsyncQueueHandle", "AsyncSelection"),
    "client.aio_schedules": ("AsyncScheduleHandle",),
    "client.aio_sets": ("AsyncSetHandle",),
    "client.aio_within": ("AsyncEnqueuer",),
    "client.context": ("Context", "current"),
    "client.directives": ("Dead", "Retry", "Snooze", "Stopped"),
    "client.entries": ("Entry",),
    "client.info": ("GroupInfo", "GroupRuleInfo", "QueueInfo", "TaskInfo", "ThreadInfo", "WorkerInfo"),
    "client.options": ("Debounce", "Dedupe", "Keep", "Options", "Rate", "RetryStrategy", "Throttle"),
    "client.schedule_info": ("Cron", "ScheduleInfo"),
    "client.set_info": ("SetInfo",),
    "client.sync": ("Client",),
    "client.sync_groups": ("GroupHandle",),
    "client.sync_handles": ("Handle", "Lease", "QueueHandle", "Selection"),
    "client.sync_schedules": ("ScheduleHandle",),
    "client.sync_sets": ("SetHandle",),
    "client.sync_within": ("Enqueuer",),
    "client.tasks": ("Task", "Tasks"),
    "client.worker": ("Worker",),
    "errors": (
        "AccessDenied",
        "Conflict",
        "Duplicate",
        "Full",
        "InvalidInput",
        "LeaseLost",
        "LmdbqError",
        "NotFound",
        "NotNow",
        "Refusal",
        "ResultTimeout",
        "StoreError",
        "TaskCancelled",
        "TaskDead",
        "TaskError",
        "TaskGone",
        "TransactionUnusable",
        "Unreachable",
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'lmdbq' has no attribute {name!r}")
    found = getattr(import_module(f"lmdbq.{_HOME[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
