"""The leases of what a claim has taken: a run for each stretch between whose tasks nothing else is stored."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from lmdbq.model import State
from lmdbq.store import records as rec
from lmdbq.store.lmdb_standing import RUN_IDS_MAX, put_lease
from lmdbq.store.lmdb_work import Work


class Shared(NamedTuple):
    """What neighbours must share to be one lease run."""

    queue_no: int
    type_no: int
    keepalive: int
    deliveries: int
    failures: int


class Taken(NamedTuple):
    """Tasks that were taken together: all that are stored of an interval of ids."""

    first_id: int
    last_id: int
    length: int
    shared: Shared


def put_leases(work: Work, taken: Iterable[Taken]) -> None:
    """Write the leases of everything taken, and count it."""
    run: Taken | None = None
    for part in sorted(taken):
        if run is not None and _are_one(work, run, part):
            run = run._replace(last_id=part.last_id, length=run.length + part.length)
            continue
        if run is not None:
            _put_run(work, run)
        run = part
    if run is not None:
        _put_run(work, run)


def _are_one(work: Work, before: Taken, after: Taken) -> bool:
    return (
        before.shared == after.shared
        and after.last_id - before.first_id < RUN_IDS_MAX
        and not work.any_task(before.last_id + 1, after.first_id - 1)
    )


def _put_run(work: Work, taken: Taken) -> None:
    now = work.now
    queue_no, type_no, keepalive, deliveries, failures = taken.shared
    deadline = now.steady + keepalive
    length = taken.last_id - taken.first_id + 1
    run = rec.LeaseRun(length, queue_no, type_no, now.boot_no, deadline, keepalive, deliveries, failures)
    put_lease(work, taken.last_id, run)
    work.count(queue_no, type_no, leaves=State.READY, enters=State.RUNNING, length=taken.length)
    work.total(queue_no, "claimed", taken.length)
